"""Batches that the kernel makes durable while the event loop goes on (see `ring`), one at a time.

What takes more than one write - a new segment, a file that must be opened again - is not done so, nor is what failed:
then whoever asked has it appended in the usual way, by a thread that may wait, and that finds out what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from stelsel.base.log import logger
from stelsel.ledger.batch import Batch
from stelsel.ledger.faults import LedgerUnavailable, unusable
from stelsel.ledger.ring import Ring, open_ring
from stelsel.ledger.segments import SegmentJournal, Write

_log = logger("ledger")

_ROOM: Final = 1 << 18
"""Bytes of a batch that is written so; only what is used of it takes memory."""

Told = Callable[[int | None, LedgerUnavailable | None], None]
"""Told of a batch: the index of its first record; or why it is refused; or neither, when it is to be appended."""


class Behind:
    """Writes batches of one journal behind the event loop that it was started in."""

    def __init__(self, journal: SegmentJournal, ring: Ring, told: Told) -> None:
        self._journal = journal
        self._ring = ring
        self._told = told
        self._write: Write | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ring.event, self._look)

    def begin(self, batch: Batch) -> bool:
        """Have it made durable, and be told then. False: it must be appended."""
        write: Write | None = None
        try:
            write = self._journal.begin(batch)
            if write is not None and len(write.data) <= self._ring.room:
                self._ring.write(write.file, write.data, write.place)
                self._write = write
                return True
        except Exception as error:  # noqa: BLE001 - the thread meets it again, and tells it
            _log.warning("a batch is not written behind the loop", reason=str(error) or type(error).__name__)
        if write is not None:
            self._journal.abandon(tried=False)
        return False

    def _look(self) -> None:
        result, write = self._ring.done(), self._write
        if result is None or write is None:
            return
        self._write = None
        if result != len(write.data):
            self._journal.abandon(tried=True)
            self._told(None, None)
            return
        first: int | None = None
        fault: LedgerUnavailable | None = None
        try:
            first = self._journal.finish(write)
        except LedgerUnavailable as error:
            fault = error
        except Exception as mistake:  # noqa: BLE001 - told to those who wait
            fault = unusable(mistake)
        self._told(first, fault)

    def stop(self) -> bool:
        """Write no more; whether nothing is being written any more."""
        self._loop.remove_reader(self._ring.event)
        if self._ring.writing:
            return False
        self._ring.close()
        return True


def behind(journal: object, told: Told) -> Behind | None:
    """One for this journal, if it can be written so, here."""
    if not isinstance(journal, SegmentJournal):
        return None
    ring = open_ring(_ROOM)
    return None if ring is None else Behind(journal, ring, told)
