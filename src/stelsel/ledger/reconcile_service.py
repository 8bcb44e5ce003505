"""Reconciliation in motion: asks each counterparty for its transaction log (`GET /logs`) and compares it with ours.

It goes through time in slices, from where it was left, up to a little before now, since what is under way is not in
both logs yet. A slice in which there is more than can be held in memory is halved. What only one side told of a slice
is asked for by transaction id, on both sides, before it counts as missing: so clocks need not agree.

Of a peer nothing is taken for granted: pages, records, bytes and time are bounded, and what is not a log record ends
the comparison with that peer, which is told as trouble; what it was compared up to does not move then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from stelsel.base import tasks
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import BadGateway, Fault
from stelsel.base.log import logger
from stelsel.base.text import inert
from stelsel.ledger import reconcile_store as store
from stelsel.ledger.query import Entry, LogQuery, Query
from stelsel.ledger.reconcile import (
    Discrepancy,
    Key,
    Lacking,
    Logged,
    between,
    by_key,
    differences,
    judge,
    lacking,
    of_record,
    read_logged,
)
from stelsel.ledger.reconcile_settings import ReconciliationSettings

_log = logger("ledger")
_random = random.SystemRandom()

MOST_IN_SLICE = 20_000
"""Transactions of one side that are held in memory at once."""
MOST_LOOKED_UP = 1_000
"""Transactions of a slice that are asked for by id; with more the slice is halved."""
_LONGEST_SLICE = 86_400
_WIDEST_MARGIN = 60
_PAGE = 500
_IDS = 50
"""Transaction ids in one question: 2 KB of address."""
_AGAIN = 200
"""Kept discrepancies that are looked at again in every round."""
_AT_ONCE = 4
_FIRST = 60.0
"""Seconds after the start in which the first round falls, at the latest."""


class Records(Protocol):
    """What is needed of our own ledger."""

    async def transactions(self, query: LogQuery) -> list[Entry]: ...

    async def find(self, query: Query) -> list[Entry]: ...


class Pages(Protocol):
    """Reads what the manager of a peer lists, page by page. Raises a `Fault`."""

    def __call__(
        self, peer_id: str, path: str, member: str, query: dict[str, str], limit: int
    ) -> AsyncIterator[list[Any]]: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comparing with one peer came to."""

    peer_id: str
    start: int
    stop: int
    """Seconds since the epoch; up to where it came when there is trouble."""
    ours: int = 0
    theirs: int = 0
    found: tuple[Discrepancy, ...] = ()
    """At most `MOST_KEPT`."""
    more: int = 0
    """Found beyond those."""
    trouble: str = ""
    unfinished: bool = False
    """Time ran out; the next round goes on from there."""


