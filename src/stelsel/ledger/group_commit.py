"""Group commit: requests wait for their record to be on disk, and share the sync.

While one batch is being synced in the writer thread, the next gathers in the event loop. The two meet twice a batch
(a queue one way, `call_soon_threadsafe` the other), never once a record.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from queue import SimpleQueue

from stelsel.base.log import logger
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.journal import Journal
from stelsel.ledger.numbers import Item

_log = logger("ledger")

_Waiting = tuple[Item, "asyncio.Future[int]", float]

_NEXT_STEP = "try again; if it lasts, look at the disk under the ledger's folder"


class GroupCommit:
    """Appends to a journal from one event loop. `deadline` in seconds."""

    def __init__(self, journal: Journal, *, batch_records: int, waiting_records: int, deadline: float) -> None:
        self._journal = journal
        self._batch_records = batch_records
        self._waiting_records = waiting_records
        self._deadline = deadline
        self._gathering: deque[_Waiting] = deque()
        self._writing: list[_Waiting] | None = None
        self._queue: SimpleQueue[list[Item] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = asyncio.Event()
        self._scheduled = False
        self._refusing = False
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._write, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._idle.set()
        self._thread.start()

    async def stop(self) -> bool:
        """Let what was accepted be written, within the deadline, and end the writer thread.

        Gives whether it ended: if not, the disk holds it, and its journal must be left alone.
        """
        if self._loop is None:
            return True
        try:
            await asyncio.wait_for(self._idle.wait(), self._deadline)
        except TimeoutError:
            pass
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        self._fail(self._gathering, LedgerUnavailable("the ledger is closing", next_step=_NEXT_STEP))
        self._gathering.clear()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, self._deadline)
        return not self._thread.is_alive()

    @property
    def refusing(self) -> bool:
        """Whether the last batch could not be written."""
        return self._refusing

    def append(self, item: Item) -> asyncio.Future[int]:
        """A future of the record's index: done when the record is durable, or failed with `LedgerUnavailable`.

        When the deadline passes while the record is being written, the future fails although the record may still
        become durable: see `journal`. A record that is still waiting then is never written.
        """
        loop = self._loop
        if loop is None:
            raise LedgerUnavailable("the ledger is not open", next_step="start the node")
        if len(self._gathering) >= self._waiting_records:
            raise LedgerUnavailable("too many records wait for the disk", next_step=_NEXT_STEP)
        future = loop.create_future()
        self._gathering.append((item, future, loop.time() + self._deadline))
        if self._writing is None and not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._hand_over)  # whatever arrives in this turn of the loop goes along
        if self._timer is None:
            self._timer = loop.call_later(self._deadline, self._expire)
        return future

    def _hand_over(self) -> None:
        self._scheduled = False
        batch: list[_Waiting] = []
        while self._gathering and len(batch) < self._batch_records:
            waiting = self._gathering.popleft()
            if not waiting[1].done():  # the caller went away: not written yet, so not needed
                batch.append(waiting)
        if not batch:
            self._idle.set()
            return
        self._idle.clear()
        self._writing = batch
        self._queue.put([item for item, _, _ in batch])

    def _write(self) -> None:
        """The writer thread."""
        while (batch := self._queue.get()) is not None:
            first, error = 0, None
            try:
                first = self._journal.append(batch)
            except LedgerUnavailable as fault:
                error = fault
            except Exception as mistake:  # noqa: BLE001 - whatever it is, nobody may be told that it was recorded
                error = LedgerUnavailable(f"the ledger cannot be used: {type(mistake).__name__}", next_step=_NEXT_STEP)
            loop = self._loop
            if loop is None:
                return
            try:
                loop.call_soon_threadsafe(self._written, first, error)
            except RuntimeError:  # the loop was closed under us; nobody waits any more
                return

    def _written(self, first: int, error: LedgerUnavailable | None) -> None:
        batch, self._writing = self._writing or [], None
        if self._refusing != (error is not None):  # an alarm when it begins and when it ends, not for every request
            self._refusing = not self._refusing
            if error is not None:
                _log.error("ledger refuses", reason=error.detail)
            else:
                _log.info("ledger records again")
        if error is not None:
            self._fail(batch, error)
        else:
            for index, (_, future, _) in enumerate(batch, first):
                if not future.done():
                    future.set_result(index)
        self._hand_over()

    def _expire(self) -> None:
        """Refuse what has waited too long. One timer serves all that wait."""
        self._timer = None
        loop = self._loop
        if loop is None:
            return
        now = loop.time()
        late = LedgerUnavailable("the disk did not take the record in time", next_step=_NEXT_STEP)
        oldest = None
        for waiting in (self._writing or (), self._gathering):
            for _, future, due in waiting:
                if future.done():
                    continue
                if due > now:
                    oldest = due if oldest is None else min(oldest, due)
                    break
                future.set_exception(_again(late))
        if oldest is not None:
            self._timer = loop.call_later(max(oldest - now, 0.01), self._expire)

    @staticmethod
    def _fail(waiting: deque[_Waiting] | list[_Waiting], error: LedgerUnavailable) -> None:
        for _, future, _ in waiting:
            if not future.done():
                future.set_exception(_again(error))


def _again(error: LedgerUnavailable) -> LedgerUnavailable:
    """A fault of its own for every caller, so that no traceback grows with the number of callers."""
    return type(error)(error.detail, next_step=error.next_step)
