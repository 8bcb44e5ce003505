"""The journal: records in the order in which they were acknowledged, on disk before anything is forwarded.

`SegmentJournal` keeps append-only files `<folder>/segments/<first index>.segment`. A file starts with one line that
names it; then follows a frame a record:

    length   u32   bytes in the payload
    check    u32   CRC-32 of the payload
    header   u32   CRC-32 of the eight bytes before
    payload        kind (1 byte, "R": a record), nonce (16 bytes), the record's canonical JSON

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
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zlib import crc32

from stelsel.base.log import logger
from stelsel.ledger.commitment import NONCE_SIZE
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable

_log = logger("ledger")

_HEADER = struct.Struct("<III")
_LENGTHS = struct.Struct("<II")
_CHECK = struct.Struct("<I")
_RECORD = b"R"
_PREFIX = len(_RECORD) + NONCE_SIZE
_CHUNK = 1 << 18
_LARGEST_PAYLOAD = 1 << 24
_NEXT_STEP = "make the ledger's folder writable and give it room; recording then goes on by itself"


@dataclass(frozen=True, slots=True)
class Position:
    """Where the record with this index starts in the journal."""

    index: int
    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Line:
    """A record as the journal holds it."""

    position: Position
    after: Position
    """Where the next one starts, if it is in the same segment."""
    nonce: bytes
    record: bytes


class Journal(Protocol):
    """Where records become durable. All methods block; `append` is called by one thread at a time."""

    size: int
    """How many records are durable. Never shrinks."""

    def append(self, batch: Sequence[tuple[bytes, bytes]]) -> int:
        """Make (nonce, canonical record) pairs durable; gives the index of the first. Raises `LedgerUnavailable`."""

    def lines(self, start: int, stop: int, near: Position | None = None) -> Iterator[Line]:
        """The lines start..stop-1; `near` is a known position not after `start`. Raises `LedgerUnavailable`."""

    def line(self, position: Position) -> Line:
        """The one line at this position. Raises `LedgerUnavailable`."""

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
        self._last_header = b""
        self._last_offset = 0
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
        except OSError as error:
            raise _unavailable(error) from error

    def append(self, batch: Sequence[tuple[bytes, bytes]]) -> int:
        """See `Journal`."""
        first = self.size
        try:
            file = self._file if self._file is not None else self._reopen()
            if self._end >= self._segment_bytes:
                file = self._rotate()
        except OSError as error:
            self._let_go()
            raise _unavailable(error) from error
        frames = [_frame(nonce, record) for nonce, record in batch]
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
        self._last_header = frames[-1][: _HEADER.size]
        self.size = first + len(batch)
        return first

    def lines(self, start: int, stop: int, near: Position | None = None) -> Iterator[Line]:
        """See `Journal`."""
        if stop > self.size:
            raise ValueError("the journal is not that long")
        segments = list(self._segments)
        at = bisect_right(segments, start) - 1
        index, offset = segments[at], len(_title(segments[at]))
        if near is not None and near.segment == segments[at] and near.index <= start:
            index, offset = near.index, near.offset
        while start < stop:
            end = min(stop, segments[at + 1]) if at + 1 < len(segments) else stop
            for line in self._read(segments[at], index, offset, end):
                if line.position.index >= start:
                    yield line
            start = end
            at += 1
            if at < len(segments):
                index, offset = segments[at], len(_title(segments[at]))

    def line(self, position: Position) -> Line:
        """See `Journal`."""
        return next(self._read(position.segment, position.index, position.offset, position.index + 1, chunk=4096))

    def close(self) -> None:
        """See `Journal`."""
        self._let_go()

    # Reading

    def _read(self, segment: int, index: int, offset: int, stop: int, chunk: int = _CHUNK) -> Iterator[Line]:
        """Lines index..stop-1 of one segment, of which `offset` is where `index` starts."""
        path = self._path(segment)
        try:
            with path.open("rb", buffering=0) as file:
                for place, payload in _frames(file.fileno(), offset, chunk):
                    if payload[:1] != _RECORD or len(payload) < _PREFIX:
                        raise _Broken(place, "a frame of a kind that this version does not know")
                    after = Position(index + 1, segment, place + _HEADER.size + len(payload))
                    yield Line(Position(index, segment, place), after, payload[1:_PREFIX], payload[_PREFIX:])
                    index += 1
                    if index >= stop:  # what follows may be a batch that is being written
                        return
        except _Broken as broken:
            raise _corrupt(path, broken) from broken
        except OSError as error:
            raise _unavailable(error) from error
        if index < stop:
            raise _corrupt(path, _Broken(offset, f"it ends before record {index}"))

    # Opening

    def _recover(self) -> tuple[int, int]:
        """Read the last segment and cut off a torn tail; gives the number of records and the segment's end."""
        segment = self._segments[-1]
        path = self._path(segment)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._file = file
        title = _title(segment)
        found = os.pread(file, len(title), 0)
        if found != title:
            if found.rstrip(b"\0") != title[: len(found.rstrip(b"\0"))] or os.fstat(file).st_size > len(title):
                raise _corrupt(path, _Broken(0, "it does not start with its own name"))
            os.ftruncate(file, 0)
            _write(file, title)
        index, end = segment, len(title)
        try:
            for place, payload in _frames(file, end):
                index += 1
                end = place + _HEADER.size + len(payload)
                self._last_offset = place
        except _Broken as broken:
            if not _torn(file, broken.offset):
                raise _corrupt(path, broken) from broken
            _log.warning("torn tail cut off", file=path.name, offset=end, bytes=os.fstat(file).st_size - end)
            os.ftruncate(file, end)
        os.fsync(file)  # whole records that nobody was told about must not vanish after others build on them
        if index > segment:
            self._last_header = os.pread(file, _HEADER.size, self._last_offset)
        return index, end

    def _reopen(self) -> int:
        """Open the last segment again after a failure, only if it still ends with what was acknowledged last."""
        segment = self._segments[-1]
        path = self._path(segment)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            title = _title(segment)
            whole = os.fstat(file).st_size >= self._end and os.pread(file, len(title), 0) == title
            if self._last_header and self._last_offset >= len(title):
                whole = whole and os.pread(file, _HEADER.size, self._last_offset) == self._last_header
            if not whole:
                raise _corrupt(path, _Broken(self._last_offset, "what was acknowledged last is not in it any more"))
            os.ftruncate(file, self._end)  # what a failed batch left was refused
            os.fsync(file)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return file

    def _start_segment(self, first: int) -> None:
        title = _title(first)
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

    def _check_in_place(self, file: int, end: int) -> None:
        """The file that we hold is the file at its path, and ends where we think; root is stopped by this too."""
        mine, there = os.fstat(file), self._path(self._segments[-1]).stat()
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            raise OSError("the journal's file was moved or replaced")
        if mine.st_size != end:
            raise OSError("something else writes to the journal's file")

    def _cut_off(self, file: int) -> None:
        with suppress(OSError):
            os.ftruncate(file, self._end)
        self._let_go()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:020d}.segment"


