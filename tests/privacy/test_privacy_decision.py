from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_builders import NOW, PERSONEN, WEATHER, agreement, terms

from stelsel.agreements.agreement import State
from stelsel.privacy.decision import REASONS, Decision, Reason, decide, forbidden
from stelsel.privacy.request import DataRequest

ASK = DataRequest(("naam.voornamen",), ("burgerservicenummer",))


def test_what_lies_within_the_agreement_is_allowed() -> None:
    assert decide(PERSONEN, agreement(terms()), ASK, NOW) == Decision(True, Reason.AGREED)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": State.PROPOSED}, Reason.NOT_IN_FORCE),
        ({"state": State.REJECTED}, Reason.NOT_IN_FORCE),
        ({"state": State.REVOKED}, Reason.REVOKED),
        ({"state": State.EXPIRED}, Reason.EXPIRED),
        ({"not_before": 1_001}, Reason.NOT_YET),
        ({"not_after": 1_000}, Reason.EXPIRED),
        ({"not_after": 999}, Reason.EXPIRED),
        ({"service": "ander"}, Reason.OTHER_SERVICE),
        ({"terms": None}, Reason.NO_TERMS),
    ],
)
def test_an_agreement_that_does_not_hold_is_refused(changes: dict[str, object], reason: Reason) -> None:
    assert decide(PERSONEN, replace(agreement(terms()), **changes), ASK, NOW) == Decision(False, reason)  # type: ignore[arg-type]


def test_without_an_agreement_everything_is_refused() -> None:
    for service in (PERSONEN, WEATHER):
        assert decide(service, None, ASK, NOW) == Decision(False, Reason.NO_AGREEMENT)


def test_what_was_not_agreed_is_refused_by_name() -> None:
    agreed = agreement(terms(("naam.voornamen", "leeftijd")))
    asked = DataRequest(("leeftijd", "naam", "geboorte.datum"), ("burgerservicenummer",))
    assert decide(PERSONEN, agreed, asked, NOW) == Decision(
        False, Reason.UNAUTHORIZED_FIELD, ("naam", "geboorte.datum")
    )
    asked = DataRequest(("leeftijd",), ("burgerservicenummer", "postcode"))
    assert decide(PERSONEN, agreed, asked, NOW) == Decision(False, Reason.UNAUTHORIZED_PARAMETER, ("postcode",))


def test_a_request_that_names_nothing_is_refused() -> None:
    assert decide(PERSONEN, agreement(terms()), DataRequest((), ()), NOW).reason is Reason.NO_FIELDS
    assert decide(PERSONEN, agreement(terms((), ())), DataRequest((), ()), NOW).reason is Reason.NO_FIELDS


def test_a_service_that_is_not_about_people_needs_no_terms_but_limits_hold() -> None:
    weather = agreement(None, service="weer")
    nothing = DataRequest((), ())
    assert decide(WEATHER, weather, nothing, NOW).allowed
    assert decide(WEATHER, replace(weather, terms=terms((), ())), nothing, NOW).allowed
    limited = replace(weather, terms=terms(("wind",), ()))
    assert decide(WEATHER, limited, nothing, NOW).reason is Reason.NO_FIELDS
    assert decide(WEATHER, limited, DataRequest(("wind",), ()), NOW).allowed
    assert decide(WEATHER, limited, DataRequest(("regen",), ()), NOW).reason is Reason.UNAUTHORIZED_FIELD


def test_two_agreements_with_one_hash_are_not_confused() -> None:
    wide, narrow = agreement(terms(("naam",))), agreement(terms(("leeftijd",)))
    assert wide.grant_hash == narrow.grant_hash
    for _ in range(3):
        assert decide(PERSONEN, wide, ASK, NOW).allowed
        assert not decide(PERSONEN, narrow, ASK, NOW).allowed


def test_every_reason_has_words_in_both_languages() -> None:
    assert set(REASONS) == set(Reason)
    for reason, words in REASONS.items():
        assert words.nl.endswith("."), reason
        assert words.en.endswith("."), reason
        assert words.in_language("nl") != words.in_language("en")


def test_a_refusal_becomes_a_403_that_names_the_fields() -> None:
    problem = forbidden(Decision(False, Reason.UNAUTHORIZED_FIELD, ("geboorte",))).problem()
    assert problem["status"] == 403
    assert problem["code"] == "unauthorizedField"
    assert problem["refused"] == ["geboorte"]
    assert "geboorte" in problem["detail"]
    assert problem["next_step"]
    assert "refused" not in forbidden(Decision(False, Reason.REVOKED)).problem()


PATHS = st.sampled_from(["a", "b", "a.a", "a.b", "a.b.c", "b.a", "b.a.b", "ab"])
SETS = st.lists(PATHS, unique=True, max_size=5).map(tuple)


def naive(agreed: tuple[str, ...], asked: str) -> bool:
    return any(asked == path or asked.startswith(path + ".") for path in agreed)


@given(SETS, SETS, SETS, SETS)
def test_the_decision_equals_its_definition(
    fields: tuple[str, ...], parameters: tuple[str, ...], asked: tuple[str, ...], searched: tuple[str, ...]
) -> None:
    decision = decide(PERSONEN, agreement(terms(fields, parameters)), DataRequest(asked, searched), NOW)
    within = all(naive(fields, path) for path in asked) and all(naive(parameters, path) for path in searched)
    assert decision.allowed == (bool(asked) and within)
    assert decision.allowed == (decision.reason is Reason.AGREED)
    if decision.reason is Reason.UNAUTHORIZED_FIELD:
        assert decision.refused == tuple(path for path in asked if not naive(fields, path))
    elif decision.reason is Reason.UNAUTHORIZED_PARAMETER:
        assert decision.refused == tuple(path for path in searched if not naive(parameters, path))
    else:
        assert decision.refused == ()


@given(SETS, SETS, SETS, PATHS, st.booleans())
def test_asking_more_never_turns_a_refusal_into_a_yes(
    agreed: tuple[str, ...], asked: tuple[str, ...], searched: tuple[str, ...], more: str, as_field: bool
) -> None:
    deal = agreement(terms(agreed, ("a",)))
    before = decide(PERSONEN, deal, DataRequest(asked, searched), NOW)
    extended = DataRequest((*asked, more), searched) if as_field else DataRequest(asked, (*searched, more))
    after = decide(PERSONEN, deal, extended, NOW)
    if asked and not before.allowed:  # naming no field at all is refused for another reason
        assert not after.allowed


@given(SETS, SETS, SETS, st.randoms(use_true_random=False))
def test_agreeing_less_never_turns_a_refusal_into_a_yes(
    fields: tuple[str, ...], asked: tuple[str, ...], searched: tuple[str, ...], chance: object
) -> None:
    fewer = tuple(path for path in fields if chance.random() < 0.5)  # type: ignore[attr-defined]
    request = DataRequest(asked, searched)
    if not decide(PERSONEN, agreement(terms(fields, ("a",))), request, NOW).allowed:
        assert not decide(PERSONEN, agreement(terms(fewer, ("a",))), request, NOW).allowed


@given(st.floats(0, 20_000), st.sampled_from(State), st.booleans(), st.booleans())
def test_only_a_valid_agreement_within_its_time_allows(now: float, state: State, with_terms: bool, right: bool) -> None:
    deal = agreement(terms() if with_terms else None, state=state, service="personen" if right else "x", not_before=10)
    allowed = decide(PERSONEN, deal, ASK, now).allowed
    assert allowed == (state is State.VALID and 10 <= now < 10_000 and with_terms and right)
