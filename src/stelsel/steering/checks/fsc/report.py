"""What came of a check: lines for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stelsel.steering.checks.fsc.model import Outcome, Result, Scenario
from stelsel.steering.checks.fsc.settings import CheckTarget

_SHOWN = {Outcome.PASSED: "pass", Outcome.FAILED: "FAIL", Outcome.NOT_RUN: "not run"}
_WIDTHS = (8, 39, 36)


def heading() -> str:
    """The first line of the table."""
    return _row("outcome", "scenario", "clause", "what is tried")


def listed(one: Scenario) -> str:
    """A scenario's line in a list that has no outcomes."""
    return _row("", one.id, one.clause, one.title).lstrip()


def line(result: Result) -> str:
    """A scenario's line in the table."""
    one = result.scenario
    return _row(_SHOWN[result.outcome], one.id, one.clause, one.title)


def _row(*cells: str) -> str:
    return " ".join([*(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False)), cells[-1]])


def failures(results: Sequence[Result]) -> Iterator[str]:
    """Lines about what failed, with what was sent and received, and about what was not run."""
    for result in results:
        one = result.scenario
        if result.outcome is Outcome.PASSED:
            continue
        yield ""
        yield f"{one.id} ({one.clause}) {_SHOWN[result.outcome]}: {result.detail}"
        if one.note:
            yield f"    note: {one.note}"
        if result.outcome is not Outcome.FAILED:
            continue
        for entry in result.transcript:
            for text in (*f"{entry.direction}: {entry.what}".split("\n"), *filter(None, entry.body.split("\n"))):
                yield f"    {text}"


def passed(results: Sequence[Result]) -> bool:
    """Whether all ran, and all pass."""
    return bool(results) and all(result.outcome is Outcome.PASSED for result in results)


def summary(results: Sequence[Result]) -> str:
    """The last line."""
    count = sum(result.outcome is Outcome.PASSED for result in results)
    return f"{count} of {len(results)} scenarios pass"


def document(target: CheckTarget, results: Sequence[Result], began: float) -> dict[str, Any]:
    """All of it, as JSON."""
    return {
        "target": {
            "peer_id": target.target.peer_id,
            "manager": target.target.manager,
            "inway": target.target.inway,
            "outway": target.target.outway,
            "group_id": target.group_id,
        },
        "standard": {"core": "2.0.0", "logging": "1.1.0"},
        "began_at": int(began),
        "passed": sum(result.outcome is Outcome.PASSED for result in results),
        "failed": sum(result.outcome is Outcome.FAILED for result in results),
        "not_run": sum(result.outcome is Outcome.NOT_RUN for result in results),
        "total": len(results),
        "results": [result.to_json() for result in results],
    }
