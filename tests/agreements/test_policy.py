"""Automatic approval takes what a rule names and nothing else; the reasons say why the rest waits for a person."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from agreements_peers import CONSUMER, DIRECTORY, OTHER, PROVIDER
from hypothesis import given
from hypothesis import strategies as st
from managing_builders import DAY, NOW, GroupOf, connection, publication, terms_with
from pydantic import ValidationError

from stelsel.agreements.contract import Contract, parse
from stelsel.agreements.durations import compare
from stelsel.agreements.fieldsets import within
from stelsel.agreements.policy import Verdict, judge, rules_of
from stelsel.agreements.settings import AgreementsSettings, ApprovalRule
from stelsel.agreements.terms import PROPERTY

RULE: dict[str, Any] = {
    "name": "parkeren",
    "peers": [CONSUMER],
    "services": ["personen"],
    "maximum_days": 100,
    "purposes": ["Parkeervergunning beoordelen"],
    "fields": ["naam", "leeftijd"],
    "search_parameters": ["burgerservicenummer"],
    "longest_retention": "P1Y",
}


def rule(**changes: Any) -> ApprovalRule:
    return ApprovalRule.model_validate(RULE | changes)


def verdict(contract: Contract, *rules: ApprovalRule, peer_id: str = PROVIDER, algorithm: str = "ES256") -> Verdict:
    group: Any = GroupOf()
    return judge(contract, algorithm, rules, peer_id=peer_id, group=group, now=NOW)


def altered(contract: Contract, alter: Any) -> Contract:
    content = deepcopy(contract.content)
    alter(content)
    return parse(content)


def test_what_lies_wholly_within_a_rule_is_accepted_by_its_name() -> None:
    found = verdict(connection(terms_with()), rule(name="other", peers=[OTHER]), rule())
    assert found.accepted
    assert found.rule == "parkeren"
    assert not found.objections


def test_by_default_nothing_is_accepted() -> None:
    assert AgreementsSettings().approve == ()
    found = verdict(connection(terms_with()))
    assert not found.accepted
    assert "approval rule" in found.objections[0].words.en


@pytest.mark.parametrize(
    ("contract", "says"),
    [
        (connection(terms_with(fields=["leeftijd", "partners"])), "partners"),
        (connection(terms_with(search_parameters=["burgerservicenummer", "achternaam"])), "achternaam"),
        (connection(terms_with(purpose="Reclame maken")), "purpose"),
        (connection(terms_with(retention="P1Y1D")), "kept too long"),
        (connection(terms_with(retention="P365D")), "kept too long"),  # not certainly shorter than a year
        (connection(terms_with(confidentiality="public")), "confidentiality"),
        (connection(None), "no terms"),
        (connection(terms_with(fields=[], search_parameters=[])), "limit nothing"),
        (connection(terms_with(), days=101), "longer than 100 days"),
        (connection(terms_with(), not_before=int(NOW + 2 * DAY)), "longer than 100 days"),
        (connection(terms_with(), service="adressen"), "the service"),
        (connection(terms_with(), consumer=OTHER), "who asks"),
        (connection(terms_with(), provider=OTHER), "service of ours"),
        (connection(terms_with(), service_delegator=OTHER), "on behalf of another"),
    ],
)
def test_what_the_rule_does_not_name_waits_for_a_person(contract: Contract, says: str) -> None:
    found = verdict(contract, rule())
    assert not found.accepted
    assert says in " ".join(objection.words.en for objection in found.objections)


def test_two_grants_are_never_accepted_though_each_would_be() -> None:
    contract = altered(connection(terms_with()), lambda content: content["grants"].append(content["grants"][0]))
    assert "2 grants" in verdict(contract, rule()).objections[0].words.en


def test_another_group_is_never_accepted() -> None:
    contract = altered(connection(terms_with()), lambda content: content.update(group_id="elsewhere"))
    assert "another group" in verdict(contract, rule()).objections[0].words.en


def test_properties_that_are_not_understood_are_not_accepted() -> None:
    def add(content: Any) -> None:
        content["grants"][0]["data"]["properties"]["org.example\u202e"] = {"more": True}

    found = verdict(altered(connection(terms_with()), add), rule())
    assert not found.accepted
    assert "\u202e" not in found.objections[0].words.nl


def test_terms_that_cannot_be_understood_are_not_accepted() -> None:
    def spoil(content: Any) -> None:
        content["grants"][0]["data"]["properties"][PROPERTY]["extra"] = 1

    assert not verdict(altered(connection(terms_with()), spoil), rule()).accepted


def test_a_signature_of_an_algorithm_that_the_rule_does_not_name_is_not_accepted() -> None:
    strict = rule(signature_algorithms=["ES256"])
    assert verdict(connection(terms_with()), strict).accepted
    assert not verdict(connection(terms_with()), strict, algorithm="RS256").accepted


def test_the_directory_takes_a_publication_by_itself_and_nothing_else() -> None:
    group: Any = GroupOf()
    directory = rules_of(DIRECTORY, group, ())
    assert verdict(publication(), *directory, peer_id=DIRECTORY).accepted
    assert not verdict(publication(days=401), *directory, peer_id=DIRECTORY).accepted
    assert not verdict(connection(terms_with()), *directory, peer_id=DIRECTORY).accepted
    assert not verdict(publication(), *directory, peer_id=PROVIDER).accepted
    assert rules_of(PROVIDER, group, ()) == ()


@pytest.mark.parametrize(
    "unsafe",
    [
        {"services": ["*"]},
        {"peers": ["*"]},
        {"purposes": []},
        {"grant": "delegated_connection"},
        {"delegators": [OTHER]},
        {"maximum_days": 4000},
        {"longest_retention": "forever"},
        {"peers": []},
        {"anything": True},
    ],
)
def test_a_rule_that_is_not_safe_is_refused_when_the_file_is_read(unsafe: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rule(**unsafe)


_STEPS = st.sampled_from(["a", "b", "c"])
_PATHS = st.lists(st.lists(_STEPS, min_size=1, max_size=3).map(".".join), min_size=1, max_size=5, unique=True)


@given(asked=_PATHS, allowed=_PATHS)
def test_no_field_beyond_the_rule_ever_passes(asked: list[str], allowed: list[str]) -> None:
    found = verdict(connection(terms_with(fields=asked)), rule(fields=allowed))
    assert found.accepted == all(within(path, allowed) for path in asked)


_LENGTHS = st.builds("P{}Y{}M{}D".format, st.integers(0, 20), st.integers(0, 30), st.integers(0, 800))


@given(first=_LENGTHS, second=_LENGTHS)
def test_durations_are_compared_the_same_from_both_sides(first: str, second: str) -> None:
    there, back = compare(first, second), compare(second, first)
    assert there == (None if back is None else -back)
    assert compare(first, first) == 0
