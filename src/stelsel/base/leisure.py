"""Work for when no processor has anything else to do.

Linux runs a thread of the policy SCHED_IDLE only then, or hardly, and lets every other go first at once. A process that
merely has a lower priority keeps others waiting for some milliseconds, time and again: who asked for longer turns
(`process.settle`) does not interrupt it. A thread cannot leave that policy without a privilege. So work that must not
wait for ever is done in pieces, each here or, when others left no time for the last, by the thread that asks for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
_PATIENCE, _HURRY = 0.1, 1.0
"""Seconds that a piece may take here, and for which none is done here after one that took longer."""


class Leisure:
    """A thread that lets all others go first, where the system knows how; it ends with the process."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "leisure", _let_others_go_first)
        self._hurries_until = 0.0

    def spend(self, piece: Callable[[], T]) -> T:
        """What this gives, or raises: work for some hundredths of a second at most. Called by one thread."""
        began = time.monotonic()
        if began < self._hurries_until:
            return piece()
        try:
            return self._thread.submit(piece).result()
        finally:
            now = time.monotonic()
            if now - began > _PATIENCE:
                self._hurries_until = now + _HURRY


def _let_others_go_first() -> None:
    with suppress(AttributeError, OSError):  # elsewhere than on Linux, or where it may not
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
