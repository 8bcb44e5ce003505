"""What was appended last, in memory: the index takes it from here, and need not read it again."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from operator import itemgetter

from stelsel.ledger.frames import HEADER, payloads_in
from stelsel.ledger.journal import Piece, Position

PIECE = 256
"""Records in a piece, at most."""
_MOST = 1 << 13
"""Records that are kept, at most; a batch may add to it for a moment."""

Kept = tuple[int, int, int, int, bytes]
"""(index of the first record, how many, segment, where in it the frames begin, the frames)."""


class Recent:
    """The frames of the last batches. One thread keeps, another may ask."""

    def __init__(self) -> None:
        self._batches: deque[Kept] = deque()
        self._count = 0

    def keep(self, first: int, count: int, segment: int, offset: int, frames: bytes) -> None:
        """This batch was appended."""
        self._batches.append((first, count, segment, offset, frames))
        self._count += count
        while self._count > _MOST:
            self._count -= self._batches.popleft()[1]

    def clear(self) -> None:
        """Forget everything."""
        self._batches.clear()
        self._count = 0

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """Of the records start..stop-1 those that are still here, if the first of them is."""
        batches = list(self._batches)
        at = max(bisect_right(batches, start, key=itemgetter(0)) - 1, 0)
        offsets: list[int] = []
        payloads: list[bytes] = []
        held = end = -1
        for first, count, segment, offset, frames in batches[at:]:
            if payloads and segment != held:
                yield Piece(start - len(payloads), held, 0, offsets, payloads, Position(start, held, end))
                offsets, payloads = [], []
            held = segment
            while first <= start < min(stop, first + count):
                more, some = payloads_in(frames, offset, start - first, min(PIECE - len(payloads), stop - start))
                offsets += more
                payloads += some
                start += len(some)
                end = offsets[-1] + HEADER.size + len(payloads[-1])
                if len(payloads) == PIECE:
                    yield Piece(start - len(payloads), held, 0, offsets, payloads, Position(start, held, end))
                    offsets, payloads = [], []
        if payloads:
            yield Piece(start - len(payloads), held, 0, offsets, payloads, Position(start, held, end))
