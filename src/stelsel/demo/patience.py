"""How long to wait for another process, on machines that are halted now and then."""

from __future__ import annotations

import time

_MOST = 1.0


class Patience:
    """A deadline that only counts time in which this process ran.

    A laptop that sleeps, a virtual machine that is moved, `kill -STOP`: whoever is waited for stood still as well. Ask
    often: of the time between two questions no more than a second counts.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._asked = time.monotonic()

    def is_over(self) -> bool:
        """Whether enough was waited."""
        now = time.monotonic()
        self._left -= min(now - self._asked, _MOST)
        self._asked = now
        return self._left < 0
