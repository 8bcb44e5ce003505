"""What the ledger holds of how agreements were used: the shell of `simulation`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from stelsel.agreements.service import Agreements
from stelsel.exchange.simulation import Event, Flow, Use, simulate, tally
from stelsel.ledger.query import Query
from stelsel.ledger.service import Ledger

MOST_RECORDS = 200_000
"""Records that are read for one question, newest first, spread evenly over its agreements: a bound on its cost."""
_PAGE = 1_000
"""Records at a time; small, for the gateways of this node share the interpreter."""
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Uses:
    """Use by grant hash, of the records at `since_ms` or later."""

    by_grant: dict[str, Use]
    since_ms: int
    complete: bool
    """False: there was more than is read; then what is counted is a part, the newest."""


async def uses_of(
    ledger: Ledger, grant_hashes: Iterable[str], peer_id: str, now: float, days: int, most: int = MOST_RECORDS
) -> Uses:
    """How these agreements were used in the `days` days before `now`. Raises `LedgerUnavailable`."""
    since_ms = int((now - days * _DAY) * 1000)
    found: dict[str, Use] = {}
    complete = True
    wanted = sorted(set(grant_hashes))
    each = max(most // max(len(wanted), 1), _PAGE)
    for grant_hash in wanted:
        read, after = 0, None
        while read < each:
            query = Query(grant_hash=grant_hash, after_ms=since_ms, after_index=after, limit=min(_PAGE, each - read))
            entries = await ledger.find(query)
            tally((entry.record for entry in entries), peer_id, found)
            read += len(entries)
            if len(entries) < query.limit:
                break
            after = entries[-1].index
        else:
            complete = False
    return Uses(found, since_ms, complete)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What would become of the flows that an event touches."""

    flows: tuple[Flow, ...]
    complete: bool
    """See `Uses`."""

    @property
    def breaks(self) -> bool:
        """Whether a call that was made would be refused."""
        return any(flow.breaking for flow in self.flows)


async def foresee(agreements: Agreements, ledger: Ledger, event: Event, now: float, days: int = 30) -> Foreseen:
    """What would break, by the calls of the `days` days before `now`. Raises `LedgerUnavailable`."""
    live = [agreement.grant_hash for agreement in event.agreements if agreement.holds(now)]
    uses = await uses_of(ledger, live, agreements.peer_id, now, days)
    flows = await asyncio.to_thread(simulate, event, agreements.agreements(), uses.by_grant, now, days)
    return Foreseen(flows, uses.complete)
