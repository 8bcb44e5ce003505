"""Goals as readers see them: the promise, what was measured, on which evidence, how anyone measures it again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from stelsel.base.text import inert
from stelsel.portal.board_views import day_pair
from stelsel.portal.charts import number_in
from stelsel.portal.contract_views import Pair
from stelsel.portal.pages import when
from stelsel.steering.goals import Goal, Indicator, Status
from stelsel.steering.obligations import end_of, start_of

_SAID: dict[str, tuple[str, str, str]] = {
    Status.ON_TRACK: ("good", "op schema", "on track"),
    Status.BEHIND: ("wait", "loopt achter", "behind"),
    Status.MET: ("good", "gehaald", "met"),
    Status.MISSED: ("bad", "niet gehaald", "missed"),
    Status.UNMEASURABLE: ("none", "nu niet te meten", "cannot be measured now"),
}
_UNDER_WAY = ("none", "wordt gemeten", "being measured")
_MEMBERS: dict[str, tuple[str, str]] = {
    "consumer": ("de vrager is {}", "who asks is {}"),
    "provider": ("de bron is {}", "the source is {}"),
    "service": ("de dienst is ‘{}’", "the service is ‘{}’"),
    "processing_activity": ("de verwerking is {}", "the processing activity is {}"),
}
_FIXED: dict[tuple[str, object], tuple[str, str]] = {
    ("direction", "incoming"): ("de vraag kwam bij deze organisatie binnen", "the request came in at this peer"),
    ("direction", "outgoing"): ("de vraag ging van deze organisatie uit", "the request went out from this peer"),
    ("event", "request"): ("het is een vraag, geen antwoord", "it is a request, not an answer"),
    ("event", "response"): ("het is een antwoord, geen vraag", "it is an answer, not a request"),
    ("allowed", True): ("de vraag mocht volgens de afspraak", "the request was within the agreement"),
    ("allowed", False): ("de vraag is geweigerd", "the request was refused"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """A value on a day: the baseline, a milestone, the target, or what was measured."""

    said: Pair
    day: Pair
    at: float
    """Seconds since the epoch."""
    value: float
    shown: Pair


@dataclass(frozen=True, slots=True)
class GoalRow:
    """A goal in the list. `value` is ("", "") while there is none."""

    id: str
    sentence: Pair
    owner: str
    tone: str
    said: Pair
    value: Pair
    target: Pair
    due: Pair


@dataclass(frozen=True, slots=True)
class LedgerView:
    """On which state of which ledger a value rests."""

    peer: str
    peer_id: str
    size: int
    root: str
    counted_at: str


@dataclass(frozen=True, slots=True)
class GoalView:
    """A goal in full."""

    row: GoalRow
    contributors: tuple[str, ...]
    baseline: Pair
    starts: Pair
    counts: Pair
    """What the indicator counts, as the beginning of a sentence."""
    where: tuple[Pair, ...]
    of_which: tuple[Pair, ...]
    days: Pair
    indicator: str
    indicator_sha256: str
    plan: tuple[Step, ...]
    measured: Step | None
    counted: int | None
    part: int | None
    share: bool
    guardrail: Pair
    why: str
    """Why it cannot be measured, inert; or empty."""
    computed_at: Pair
    ledger: LedgerView | None


def row_view(goal: Goal, report: Mapping[str, Any] | None) -> GoalRow:
    """A goal with its report; without one it is being measured."""
    tone, dutch, english = _UNDER_WAY if report is None else _SAID[str(report["status"])]
    value = None if report is None else report["value"]
    return GoalRow(
        id=goal.id,
        sentence=(goal.sentence.nl, goal.sentence.en),
        owner=goal.owner,
        tone=tone,
        said=(dutch, english),
        value=("", "") if value is None else _shown(goal.indicator, value),
        target=_shown(goal.indicator, goal.target),
        due=day_pair(goal.due.isoformat()),
    )


def goal_view(goal: Goal, report: Mapping[str, Any] | None, now: float) -> GoalView:
    """A goal in full, at `now` (seconds since the epoch)."""
    told: Mapping[str, Any] = report or {}
    value = told.get("value")
    indicator = goal.indicator
    ledger = told.get("ledger")
    at = float(told.get("computed_at_seconds", now))
    measured = (
        Step(("gemeten", "measured"), (when(at, "nl"), when(at, "en")), at, value, _shown(indicator, value))
        if value is not None
        else None
    )
    return GoalView(
        row=row_view(goal, report),
        contributors=goal.contributors,
        baseline=_shown(indicator, goal.baseline),
        starts=day_pair(goal.starts.isoformat()),
        counts=_counts(indicator),
        where=_conditions(indicator.where.items()),
        of_which=_conditions(indicator.of_which.items()),
        days=_days(indicator),
        indicator=f"{indicator.id}@{indicator.version}",
        indicator_sha256=indicator.sha256,
        plan=_plan(goal),
        measured=measured,
        counted=told.get("counted"),
        part=told.get("part"),
        share=indicator.measure == "share",
        guardrail=_guardrail(goal, told.get("guardrail")),
        why=inert(str(told.get("why", "")), 300),
        computed_at=(when(at, "nl"), when(at, "en")) if report is not None else ("", ""),
        ledger=_ledger(ledger) if isinstance(ledger, dict) else None,
    )


def _ledger(told: Mapping[str, Any]) -> LedgerView:
    counted_at = inert(str(told["counted_at"]), 500)
    return LedgerView(
        peer=inert(str(told["peer_name"]), 120),
        peer_id=inert(str(told["peer"]), 20),
        size=int(told["size"]),
        root=inert(str(told["root"]), 64),
        counted_at=counted_at if counted_at.startswith(("https://", "http://")) else "",
    )


def _plan(goal: Goal) -> tuple[Step, ...]:
    def step(said: Pair, on: date, at: float, value: float) -> Step:
        return Step(said, day_pair(on.isoformat()), at, value, _shown(goal.indicator, value))

    return (
        step(("begin", "start"), goal.starts, start_of(goal.starts), goal.baseline),
        *(step(("tussendoel", "milestone"), one.due, end_of(one.due), one.value) for one in goal.milestones),
        step(("doel", "target"), goal.due, end_of(goal.due), goal.target),
    )


def _counts(indicator: Indicator) -> Pair:
    if indicator.measure == "share":
        return (
            "Van de vastleggingen die aan deze voorwaarden voldoen, het deel dat ook aan de tweede lijst voldoet.",
            "Of the records that meet these conditions, the part that meets the second list as well.",
        )
    return (
        "Het aantal vastleggingen dat aan al deze voorwaarden voldoet.",
        "The number of records that meet all of these conditions.",
    )


def _conditions(members: Iterable[tuple[str, bool | str]]) -> tuple[Pair, ...]:
    found: list[Pair] = []
    for name, wanted in members:
        fixed = _FIXED.get((name, wanted))
        if fixed is None:
            dutch, english = _MEMBERS.get(name, (f"{name} is {{}}", f"{name} is {{}}"))
            shown = inert(str(wanted), 300)
            fixed = dutch.format(shown), english.format(shown)
        found.append(fixed)
    return tuple(found)


def _days(indicator: Indicator) -> Pair:
    first = day_pair(indicator.days_from.isoformat()) if indicator.days_from is not None else None
    last = day_pair(indicator.days_until.isoformat()) if indicator.days_until is not None else None
    if first is not None and last is not None:
        return f"van {first[0]} tot en met {last[0]}", f"from {first[1]} until and including {last[1]}"
    if first is not None:
        return f"vanaf {first[0]}", f"from {first[1]}"
    if last is not None:
        return f"tot en met {last[0]}", f"until and including {last[1]}"
    return "zolang het logboek bestaat", "for as long as the ledger exists"


def _guardrail(goal: Goal, told: Any) -> Pair:
    if goal.guardrail is None:
        return "", ""
    rail, indicator = goal.guardrail, goal.guardrail.indicator
    bounds_nl, bounds_en = [], []
    if rail.at_most is not None:
        shown = _shown(indicator, rail.at_most)
        bounds_nl.append(f"hoogstens {shown[0]}")
        bounds_en.append(f"at most {shown[1]}")
    if rail.at_least is not None:
        shown = _shown(indicator, rail.at_least)
        bounds_nl.append(f"minstens {shown[0]}")
        bounds_en.append(f"at least {shown[1]}")
    dutch = f"‘{indicator.id}’ moet {' en '.join(bounds_nl)} blijven"
    english = f"‘{indicator.id}’ must stay {' and '.join(bounds_en)}"
    value = told.get("value") if isinstance(told, dict) else None
    if value is None:
        return f"{dutch}; er is nu niets te meten.", f"{english}; there is nothing to measure now."
    now = _shown(indicator, value)
    held = not told.get("crossed")
    return (
        f"{dutch}; het is nu {now[0]}: {'in orde' if held else 'niet in orde'}.",
        f"{english}; it is {now[1]} now: {'in order' if held else 'not in order'}.",
    )


def _shown(indicator: Indicator, value: float) -> Pair:
    if indicator.measure == "share":
        return f"{number_in(round(value * 100, 1), 'nl')}%", f"{number_in(round(value * 100, 1), 'en')}%"
    return number_in(value, "nl"), number_in(value, "en")