class Reconciliation:
    """Compares our log with those of counterparties, regularly and on request."""

    def __init__(
        self,
        *,
        own: str,
        ledger: Records,
        pages: Pages,
        peers: Callable[[], Iterable[str]],
        database: Database,
        clock: Clock,
        settings: ReconciliationSettings,
        keep_days: int = 0,
    ) -> None:
        """`own` is our peer id; `peers` gives those with whom there are agreements.

        `keep_days`: after so many we erase records; 0: never.
        """
        self._own = own
        self._ledger = ledger
        self._pages = pages
        self._peers = peers
        self._database = database
        self._clock = clock
        self._settings = settings
        self._days = min(settings.days, keep_days) if keep_days else settings.days
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Compare regularly from now on, unless the setting says never."""
        if self._settings.interval:
            self._task = asyncio.create_task(self._regularly())

    async def stop(self) -> None:
        """Stop; what was compared is remembered."""
        task, self._task = self._task, None
        await tasks.end(task)

    def standings(self) -> list[store.Standing]:
        """How it stands with each counterparty, those with which it was never tried included."""
        with self._database.read() as connection:
            known = {each.peer_id: each for each in store.standings(connection)}
        current = set(self._peers()) - {self._own}
        return [
            replace(known.get(peer_id, store.Standing(peer_id)), current=peer_id in current)
            for peer_id in sorted(set(known) | current)
        ]

    def kept(self, peer_id: str | None = None, limit: int = store.MOST_KEPT) -> list[store.Kept]:
        """The discrepancies that stand, newest transactions first."""
        with self._database.read() as connection:
            return store.kept(connection, peer_id, limit)

    async def run(self, peer_id: str | None = None, since: float | None = None) -> list[Outcome]:
        """Compare with this peer or with all, from `since` or from where it was left. Never raises a `Fault`."""
        wanted = self._wanted() if peer_id is None else [peer_id]
        slots = asyncio.Semaphore(_AT_ONCE)

        async def in_turn(each: str) -> Outcome:
            async with slots:
                return await self._with_peer(each, since)

        async with self._lock:
            return list(await asyncio.gather(*(in_turn(each) for each in wanted)))

    def _wanted(self) -> list[str]:
        """Counterparties, and those that were until lately: what was exchanged then is compared too."""
        lately = self._clock.now() - self._days * 86_400
        return [each.peer_id for each in self.standings() if each.current or each.up_to > lately]

    async def _regularly(self) -> None:
        interval = self._settings.interval
        wait = min(_FIRST, interval) * _random.uniform(0.5, 1)
        while True:
            await asyncio.sleep(wait)
            more = False
            try:
                more = any(outcome.unfinished for outcome in await self.run())
            except Exception as error:  # noqa: BLE001 - comparing must outlive any mistake; it is logged
                _log.error("reconciliation stumbled and goes on", exc_info=error)
            # Not all peers at one moment.
            wait = (min(_FIRST, interval) if more else interval) * _random.uniform(0.8, 1.2)

    async def _with_peer(self, peer_id: str, since: float | None) -> Outcome:
        now, settings = self._clock.now(), self._settings
        with self._database.read() as connection:
            up_to = store.standing(connection, peer_id).up_to
        earliest = int(now) - self._days * 86_400
        start = max(earliest, up_to if since is None else int(since))
        stop = max(start, int(now - settings.settle))
        run = _Run(self, peer_id, start, stop)
        trouble, unfinished = "", False
        try:
            async with asyncio.timeout(settings.patience):
                await self._look_again(peer_id)
                await run.go()
        except TimeoutError:
            unfinished = True
            trouble = f"it took longer than {settings.patience} seconds; it goes on from there"
        except (Fault, OSError) as fault:
            trouble = inert(str(fault)) or type(fault).__name__
        reached = run.at if start <= max(up_to, earliest) else up_to  # a hole is not jumped over
        await self._database.write(lambda connection: store.tried(connection, peer_id, now, reached, trouble))
        if trouble:
            _log.warning("a peer's log cannot be compared with ours", peer=peer_id, why=trouble)
        certain = sum(each.kind.certain for each in run.found)
        if certain:
            _log.error("the log of a peer and ours contradict each other", peer=peer_id, transactions=certain)
        return Outcome(peer_id, start, run.at, run.ours, run.theirs, tuple(run.found), run.more, trouble, unfinished)

    async def _look_again(self, peer_id: str) -> None:
        """Drop what is no longer so: a side may have put its records back, or no longer keeps either."""
        open_ones = [each.discrepancy for each in self.kept(peer_id, _AGAIN)]
        if not open_ones:
            return
        ids = list(dict.fromkeys(each.logged.transaction_id for each in open_ones))
        ours, theirs = await self.ours_by_id(peer_id, ids), await self.theirs_by_id(peer_id, ids)
        left = lacking(ours, theirs, self._own, float("-inf"), float("inf"))
        still = judge(left, self._own, await self.stopped(left)) + differences(ours, theirs, self._own)
        gone = {each.logged.key for each in open_ones} - {each.logged.key for each in still}
        if gone:
            await self._database.write(lambda connection: store.resolve(connection, peer_id, gone))

    async def keep(self, peer_id: str, found: list[Discrepancy]) -> None:
        """Remember what was found."""
        now = self._clock.now()
        await self._database.write(lambda connection: store.keep(connection, peer_id, found, now))

    # What each side tells

    async def ours(self, peer_id: str, start: int, stop: int) -> dict[Key, Logged]:
        """Our own transactions with a peer in [start, stop). Raises `TooMany` or a `Fault`."""
        found: dict[Key, Logged] = {}
        after: int | None = None
        while True:
            query = LogQuery(
                peer_id,
                after_ms=start * 1000,
                before_ms=stop * 1000,
                after_index=after,
                limit=_PAGE,
                descending=False,
            )
            entries = await self._ledger.transactions(query)
            self._add(found, entries, peer_id)
            if len(found) > MOST_IN_SLICE:
                raise TooMany
            if len(entries) < _PAGE:
                return found
            after = entries[-1].index

    async def theirs(self, peer_id: str, start: int, stop: int) -> dict[Key, Logged]:
        """What the peer's log tells of [start, stop), and perhaps of more. Raises `TooMany` or a `Fault`."""
        # Exclusive on both ends, to the second, by our reading of the standard; another's may be inclusive.
        query = {"after": str(max(0, start - 1)), "before": str(stop)}
        return await self._listed(peer_id, query, MOST_IN_SLICE)

    async def ours_by_id(self, peer_id: str, ids: Sequence[str]) -> dict[Key, Logged]:
        """Our own transactions with a peer, of these ids."""
        found: dict[Key, Logged] = {}
        for at in range(0, len(ids), _IDS):
            query = LogQuery(peer_id, transaction_ids=tuple(ids[at : at + _IDS]), limit=_IDS)
            self._add(found, await self._ledger.transactions(query), peer_id)
        return found

    async def theirs_by_id(self, peer_id: str, ids: Sequence[str]) -> dict[Key, Logged]:
        """What the peer's log tells of these ids. Raises a `Fault`."""
        found: dict[Key, Logged] = {}
        for at in range(0, len(ids), _IDS):
            few = ids[at : at + _IDS]
            try:
                told = await self._listed(peer_id, {"transaction_ids": ",".join(few)}, 2 * _IDS)
            except TooMany as error:  # each is in a log twice at most
                raise BadGateway("its log tells of more than it was asked about") from error
            found |= {key: logged for key, logged in told.items() if key[0] in few}
        return found

    async def stopped(self, left: Lacking) -> set[Key]:
        """Those of ours that never left, as our own ledger says in a later record of the same transaction."""
        found = set()
        for logged in left.there:
            if logged.consumer == self._own and logged.allowed:
                entries = await self._ledger.find(Query(transaction_id=logged.transaction_id))
                if any(
                    entry.record.direction == "outgoing"
                    and entry.record.event == "response"
                    and not entry.record.allowed
                    for entry in entries
                ):
                    found.add(logged.key)
        return found

    def _add(self, found: dict[Key, Logged], entries: list[Entry], peer_id: str) -> None:
        mine = (entry.record for entry in entries if between(entry.record, self._own, peer_id))
        for key, logged in by_key(of_record(record) for record in mine).items():
            found.setdefault(key, logged)

    async def _listed(self, peer_id: str, query: dict[str, str], most: int) -> dict[Key, Logged]:
        found: dict[Key, Logged] = {}
        seen = 0
        async for page in self._pages(peer_id, "/v1/logs", "records", query, _PAGE):
            seen += len(page)
            # Counted as sent, so that a peer which repeats itself comes to an end too.
            if seen > 2 * most:
                raise TooMany
            for item in page:
                logged = read_logged(item, self._own, peer_id)
                if logged is not None:
                    found.setdefault(logged.key, logged)
            await asyncio.sleep(0)  # a long log may not keep others waiting
        if len(found) > most:
            raise TooMany
        return found


