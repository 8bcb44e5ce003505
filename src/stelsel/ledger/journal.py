"""The journal: records in the order in which they were acknowledged, on disk before anything is forwarded.

`SegmentJournal` keeps append-only files `<folder>/segments/<first index>.segment`. A file starts with one line that
names it; then follows a frame a record:

    length   u32   bytes in the payload
    check    u32   CRC-32 of the payload
    header   u32   CRC-32 of the eight bytes before
    payload        kind (1 byte) and what belongs to it (see `frames`): a record with its nonce, or what is left of one
                   that was erased

A segment that was rewritten, since records in it were erased (`prune`), says so in its first line. The one that is
being written to never is. Beside the segments, `<folder>.numbers` keeps how many records there are of each resident
(see `numbers`); it can be removed while the node stands still, and is then made anew.

**What a caller may rely on.** `append` returns after the whole batch was synced to the file that stands at its path:
a file that was moved away or replaced is noticed before anything is acknowledged, whoever runs the node, root too.
When `append` raises, the batch is cut off again; where that fails as well, it is cut off when the file is opened again.
Only a process that dies between writing and acknowledging leaves records that nobody was told about: they are kept
when they are whole. So an acknowledged record is there exactly once, and a refused request may have a record: the
ledger may know too much of what was tried, never too little of what was done.

**Damage.** A torn last frame is what a crash leaves, and is cut off at the start. Anything else that cannot be read
raises `LedgerCorrupt`, with file and place, and nothing is cut.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Protocol
from zlib import crc32

from stelsel.base.log import logger
from stelsel.ledger.carried import Carried
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable
from stelsel.ledger.frames import (
    CHUNK,
    COUNTED_AT,
    HEADER,
    LARGEST_PAYLOAD,
    LENGTHS,
    RECORD,
    RECORD_AT,
    Broken,
    frame,
    generation_of,
    known_payload,
    read_frames,
    title_of,
)
from stelsel.ledger.glance import subject_of
from stelsel.ledger.numbers import Item, Numbers, key_of
from stelsel.ledger.pruning import prune_segment

_log = logger("ledger")

_PIECE = 256
"""Records in a piece, at most."""
_RECENT = 1 << 13
"""Records that are kept in memory after they were appended, at most; a batch may add to it for a moment."""
_FLUSHED = 1 << 18
"""Records after which the numbers are brought to disk: so many are read again when the machine was started anew."""
_NEXT_STEP = "make the ledger's folder writable and give it room; recording then goes on by itself"


@dataclass(frozen=True, slots=True)
class Position:
    """Where the record with this index starts in the journal."""

    index: int
    segment: int
    offset: int
    generation: int = 0
    """How often the segment was rewritten when this was its place (see `prune`); another one: look for the index."""


@dataclass(frozen=True, slots=True)
class Line:
    """A record as the journal holds it: `nonce` and `record`, or what is left of one that was erased."""

    position: Position
    after: Position
    """Where the next one starts, if it is in the same segment."""
    nonce: bytes
    record: bytes
    """Canonical JSON. Empty: it was erased."""
    seal: bytes = b""
    """Of an erased record: `commitment.sealed` (32 bytes), so that its leaf can still be made. Else empty."""
    counted: bytes = b""
    """Of an erased record: the canonical `Record.counted`. Else empty."""


class Piece(NamedTuple):
    """Some records that follow each other in one segment, as `Journal.pieces` gives them: no object a record."""

    first: int
    """Index of the first."""
    segment: int
    generation: int
    offsets: list[int]
    """Of each record its `Position.offset`."""
    payloads: list[bytes]
    """Of each record b"R" + nonce (16 bytes) + canonical JSON; of an erased one b"P" + seal (32 bytes) + counted."""
    after: Position
    """Where the next record starts, if it is in the same segment."""


class Pruned(NamedTuple):
    """What a prune did: counts only."""

    records: int
    """Records erased now."""
    segments: int
    """Files rewritten, of a journal that has files; else 0."""


class Journal(Protocol):
    """Where records become durable. All methods block; `append` is called by one thread at a time.

    `prune` is called by another thread, one at a time, while `append` and reading go on.
    """

    size: int
    """How many records are durable. Never shrinks: an erased record keeps its place."""

    def append(self, batch: Sequence[Item]) -> int:
        """Make the records durable, those about a resident numbered; gives the index of the first.

        A record with a subject gets the next number of that subject (`record.numbered`): 1, 2, 3... in the order of
        the journal, without gaps, also after a batch that was refused, a crash or a prune. Raises `LedgerUnavailable`.
        """

    def refresh(self) -> int:
        """Look how many records are durable, those of other hosts too; gives `size`. Raises `LedgerUnavailable`."""

    def lines(self, start: int, stop: int, near: Position | None = None) -> Iterator[Line]:
        """The lines start..stop-1; `near` is a known position not after `start`. Raises `LedgerUnavailable`."""

    def pieces(self, start: int, stop: int, near: Position | None = None) -> Iterator[Piece]:
        """The same as `lines`, for who goes through many: pieces of some hundreds of records."""

    def line(self, position: Position) -> Line:
        """The one line at this position. Raises `LedgerUnavailable`."""

    def lines_at(self, positions: Iterable[Position]) -> Iterator[Line]:
        """The lines at these positions, in this order. Raises `LedgerUnavailable`."""

    def prune(self, before_ms: int, start: int, stop: int) -> Pruned:
        """Erase for good those of the records start..stop-1 whose own `time` is before `before_ms` (ms since epoch).

        Of each the seal and the counted part stay in its place, so that its leaf, the tree, the evidence and every
        proof of others hold; record and nonce are gone, from backups of the live files
        excepted. A record that cannot be erased now (a segment that is still being written to) is left for the next
        time. Before a record about a resident is erased, that subject's highest number is kept apart, without any
        time, so that numbering goes on. Whole or not at all for each record, whatever crashes; doing it again does
        no harm. Raises `LedgerUnavailable`.
        """

    def last_number(self, subject: str) -> int:
        """The number of the latest record about this subject (a reference); 0 when there never was one."""

    def generations(self) -> dict[int, int]:
        """Of every segment that was ever rewritten, by its number: how often. Empty when places never change."""

    def close(self) -> None:
        """Let go of the files."""


class SegmentJournal:
    """The journal of one process, in segment files."""

    def __init__(self, folder: Path, *, segment_bytes: int = 64 * 1024 * 1024, known: int = 0) -> None:
        """Open the journal in `folder`, make it if it is new.

        `known` is how many records it held when it was last looked at: one that holds fewer has lost some. Raises
        `LedgerCorrupt`, or `LedgerUnavailable` when the folder cannot be used.
        """
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._file: int | None = None
        self._inode: tuple[int, int] | None = None
        """Device and inode of the file that we hold, once looked at."""
        self._last_header = b""
        self._last_offset = 0
        self._turn = threading.Lock()
        self._flushed = 0
        self._recent: deque[tuple[int, int, int, list[tuple[bytes, bytes]]]] = deque()
        self._recent_count = 0
        try:
            if not known:
                _make_folder(folder)
            self._segments = _segments(folder) if folder.is_dir() else []
            if known and not self._segments:
                raise _lost(folder, 0, known)
            if not self._segments:
                self._start_segment(0)
            self.size, self._end = self._recover()
            if self.size < known:
                raise _lost(folder, self.size, known)
            self._carried = Carried(folder)
            self._numbers = self._count()
        except OSError as error:
            raise _unavailable(error) from error

    def append(self, batch: Sequence[Item]) -> int:
        """See `Journal`."""
        with self._turn:
            try:
                numbered, given = self._numbers.give(batch)
            except OSError as error:
                raise _unavailable(error) from error
            first = self._append(numbered)
            self._remember(first, numbered)
            for key, number in given.items():
                self._numbers.tell(key, number)
            self._numbers.cover(self.size)
        if self.size - self._flushed >= _FLUSHED:
            self._flushed = self.size
            threading.Thread(target=self._flush, name="ledger-numbers", daemon=True).start()
        return first

    def _append(self, batch: Sequence[tuple[bytes, bytes]]) -> int:
        first = self.size
        try:
            file = self._file if self._file is not None else self._reopen()
            if self._end >= self._segment_bytes:
                file = self._rotate()
        except OSError as error:
            self._let_go()
            raise _unavailable(error) from error
        frames = [frame(nonce, record) for nonce, record in batch]
        data = b"".join(frames)
        try:
            _write(file, data)
            os.fdatasync(file)
            self._check_in_place(file, self._end + len(data))
        except OSError as error:
            self._cut_off(file)
            raise _unavailable(error) from error
        self._end += len(data)
        self._last_offset = self._end - len(frames[-1])
        self._last_header = frames[-1][: HEADER.size]
        self.size = first + len(batch)
        return first

    def refresh(self) -> int:
        """See `Journal`. Nobody else writes to these files."""
        return self.size

    def lines(self, start: int, stop: int, near: Position | None = None) -> Iterator[Line]:
        """See `Journal`."""
        for piece in self._from_files(start, stop, near):
            yield from _lines(piece)

    def pieces(self, start: int, stop: int, near: Position | None = None) -> Iterator[Piece]:
        """See `Journal`. What was appended a moment ago is given from memory."""
        for piece in self._remembered(start, stop):
            yield piece
            start = piece.first + len(piece.payloads)
        if start < stop:
            yield from self._from_files(start, stop, near)

    def line(self, position: Position) -> Line:
        """See `Journal`."""
        index = position.index
        return next(_lines(next(self._read(position.segment, index, index + 1, position, chunk=4096))))

    def lines_at(self, positions: Iterable[Position]) -> Iterator[Line]:
        """See `Journal`."""
        return map(self.line, positions)

    def prune(self, before_ms: int, start: int, stop: int) -> Pruned:
        """See `Journal`."""
        stop = min(stop, self.size)
        records = rewritten = 0
        try:
            if start < stop and stop > self._segments[-1]:
                with self._turn:  # what is written to now is closed, so that it can be rewritten
                    self._close_segment()
                    self._recent.clear()
            segments = list(self._segments)
            for first, end in pairwise(segments):
                if end > start and first < stop:
                    erased = prune_segment(
                        self._path(first), first, end - first, before_ms, self._numbers, self._carried
                    )
                    records, rewritten = records + erased, rewritten + (erased > 0)
            if records:
                self._carried.drop(lambda key: self._numbers.last(key))
        except Broken as broken:
            raise _corrupt(self._path(first), broken) from broken
        except OSError as error:
            raise _unavailable(error) from error
        return Pruned(records, rewritten)

    def last_number(self, subject: str) -> int:
        """See `Journal`."""
        return self._numbers.last(key_of(subject))

    def generations(self) -> dict[int, int]:
        """See `Journal`."""
        found = {}
        for segment in list(self._segments[:-1]):
            try:
                with self._path(segment).open("rb", buffering=0) as file:
                    if (generation := generation_of(file.fileno(), segment)[0]) > 0:
                        found[segment] = generation
            except Broken as broken:
                raise _corrupt(self._path(segment), broken) from broken
            except OSError as error:
                raise _unavailable(error) from error
        return found

    def close(self) -> None:
        """See `Journal`."""
        self._let_go()
        self._numbers.close()

    # Reading

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
                offsets: list[int] = []
                payloads: list[bytes] = []
                for place, payload in read_frames(file.fileno(), offset, chunk):
                    if not known_payload(payload):
                        raise Broken(place, "a frame of a kind that this version does not know")
                    index += 1
                    if index <= start:
                        continue
                    offsets.append(place)
                    payloads.append(payload)
                    if index == stop or len(payloads) == _PIECE:
                        after = Position(index, segment, place + HEADER.size + len(payload), generation)
                        yield Piece(index - len(payloads), segment, generation, offsets, payloads, after)
                        offsets, payloads = [], []
                    if index == stop:  # what follows may be a batch that is being written
                        return
        except Broken as broken:
            raise _corrupt(path, broken) from broken
        except OSError as error:
            raise _unavailable(error) from error
        raise _corrupt(path, Broken(offset, f"it ends before record {index}"))

    # What was appended last

    def _remember(self, first: int, batch: list[tuple[bytes, bytes]]) -> None:
        """Keep what was written, for the index: it need not read it again."""
        size = sum(HEADER.size + RECORD_AT + len(record) for _, record in batch)
        self._recent.append((first, self._segments[-1], self._end - size, batch))
        self._recent_count += len(batch)
        while self._recent_count > _RECENT:
            self._recent_count -= len(self._recent.popleft()[3])

    def _remembered(self, start: int, stop: int) -> Iterator[Piece]:
        """Of the records start..stop-1 those that are still in memory, if the first of them is."""
        recent = list(self._recent)
        at = max(bisect_right(recent, start, key=itemgetter(0)) - 1, 0)
        offsets: list[int] = []
        payloads: list[bytes] = []
        held = end = -1
        for first, segment, offset, batch in recent[at:]:
            if payloads and (segment != held or len(payloads) >= _PIECE):
                yield Piece(start - len(payloads), held, 0, offsets, payloads, Position(start, held, end))
                offsets, payloads = [], []
            if first > start or start >= stop:
                break
            held = segment
            for index, (nonce, record) in enumerate(batch, first):
                if start <= index < stop:
                    offsets.append(offset)
                    payloads.append(b"R%b%b" % (nonce, record))
                    start += 1
                    end = offset + HEADER.size + RECORD_AT + len(record)
                offset += HEADER.size + RECORD_AT + len(record)
        if payloads:
            yield Piece(start - len(payloads), held, 0, offsets, payloads, Position(start, held, end))

    # Numbers

    def _count(self) -> Numbers:
        """The numbers, and what they do not know yet told to them."""
        path = self._folder.with_name(self._folder.name + ".numbers")
        numbers = Numbers(path)
        if numbers.covered > self.size:  # of another journal, or of one that was put back from a backup
            numbers.forget()
        start = numbers.covered
        if start < self.size:
            for key, number in self._carried:
                numbers.tell(key, number)
            for piece in self.pieces(start, self.size):
                for payload in piece.payloads:
                    if payload[:1] == RECORD:
                        subject, number = subject_of(payload)
                        if number:
                            numbers.tell(key_of(subject), number)
            numbers.cover(self.size)
        self._flushed = self.size
        return numbers

    def _flush(self) -> None:
        with suppress(OSError, ValueError):  # closed meanwhile, which brings it to disk, or a disk that refuses
            self._numbers.flush()

    # Opening

    def _recover(self) -> tuple[int, int]:
        """Read the last segment and cut off a torn tail; gives the number of records and the segment's end."""
        segment = self._segments[-1]
        path = self._path(segment)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._file = file
        title = title_of(segment)
        found = os.pread(file, len(title), 0)
        if found != title:
            if found.rstrip(b"\0") != title[: len(found.rstrip(b"\0"))] or os.fstat(file).st_size > len(title):
                raise _corrupt(path, Broken(0, "it does not start with its own name"))
            os.ftruncate(file, 0)
            _write(file, title)
        index, end = segment, len(title)
        try:
            for place, payload in read_frames(file, end):
                index += 1
                end = place + HEADER.size + len(payload)
                self._last_offset = place
        except Broken as broken:
            if not _torn(file, broken.offset):
                raise _corrupt(path, broken) from broken
            _log.warning("torn tail cut off", file=path.name, offset=end, bytes=os.fstat(file).st_size - end)
            os.ftruncate(file, end)
        os.fsync(file)  # whole records that nobody was told about must not vanish after others build on them
        if index > segment:
            self._last_header = os.pread(file, HEADER.size, self._last_offset)
        return index, end

    def _reopen(self) -> int:
        """Open the last segment again after a failure, only if it still ends with what was acknowledged last."""
        segment = self._segments[-1]
        path = self._path(segment)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            title = title_of(segment)
            whole = os.fstat(file).st_size >= self._end and os.pread(file, len(title), 0) == title
            if self._last_header and self._last_offset >= len(title):
                whole = whole and os.pread(file, HEADER.size, self._last_offset) == self._last_header
            if not whole:
                raise _corrupt(path, Broken(self._last_offset, "what was acknowledged last is not in it any more"))
            os.ftruncate(file, self._end)  # what a failed batch left was refused
            os.fsync(file)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return file

    def _start_segment(self, first: int) -> None:
        title = title_of(first)
        path = self._folder / f"{first:020d}.segment"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write(file, title)
            os.fsync(file)
            _sync_folder(self._folder)
        except BaseException:
            os.close(file)
            with suppress(OSError):
                path.unlink()
            raise
        self._let_go()
        self._file = file
        self._segments.append(first)
        self._end = len(title)
        self._last_header, self._last_offset = b"", 0

    def _rotate(self) -> int:
        if self._file is not None:
            self._check_in_place(self._file, self._end)
        self._start_segment(self.size)
        if self._file is None:
            raise OSError("the new segment is not open")
        return self._file

    def _close_segment(self) -> None:
        """Go on in a new segment, unless the present one is empty."""
        if self.size > self._segments[-1]:
            if self._file is None:
                self._reopen()
            self._rotate()

    def _check_in_place(self, file: int, end: int) -> None:
        """The file that we hold is the file at its path, and ends where we think; root is stopped by this too."""
        if self._inode is None:
            mine = os.fstat(file)
            self._inode = (mine.st_dev, mine.st_ino)
        there = self._path(self._segments[-1]).stat()
        if self._inode != (there.st_dev, there.st_ino):
            raise OSError("the journal's file was moved or replaced")
        if there.st_size != end:
            raise OSError("something else writes to the journal's file")

    def _cut_off(self, file: int) -> None:
        with suppress(OSError):
            os.ftruncate(file, self._end)
        self._let_go()

    def _let_go(self) -> None:
        file, self._file, self._inode = self._file, None, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:020d}.segment"


