"""Goals: measured promises, declared as data. Pure.

An indicator is a versioned query over the counted parts of one peer's ledger. Its value rests on a signed checkpoint
of that ledger, so whoever has the public evidence recomputes the same value: `recompute`.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from stelsel.agreements.group import PeerId
from stelsel.base.canonical import canonical
from stelsel.base.certificates import TrustAnchors
from stelsel.base.clock import moment
from stelsel.base.errors import BadRequest
from stelsel.base.settings import Settings, read_toml
from stelsel.ledger.checkpoint import verify_checkpoint
from stelsel.ledger.evidence import verify_counted
from stelsel.ledger.faults import ProofInvalid
from stelsel.steering.obligations import Identifier, Words, end_of, start_of

REPORT_FORMAT = "stelsel-goal-report-1"
Member = Literal["direction", "event", "consumer", "provider", "service", "allowed", "processing_activity"]
Wanted = bool | Annotated[str, StringConstraints(max_length=500)]


class Indicator(Settings):
    """A count, or a share, over the counted parts of a ledger."""

    id: Identifier = Field(description="short name")
    version: int = Field(1, ge=1, description="goes up when what is counted changes")
    ledger: PeerId = Field(description="OIN of the peer whose ledger is counted")
    measure: Literal["count", "share"] = Field(description="how many, or which part of them")
    where: dict[Member, Wanted] = Field(default_factory=dict, description="members that a record must have to count")
    of_which: dict[Member, Wanted] = Field(
        default_factory=dict, description="for a share: members that the part has besides"
    )
    days_from: date | None = Field(None, description="first day that counts (UTC)")
    days_until: date | None = Field(None, description="last day that counts (UTC)")

    @model_validator(mode="after")
    def _sensible(self) -> Indicator:
        if (self.measure == "share") != bool(self.of_which):
            raise ValueError("a share has of_which, a count has not")
        return self

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the definition's canonical JSON."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


class Milestone(Settings):
    """What should have been reached by a day."""

    due: date = Field(description="the last day")
    value: float = Field(description="the value on that day")


class Guardrail(Settings):
    """An indicator that must not get worse for the sake of the goal."""

    indicator: Indicator = Field(description="what is guarded")
    at_most: float | None = Field(None, description="highest value that is acceptable")
    at_least: float | None = Field(None, description="lowest value that is acceptable")

    def crossed(self, value: float | None) -> bool:
        """Whether the value is out of bounds; what cannot be measured is not."""
        if value is None:
            return False
        too_high = self.at_most is not None and value > self.at_most
        return too_high or (self.at_least is not None and value < self.at_least)


class Goal(Settings):
    """A measured promise."""

    id: Identifier = Field(description="short name")
    sentence: Words = Field(description="the promise, in plain words")
    owner: str = Field(min_length=1, max_length=200, description="who promised it")
    contributors: tuple[str, ...] = Field((), max_length=100, description="who work on it as well")
    indicator: Indicator = Field(description="how it is measured")
    baseline: float = Field(description="the value at the start")
    target: float = Field(description="the value that was promised; below the baseline when less is better")
    starts: date = Field(description="the day of the baseline")
    due: date = Field(description="the last day to reach the target")
    milestones: tuple[Milestone, ...] = Field((), max_length=50, description="what should be reached on the way")
    guardrail: Guardrail | None = Field(None, description="what must not get worse for it")

    @model_validator(mode="after")
    def _ordered(self) -> Goal:
        days = [self.starts, *(milestone.due for milestone in self.milestones), self.due]
        if days != sorted(days):
            raise ValueError("starts, milestones and due must follow each other in time")
        return self


class Goals(Settings):
    """The file with the goals."""

    goals: tuple[Goal, ...] = Field((), max_length=200, description="the goals")

    @model_validator(mode="after")
    def _unique(self) -> Goals:
        if len({goal.id for goal in self.goals}) != len(self.goals):
            raise ValueError("two goals have the same id")
        return self


class Status(enum.StrEnum):
    """How a goal is doing."""

    ON_TRACK = "on_track"
    BEHIND = "behind"
    MET = "met"
    MISSED = "missed"
    UNMEASURABLE = "unmeasurable"


@dataclass(frozen=True, slots=True)
class Value:
    """What an indicator gave. `value` None: there was nothing to take a share of."""

    value: float | None
    counted: int
    """Records that met `where`."""
    part: int
    """Of these, the records that met `of_which`; for a count the same number."""


def read_goals(path: Path) -> Goals:
    """The goals in a TOML file. Raises `ConfigurationFault` that names the file, the key and the fix."""
    return read_toml(path, Goals)


def compute(indicator: Indicator, counted: Iterable[dict[str, Any]]) -> Value:
    """The indicator's value over counted parts. The whole iterator is used up."""
    counter = _Counter(indicator)
    for record in counted:
        counter.add(record)
    return counter.value()


def status(goal: Goal, value: float | None, now: float, *, guardrail_crossed: bool = False) -> Status:
    """How the goal is doing with this value at `now`.

    Before the due day a goal is met only by a count that has reached its target, which cannot go back; a share may
    still change, so it is on track. A guardrail that is crossed keeps a goal from being met or on track.
    """
    if value is None:
        return Status.UNMEASURABLE
    over = now >= end_of(goal.due)
    if _reached(goal, value, goal.target) and not guardrail_crossed:
        lasting = goal.indicator.measure == "count" and goal.target >= goal.baseline
        return Status.MET if over or lasting else Status.ON_TRACK
    if over:
        return Status.MISSED
    expected = next(
        (milestone.value for milestone in reversed(goal.milestones) if now >= end_of(milestone.due)), goal.baseline
    )
    return Status.ON_TRACK if _reached(goal, value, expected) and not guardrail_crossed else Status.BEHIND


