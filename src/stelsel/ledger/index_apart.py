"""The process that builds the index (`index_process`), as the node sees it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from stelsel.base.log import arguments
from stelsel.ledger.index_link import Link

_ENDING = 10.0
"""Seconds that it may take to end by itself, before it is killed: an index survives that."""


class Apart:
    """One life of that process. Who tells it something sees to it that it is one thread at a time."""

    def __init__(self, index: Path, segments: Path) -> None:
        """Start it. Raises `OSError`.

        It has the blocked signals of the thread that calls this: those to the whole group are to be blocked.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "stelsel.ledger.index_process", str(theirs.fileno()), str(index)]
        try:
            self._process = subprocess.Popen(
                [*command, str(segments), *arguments()],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._link = Link(ours)
        self._told = -1

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def over(self) -> bool:
        """Whether it has gone."""
        return self._link.over

    def durable(self, size: int) -> None:
        """So many records are durable. What it does not take at once it is told the next time."""
        if self._link.flush() and size != self._told:
            self._link.offer(durable=size)
            self._told = size

    def erased(self, start: int, stop: int) -> None:
        """Some of these records were erased."""
        self._link.offer(erased=(start, stop))

    def hear(self, seconds: float) -> list[dict[str, Any]]:
        """What it says; waits for it so many seconds at most."""
        return self._link.hear(seconds)

    def finish(self) -> None:
        """Let it end after its present round."""
        self._link.finish()

    def end(self) -> int:
        """Wait until it has ended; gives the exit code."""
        self._link.finish()
        try:
            code = self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._link.close()
        return code