def _lines(piece: Piece) -> Iterator[Line]:
    ends = [*piece.offsets[1:], piece.after.offset]
    for step, (offset, end, payload) in enumerate(zip(piece.offsets, ends, piece.payloads, strict=True)):
        index = piece.first + step
        position = Position(index, piece.segment, offset, piece.generation)
        after = Position(index + 1, piece.segment, end, piece.generation)
        if payload[:1] == RECORD:
            yield Line(position, after, payload[1:RECORD_AT], payload[RECORD_AT:])
        else:
            yield Line(position, after, b"", b"", payload[1:COUNTED_AT], payload[COUNTED_AT:])


def _torn(file: int, offset: int) -> bool:
    """Whether what is at `offset` is what a crash leaves of a last write: a beginning, then nothing, or only zeros.

    A whole frame never ends in a zero byte, since a record ends in "}". A damaged header or a damaged payload with
    anything behind it is not torn: cutting there could cut acknowledged records.
    """
    rest = b""
    while chunk := os.pread(file, CHUNK, offset + len(rest)):
        rest += chunk
        if len(rest) > LARGEST_PAYLOAD + HEADER.size and rest.strip(b"\0"):
            return False
    written = rest.rstrip(b"\0")
    if len(written) < HEADER.size:
        return True
    length, _, header = HEADER.unpack_from(written)
    whole_header = bool(crc32(written[: LENGTHS.size]) == header)
    return whole_header and len(written) < HEADER.size + int(length)


