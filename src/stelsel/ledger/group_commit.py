"""Group commit: requests wait for their record to be on disk, and share the sync.

Records gather in the event loop, in frames that were made there (`batch`). All that have gathered are handed over as
one batch, to the kernel where it takes it (`behind`), else to the writer thread: whoever writes and the event loop meet
once a batch, never once a record.

A sync costs the same for one record as for a hundred, and the processor is shared with those who wait. So records
gather while each turn of the event loop brings more of them, until they are `_ENOUGH`: those share a sync well.
A turn that brings none says that the loop has run out of messages to read, and then the disk had better work than wait.
So no clock is needed: on a quiet node nobody waits, and when the processor or the disk is slow, batches grow by
themselves.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Final

from stelsel.base.log import logger
from stelsel.base.moment import FutureMoment, Moment
from stelsel.ledger.batch import Batch, Item, Named, Parcel
from stelsel.ledger.behind import Behind, behind
from stelsel.ledger.faults import NEXT_STEP, LedgerUnavailable, unusable
from stelsel.ledger.frames import frame
from stelsel.ledger.journal import Journal

_log = logger("ledger")

_ENOUGH: Final = 32
"""Records that make a batch at once."""
_IN_HAND: Final = 2
"""Batches that the writer thread has at most: the one that it writes, and the next. The kernel has one."""


class _Offer(Parcel):
    """A parcel, and who waits for it."""

    def __init__(self, frames: bytes, count: int, named: Sequence[Named], moment: Moment, due: float) -> None:
        super().__init__(frames, count, named)
        self.moment = moment
        self.due = due


class GroupCommit:
    """Appends to a journal from one event loop. `deadline` in seconds."""

    def __init__(
        self,
        journal: Journal,
        *,
        batch_records: int,
        waiting_records: int,
        deadline: float,
        io_uring: bool = True,
    ) -> None:
        self._journal = journal
        self._batch_records = batch_records
        self._waiting_records = waiting_records
        self._deadline = deadline
        self._io_uring = io_uring
        self._gathering: list[_Offer] = []
        self._waiting = self._unfinished = 0
        """Records that gather; and those of which it is not known yet what became of them."""
        self._in_hand: deque[list[_Offer]] = deque()
        """The batches that are being written, as far as is known here."""
        self._behind: Behind | None = None
        self._at_once = _IN_HAND
        self._alive: list[_Offer] = []
        """Of the batch that is written behind the loop: those whose callers still waited when it was begun."""
        self._looking = False
        """Whether each turn of the loop is looked at for what it brought."""
        self._seen = 0
        """Records that gathered, when the loop was last looked at."""
        self._batches: SimpleQueue[list[_Offer] | None] = SimpleQueue()
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
        if self._io_uring:
            self._behind = behind(self._journal, self._behind_told)
        if self._behind is not None:
            self._at_once = 1

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
        gathering, self._gathering = self._gathering, []
        self._fail(gathering, LedgerUnavailable("the ledger is closing", next_step=NEXT_STEP))
        self._batches.put(None)
        await asyncio.to_thread(self._writer.join, self._deadline)
        ended = self._behind is None or self._behind.stop()
        for held in self._in_hand:  # nobody hears of these any more
            self._fail(held, LedgerUnavailable("the ledger is closing", next_step=NEXT_STEP))
        return ended and not self._writer.is_alive()

    @property
    def refusing(self) -> bool:
        """Whether the last batch could not be written."""
        return self._refusing

    def append(self, item: Item) -> asyncio.Future[int]:
        """A future of the record's index: see `offer`."""
        moment = FutureMoment(self._future())
        self.append_then(item, moment)
        return moment.future

    def append_then(self, item: Item, moment: Moment) -> None:
        """The same for one record; `moment` comes, with its index, or fails."""
        nonce, record, subject = item
        self._add(frame(nonce, record), 1, [(0, subject)] if subject else (), moment)

    def offer(self, parcel: Parcel) -> asyncio.Future[int]:
        """A future of the index of the first record: done when all are durable, or failed with `LedgerUnavailable`.

        When the deadline passes while the records are being written, the future fails although they may still become
        durable: see `segments`. Records that are still waiting then are never written.
        """
        moment = FutureMoment(self._future())
        self._add(parcel.frames, parcel.count, parcel.named, moment)
        return moment.future

    def _future(self) -> asyncio.Future[int]:
        return self._running().create_future()

    def _running(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None:
            raise LedgerUnavailable("the ledger is not open", next_step="start the node")
        return loop

    def _add(self, frames: bytes, count: int, named: Sequence[Named], moment: Moment) -> None:
        loop = self._running()
        if self._waiting + count > self._waiting_records:
            raise LedgerUnavailable("too many records wait for the disk", next_step=NEXT_STEP)
        if not self._unfinished:
            self._idle.clear()
        self._unfinished += count
        self._waiting += count
        self._gathering.append(_Offer(frames, count, named, moment, loop.time() + self._deadline))
        if self._waiting >= _ENOUGH:
            if len(self._in_hand) < self._at_once:
                self._hand_over()
        elif not self._in_hand and not self._looking:
            self._looking = True
            loop.call_soon(self._look)
        if self._timer is None:
            self._timer = loop.call_later(self._deadline, self._expire)

    def _look(self) -> None:
        """A turn of the loop went by: when it brought nothing, hand over what has gathered."""
        loop = self._loop
        if self._gathering and not self._in_hand:
            if self._waiting != self._seen and loop is not None:
                self._seen = self._waiting
                loop.call_soon(self._look)
                return
            self._hand_over()
        self._looking = False
        self._seen = 0

    def _hand_over(self) -> None:
        """Have written what has gathered, as much as goes in one batch."""
        gathering = self._gathering
        count = taken = 0
        for offer in gathering:
            count += offer.count
            taken += 1
            if count >= self._batch_records:
                break
        self._gathering = gathering[taken:]
        self._waiting -= count
        batch = gathering[:taken] if self._gathering else gathering
        self._in_hand.append(batch)
        if self._behind is not None:
            self._alive = _alive(batch)
            if self._alive and self._behind.begin(Batch(self._alive)):
                return
        self._batches.put(batch)

    def _behind_told(self, first: int | None, error: LedgerUnavailable | None) -> None:
        """What became of the batch that is in hand."""
        offered = self._in_hand[0]
        if first is None and error is None:
            self._batches.put(offered)
        else:
            self._written(offered, self._alive, first or 0, error)

    def _go_on(self) -> None:
        """A batch is done: hand over the next, or look for more."""
        loop = self._loop
        if loop is None or not self._gathering:
            return
        if self._waiting >= _ENOUGH:
            self._hand_over()
        elif not self._looking:
            self._looking = True
            loop.call_soon(self._look)

    # --- the writer thread ---

    def _write(self) -> None:
        while True:
            batch = self._batches.get()
            if batch is None or not self._write_batch(batch):
                return

    def _write_batch(self, offered: list[_Offer]) -> bool:
        """Write it; False when nobody is there any more to hear of it."""
        batch = _alive(offered)
        first = 0
        error: LedgerUnavailable | None = None
        try:
            if batch:
                first = self._journal.append(Batch(batch))
        except LedgerUnavailable as fault:
            error = fault
        except Exception as mistake:  # noqa: BLE001 - told to those who wait
            error = unusable(mistake)
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(self._written, offered, batch, first, error)
        except RuntimeError:  # the loop was closed under us; nobody waits any more
            return False
        return True

    # --- the event loop ---

    def _written(self, offered: list[_Offer], batch: list[_Offer], first: int, error: LedgerUnavailable | None) -> None:
        if batch:
            self._alarm(error)
        count = 0
        for offer in offered:
            count += offer.count
        self._in_hand.popleft()
        self._unfinished -= count
        if not self._unfinished:
            self._idle.set()
        self._go_on()
        # At last, for those who waited go on at once, and may offer more.
        if error is not None:
            self._fail(batch, error)
        else:
            for offer in batch:
                offer.moment.comes(first)
                first += offer.count

    def _expire(self) -> None:
        """Refuse what has waited too long. One timer serves all that wait."""
        self._timer = None
        loop = self._loop
        if loop is None:
            return
        now = loop.time()
        late = LedgerUnavailable("the disk did not take the record in time", next_step=NEXT_STEP)
        oldest: float | None = None
        for waiting in (*self._in_hand, self._gathering):
            for offer in waiting:
                if offer.moment.over():
                    continue
                if offer.due > now:
                    oldest = offer.due if oldest is None else min(oldest, offer.due)
                    break
                offer.moment.fails(_again(late))
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
    def _fail(waiting: list[_Offer], error: LedgerUnavailable) -> None:
        for offer in waiting:
            offer.moment.fails(_again(error))


def _alive(offered: list[_Offer]) -> list[_Offer]:
    """Without those who went away: of them nothing is written yet, so nothing is needed."""
    return [offer for offer in offered if not offer.moment.over()]


def _again(error: LedgerUnavailable) -> LedgerUnavailable:
    """A fault of its own for every caller, so that no traceback grows with the number of callers."""
    return type(error)(error.detail, next_step=error.next_step)
