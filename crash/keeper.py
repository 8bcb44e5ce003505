"""Who supervises the processes of a trial, as systemd would: starts again what may have ended by itself.

Every end is judged once, and each name has one living process at most. What ends without an excuse could not live with
what a kill left behind: that is a fault.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from crash.chain import Chain
from crash.nursery import Nursery

_LAST_LINES = 3


class Keeper:
    """Starts, kills and starts again, for one trial."""

    def __init__(self, chain: Chain, nursery: Nursery) -> None:
        self.pids: dict[str, int] = {}
        """Of the processes that live, as far as is known."""
        self.excuses: Collection[str] = ()
        """Words with which a process may end by itself, for now."""
        self.started_again = 0
        self.faults: list[str] = []
        self._chain = chain
        self._nursery = nursery
        self._begun: dict[str, int] = {}

    def start(self, name: str) -> None:
        """Start one that is not there."""
        log = self._chain.log(name)
        self._begun[name] = log.stat().st_size if log.exists() else 0
        self.pids[name] = self._chain.start(self._nursery, name)

    def kill(self, *names: str) -> bool:
        """kill -9, all of them; whether one was still alive. None of them is started again here.

        One may have ended by itself just before: then that is judged, and who kills it also starts it, once.
        """
        alive = [self._nursery.kill(name) for name in names]
        for name in names:
            self.pids.pop(name, None)
        self._tend(instead=names)
        return any(alive)

    def tend(self) -> None:
        """Start again what ended by itself."""
        self._tend(instead=())

    def _tend(self, instead: Collection[str]) -> None:
        for name, status in self._nursery.ended().items():
            self.pids.pop(name, None)
            words = self._words(name)
            excused = os.WIFEXITED(status) and any(
                excuse in line for excuse in self.excuses for line in words[-_LAST_LINES:]
            )
            if not excused:
                how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
                self.faults.append(f"{name} ended by itself ({how}): {words[-1] if words else 'it said nothing'}")
            if name not in instead:
                self.start(name)
                self.started_again += excused

    def _words(self, name: str) -> list[str]:
        """What it said in this life: an excuse of an earlier one does not count."""
        with self._chain.log(name).open("rb") as log:
            log.seek(self._begun.get(name, 0))
            return log.read().decode(errors="replace").strip().splitlines()
