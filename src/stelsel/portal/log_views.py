"""Records of the ledger as officials read them: who asked what of whom, and what was decided. Pure.

Whom it was about is left out here: a subject reference is for the resident concerned, not for a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from stelsel.agreements.agreement import Agreement
from stelsel.agreements.readable import named
from stelsel.base.text import inert
from stelsel.ledger.query import Entry
from stelsel.portal.contract_views import Pair, tail_of
from stelsel.privacy.decision import REASONS, Reason
from stelsel.privacy.fields import words

_MOST_FIELDS = 100


@dataclass(frozen=True, slots=True)
class LogLine:
    """One record in the list."""

    index: int
    time: int
    """Milliseconds since the epoch."""
    direction: Pair
    answer: bool
    """Whether it was recorded at the answer instead of the question."""
    consumer: str
    provider: str
    service: str
    fields: tuple[Pair, ...]
    refused: tuple[Pair, ...]
    allowed: bool
    reason: Pair
    transaction_id: str
    agreement: str
    """The tail of the contract's hash, or empty when there is no agreement by that hash."""


def lines(
    entries: Iterable[Entry], names: Mapping[str, str], agreement_of: Callable[[str], Agreement | None]
) -> tuple[LogLine, ...]:
    """The records, in the order given."""
    return tuple(_line(entry, names, agreement_of) for entry in entries)


def _line(entry: Entry, names: Mapping[str, str], agreement_of: Callable[[str], Agreement | None]) -> LogLine:
    record = entry.record
    agreement = agreement_of(record.grant_hash) if record.grant_hash else None
    incoming = record.direction == "incoming"
    return LogLine(
        index=entry.index,
        time=record.time,
        direction=("bij ons gevraagd", "asked of us") if incoming else ("door ons gevraagd", "asked by us"),
        answer=record.event == "response",
        consumer=named(record.consumer, names),
        provider=named(record.provider, names),
        service=inert(record.service, 100),
        fields=_pairs(record.fields),
        refused=_pairs(record.refused),
        allowed=record.allowed,
        reason=_reason(record.reason),
        transaction_id=inert(record.transaction_id, 60),
        agreement=tail_of(agreement.content_hash) if agreement is not None else "",
    )


def _pairs(paths: Iterable[str]) -> tuple[Pair, ...]:
    return tuple(dict.fromkeys((words(path).nl, words(path).en) for path in list(paths)[:_MOST_FIELDS]))


def _reason(reason: str) -> Pair:
    """Why, in words. A code of the standard that has no words here is shown as it is."""
    if reason in set(Reason):
        known = REASONS[Reason(reason)]
        return known.nl, known.en
    return inert(reason, 100), inert(reason, 100)