def _write(file: int, data: bytes) -> None:
    """Write all of it; a full disk may take a part before it refuses."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, data[written:])


def _segments(folder: Path) -> list[int]:
    """The first indexes of the segments in the folder, in order."""
    names = sorted(path.stem for path in folder.glob("*.segment"))
    if any(len(name) != 20 or not name.isdecimal() for name in names) or (names and int(names[0]) != 0):
        raise LedgerCorrupt(
            f"{folder}: the journal's files are not all there, or there are strange ones",
            next_step="put back the segment files from the backup",
        )
    return [int(name) for name in names]


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, mode=0o700)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unavailable(error: OSError) -> LedgerUnavailable:
    return LedgerUnavailable(f"the ledger cannot be used: {error.strerror or error}", next_step=_NEXT_STEP)


def _corrupt(path: Path, broken: Broken) -> LedgerCorrupt:
    _log.error("ledger damaged", file=path.name, offset=broken.offset, reason=broken.reason)
    return LedgerCorrupt(
        f"{path} is damaged at byte {broken.offset}: {broken.reason}",
        next_step="stop the node and put this file back from the backup; nothing was cut off",
    )


def _lost(folder: Path, size: int, known: int) -> LedgerCorrupt:
    _log.error("ledger damaged", folder=str(folder), records=size, known=known)
    return LedgerCorrupt(
        f"{folder}: holds {size} records, but it held {known} before",
        next_step="put back the segment files; only if they are lost for good, remove index.sqlite beside them",
    )
