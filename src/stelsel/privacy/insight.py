"""Insight: what a resident may see of the use of her data at this peer, and the proof of it (GDPR article 15).

Served as the service `inzage`, asked through the exchange itself under an agreement. So asking for insight is logged as
any other use is, and shown as such. Of an exchange about several residents everyone sees the own part: what was
recorded about the others is not even read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from stelsel.agreements.agreement import Agreement
from stelsel.base.errors import NotFound
from stelsel.ledger.query import Entry, Query
from stelsel.privacy.subjects import SubjectReferences
from stelsel.privacy.uses import Exchange, Use, exchanges, use_of

INSIGHT_SERVICE = "inzage"
"""Name of the service in the directory."""
PAGE = 50
"""Rows in one answer, unless fewer are asked."""
MAXIMUM_PAGE = 200
_MAXIMUM_BATCHES = 20
_MAXIMUM_STEPS = 100
"""Records of one transaction id that are read to make its rows."""


class LedgerReader(Protocol):
    """What insight needs of the ledger."""

    async def find(self, query: Query) -> list[Entry]: ...

    async def receipt(self, index: int) -> dict[str, Any]: ...

    async def last_number(self, subject: str) -> int: ...


class AgreementReader(Protocol):
    """What insight needs of the agreements."""

    def agreement(self, grant_hash: str) -> Agreement | None: ...


class Insight:
    """Answers what a resident may ask about herself. `peer_names` maps peer ids to names, and may change meanwhile.

    `erased_before` gives the moment before which records were erased by policy (seconds since the epoch; 0: never).
    """

    def __init__(
        self,
        ledger: LedgerReader,
        agreements: AgreementReader,
        references: SubjectReferences,
        peer_names: Mapping[str, str],
        erased_before: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._ledger = ledger
        self._agreements = agreements
        self._references = references
        self._peer_names = peer_names
        self._erased_before = erased_before

    async def uses(self, bsn: str, limit: int = PAGE, before_index: int | None = None) -> list[Use]:
        """The uses of this resident's data, latest first; at most `limit` (1 to `MAXIMUM_PAGE`).

        The next page: `before_index` is the `index` of the last row. An empty list: there is no more. Raises
        `BadRequest` when the number is no valid one.
        """
        subject = self._references.of(bsn)
        limit = max(1, min(limit, MAXIMUM_PAGE))
        count = _Count(await self._ledger.last_number(subject), int(self._erased_before() * 1000))
        if before_index is not None:
            newer = await self._ledger.find(Query(subject=subject, after_index=before_index + 1, limit=1))
            count.after(newer[0].record.subject_sequence if newer and newer[0].index == before_index else 0)
        rows: list[Use] = []
        seen: dict[str, list[Exchange]] = {}
        for _ in range(_MAXIMUM_BATCHES):
            batch = await self._ledger.find(Query(subject=subject, after_index=before_index, limit=limit))
            for entry in batch:
                count.see(entry.record.subject_sequence)
                exchange = await self._exchange_of(entry, subject, seen)
                # An exchange shows at its first record about the subject only, so that no page repeats another.
                if exchange.index_about(subject) == entry.index:
                    rows.append(count.told(self._row(exchange, entry.index), exchange.numbers_about(subject)))
                    if len(rows) == limit:
                        return rows
            if len(batch) < limit:
                return [*rows[:-1], count.ended(rows[-1])] if rows else rows
            before_index = batch[-1].index
        return rows

    async def receipt(self, bsn: str, index: int) -> dict[str, Any]:
        """The receipt of a record that is about this very resident.

        Raises `NotFound` otherwise, in the same way whether the record is about someone else or does not exist.
        """
        subject = self._references.of(bsn)
        found = await self._ledger.find(Query(subject=subject, after_index=index + 1, limit=1))
        if not found or found[0].index != index or found[0].record.subject != subject:
            raise NotFound("there is no record about you with this number")
        return await self._ledger.receipt(index)

    async def _exchange_of(self, entry: Entry, subject: str, seen: dict[str, list[Exchange]]) -> Exchange:
        transaction = entry.record.transaction_id
        if transaction not in seen:
            query = Query(
                subject=subject, or_nobody=True, transaction_id=transaction, limit=_MAXIMUM_STEPS, descending=False
            )
            seen[transaction] = exchanges(await self._ledger.find(query))
        for exchange in seen[transaction]:
            if any(one.index == entry.index for one in exchange.entries):
                return exchange
        return Exchange((entry,))  # a transaction id used more often than anyone reads: still shown

    def _row(self, exchange: Exchange, index: int) -> Use:
        return use_of(
            exchange,
            index,
            agreement=self._agreements.agreement(exchange.first.grant_hash) if exchange.first.grant_hash else None,
            name_of=lambda peer: self._peer_names.get(peer, peer),
            insight_service=INSIGHT_SERVICE,
        )


class _Count:
    """Sees the numbers of records, latest first, and which should be there and are not."""

    def __init__(self, total: int, erased_before: int) -> None:
        self._total, self._erased_before = total, erased_before
        self._next = total
        self._missing = 0

    def after(self, number: int) -> None:
        """What follows comes after the record with this number; 0: that is not known."""
        self._next = number - 1 if number else 0

    def see(self, number: int) -> None:
        """The next record has this number. One without is from before there were numbers; one that is higher than the
        last that there was when we began to look came since."""
        self._missing += max(0, self._next - number)
        self._next = max(0, number - 1)

    def told(self, row: Use, numbers: tuple[int, ...]) -> Use:
        """The row with what was missing since the row before."""
        missing, self._missing = self._missing, 0
        total = max(self._total, *numbers) if numbers else self._total
        return replace(row, numbers=numbers, total=total, missing=missing, erased_before=self._erased_before)

    def ended(self, row: Use) -> Use:
        """The last row there is: all that has a lower number is not there."""
        return replace(row, missing_after=self._missing + self._next)
