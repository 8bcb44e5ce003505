"""Findings and what follows from them: pure rules, with time passed in.

The rules are the guardrails of steering: only past the deadline, only with a legal basis, only after two consecutive
failures from distinct runs; `error`, `unknown` and `not-applicable` never count as kept nor as broken; an approved
explanation and a timely appeal make the consequence wait. A failure stands until a later run finds the norm met, so
going dark is no way out; a finding `met` grows old instead, and then says nothing.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stelsel.steering.obligations import Appeal, Explanation, Obligation, end_of


class Outcome(enum.StrEnum):
    """What a check can find."""

    MET = "met"
    NOT_MET = "not-met"
    ERROR = "error"
    NOT_APPLICABLE = "not-applicable"
    UNKNOWN = "unknown"


DECISIVE = (Outcome.MET, Outcome.NOT_MET)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an outcome is as it is, in the two languages of the interface."""

    nl: str
    en: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a norm makes of facts. `advice` are remarks that change nothing."""

    outcome: Outcome
    reasons: tuple[Reason, ...] = ()
    advice: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check of one run found at one peer, for one obligation."""

    id: str
    obligation: str
    peer: str
    outcome: Outcome
    at: float
    run: str
    """Which run of the checks this was: two failures of one run are one."""
    check: str
    check_version: int
    ruleset_hash: str
    evidence_hash: str
    """SHA-256 (hex) of the canonical JSON of `evidence`."""
    reasons: tuple[Reason, ...] = ()
    advice: tuple[Reason, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict, compare=False)
    """`transcript` (lines) and `facts` (JSON). May be left out in memory; the log has it."""

    @property
    def reference(self) -> str:
        """The check as an obligation names it: name@version."""
        return f"{self.check}@{self.check_version}"


class State(enum.StrEnum):
    """Where a peer stands with one obligation."""

    NOT_YET = "not-yet"
    MET = "met"
    TO_CONFIRM = "to-confirm"
    """Found broken once: a second run has to find the same before anything follows."""
    FAILING = "failing"
    EXPLAINED = "explained"
    APPEALED = "appealed"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not-applicable"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a peer stands with one obligation at one moment, and on which findings that rests."""

    obligation: Obligation
    peer: str
    state: State
    due: bool
    """Whether the deadline has passed: it counts today."""
    refuses: bool
    """Whether it stands in the way of a new contract."""
    since: float | None = None
    """From which finding on it has been so."""
    measured_at: float | None = None
    findings: tuple[Finding, ...] = ()
    """The findings that decide, newest first."""
    interrupted: Finding | None = None
    """A newer finding that decides nothing: an error, say."""
    explanation: Explanation | None = None
    appeal: Appeal | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A peer has to be told that a deadline nears."""

    obligation: str
    peer: str
    days_left: int
    notice: int
    """Which of the obligation's `notice_days` this is."""


@dataclass(frozen=True, slots=True)
class Tally:
    """'Meets x of y obligations due today': the only sum there is."""

    met: int
    due: int
    unknown: int
    explained: int


def standing(
    obligation: Obligation,
    peer: str,
    findings: Iterable[Finding],
    explanations: Iterable[Explanation],
    appeals: Iterable[Appeal],
    now: float,
) -> Standing:
    """Where `peer` stands with `obligation` at `now`. What is about others, or lies after `now`, is left aside."""
    mine = [
        finding
        for finding in findings
        if finding.obligation == obligation.id
        and finding.peer == peer
        and finding.reference in obligation.checks  # a changed check is another check: its findings start anew
        and finding.at <= now
    ]
    explanation = max(
        (e for e in explanations if e.obligation == obligation.id and e.peer == peer and e.holds(now)),
        key=lambda e: e.until,
        default=None,
    )
    appeal = next((a for a in appeals if a.obligation == obligation.id and a.peer == peer and a.pauses(now)), None)
    due = obligation.past_deadline(now)
    newest = max(mine, key=lambda finding: finding.at, default=None)
    interrupted = newest if newest is not None and newest.outcome not in DECISIVE else None

    state, deciding, since = _measured(obligation, mine, now)
    if not obligation.applies(now):
        state = State.NOT_YET
    elif state is State.FAILING and appeal is not None:
        state = State.APPEALED
    elif state is State.FAILING and explanation is not None:
        state = State.EXPLAINED
    return Standing(
        obligation=obligation,
        peer=peer,
        state=state,
        due=due,
        refuses=state is State.FAILING and due and obligation.binding,
        since=since,
        measured_at=max((finding.at for finding in deciding), default=None),
        findings=deciding,
        interrupted=interrupted,
        explanation=explanation,
        appeal=appeal,
    )


