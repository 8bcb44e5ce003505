"""A diff tells every change, in words, and calls nothing narrower that is not."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from agreements_peers import CONSUMER, OTHER, PROVIDER
from hypothesis import given
from hypothesis import strategies as st
from managing_builders import DAY, KEY, NOW, connection, publication, stored, terms_with

from stelsel.agreements.contract import Contract, parse
from stelsel.agreements.difference import Change, changes, differences
from stelsel.agreements.fieldsets import within


def between(before: Contract | None, after: Contract) -> list[Change]:
    old = None if before is None else (before, before.grants[0])
    return list(changes(old, (after, after.grants[0])))


def told(found: list[Change]) -> set[tuple[str, str, str]]:
    return {(change.what, change.how, change.effect) for change in found}


def test_the_same_again_is_no_change() -> None:
    assert between(connection(terms_with()), connection(terms_with())) == []


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({"fields": ["naam.geslachtsnaam", "leeftijd", "partners"]}, {("field", "added", "widens")}),
        ({"fields": ["leeftijd"]}, {("field", "removed", "narrows")}),
        ({"fields": ["naam", "leeftijd"]}, {("field", "added", "widens"), ("field", "removed", "differs")}),
        (
            {"search_parameters": ["naam"]},
            {("search parameter", "added", "widens"), ("search parameter", "removed", "narrows")},
        ),
        ({"purpose": "Iets anders"}, {("purpose", "changed", "differs")}),
        ({"legal_basis": {"article": "Gemeentewet 225", "ground": "c"}}, {("legal basis", "changed", "differs")}),
        (
            {"processing_activity": {"id": "urn:a", "name": "Parkeren", "version": "2"}},
            {("processing activity", "changed", "differs")},
        ),
        ({"retention": "P2Y"}, {("retention", "changed", "widens")}),
        ({"retention": "P6M"}, {("retention", "changed", "narrows")}),
        ({"retention": "P12M"}, {("retention", "changed", "differs")}),
        ({"confidentiality": "public"}, {("confidentiality", "changed", "widens")}),
        ({"confidentiality": "secret"}, {("confidentiality", "changed", "narrows")}),
    ],
)
def test_each_change_of_terms_is_told_with_what_it_does(after: dict[str, Any], expected: set[Any]) -> None:
    found = between(connection(terms_with()), connection(terms_with(**after)))
    assert told(found) == expected
    assert all(change.words.nl and change.words.en for change in found)


def test_a_longer_validity_widens_and_a_shorter_one_narrows() -> None:
    assert told(between(connection(terms_with()), connection(terms_with(), days=101))) == {
        ("validity", "changed", "widens")
    }
    assert told(between(connection(terms_with()), connection(terms_with(), days=9))) == {
        ("validity", "changed", "narrows")
    }


def test_another_outway_key_is_told() -> None:
    found = between(connection(terms_with()), connection(terms_with(), key="b" * 64))
    assert [(change.what, change.before, change.after) for change in found] == [("outway", KEY, "b" * 64)]


def test_terms_that_come_or_go_widen() -> None:
    assert ("terms", "removed", "widens") in told(between(connection(terms_with()), connection(None)))
    assert ("terms", "added", "widens") in told(between(connection(None), connection(terms_with())))


def test_terms_that_no_longer_limit_anything_widen_and_narrow_nothing() -> None:
    found = between(connection(terms_with()), connection(terms_with(fields=[], search_parameters=[])))
    assert ("terms", "changed", "widens") in told(found)
    assert not any(change.effect == "narrows" for change in found)


def test_a_property_that_is_not_ours_is_told_and_inert() -> None:
    content = deepcopy(connection(terms_with()).content)
    content["grants"][0]["data"]["properties"]["org.example\n\u202e"] = {"a": 1}
    (change,) = between(connection(terms_with()), parse(content))
    assert (change.what, change.how, change.effect) == ("property", "added", "differs")
    assert (change.words.nl + change.after).isprintable()


def test_hostile_words_in_terms_are_inert_in_the_diff() -> None:
    (change,) = between(connection(terms_with()), connection(terms_with(purpose="Iets\n\x1b[31m\u202eanders")))
    assert (change.words.nl + change.words.en + change.after).isprintable()


def test_it_is_held_against_the_newest_that_holds_between_the_same_peers_about_the_same_service() -> None:
    old = stored(connection(terms_with(fields=["leeftijd"]), now=NOW - 20 * DAY))
    newer = stored(connection(terms_with(), now=NOW - 10 * DAY))
    expired = stored(connection(terms_with(), now=NOW - 900 * DAY))
    unsigned = stored(connection(terms_with(), now=NOW - 5 * DAY), signed_by=(CONSUMER,))
    elsewhere = stored(connection(terms_with(), now=NOW - 4 * DAY, consumer=OTHER))
    proposed = stored(connection(terms_with(fields=["leeftijd", "adres"])), signed_by=(CONSUMER,))
    (found,) = differences(proposed, [old, newer, expired, unsigned, elsewhere, proposed], NOW)
    assert found.against == newer.content_hash
    assert found.widens
    assert {change.after for change in found.changes if change.effect == "widens"} >= {"adres"}


def test_an_agreement_for_another_processing_activity_is_not_what_it_is_held_against() -> None:
    bus = {"id": "https://gemeente.example/v/leerlingenvervoer", "name": "Leerlingenvervoer", "version": "1"}
    parking = stored(connection(terms_with(), now=NOW - 10 * DAY))
    transport = stored(connection(terms_with(processing_activity=bus), now=NOW - 5 * DAY))
    renewed = stored(connection(terms_with(processing_activity=bus | {"version": "2"})), signed_by=(CONSUMER,))
    (found,) = differences(renewed, [parking, transport, renewed], NOW)
    assert found.against == transport.content_hash


def test_without_a_running_contract_all_that_is_asked_is_new() -> None:
    (found,) = differences(stored(connection(terms_with()), signed_by=(PROVIDER,)), [], NOW)
    assert found.against == ""
    assert found.changes[0].what == "agreement"
    assert {change.after for change in found.changes[1:]} == {"naam.geslachtsnaam", "leeftijd", "burgerservicenummer"}
    (bare,) = differences(stored(connection(None), signed_by=(PROVIDER,)), [], NOW)
    assert bare.widens


def test_a_publication_has_a_diff_too() -> None:
    running = stored(publication(now=NOW - DAY))
    (found,) = differences(stored(publication()), [running], NOW)
    assert [change.what for change in found.changes] == ["validity"]


_STEPS = st.sampled_from(["a", "b", "c"])
_PATHS = st.lists(st.lists(_STEPS, min_size=1, max_size=3).map(".".join), max_size=5, unique=True)


@given(before=_PATHS, after=_PATHS)
def test_fields_widen_exactly_when_something_may_be_asked_that_could_not_be(
    before: list[str], after: list[str]
) -> None:
    found = between(connection(terms_with(fields=before)), connection(terms_with(fields=after)))
    fields = [change for change in found if change.what == "field"]
    assert any(change.effect == "widens" for change in fields) == any(not within(path, before) for path in after)
    assert any(change.effect == "narrows" for change in fields) == any(not within(path, after) for path in before)
    assert {change.after for change in fields if change.how == "added"} == set(after) - set(before)
    assert {change.before for change in fields if change.how == "removed"} == set(before) - set(after)
