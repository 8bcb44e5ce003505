"""Reading segment files of the journal, without ever opening one for writing.

`SegmentJournal` reads its own files so. A process of its own that builds the index (`index_process`) uses a
`SegmentReader` by itself; it is told how many records are durable and never looks beyond them, since what follows may
be a batch that is being written.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from stelsel.ledger.faults import LedgerCorrupt
from stelsel.ledger.frames import CHUNK, HEADER, Broken, Frames, generation_of
from stelsel.ledger.journal import Piece, Position
from stelsel.ledger.recent import PIECE
from stelsel.ledger.segment_files import corrupt, segments_in, unavailable


class SegmentReader:
    """Reads the segments in a folder, as far as they are durable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments: list[int] = []
        self.size = 0
        """How many records are durable."""

    def reach(self, size: int) -> None:
        """So many records are durable now. Raises `LedgerUnavailable`.

        The last segment that is known is then the one that is written to, or was: none before it ever changes, but for
        what is erased.
        """
        try:
            found = segments_in(self._folder)
        except OSError as error:
            raise unavailable(error) from error
        self._segments = [first for first in found if first <= size]
        self.size = size

    def pieces(self, start: int, stop: int, near: Position | None = None) -> Iterator[Piece]:
        """See `Journal`."""
        return self._from_files(start, stop, near)

    def generations(self) -> dict[int, int]:
        """See `Journal`."""
        found = {}
        for segment in list(self._segments[:-1]):
            try:
                with self._path(segment).open("rb", buffering=0) as file:
                    if (generation := generation_of(file.fileno(), segment)[0]) > 0:
                        found[segment] = generation
            except Broken as broken:
                raise self._damaged(self._path(segment), broken) from broken
            except OSError as error:
                raise unavailable(error) from error
        return found

    def _from_files(self, start: int, stop: int, near: Position | None = None) -> Iterator[Piece]:
        if stop > self.size:
            raise ValueError("the journal is not that long")
        segments = list(self._segments)
        at = bisect_right(segments, start) - 1
        while start < stop:
            end = min(stop, segments[at + 1]) if at + 1 < len(segments) else stop
            yield from self._read(segments[at], start, end, near)
            start, near = end, None
            at += 1

    def _read(
        self, segment: int, start: int, stop: int, near: Position | None = None, chunk: int = CHUNK
    ) -> Iterator[Piece]:
        """Records start..stop-1 of one segment, looked for from `near` on if that is a place in it."""
        path = self._path(segment)
        try:
            with path.open("rb", buffering=0) as file:
                generation, offset = generation_of(file.fileno(), segment)
                index = segment
                if (
                    near is not None
                    and (near.segment, near.generation) == (segment, generation)
                    and near.index <= start
                ):
                    index, offset = near.index, near.offset
                else:
                    chunk = CHUNK
                frames = Frames(file.fileno(), offset, chunk)
                whole = True
                while whole and index < start:
                    wanted = min(PIECE, start - index)
                    _, payloads = frames.take(wanted)
                    index += len(payloads)
                    whole = len(payloads) == wanted
                while whole and index < stop:  # what follows may be a batch that is being written
                    wanted = min(PIECE, stop - index)
                    offsets, payloads = frames.take(wanted)
                    index += len(payloads)
                    whole = len(payloads) == wanted
                    if whole:
                        after = Position(index, segment, offsets[-1] + HEADER.size + len(payloads[-1]), generation)
                        yield Piece(index - wanted, segment, generation, offsets, payloads, after)
                if whole:
                    return
        except Broken as broken:
            raise self._damaged(path, broken) from broken
        except OSError as error:
            raise unavailable(error) from error
        raise self._damaged(path, Broken(offset, f"it ends before record {index}"))

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:020d}.segment"

    def _damaged(self, path: Path, broken: Broken) -> LedgerCorrupt:
        return corrupt(path, broken)
