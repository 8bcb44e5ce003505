"""The rules of steering, by example and by property: when a peer is refused, and above all when it is not."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stelsel.base.errors import ConfigurationFault
from stelsel.steering.findings import Finding, Outcome, State, notice, relevant, standing, tally
from stelsel.steering.obligations import (
    Appeal,
    Explanation,
    Obligation,
    Obligations,
    end_of,
    read_obligations,
    start_of,
)

DAY = 86400.0
PEER = "00000099000000005000"
DEADLINE = date(2026, 6, 30)
PAST = end_of(DEADLINE) + DAY


def obligation(**changes: object) -> Obligation:
    values: dict[str, object] = {
        "id": "safe-connection",
        "title": {"nl": "Veilige verbinding", "en": "Safe connection"},
        "norm": {"nl": "Alleen TLS 1.2 of 1.3.", "en": "Only TLS 1.2 or 1.3."},
        "legal_basis": "Regels van het stelsel, artikel 4",
        "checks": ("tls@1",),
        "applies_from": date(2026, 1, 1),
        "deadline": DEADLINE,
        "consequence": "refuse-new-contracts",
    }
    return Obligation.model_validate(values | changes)


def finding(outcome: Outcome, at: float, run: str | None = None, check: str = "tls", version: int = 1) -> Finding:
    return Finding(
        id=f"{run}-{at}",
        obligation="safe-connection",
        peer=PEER,
        outcome=outcome,
        at=at,
        run=run or f"run-{at}",
        check=check,
        check_version=version,
        ruleset_hash="0" * 64,
        evidence_hash="0" * 64,
    )


def explanation(until: date, approved_at: float = 0.0) -> Explanation:
    return Explanation("e1", "safe-connection", PEER, "Wordt vervangen", until, "Regie", approved_at)


FAILED_TWICE = (finding(Outcome.NOT_MET, PAST - 20), finding(Outcome.NOT_MET, PAST - 10))


def state(findings: object, now: float = PAST, **changes: object) -> State:
    return standing(obligation(**changes), PEER, findings, (), (), now).state  # type: ignore[arg-type]


def refuses(
    findings: object, now: float = PAST, explanations: object = (), appeals: object = (), **changes: object
) -> bool:
    return standing(obligation(**changes), PEER, findings, explanations, appeals, now).refuses  # type: ignore[arg-type]


def test_two_failures_in_a_row_past_the_deadline_refuse() -> None:
    assert state(FAILED_TWICE) is State.FAILING
    assert refuses(FAILED_TWICE)


def test_one_failure_has_to_be_confirmed_first() -> None:
    assert state(FAILED_TWICE[:1]) is State.TO_CONFIRM
    assert not refuses(FAILED_TWICE[:1])


def test_two_failures_of_one_run_are_one() -> None:
    twice = [finding(Outcome.NOT_MET, PAST - 20, "a"), finding(Outcome.NOT_MET, PAST - 10, "a")]
    assert state(twice) is State.TO_CONFIRM


def test_an_error_between_two_failures_neither_breaks_nor_makes_the_row() -> None:
    assert refuses([FAILED_TWICE[0], finding(Outcome.ERROR, PAST - 15), FAILED_TWICE[1]])
    assert not refuses([FAILED_TWICE[0], finding(Outcome.ERROR, PAST - 15), finding(Outcome.ERROR, PAST - 5)])


def test_a_finding_met_ends_the_failing_at_once() -> None:
    assert state([*FAILED_TWICE, finding(Outcome.MET, PAST - 5)]) is State.MET


def test_a_failure_between_two_that_were_met_is_not_a_row() -> None:
    row = [finding(Outcome.NOT_MET, PAST - 9), finding(Outcome.MET, PAST - 8), finding(Outcome.NOT_MET, PAST - 7)]
    assert state(row) is State.TO_CONFIRM


def test_going_dark_is_no_way_out() -> None:
    assert refuses([*FAILED_TWICE, finding(Outcome.ERROR, PAST - 5)], now=PAST + 400 * DAY)


def test_a_finding_met_grows_old_and_then_says_nothing() -> None:
    met = [finding(Outcome.MET, PAST)]
    assert state(met, now=PAST + 29 * DAY) is State.MET
    assert state(met, now=PAST + 31 * DAY) is State.UNKNOWN


def test_the_last_day_of_the_deadline_is_still_free() -> None:
    early = [finding(Outcome.NOT_MET, start_of(DEADLINE) - 20), finding(Outcome.NOT_MET, start_of(DEADLINE) - 10)]
    assert not refuses(early, now=end_of(DEADLINE) - 1)
    assert refuses(early, now=end_of(DEADLINE))


def test_without_a_legal_basis_it_is_advice() -> None:
    assert state(FAILED_TWICE, legal_basis=" ") is State.FAILING
    assert not refuses(FAILED_TWICE, legal_basis=" ")


def test_a_failure_of_another_version_of_the_check_does_not_count() -> None:
    old = [finding(Outcome.NOT_MET, PAST - 20), finding(Outcome.NOT_MET, PAST - 10)]
    assert state(old, checks=("tls@2",)) is State.UNKNOWN


def test_all_checks_of_an_obligation_must_be_met() -> None:
    both = ("tls@1", "security_txt@1")
    met = finding(Outcome.MET, PAST - 5)
    assert state([met], checks=both) is State.UNKNOWN
    assert state([met, finding(Outcome.MET, PAST - 5, check="security_txt")], checks=both) is State.MET
    assert state([met, finding(Outcome.NOT_MET, PAST - 5, check="security_txt")], checks=both) is State.TO_CONFIRM


def test_an_explanation_is_honoured_until_its_last_day_and_not_a_day_longer() -> None:
    until = DEADLINE + timedelta(days=60)
    explained = [explanation(until)]
    assert not refuses(FAILED_TWICE, now=end_of(until) - 1, explanations=explained)
    assert refuses(FAILED_TWICE, now=end_of(until), explanations=explained)


def test_a_timely_appeal_pauses_until_it_is_decided_and_a_late_one_does_not() -> None:
    against = PAST - 10
    timely = Appeal("a1", "safe-connection", PEER, "Niet eens", against, against + 41 * DAY)
    late = Appeal("a2", "safe-connection", PEER, "Niet eens", against, against + 43 * DAY)
    now = against + 44 * DAY
    assert not refuses(FAILED_TWICE, now=now, appeals=[timely])
    assert refuses(FAILED_TWICE, now=now, appeals=[late])
    decided = Appeal("a1", "safe-connection", PEER, "Niet eens", against, timely.filed_at, decided_at=now)
    assert refuses(FAILED_TWICE, now=now, appeals=[decided])


def test_notices_come_90_30_and_7_days_before_the_deadline_while_it_is_not_met() -> None:
    def at(days: int, findings: object = ()) -> int | None:
        now = end_of(DEADLINE) - days * DAY
        told = notice(standing(obligation(), PEER, findings, (), (), now), now)  # type: ignore[arg-type]
        return told.notice if told else None

    assert [at(days) for days in (91, 90, 31, 30, 8, 7, 1, 0)] == [None, 90, 90, 30, 30, 7, 7, None]
    assert at(5, [finding(Outcome.MET, end_of(DEADLINE) - 6 * DAY)]) is None


def test_the_sum_counts_only_what_is_due_and_never_an_unknown_as_met() -> None:
    met = standing(obligation(), PEER, [finding(Outcome.MET, PAST - 1)], (), (), PAST)
    unknown = standing(obligation(id="other"), PEER, (), (), (), PAST)
    upcoming = standing(obligation(deadline=date(2027, 1, 1)), PEER, [finding(Outcome.MET, PAST - 1)], (), (), PAST)
    without = standing(obligation(), PEER, [finding(Outcome.NOT_APPLICABLE, PAST - 1)], (), (), PAST)
    counted = tally([met, unknown, upcoming, without])
    assert (counted.met, counted.due, counted.unknown) == (1, 2, 1)


OUTCOMES = st.sampled_from(list(Outcome))
HISTORY = st.lists(
    st.builds(
        lambda outcome, hours, run: finding(outcome, PAST + hours * 3600, f"run-{run}"),
        OUTCOMES,
        st.integers(-5000, 5000),
        st.integers(0, 5),
    ),
    max_size=12,
)
NOW = st.integers(-6000, 6000).map(lambda hours: PAST + hours * 3600)


@given(HISTORY, NOW)
def test_nothing_but_two_failures_of_distinct_runs_ever_refuses(history: list[Finding], now: float) -> None:
    if refuses(history, now):
        failed = {one.run for one in history if one.outcome is Outcome.NOT_MET and one.at <= now}
        assert len(failed) >= 2
        assert now >= end_of(DEADLINE)


@given(HISTORY, st.integers(-5000, 5000), NOW)
def test_adding_a_finding_met_never_makes_a_refusal(history: list[Finding], hours: int, now: float) -> None:
    if not refuses(history, now):
        assert not refuses([*history, finding(Outcome.MET, PAST + hours * 3600, "extra")], now)


@given(
    HISTORY, st.sampled_from([Outcome.ERROR, Outcome.UNKNOWN, Outcome.NOT_APPLICABLE]), st.integers(-5000, 5000), NOW
)
def test_a_finding_that_decides_nothing_never_changes_a_refusal(
    history: list[Finding], outcome: Outcome, hours: int, now: float
) -> None:
    assert refuses([*history, finding(outcome, PAST + hours * 3600, "extra")], now) == refuses(history, now)


@given(HISTORY, NOW)
def test_before_the_deadline_or_without_legal_basis_nothing_refuses(history: list[Finding], now: float) -> None:
    assert not refuses(history, min(now, end_of(DEADLINE) - 1))
    assert not refuses(history, now, legal_basis="")


@given(HISTORY, st.integers(0, 300), NOW)
def test_an_explanation_never_makes_a_refusal(history: list[Finding], days: int, now: float) -> None:
    explained = [explanation(DEADLINE + timedelta(days=days))]
    if not refuses(history, now):
        assert not refuses(history, now, explanations=explained)


@given(HISTORY)
def test_what_is_kept_in_memory_leads_to_the_same_standing_as_the_whole_history(history: list[Finding]) -> None:
    ordered = sorted({one.at: one for one in history}.values(), key=lambda one: one.at)
    kept: tuple[Finding, ...] = ()
    for one in ordered:
        kept = relevant((*kept, one))
        whole = standing(obligation(), PEER, ordered[: ordered.index(one) + 1], (), (), one.at)
        small = standing(obligation(), PEER, kept, (), (), one.at)
        assert (small.state, small.since, small.refuses) == (whole.state, whole.since, whole.refuses)
    assert len(kept) <= 5


FILE = """
[classes]
companies = ["00000099000000005000"]

