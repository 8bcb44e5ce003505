"""Goals: the value of an indicator comes from signed evidence, and whoever computes again gets the same."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import SystemClock
from stelsel.base.errors import BadRequest, ConfigurationFault, NotFound
from stelsel.base.ids import new_span_id, new_trace_id, uuid7
from stelsel.base.web import application, listen, serving
from stelsel.demo.authority import Authority
from stelsel.ledger.api import public_routes
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger
from stelsel.steering.goal_reports import GoalReports
from stelsel.steering.goals import Goal, Goals, Indicator, Status, compute, read_goals, recompute, status
from stelsel.steering.obligations import end_of

REGISTER, CITY = "00000099000000002000", "00000099000000003000"
CLOCK = SystemClock()

GOALS = f"""
[[goals]]
id = "ask-within-the-agreement"
sentence = {{nl = "Minder dan een op de vijf vragen wordt geweigerd.", en = "Fewer than one in five is refused."}}
owner = "Regie"
contributors = ["Gemeente", "Bevolkingsregister"]
baseline = 0.9
target = 0.2
starts = 2026-01-01
due = 2099-12-31
milestones = [{{due = 2026-03-31, value = 0.5}}]

[goals.indicator]
id = "share-refused"
ledger = "{REGISTER}"
measure = "share"
where = {{direction = "incoming", event = "request", service = "personen"}}
of_which = {{allowed = false}}

[goals.guardrail]
at_least = 1