class _Broken(Exception):
    """A frame cannot be read; where, and why."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def _title(first: int) -> bytes:
    return f"stelsel journal 1 {first:020d}\n".encode("ascii")


def _frame(nonce: bytes, record: bytes) -> bytes:
    payload = _RECORD + nonce + record
    lengths = _LENGTHS.pack(len(payload), crc32(payload))
    return lengths + _CHECK.pack(crc32(lengths)) + payload


def _frames(file: int, offset: int, chunk: int = _CHUNK) -> Iterator[tuple[int, bytes]]:
    """(offset, payload) of every frame from `offset` to the end of the file. Raises `_Broken`."""
    buffer = b""
    at = 0
    while True:
        if len(buffer) - at < _HEADER.size:
            buffer, offset, at = buffer[at:] + os.pread(file, chunk, offset + len(buffer)), offset + at, 0
            if not buffer:
                return
            if len(buffer) < _HEADER.size:
                raise _Broken(offset, "the last frame is not whole")
        length, check, header = _HEADER.unpack_from(buffer, at)
        if crc32(buffer[at : at + _LENGTHS.size]) != header or length > _LARGEST_PAYLOAD:
            raise _Broken(offset + at, "a frame's header is damaged")
        end = at + _HEADER.size + length
        if len(buffer) < end:
            wanted = max(chunk, end - len(buffer))
            buffer, offset, at = buffer[at:] + os.pread(file, wanted, offset + len(buffer)), offset + at, 0
            end = _HEADER.size + length
            if len(buffer) < end:
                raise _Broken(offset, "the last frame is not whole")
        payload = buffer[at + _HEADER.size : end]
        if crc32(payload) != check:
            raise _Broken(offset + at, "a frame's payload is damaged")
        yield offset + at, payload
        at = end


def _torn(file: int, offset: int) -> bool:
    """Whether what is at `offset` is what a crash leaves of a last write: a beginning, then nothing, or only zeros.

    A whole frame never ends in a zero byte, since a record ends in "}". A damaged header or a damaged payload with
    anything behind it is not torn: cutting there could cut acknowledged records.
    """
    rest = b""
    while chunk := os.pread(file, _CHUNK, offset + len(rest)):
        rest += chunk
        if len(rest) > _LARGEST_PAYLOAD + _HEADER.size and rest.strip(b"\0"):
            return False
    written = rest.rstrip(b"\0")
    if len(written) < _HEADER.size:
        return True
    length, _, header = _HEADER.unpack_from(written)
    whole_header = bool(crc32(written[: _LENGTHS.size]) == header)
    return whole_header and len(written) < _HEADER.size + int(length)


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


def _corrupt(path: Path, broken: _Broken) -> LedgerCorrupt:
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