[[obligations]]
id = "security-txt"
title = {nl = "Meldpunt", en = "Contact"}
norm = {nl = "Er is een security.txt.", en = "There is a security.txt."}
checks = ["security_txt@1"]
applies_to = ["companies"]
applies_from = 2026-01-01
deadline = 2026-06-30
"""


def test_obligations_are_read_from_a_file_and_bind_the_class_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "obligations.toml"
    path.write_text(FILE)
    obligations = read_obligations(path)
    assert [one.id for one in obligations.binding_on(PEER)] == ["security-txt"]
    assert obligations.binding_on("00000099000000001000") == ()
    assert obligations.obligations[0].notice_days == (90, 30, 7)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("deadline = 2026-06-30", "deadline = 2025-06-30", "deadline lies before"),
        ("deadline = 2026-06-30", "deadlin = 2026-06-30", "deadlin"),
        ('["companies"]\napplies_from', '["strangers"]\napplies_from', "strangers"),
        ('"security_txt@1"', '"security_txt"', "checks"),
        ("consequence", "consequence", ""),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "obligations.toml"
    text = FILE.replace(old, new) if named else FILE + 'consequence = "prison"\n'
    path.write_text(text)
    with pytest.raises(ConfigurationFault, match=named or "consequence"):
        read_obligations(path)


def test_two_obligations_of_one_id_are_refused() -> None:
    with pytest.raises(ValidationError, match="same id"):
        Obligations(obligations=(obligation(), obligation()))
