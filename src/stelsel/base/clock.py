"""Time comes in from outside, so that every rule about time can be tried at any moment."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time as seconds since the Unix epoch, UTC."""

    def now(self) -> float: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()


class SetClock:
    """A clock that stands still until it is set: for tests and for looking at another day."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def set(self, now: float) -> None:
        self._now = now

    def forward(self, seconds: float) -> None:
        self._now += seconds


def moment(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 text in UTC, to the second: `2026-11-23T10:00:00Z`."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
