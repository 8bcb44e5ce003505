"""A segment file made beforehand: filled with zeros and brought to disk, so that batches go where room is already.

To bring a batch to disk at the end of a file that grows, the file system must write down as well where its new blocks
are and how long the file is. In a file of zeros it writes the batch alone: half the processor time, and half the wait.
A node that records little never makes one. Making one never holds up recording, and when it fails nothing is lost:
segments then grow as they always did.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from stelsel.base.log import logger
from stelsel.ledger.segment_files import write_all

_log = logger("ledger")

BUSY = 6
"""Records in a batch from which a node counts as busy."""
_BATCHES = 100
"""Such batches before one is made."""
_NAME = "ahead"
_PIECE = 1 << 20
_PAUSE = 0.005  # seconds between two pieces: what is recorded meanwhile goes first
_RETRY = 60.0  # seconds after which it is tried again, when it failed
_SPARE = 4
"""So many times the size must be free on the disk: zeros must not take the room that records need."""


class Ahead:
    """Makes the next file of `size` bytes in `folder`. `want` and `take` are called by one thread."""

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / _NAME
        self._size = size
        self._making: threading.Thread | None = None
        self._made = False
        self._stopping = False
        self._not_before = 0.0
        self._wanted = 0
        """Busy batches since the last one was taken."""
        self.discard()

    def want(self) -> None:
        """There is much to record: have it made, if that is so for a while already, unless it is or is being."""
        self._wanted += 1
        if self._made or self._stopping or self._wanted < _BATCHES or time.monotonic() < self._not_before:
            return
        if self._making is None or not self._making.is_alive():
            self._making = threading.Thread(target=self._make, name="ledger-ahead", daemon=True)
            self._making.start()

    @property
    def made(self) -> bool:
        """Whether it is there, and on disk."""
        return self._made

    def take(self, path: Path, title: bytes) -> int:
        """Open it, with this title and under this name; the folder is still to be synced. Raises `OSError`."""
        self._made = False
        self._wanted = 0
        file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            write_all(file, title, 0)
            os.fsync(file)
            self._path.rename(path)
        except BaseException:
            os.close(file)
            raise
        return file

    def close(self) -> None:
        """Make none any more, and leave none."""
        self._stopping = True
        if self._making is not None:
            self._making.join(1.0)
        self.discard()

    def discard(self) -> None:
        """Remove what was made, by this process or by one before."""
        self._made = False
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _make(self) -> None:
        self._not_before = time.monotonic() + _RETRY
        try:
            room = os.statvfs(self._path.parent)
            if room.f_bavail * room.f_frsize < _SPARE * self._size:
                return
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                left = self._size
                while left and not self._stopping:
                    left -= os.write(file, bytes(min(left, _PIECE)))
                    os.fdatasync(file)
                    time.sleep(_PAUSE)
                os.fsync(file)
            finally:
                os.close(file)
            self._made = not self._stopping
            self._not_before = 0.0
        except OSError as error:
            _log.warning("no segment made beforehand", reason=error.strerror or str(error))
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
