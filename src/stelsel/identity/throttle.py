"""Brakes on guessing: token buckets in memory, by what is being tried, never by address of who tries."""

from __future__ import annotations

from collections import OrderedDict

from stelsel.base.errors import TooMany


class Throttle:
    """Each key may spend `burst` at once and then `rate` a second. Keeps at most `keys` buckets, the latest used."""

    def __init__(self, *, burst: float, rate: float, keys: int = 10_000) -> None:
        self._burst, self._rate, self._keys = burst, rate, keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, key: str, now: float) -> None:
        """Take one. Raises `TooMany` when there is none; that costs nothing further."""
        left, since = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - since) * self._rate)
        allowed = left >= 1
        self._buckets[key] = (left - 1 if allowed else left, now)
        while len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        if not allowed:
            raise TooMany("too many attempts", next_step="wait a few minutes, then try again")
