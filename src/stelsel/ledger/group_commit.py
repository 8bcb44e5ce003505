"""Group commit: requests wait for their record to be on disk, and share the sync.

Records gather in the event loop. The writer thread takes all that have gathered, makes them durable, tells the event
loop, and takes what gathered meanwhile; it meets the event loop once a batch, never once a record. When records come
faster than `gather` seconds after one another, it lets that much time pass between two batches: a sync costs the same
for one record as for a hundred, and the processor is shared with those who wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from queue import SimpleQueue

from stelsel.base.log import logger
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.journal import Journal
from stelsel.ledger.numbers import Item

_log = logger("ledger")

_Waiting = tuple[Item, "asyncio.Future[int]", float]
_Batch = list[_Waiting]

_NEXT_STEP = "try again; if it lasts, look at the disk under the ledger's folder"


class GroupCommit:
    """Appends to a journal from one event loop. `deadline` and `gather` in seconds."""

    def __init__(
        self, journal: Journal, *, batch_records: int, waiting_records: int, deadline: float, gather: float = 0.0
    ) -> None:
        self._journal = journal
        self._batch_records = batch_records
        self._waiting_records = waiting_records
        self._deadline = deadline
        self._gather = gather
        self._gathering: deque[_Waiting] = deque()
        """The event loop adds, the writer thread takes."""
        self._writing: _Batch = []
        self._unfinished = 0
        """Records of which the event loop does not know yet what became of them."""
        self._asleep = True
        """Whether the writer thread waits to be woken."""
        self._waking = False
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = asyncio.Event()
        self._refusing = False
        self._timer: asyncio.TimerHandle | None = None
        self._writer = threading.Thread(target=self._write, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._idle.set()
        self._writer.start()

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
        self._fail(list(self._gathering), LedgerUnavailable("the ledger is closing", next_step=_NEXT_STEP))
        self._gathering.clear()
        self._wake.put(False)
        await asyncio.to_thread(self._writer.join, self._deadline)
        return not self._writer.is_alive()

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
        if not self._unfinished:
            self._idle.clear()
        self._unfinished += 1
        self._gathering.append((item, future, loop.time() + self._deadline))
        if self._asleep and not self._waking:
            self._waking = True
            loop.call_soon(self._rouse)  # whatever arrives in this turn of the loop goes along
        if self._timer is None:
            self._timer = loop.call_later(self._deadline, self._expire)
        return future

    def _rouse(self) -> None:
        self._waking = False
        self._wake.put(True)

    # --- the writer thread ---

    def _write(self) -> None:
        last = 0.0
        while True:
            if not self._gathering:
                self._asleep = True
                if not self._gathering and not self._wake.get():
                    return
                self._asleep = False
            ahead = last + self._gather - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            last = time.monotonic()
            if not self._write_batch():
                return

    def _write_batch(self) -> bool:
        """Write what has gathered; False when nobody is there any more to hear of it."""
        taken: _Batch = []
        gathering = self._gathering
        while gathering and len(taken) < self._batch_records:
            taken.append(gathering.popleft())
        # Of those who went away meanwhile nothing is written yet, so nothing is needed.
        batch = self._writing = [waiting for waiting in taken if not waiting[1].done()]
        first, error = 0, None
        try:
            if batch:
                first = self._journal.append([item for item, _, _ in batch])
        except LedgerUnavailable as fault:
            error = fault
        except Exception as mistake:  # noqa: BLE001 - whatever it is, nobody may be told that it was recorded
            error = LedgerUnavailable(f"the ledger cannot be used: {type(mistake).__name__}", next_step=_NEXT_STEP)
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(self._written, batch, len(taken), first, error)
        except RuntimeError:  # the loop was closed under us; nobody waits any more
            return False
        return True

    # --- the event loop ---

    def _written(self, batch: _Batch, taken: int, first: int, error: LedgerUnavailable | None) -> None:
        if batch:
            self._alarm(error)
        if error is not None:
            self._fail(batch, error)
        else:
            for index, (_, future, _) in enumerate(batch, first):
                if not future.done():
                    future.set_result(index)
        self._unfinished -= taken
        if not self._unfinished:
            self._idle.set()

    def _expire(self) -> None:
        """Refuse what has waited too long. One timer serves all that wait."""
        self._timer = None
        loop = self._loop
        if loop is None:
            return
        now = loop.time()
        late = LedgerUnavailable("the disk did not take the record in time", next_step=_NEXT_STEP)
        oldest = None
        for waiting in (self._writing, list(self._gathering)):
            for _, future, due in waiting:
                if future.done():
                    continue
                if due > now:
                    oldest = due if oldest is None else min(oldest, due)
                    break
                future.set_exception(_again(late))
                self._alarm(late)
        if oldest is not None:
            self._timer = loop.call_later(max(oldest - now, 0.01), self._expire)

    def _alarm(self, error: LedgerUnavailable | None) -> None:
        """An alarm when refusing begins and when it ends, not for every request."""
        if self._refusing == (error is not None):
            return
        self._refusing = error is not None
        if error is not None:
            _log.error("ledger refuses", reason=error.detail)
        else:
            _log.info("ledger records again")

    @staticmethod
    def _fail(waiting: _Batch, error: LedgerUnavailable) -> None:
        for _, future, _ in waiting:
            if not future.done():
                future.set_exception(_again(error))


def _again(error: LedgerUnavailable) -> LedgerUnavailable:
    """A fault of its own for every caller, so that no traceback grows with the number of callers."""
    return type(error)(error.detail, next_step=error.next_step)