[goals.guardrail.indicator]
id = "asked"
ledger = "{REGISTER}"
measure = "count"
where = {{event = "request"}}
"""


def record(*, allowed: bool = True) -> Record:
    return Record(
        transaction_id=uuid7(),
        trace_id=new_trace_id(),
        span_id=new_span_id(),
        parent_span_id=None,
        time=int(CLOCK.now() * 1000),
        direction="incoming",
        event="request",
        grant_hash="$1$4$x",
        consumer=CITY,
        provider=REGISTER,
        service="personen",
        allowed=allowed,
        reason="",
        fields=("naam",),
        subject="pseudonym",
    )


def goals(folder: Path) -> Goals:
    path = folder / "goals.toml"
    path.write_text(GOALS)
    return read_goals(path)


Measured = tuple[dict[str, Any], list[bytes]]


@pytest.fixture(scope="module")
def measured(
    anchors: TrustAnchors, new_keypair: Callable[..., KeyPair], tmp_path_factory: pytest.TempPathFactory
) -> Measured:
    """A report over a real ledger of ten records, two refused, fetched over HTTP; and the evidence behind it."""
    folder = tmp_path_factory.mktemp("goals")

    async def run() -> Measured:
        ledger = Ledger(folder=folder / "ledger", keypair=new_keypair(REGISTER, "Bevolkingsregister"), clock=CLOCK)
        await ledger.start()
        try:
            await asyncio.gather(*(ledger.append(record(allowed=number > 1)) for number in range(10)))
            listener = listen("127.0.0.1:0")
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"

            async def web_address_of(peer_id: str) -> str:
                if peer_id != REGISTER:
                    raise NotFound("no such peer")
                return address

            async with serving(application(public_routes(ledger)), listener):
                report = await GoalReports(goals(folder), web_address_of, anchors, CLOCK).report(
                    "ask-within-the-agreement"
                )
                await ledger.append(record(allowed=False))  # life goes on; the report keeps its own checkpoint
                async with httpx.AsyncClient(base_url=address) as http:
                    evidence = await http.get(report["ledger"]["counted_at"])
            return json.loads(json.dumps(report)), evidence.content.splitlines(keepends=True)
        finally:
            await ledger.stop()

    return asyncio.run(run())


def test_an_indicator_is_computed_from_the_ledger_and_anyone_recomputes_the_same(
    measured: Measured, anchors: TrustAnchors
) -> None:
    report, evidence = measured
    assert (report["value"], report["part"], report["counted"]) == (0.2, 2, 10)
    assert report["status"] == "on_track"
    assert (report["ledger"]["peer"], report["ledger"]["size"]) == (REGISTER, 10)
    assert report["guardrail"]["value"] == 10
    assert "pseudonym" not in json.dumps(report) + b"".join(evidence).decode()
    assert recompute(report, evidence, anchors, CLOCK.now()) == 0.2


def test_evidence_that_was_altered_left_out_or_added_is_refused(measured: Measured, anchors: TrustAnchors) -> None:
    report, evidence = measured
    flipped = [evidence[0].replace(b'"allowed":false', b'"allowed":true'), *evidence[1:]]
    if flipped == evidence:
        flipped = [line.replace(b'"allowed":false', b'"allowed":true') for line in evidence]
    for wrong in (flipped, evidence[1:], evidence[:-1], [*evidence, evidence[0]], evidence[::-1], [b"{}\n"], []):
        with pytest.raises(ProofInvalid):
            recompute(report, wrong, anchors, CLOCK.now())


def test_a_report_that_says_something_else_than_its_evidence_is_refused(
    measured: Measured, anchors: TrustAnchors
) -> None:
    report, evidence = measured
    for name, value in {"value": 0.1, "status": "met", "part": 1, "extra": 1, "indicator_sha256": "0"}.items():
        with pytest.raises(ProofInvalid, match="something else"):
            recompute(report | {name: value}, evidence, anchors, CLOCK.now())
    other = copy.deepcopy(report)
    other["ledger"]["checkpoint"] = other["ledger"]["checkpoint"].replace("\n10\n", "\n9\n")
    with pytest.raises(ProofInvalid):
        recompute(other, evidence, anchors, CLOCK.now())
    elsewhere = copy.deepcopy(report)
    elsewhere["goal"]["indicator"]["ledger"] = CITY
    with pytest.raises(ProofInvalid, match="another peer"):
        recompute(elsewhere, evidence, anchors, CLOCK.now())
    with pytest.raises(ProofInvalid):
        recompute(report, evidence, TrustAnchors(Authority("another").root_pem), CLOCK.now())
    for rubbish in ({}, {"goal": 1}, report | {"ledger": None}, report | {"computed_at_seconds": "x"}):
        with pytest.raises(BadRequest):
            recompute(rubbish, evidence, anchors, CLOCK.now())


def test_a_ledger_that_cannot_be_reached_makes_a_goal_unmeasurable_and_never_missed(
    anchors: TrustAnchors, tmp_path: Path
) -> None:
    async def nowhere(_: str) -> str:
        return "http://127.0.0.1:9"

    async def unknown(_: str) -> str:
        raise NotFound("the directory knows no such peer")

    for where in (nowhere, unknown):
        reports = GoalReports(goals(tmp_path), where, anchors, CLOCK)
        made = asyncio.run(reports.report("ask-within-the-agreement"))
        assert (made["value"], made["status"]) == (None, "unmeasurable")


def goal(**changes: Any) -> Goal:
    values: dict[str, Any] = {
        "id": "g",
        "sentence": {"nl": "Meer.", "en": "More."},
        "owner": "Regie",
        "indicator": {"id": "i", "ledger": REGISTER, "measure": "count"},
        "baseline": 0,
        "target": 100,
        "starts": date(2026, 1, 1),
        "due": date(2026, 12, 31),
        "milestones": ({"due": date(2026, 6, 30), "value": 40},),
    }
    return Goal.model_validate(values | changes)


def test_a_goal_is_on_track_behind_met_missed_or_unmeasurable() -> None:
    early, later, over = end_of(date(2026, 3, 1)), end_of(date(2026, 7, 1)), end_of(date(2026, 12, 31))
    assert status(goal(), 1, early) is Status.ON_TRACK
    assert status(goal(), 39, later) is Status.BEHIND
    assert status(goal(), 40, later) is Status.ON_TRACK
    assert status(goal(), 100, early) is Status.MET
    assert status(goal(), 99, over) is Status.MISSED
    assert status(goal(), None, over) is Status.UNMEASURABLE
    assert status(goal(), 100, early, guardrail_crossed=True) is Status.BEHIND
    assert status(goal(), 100, over, guardrail_crossed=True) is Status.MISSED


def test_a_share_is_met_only_when_the_day_has_come_since_it_may_still_change() -> None:
    share = {"id": "i", "ledger": REGISTER, "measure": "share", "of_which": {"allowed": False}}
    less = goal(indicator=share, baseline=0.9, target=0.2, milestones=())
    assert status(less, 0.1, end_of(date(2026, 3, 1))) is Status.ON_TRACK
    assert status(less, 0.95, end_of(date(2026, 3, 1))) is Status.BEHIND
    assert status(less, 0.1, end_of(date(2026, 12, 31))) is Status.MET


def test_only_the_days_that_were_named_count_and_a_share_of_nothing_is_unmeasurable() -> None:
    first = int(end_of(date(2026, 1, 1)) // 3600)
    records = [{"hour": hour, "allowed": True} for hour in range(first - 24, first + 48)]
    one_day = Indicator(
        id="i", ledger=REGISTER, measure="count", days_from=date(2026, 1, 2), days_until=date(2026, 1, 2)
    )
    assert compute(one_day, records).value == 24
    share = Indicator(id="i", ledger=REGISTER, measure="share", of_which={"allowed": False})
    assert compute(share, []).value is None


@given(st.lists(st.booleans(), min_size=1), st.booleans())
def test_a_share_is_between_nothing_and_all(allowed: list[bool], which: bool) -> None:
    share = Indicator(id="i", ledger=REGISTER, measure="share", of_which={"allowed": which})
    value = compute(share, [{"hour": 1, "allowed": one} for one in allowed])
    assert value.value == pytest.approx(allowed.count(which) / len(allowed), abs=1e-6)


def test_a_truth_value_is_not_taken_for_a_text_or_a_number() -> None:
    counting = Indicator(id="i", ledger=REGISTER, measure="count", where={"allowed": True})
    assert compute(counting, [{"hour": 1, "allowed": 1}, {"hour": 1, "allowed": "true"}, {"hour": 1}]).value == 0


def test_mistakes_in_goals_are_named(tmp_path: Path) -> None:
    path = tmp_path / "goals.toml"
    path.write_text(GOALS.replace('owner = "Regie"', 'owner = "Regie"\ngrade = 10'))
    with pytest.raises(ConfigurationFault, match="grade"):
        read_goals(path)
    path.write_text(GOALS.replace('service = "personen"', 'burgerservicenummer = "1"'))
    with pytest.raises(ConfigurationFault, match="burgerservicenummer"):
        read_goals(path)
    with pytest.raises(ValidationError, match="same id"):
        Goals(goals=(goal(), goal()))
    with pytest.raises(ValidationError, match="follow each other"):
        goal(due=date(2025, 1, 1))
