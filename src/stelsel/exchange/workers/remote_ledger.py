"""What a worker has in the place of the ledger: its port, at the far end of a link."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from stelsel.base.errors import BadRequest, Fault
from stelsel.exchange.workers.link import Kind, Link
from stelsel.exchange.workers.messages import Encoded, Run, pack_records
from stelsel.ledger.commitment import Nonces
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.frames import frame
from stelsel.ledger.record import Record

_NEXT_STEP = "try again; if it lasts, the operator must look at the node: stelsel status"


class RemoteLedger:
    """The ledger of the house. What gathers in one turn of the loop goes there in one message."""

    def __init__(self, link: Link, *, deadline: float, waiting_records: int, record_bytes: int) -> None:
        """`deadline` in seconds: so long the house may be silent about a record."""
        self._link = link
        self._deadline = deadline
        self._waiting_records = waiting_records
        self._record_bytes = record_bytes
        self._loop = asyncio.get_running_loop()
        self._next = 0
        self._batch: list[Encoded] = []
        self._nonces = Nonces()
        self._waiting: dict[int, tuple[asyncio.Future[int], float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def recorded(self) -> int:
        """How many records were offered so far."""
        return self._next

    def append(self, record: Record) -> asyncio.Future[int]:
        """See `stelsel.ledger.service.Ledger.append`. The house that is silent, or gone, has not recorded it."""
        data = record.canonical()
        if len(data) > self._record_bytes:
            raise BadRequest(f"the record is larger than {self._record_bytes} bytes")
        if self._closed:
            raise _gone()
        if len(self._waiting) >= self._waiting_records:
            raise LedgerUnavailable("too many records wait for the ledger", next_step=_NEXT_STEP)
        future: asyncio.Future[int] = self._loop.create_future()
        if not self._batch:
            self._loop.call_soon(self._send)
        self._batch.append((frame(self._nonces.take(), data), record.subject))
        self._waiting[self._next] = (future, self._loop.time() + self._deadline)
        self._next += 1
        if self._timer is None:
            self._timer = self._loop.call_later(self._deadline, self._expire)
        return future

    def _send(self) -> None:
        batch, self._batch = self._batch, []
        for payload in pack_records(self._next - len(batch), batch):
            self._link.send(Kind.RECORDS, payload)

    def results(self, found: Iterable[Run]) -> None:
        """The house recorded these."""
        waiting = self._waiting
        for first, count, index in found:
            for offset in range(min(count, self._next - first)):
                waited = waiting.pop(first + offset, None)
                if waited is not None and not waited[0].done():
                    waited[0].set_result(index + offset)

    def refused(self, first: int, count: int, fault: Fault) -> None:
        """The house did not record these."""
        for number in range(first, min(first + count, self._next)):
            waited = self._waiting.pop(number, None)
            if waited is not None and not waited[0].done():
                # A fault of its own for every caller, so that no traceback grows with the number of callers.
                waited[0].set_exception(type(fault)(fault.detail, next_step=fault.next_step))

    def close(self) -> None:
        """The house is gone: nothing is recorded any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, {}
        for future, _ in waiting.values():
            if not future.done():
                future.set_exception(_gone())

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        for number, (future, due) in list(self._waiting.items()):
            if due > now:
                self._timer = self._loop.call_later(max(due - now, 0.01), self._expire)
                return
            del self._waiting[number]
            if not future.done():
                future.set_exception(
                    LedgerUnavailable("the ledger did not take the record in time", next_step=_NEXT_STEP)
                )


def _gone() -> LedgerUnavailable:
    return LedgerUnavailable("the ledger of this node is not there", next_step=_NEXT_STEP)
