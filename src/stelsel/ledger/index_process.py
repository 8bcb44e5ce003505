"""Builds the index of a node in a process of its own: `python -m stelsel.ledger.index_process LINK INDEX SEGMENTS`.

Started by the node (`index_apart`), over the socket LINK, of which `index_link` tells. It reads the segments of the
journal, never beyond what the node said is durable, and is the only one that writes to the index. It ends when the node
says so or is gone, after its present round; signals to all processes of a terminal or a service are the node's concern.
It runs at a lower priority, and imports little: most nodes have less memory to spare than time. It works in its
`leisure`, when no processor has anything else to do, unless that keeps it too long from its work.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from stelsel.base.errors import Fault
from stelsel.base.leisure import Leisure
from stelsel.ledger.building import RETRY, Builder, Steps
from stelsel.ledger.faults import LedgerCorrupt
from stelsel.ledger.frames import Broken
from stelsel.ledger.index_link import Link
from stelsel.ledger.segment_reader import SegmentReader

_PRIORITY = 10
_BREATH = 0.02
"""Seconds after which is heard what the node says."""


class Over(Exception):
    """The node wants nothing more, or is gone."""


class IndexProcess:
    """One life of it."""

    def __init__(self, link: Link, index: Path, journal: SegmentReader) -> None:
        self._link = link
        self._journal = journal
        self._durable = 0
        self._erased: list[tuple[int, int]] = []
        self._said = -1
        self._builder = Builder(index, self._erased)
        self._leisure = Leisure()

    def run(self) -> None:
        """Until it is over: then raises `Over`, or `OSError` when the node is gone."""
        self._say_size()
        self._hear(None)
        while True:
            more = failed = False
            try:
                if self._erased or self._journal.size != self._durable:
                    self._journal.reach(self._durable)
                more = self._work()
            except (Over, ConnectionError):
                raise
            except Exception as error:  # noqa: BLE001 - the journal goes on without us, and we try again
                self._link.say(**lags(error))
                failed = True
            if failed:
                again = time.monotonic() + RETRY
                while (left := again - time.monotonic()) > 0:
                    self._hear(left)
            else:
                self._hear(0 if more else self._builder.forgets_in)

    def _work(self) -> bool:
        """One round; gives whether there may be more."""
        builder = self._builder
        self._go(builder.take(self._journal))
        more = builder.size < self._journal.size
        if builder.size != self._said:
            self._say_size()
        for first in self._erased[:1]:
            self._go(builder.forget(self._journal))
            if not self._erased or self._erased[0] is not first:
                self._link.say(forgotten=first)
        return more

    def _say_size(self) -> None:
        self._said = self._builder.size
        self._link.say(size=self._said)

    def _hear(self, seconds: float | None) -> None:
        for message in self._link.hear(seconds):
            if "durable" in message:
                self._durable = message["durable"]
            if "erased" in message:
                start, stop = message["erased"]
                self._erased.append((start, stop))
        if self._link.over:
            raise Over

    def _go(self, steps: Steps) -> None:
        with closing(steps):
            while self._leisure.spend(lambda: _some(steps)):
                self._breathe()

    def _breathe(self) -> None:
        if not self._builder.in_transaction:  # what is begun is finished: that takes no tenth of a second
            self._hear(0)


class _Segments(SegmentReader):
    """Damage is told in the log as the node does it; what that needs is loaded only then."""

    def __init__(self, folder: Path, logging: Sequence[str]) -> None:
        super().__init__(folder)
        self._logging = logging

    def _damaged(self, path: Path, broken: Broken) -> LedgerCorrupt:
        from stelsel.base.log import configure_as

        configure_as(self._logging)
        return super()._damaged(path, broken)


def _some(steps: Steps) -> bool:
    """Do what goes in a breath; gives whether there is more."""
    until = time.monotonic() + _BREATH
    while next(steps, steps) is None:
        if time.monotonic() > until:
            return True
    return False


def lags(error: Exception) -> dict[str, Any]:
    """The message that tells what went wrong."""
    return {"lags": type(error).__name__} | ({"detail": error.detail} if isinstance(error, Fault) else {})


def main(link_number: str, index: str, segments: str, *logging: str) -> int:
    """Build until it is over; gives the exit code."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    os.nice(_PRIORITY)
    link = Link(socket.socket(fileno=int(link_number)))
    try:
        IndexProcess(link, Path(index), _Segments(Path(segments), logging)).run()
    except (Over, ConnectionError):
        return 0
    except Exception as error:  # noqa: BLE001 - the index cannot be opened: the node tells it, and tries again
        link.say(**lags(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
