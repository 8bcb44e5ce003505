"""Insight: what a resident may see of the use of her data at this peer, and the proof of it (GDPR article 15).

Served as the service `inzage`, asked through the exchange itself under an agreement. So asking for insight is logged as
any other use is, and shown as such. Of an exchange about several residents everyone sees the own part: what was
recorded about the others is not even read.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class AgreementReader(Protocol):
    """What insight needs of the agreements."""

    def agreement(self, grant_hash: str) -> Agreement | None: ...


class Insight:
    """Answers what a resident may ask about herself. `peer_names` maps peer ids to names, and may change meanwhile."""

    def __init__(
        self,
        ledger: LedgerReader,
        agreements: AgreementReader,
        references: SubjectReferences,
        peer_names: Mapping[str, str],
    ) -> None:
        self._ledger = ledger
        self._agreements = agreements
        self._references = references
        self._peer_names = peer_names

    async def uses(self, bsn: str, limit: int = PAGE, before_index: int | None = None) -> list[Use]:
        """The uses of this resident's data, latest first; at most `limit` (1 to `MAXIMUM_PAGE`).

        The next page: `before_index` is the `index` of the last row. An empty list: there is no more. Raises
        `BadRequest` when the number is no valid one.
        """
        subject = self._references.of(bsn)
        limit = max(1, min(limit, MAXIMUM_PAGE))
        rows: list[Use] = []
        seen: dict[str, list[Exchange]] = {}
        for _ in range(_MAXIMUM_BATCHES):
            batch = await self._ledger.find(Query(subject=subject, after_index=before_index, limit=limit))
            for entry in batch:
                exchange = await self._exchange_of(entry, subject, seen)
                # An exchange shows at its first record about the subject only, so that no page repeats another.
                if exchange.index_about(subject) == entry.index:
                    rows.append(self._row(exchange, entry.index))
                    if len(rows) == limit:
                        return rows
            if len(batch) < limit:
                break
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