def standings(
    obligations: Iterable[Obligation],
    peer: str,
    findings: Sequence[Finding],
    explanations: Sequence[Explanation],
    appeals: Sequence[Appeal],
    now: float,
) -> tuple[Standing, ...]:
    """`standing` for each of the obligations that bind this peer."""
    return tuple(standing(obligation, peer, findings, explanations, appeals, now) for obligation in obligations)


def tally(of_peer: Iterable[Standing]) -> Tally:
    """How many of the obligations due today a peer meets. What is not applicable to it is not counted at all."""
    due = [one for one in of_peer if one.due and one.state not in (State.NOT_APPLICABLE, State.NOT_YET)]
    return Tally(
        met=sum(one.state is State.MET for one in due),
        due=len(due),
        unknown=sum(one.state is State.UNKNOWN for one in due),
        explained=sum(one.state in (State.EXPLAINED, State.APPEALED) for one in due),
    )


def notice(of: Standing, now: float) -> Notice | None:
    """The notice that is due to a peer that does not keep an obligation whose deadline nears."""
    if of.due or of.state in (State.MET, State.NOT_APPLICABLE, State.NOT_YET):
        return None
    left = math.ceil((end_of(of.obligation.deadline) - now) / 86400)
    reached = [days for days in of.obligation.notice_days if left <= days]
    return Notice(of.obligation.id, of.peer, left, min(reached)) if reached else None


def _measured(
    obligation: Obligation, findings: list[Finding], now: float
) -> tuple[State, tuple[Finding, ...], float | None]:
    """(state, deciding findings, since) by the checks alone; the worst check speaks for the obligation."""
    per_check = [
        _of_check(obligation, [finding for finding in findings if finding.reference == reference], now)
        for reference in obligation.checks
    ]
    for state in (State.FAILING, State.TO_CONFIRM, State.UNKNOWN):
        found = [result for result in per_check if result[0] is state]
        if found:
            return state, tuple(f for _, deciding, _ in found for f in deciding), _earliest(found)
    # only `met` and `not-applicable` are left; one that is met makes the obligation apply
    met = [result for result in per_check if result[0] is State.MET]
    chosen = met or per_check
    return chosen[0][0], tuple(f for _, deciding, _ in chosen for f in deciding), _earliest(chosen)


def _of_check(
    obligation: Obligation, findings: list[Finding], now: float
) -> tuple[State, tuple[Finding, ...], float | None]:
    ordered = sorted(findings, key=lambda finding: finding.at, reverse=True)
    failures: list[Finding] = []
    for finding in ordered:
        if finding.outcome is Outcome.MET:
            if failures:
                break
            if now - finding.at > obligation.fresh_days * 86400:
                return State.UNKNOWN, (), None
            return State.MET, (finding,), finding.at
        if finding.outcome is Outcome.NOT_MET:
            failures.append(finding)
    if not failures:
        never = ordered and ordered[0].outcome is Outcome.NOT_APPLICABLE
        return (State.NOT_APPLICABLE, (ordered[0],), ordered[0].at) if never else (State.UNKNOWN, (), None)
    runs: dict[str, Finding] = {}
    for finding in failures:
        runs.setdefault(finding.run, finding)
    state = State.FAILING if len(runs) >= 2 else State.TO_CONFIRM
    return state, tuple(runs.values())[:2], failures[-1].at


def _earliest(results: list[tuple[State, tuple[Finding, ...], float | None]]) -> float | None:
    return min((since for _, _, since in results if since is not None), default=None)


def relevant(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Of one check's findings at one peer for one obligation, oldest first: those that any later standing rests on.

    With this a steward keeps a handful of findings in memory however long it runs: the last `met`, the first two and
    the last two failures after it, and the last finding that decides nothing.
    """
    met: Finding | None = None
    failures: list[Finding] = []
    other: Finding | None = None
    for finding in findings:
        if finding.outcome is Outcome.MET:
            met, failures = finding, []
        elif finding.outcome is Outcome.NOT_MET:
            failures.append(finding)
        else:
            other = finding
    runs = {finding.run: finding for finding in failures}
    kept = failures[:1] + [finding for finding in list(runs.values())[-2:] if finding is not failures[0]]
    return tuple(finding for finding in (met, *kept, other) if finding is not None)