def report(
    goal: Goal,
    checkpoint: str,
    endorsement: dict[str, Any],
    lines: Iterable[bytes],
    anchors: TrustAnchors,
    now: float,
    counted_at: str = "",
) -> dict[str, Any]:
    """The goal's value by verified evidence, as JSON that anyone can recompute.

    `checkpoint` and `endorsement` are what `/stelsel/v1/ledger/checkpoint` of the ledger's peer gives, `lines` what
    `/stelsel/v1/ledger/counted?size=N` gives; `counted_at` tells readers where that is. Raises `ProofInvalid`.
    """
    verified = verify_checkpoint(checkpoint, endorsement, anchors, now)
    indicators = [goal.indicator] + ([goal.guardrail.indicator] if goal.guardrail is not None else [])
    if any(indicator.ledger != verified.peer_id for indicator in indicators):
        raise ProofInvalid("the evidence is of another peer's ledger than the indicator names")
    values = _count(indicators, verify_counted(lines, checkpoint, endorsement, anchors, now))
    guarded: dict[str, Any] | None = None
    crossed = False
    if goal.guardrail is not None:
        crossed = goal.guardrail.crossed(values[1].value)
        guarded = goal.guardrail.model_dump(mode="json") | {"value": values[1].value, "crossed": crossed}
    return {
        "format": REPORT_FORMAT,
        "goal": goal.model_dump(mode="json"),
        "indicator": goal.indicator.model_dump(mode="json"),
        "indicator_sha256": goal.indicator.sha256,
        "value": values[0].value,
        "counted": values[0].counted,
        "part": values[0].part,
        "guardrail": guarded,
        "status": status(goal, values[0].value, now, guardrail_crossed=crossed).value,
        "ledger": {
            "peer": verified.peer_id,
            "peer_name": verified.peer_name,
            "size": verified.size,
            "root": verified.root.hex(),
            "checkpoint": checkpoint,
            "endorsement": endorsement,
            "counted_at": counted_at,
        },
        "computed_at": moment(now),
        "computed_at_seconds": now,
    }


def unmeasurable(goal: Goal, why: str, now: float) -> dict[str, Any]:
    """The report of a goal that cannot be measured at the moment, and why."""
    return {
        "format": REPORT_FORMAT,
        "goal": goal.model_dump(mode="json"),
        "indicator": goal.indicator.model_dump(mode="json"),
        "indicator_sha256": goal.indicator.sha256,
        "value": None,
        "status": Status.UNMEASURABLE.value,
        "why": why,
        "computed_at": moment(now),
        "computed_at_seconds": now,
    }


def recompute(report_json: dict[str, Any], lines: Iterable[bytes], anchors: TrustAnchors, now: float) -> float | None:
    """Compute a report's value again from evidence (NDJSON lines) and the checkpoint in the report; give the value.

    Raises `ProofInvalid` when evidence or checkpoint does not hold or another value comes out, and `BadRequest` when
    it is not a report.
    """
    try:
        goal = Goal.model_validate(report_json["goal"])
        ledger = report_json["ledger"]
        at = float(report_json["computed_at_seconds"])
        where = str(ledger["counted_at"])
        again = report(goal, ledger["checkpoint"], ledger["endorsement"], lines, anchors, at, where)
        ahead = at > now + 300
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequest("this is not a report of a goal that was measured") from error
    if ahead:
        raise ProofInvalid("the report is dated in the future")
    different = sorted(name for name in again.keys() | report_json.keys() if again.get(name) != report_json.get(name))
    if different:
        raise ProofInvalid(f"computing again gives something else for: {', '.join(map(str, different[:10]))[:200]}")
    value = again["value"]
    return None if value is None else float(value)


class _Counter:
    def __init__(self, indicator: Indicator) -> None:
        self._indicator = indicator
        first, last = indicator.days_from, indicator.days_until
        self._from = start_of(first) / 3600 if first is not None else float("-inf")
        self._until = end_of(last) / 3600 if last is not None else float("inf")
        self._counted = self._part = 0

    def add(self, record: dict[str, Any]) -> None:
        hour = record.get("hour")
        if not isinstance(hour, int) or not self._from <= hour < self._until:
            return
        if _matches(record, self._indicator.where):
            self._counted += 1
            self._part += _matches(record, self._indicator.of_which)

    def value(self) -> Value:
        if self._indicator.measure == "count":
            return Value(float(self._counted), self._counted, self._part)
        share = round(self._part / self._counted, 6) if self._counted else None
        return Value(share, self._counted, self._part)


def _count(indicators: list[Indicator], counted: Iterator[dict[str, Any]]) -> list[Value]:
    counters = [_Counter(indicator) for indicator in indicators]
    for record in counted:
        for counter in counters:
            counter.add(record)
    return [counter.value() for counter in counters]


def _matches(record: dict[str, Any], wanted: dict[Member, Wanted]) -> bool:
    return all(record.get(name) == value and type(record.get(name)) is type(value) for name, value in wanted.items())


def _reached(goal: Goal, value: float, mark: float) -> bool:
    return value >= mark if goal.target >= goal.baseline else value <= mark