class TooMany(Exception):
    """There is more in a slice than is held at once."""


class _Run:
    """One comparison with one peer, slice by slice."""

    def __init__(self, parent: Reconciliation, peer_id: str, start: int, stop: int) -> None:
        self._parent = parent
        self._peer_id = peer_id
        self._own = parent._own
        self.at = start
        self._stop = stop
        self.ours = self.theirs = self.more = 0
        self.found: list[Discrepancy] = []

    async def go(self) -> None:
        """Until the end. Raises a `Fault`; `at` says how far it came."""
        length = _LONGEST_SLICE
        while self.at < self._stop:
            end = min(self._stop, self.at + length)
            try:
                found = await self._slice(self.at, end)
            except TooMany as error:
                if end - self.at <= 1:
                    raise BadGateway(
                        f"more than {MOST_IN_SLICE} transactions within one second: that is not compared"
                    ) from error
                length = max(1, (end - self.at) // 2)
                continue
            if found:
                await self._parent.keep(self._peer_id, found)
                room = store.MOST_KEPT - len(self.found)
                self.found += found[:room]
                self.more += max(0, len(found) - room)
            self.at = end
            length = min(_LONGEST_SLICE, length * 2)

    async def _slice(self, start: int, end: int) -> list[Discrepancy]:
        parent, peer_id, own = self._parent, self._peer_id, self._own
        margin = max(1, min(_WIDEST_MARGIN, (end - start) // 10))
        ours = await parent.ours(peer_id, start - margin, end + margin)
        theirs = await parent.theirs(peer_id, start - margin, end + margin)
        left = lacking(ours, theirs, own, start, end)
        if left.count > MOST_LOOKED_UP and end - start > 1:
            raise TooMany
        self.ours += sum(start <= logged.at < end for logged in ours.values())
        self.theirs += sum(start <= logged.at < end for logged in theirs.values())
        late = await parent.theirs_by_id(peer_id, [logged.transaction_id for logged in left.there])
        early = await parent.ours_by_id(peer_id, [logged.transaction_id for logged in left.here])
        ours = early | {key: logged for key, logged in ours.items() if start <= logged.at < end or key in early}
        theirs |= late
        left = Lacking(
            tuple(logged for logged in left.there if logged.key not in late),
            tuple(logged for logged in left.here if logged.key not in early),
        )
        return judge(left, own, await parent.stopped(left)) + differences(ours, theirs, own)
