"""What the ledger holds of how agreements were used: the shell of `simulation`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stelsel.exchange.simulation import Use, tally
from stelsel.ledger.query import Query
from stelsel.ledger.service import Ledger

MOST_RECORDS = 200_000
"""Records of one agreement that are read, newest first: a bound on what one question costs."""
_PAGE = 5_000
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
    for grant_hash in sorted(set(grant_hashes)):
        read, after = 0, None
        while read < most:
            query = Query(grant_hash=grant_hash, after_ms=since_ms, after_index=after, limit=min(_PAGE, most - read))
            entries = await ledger.find(query)
            tally((entry.record for entry in entries), peer_id, found)
            read += len(entries)
            if len(entries) < query.limit:
                break
            after = entries[-1].index
        else:
            complete = False
    return Uses(found, since_ms, complete)
