"""The house's end of the link to one worker: what it sends is recorded, what it asks is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from stelsel.agreements.agreement import Agreement
from stelsel.agreements.tokens import Token
from stelsel.base.certificates import Certificate
from stelsel.base.errors import Fault, Unavailable
from stelsel.base.log import logger
from stelsel.exchange.workers.link import Kind, Link, LinkBroken
from stelsel.exchange.workers.messages import (
    Run,
    fault_to_json,
    from_json,
    pack_agreements,
    pack_refusal,
    pack_runs,
    runs,
    to_json,
    unpack_records,
)
from stelsel.ledger.batch import Parcel
from stelsel.ledger.faults import LedgerUnavailable

_log = logger("exchange")
_MOST_QUESTIONS = 1000


class HouseAgreements(Protocol):
    """What workers need of the agreements of this peer."""

    def agreements(self) -> tuple[Agreement, ...]: ...

    def on_change(self, callback: Callable[[], None]) -> None: ...

    async def token(self, grant_hash: str) -> Token: ...

    def forget_token(self, grant_hash: str) -> None: ...

    def earlier_certificates(self) -> tuple[tuple[Certificate, float], ...]: ...


class HouseLedger(Protocol):
    """What workers need of the ledger of this peer."""

    @property
    def record_bytes(self) -> int:
        """Bytes in one record, at most."""
        ...

    def offer(self, parcel: Parcel) -> asyncio.Future[int]:
        """As `Ledger.offer`: the index of the first of these records. Raises at once, or the future fails."""
        ...


@dataclass
class Load:
    """What a worker last said of itself."""

    in_flight: int = 0
    connections: int = 0
    recorded: int = 0


class Desk:
    """Serves one worker over `link`."""

    def __init__(self, agreements: HouseAgreements, ledger: HouseLedger, on_lost: Callable[[], None]) -> None:
        self._agreements = agreements
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self.link = Link(self._on_frame, on_lost)
        self.settled = asyncio.Event()
        """Set when the worker takes connections, or never will."""
        self.serving = False
        self.load = Load()
        self.heard = True
        """Whether the worker said anything since somebody last set this to false."""
        self._drained: dict[str, asyncio.Future[None]] = {}
        self._done: list[Run] = []
        self._failed: list[tuple[int, int, Fault]] = []
        self._flushing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._given: dict[str, str] = {}
        """The token that was last given out, by grant hash."""

    # --- to the worker ---

    def push(self, agreements: Iterable[Agreement]) -> None:
        """These are new, or changed."""
        for payload in pack_agreements(agreements):
            self.link.send(Kind.AGREEMENTS, payload)

    async def drain(self, gateway: str, seconds: float) -> None:
        """Have the worker drain a gateway; returns when it has, or has had the time for it."""
        if not self.link.open:
            return
        drained = self._drained[gateway] = self._loop.create_future()
        self.link.send(Kind.DRAIN, to_json({"gateway": gateway, "seconds": seconds}))
        try:
            await asyncio.wait_for(drained, seconds + 2)
        except TimeoutError:
            _log.warning("a worker did not end its requests in time", gateway=gateway)

    def close(self) -> None:
        """Let go of the worker."""
        self.link.close()
        for task in self._tasks:
            task.cancel()
        for drained in self._drained.values():
            if not drained.done():
                drained.set_result(None)
        self.serving = False
        self.settled.set()

    # --- from the worker ---

    def _on_frame(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.RECORDS:
            self._record(payload)
        elif kind is Kind.STATUS:
            self._heard(from_json(payload))
        elif kind is Kind.ASK_TOKEN:
            if len(self._tasks) >= _MOST_QUESTIONS:
                raise LinkBroken("a worker asks too much at once")
            task = self._loop.create_task(self._answer(payload.decode("utf-8", "replace")))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif kind is Kind.FORGET_TOKEN:
            refused = from_json(payload)
            # Another worker may have asked a new one already; that one is kept.
            if self._given.get(str(refused.get("grant_hash"))) == refused.get("token"):
                self._agreements.forget_token(str(refused["grant_hash"]))
        elif kind is Kind.DRAINED:
            drained = self._drained.get(payload.decode("utf-8", "replace"))
            if drained is not None and not drained.done():
                drained.set_result(None)
        elif kind is Kind.READY:
            self.serving = True
            self.settled.set()
        else:
            raise LinkBroken("only the house says this")

    def _heard(self, told: dict[str, Any]) -> None:
        self.load = Load(_number(told, "in_flight"), _number(told, "connections"), _number(told, "recorded"))
        self.heard = True

    def _record(self, payload: bytes) -> None:
        """What a worker sent at once becomes durable at once, or not at all."""
        first, parcel = unpack_records(payload, self._ledger.record_bytes)
        try:
            future = self._ledger.offer(parcel)
        except Fault as fault:
            self._failed.append((first, parcel.count, fault))
            self._flush_soon()
        else:
            future.add_done_callback(partial(self._recorded, first, parcel.count))

    def _recorded(self, first: int, count: int, future: asyncio.Future[int]) -> None:
        if future.cancelled():
            self._failed.append((first, count, LedgerUnavailable("the ledger is closing")))
        else:
            error = future.exception()
            if error is None:
                self._done.append((first, count, future.result()))
            else:
                fault = error if isinstance(error, Fault) else LedgerUnavailable("the ledger cannot be used")
                self._failed.append((first, count, fault))
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Tell what became of records; a sync of the disk ends for many at once."""
        self._flushing = False
        done, self._done = self._done, []
        failed, self._failed = self._failed, []
        if done:
            self.link.send(Kind.RECORDED, pack_runs(runs(done)))
        for first, count, fault in failed:
            self.link.send(Kind.REFUSED, pack_refusal(first, count, fault))

    async def _answer(self, grant_hash: str) -> None:
        answer: dict[str, Any]
        try:
            token = await self._agreements.token(grant_hash)
            self._given[grant_hash] = token.compact
            answer = {"compact": token.compact}
        except Fault as fault:
            answer = fault_to_json(fault)
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear that there is no token
            _log.error("a token could not be got for a worker", exc_info=error)
            answer = fault_to_json(Unavailable("there is no access token"))
        self.link.send(Kind.TOKEN, to_json({"grant_hash": grant_hash} | answer))


def _number(told: dict[str, Any], name: str) -> int:
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise LinkBroken("a worker counts in no numbers")
    return value
