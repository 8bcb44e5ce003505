"""Journals that say what is not so, to see that a trial catches them. Called in a node's process before it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stelsel.ledger.segments import SegmentJournal

_honest = SegmentJournal.append


def _instead(append: Callable[[SegmentJournal, Sequence[Any]], int]) -> None:
    SegmentJournal.append = append  # type: ignore[assignment,method-assign]
    SegmentJournal.begin = lambda journal, batch: None  # type: ignore[method-assign]


def acknowledges_before_writing() -> None:
    """Records are written when there are enough of them: fast, and nobody sees it until a process dies."""
    held: list[Any] = []

    def append(journal: SegmentJournal, batch: Sequence[Any]) -> int:
        first = journal.size + len(held)
        held.extend(batch)
        if len(held) >= 100:
            _honest(journal, held)
            held.clear()
        return first

    _instead(append)


def writes_some_twice() -> None:
    """A writer that tries again after a write that had succeeded."""

    def append(journal: SegmentJournal, batch: Sequence[Any]) -> int:
        first = _honest(journal, batch)
        if first % 5 == 0:
            _honest(journal, batch)
        return first

    _instead(append)
