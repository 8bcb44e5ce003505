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

A segment may be made beforehand (see `ahead`): it is full of zeros then, and every batch in it begins with a mark.

**Damage.** A torn last frame is what a crash leaves, and is cut off at the start. Anything else that cannot be read
raises `LedgerCorrupt`, with file and place, and nothing is cut. In a segment that was made beforehand a loss of power
may leave any part of the last batch; that it was the last, is known by there being no mark of a later one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from stelsel.base.log import logger
from stelsel.ledger.ahead import BUSY, Ahead
from stelsel.ledger.batch import Batch, Item, parcel_of
from stelsel.ledger.carried import Carried
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.frames import (
    COUNTED_AT,
    HEADER,
    MARK_SIZE,
    RECORD,
    RECORD_AT,
    Broken,
    mark,
    marked_behind,
    marked_title_of,
    read_frames,
    title_of,
)
from stelsel.ledger.glance import subject_of
from stelsel.ledger.journal import Line, Piece, Position, Pruned
from stelsel.ledger.numbers import Key, Numbers, key_of
from stelsel.ledger.pruning import prune_segment
from stelsel.ledger.recent import Recent
from stelsel.ledger.segment_files import (
    corrupt,
    lost,
    make_folder,
    segments_in,
    sync_folder,
    torn,
    unavailable,
    write_all,
)
from stelsel.ledger.segment_reader import SegmentReader

_log = logger("ledger")

_FLUSHED = 1 << 18
"""Records after which the numbers are brought to disk: so many are read again when the machine was started anew."""
_TAIL = 64
"""Bytes at the end of what was acknowledged, by which the file is known again."""


class Write(NamedTuple):
    """A batch as it goes into a file."""

    file: int
    data: bytes
    place: int
    mark: int
    """Bytes before the frames of its records."""
    records: int
    given: dict[Key, int]
    """The numbers of residents' records that are in it."""


class SegmentJournal(SegmentReader):
    """The journal of one process, in segment files."""

    def __init__(
        self, folder: Path, *, segment_bytes: int = 64 * 1024 * 1024, known: int = 0, ahead: bool = False
    ) -> None:
        """Open the journal in `folder`, make it if it is new.

        `known` is how many records it held when it was last looked at: one that holds fewer has lost some. `ahead`:
        make segments beforehand while there is much to record. Raises `LedgerCorrupt`, or `LedgerUnavailable` when the
        folder cannot be used.
        """
        super().__init__(folder)
        self._segment_bytes = segment_bytes
        self._file: int | None = None
        self._inode: tuple[int, int] | None = None
        """Device and inode of the file that we hold, once looked at."""
        self._there = ""
        """The path of that file."""
        self._tail = b""
        """What that file ends with, as far as it was acknowledged."""
        self._marked = False
        """Whether batches begin with a mark in it."""
        self._length = 0
        """Its length: where the last batch ends, or more when it was made beforehand."""
        self._turn = threading.Lock()
        self._erasing = threading.Lock()
        self._closing = False
        self._flushed = 0
        self._recent = Recent()
        self._ahead: Ahead | None = None
        try:
            if not known:
                make_folder(folder)
            self._segments = segments_in(folder) if folder.is_dir() else []
            if known and not self._segments:
                raise lost(folder, 0, known)
            if not self._segments:
                self._start_segment(0)
            self.size, self._end = self._recover()
            self._length = self._end
            if self.size < known:
                raise lost(folder, self.size, known)
            self._carried = Carried(folder)
            self._numbers = self._count()
            if ahead:
                self._ahead = Ahead(folder, segment_bytes)
        except OSError as error:
            raise unavailable(error) from error

    def append(self, batch: Iterable[Item]) -> int:
        """See `Journal`."""
        offered = batch if isinstance(batch, Batch) else Batch([parcel_of(batch)])
        with self._turn:
            try:
                numbers, given = self._numbers.give(offered.subjects())
            except OSError as error:
                raise unavailable(error) from error
            data = offered.data(numbers)
            try:
                file = self._file if self._file is not None else self._reopen()
                if self._is_full(len(data), len(offered)):
                    file = self._rotate()
            except OSError as error:
                self._let_go()
                raise unavailable(error) from error
            write = self._next_write(file, data, len(offered), given)
            try:
                write_all(file, write.data, write.place)
                os.fdatasync(file)
                return self._written(write)
            except OSError as error:
                self._cut_off(file)
                raise unavailable(error) from error

    def begin(self, batch: Batch) -> Write | None:
        """What is to be made durable so that this batch is: then `finish`, or when that fails `abandon`, is called.

        None: there is more to do than that, or something else goes on; then it is to be appended. Never waits, so it
        can be called in an event loop; it counts as one call of `append`, which lasts until the other call.
        """
        if not self._turn.acquire(blocking=False):
            return None
        write: Write | None = None
        try:
            if self._file is not None and self._numbers.roomy(len(batch)):
                numbers, given = self._numbers.give(batch.subjects())
                data = batch.data(numbers)
                if not self._is_full(len(data), len(batch)):
                    write = self._next_write(self._file, data, len(batch), given)
        finally:
            if write is None:
                self._turn.release()
        return write

    def finish(self, write: Write) -> int:
        """It is on disk; gives the index of its first record. Raises `LedgerUnavailable` if not where it should be."""
        try:
            return self._written(write)
        except OSError as error:
            self._cut_off(write.file)
            raise unavailable(error) from error
        finally:
            self._turn.release()

    def abandon(self, *, tried: bool) -> None:
        """The write is not on disk, or not all of it; if it was `tried`, what there is of it is cut off first."""
        if tried:
            self._let_go()
        self._turn.release()

    def _next_write(self, file: int, frames: bytes, count: int, given: dict[Key, int]) -> Write:
        data = mark(self.size) + frames if self._marked else frames
        return Write(file, data, self._end, len(data) - len(frames), count, given)

    def _written(self, write: Write) -> int:
        """The write is on disk: from now on these records are there. Raises `OSError` when the file is not in place."""
        first, end = self.size, write.place + len(write.data)
        length = max(self._length, end)
        self._check_in_place(write.file, length)
        self._end, self._length = end, length
        self._tail = write.data[-_TAIL:]
        frames = write.data[write.mark :] if write.mark else write.data
        self._recent.keep(first, write.records, self._segments[-1], write.place + write.mark, frames)
        self.size = first + write.records
        for key, number in write.given.items():
            self._numbers.tell(key, number)
        self._numbers.cover(self.size)
        if self.size - self._flushed >= _FLUSHED:
            self._flushed = self.size
            threading.Thread(target=self._flush, name="ledger-numbers", daemon=True).start()
        return first

    def _is_full(self, size: int, count: int) -> bool:
        """Whether a batch of so many bytes and records should go into a new segment."""
        if self._ahead is not None and count >= BUSY:
            roomy = self._length > self._end
            if not roomy or self._length - self._end < self._segment_bytes // 2:
                self._ahead.want()
            if self._ahead.made and not (roomy and self._end + MARK_SIZE + size <= self._length):
                return self.size > self._segments[-1]  # an empty one cannot be followed by another
        return self._end >= self._segment_bytes

    def refresh(self) -> int:
        """See `Journal`. Nobody else writes to these files."""
        return self.size

    def lines(self, start: int, stop: int, near: Position | None = None) -> Iterator[Line]:
        """See `Journal`."""
        for piece in self._from_files(start, stop, near):
            yield from _lines(piece)

    def pieces(self, start: int, stop: int, near: Position | None = None) -> Iterator[Piece]:
        """See `Journal`. What was appended a moment ago is given from memory."""
        for piece in self._recent.pieces(start, stop):
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
        with self._erasing:  # one at a time, and `close` waits for it
            try:
                self._check_open()
                if start < stop and stop > self._segments[-1]:
                    with self._turn:  # what is written to now is closed, so that it can be rewritten
                        self._close_segment()
                for first, end in pairwise(list(self._segments)):
                    if end > start and first < stop:
                        self._check_open()
                        erased = prune_segment(
                            self._path(first), first, end - first, before_ms, self._numbers, self._carried
                        )
                        records, rewritten = records + erased, rewritten + (erased > 0)
                if records:
                    self._carried.drop(lambda key: self._numbers.last(key))
            except Broken as broken:
                raise corrupt(self._path(first), broken) from broken
            except OSError as error:
                raise unavailable(error) from error
            finally:
                with self._turn:  # it holds what was erased, and places in files that are no longer so
                    self._recent.clear()
        return Pruned(records, rewritten)

    def _check_open(self) -> None:
        """Raises `LedgerUnavailable` when the journal is being closed: another process may have it after that."""
        if self._closing:
            raise LedgerUnavailable("the ledger is closing", next_step="it is done the next time")

    def last_number(self, subject: str) -> int:
        """See `Journal`."""
        return self._numbers.last(key_of(subject))

    def close(self) -> None:
        """See `Journal`. A file that is being written anew without what was erased is finished first."""
        self._closing = True
        with self._erasing:
            if self._ahead is not None:
                self._ahead.close()
            if self._file is not None and self._length > self._end:
                with suppress(OSError):  # what is left of the zeros is cut off at the next start
                    os.ftruncate(self._file, self._end)
                    os.fsync(self._file)
            self._let_go()
            self._numbers.close()

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
                numbers.make_room(1)
                numbers.tell(key, number)
            for piece in self.pieces(start, self.size):
                numbers.make_room(len(piece.payloads))
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
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._file = file
        title = title_of(segment)
        found = os.pread(file, len(title), 0)
        self._marked = found == marked_title_of(segment)
        if found != title and not self._marked:
            if found.rstrip(b"\0") != title[: len(found.rstrip(b"\0"))] or os.fstat(file).st_size > len(title):
                raise corrupt(path, Broken(0, "it does not start with its own name"))
            os.ftruncate(file, 0)
            write_all(file, title, 0)
        index, end = segment, len(title)
        try:
            for place, payload in read_frames(file, end):
                index += 1
                end = place + HEADER.size + len(payload)
        except Broken as broken:
            whole = marked_behind(file, broken.offset, index) if self._marked else not torn(file, broken.offset)
            if whole:
                raise corrupt(path, broken) from broken
            if os.pread(file, HEADER.size, end).strip(b"\0"):  # else it was room, made beforehand
                _log.warning("torn tail cut off", file=path.name, offset=end, bytes=os.fstat(file).st_size - end)
            os.ftruncate(file, end)
        os.fsync(file)  # whole records that nobody was told about must not vanish after others build on them
        self._remember_tail(file, segment, end)
        return index, end

    def _reopen(self) -> int:
        """Open the last segment again after a failure, only if it still ends with what was acknowledged last."""
        segment = self._segments[-1]
        path = self._path(segment)
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            title = marked_title_of(segment) if self._marked else title_of(segment)
            whole = os.fstat(file).st_size >= self._end and os.pread(file, len(title), 0) == title
            last = self._end - len(self._tail)
            if not whole or os.pread(file, len(self._tail), last) != self._tail:
                raise corrupt(path, Broken(last, "what was acknowledged last is not in it any more"))
            os.ftruncate(file, self._end)  # what a failed batch left was refused
            os.fsync(file)
        except BaseException:
            os.close(file)
            raise
        self._length = self._end
        self._file = file
        return file

    def _remember_tail(self, file: int, segment: int, end: int) -> None:
        size = min(_TAIL, end - len(title_of(segment)))
        self._tail = os.pread(file, size, end - size)

    def _start_segment(self, first: int) -> None:
        path = self._folder / f"{first:020d}.segment"
        title = title_of(first)
        marked = self._ahead is not None and self._ahead.made
        if self._ahead is not None and marked:
            title = marked_title_of(first)
            file = self._ahead.take(path, title)
        else:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if not marked:
                write_all(file, title, 0)
                os.fsync(file)
            sync_folder(self._folder)
        except BaseException:
            os.close(file)
            with suppress(OSError):
                path.unlink()
            raise
        self._let_go()
        self._file = file
        self._segments.append(first)
        self._end = len(title)
        self._marked = marked
        self._length = os.fstat(file).st_size
        self._tail = b""

    def _rotate(self) -> int:
        if self._file is not None:
            self._check_in_place(self._file, self._length)
            if self._length > self._end:  # a segment that is complete ends with its last record
                os.ftruncate(self._file, self._end)
                os.fsync(self._file)
                self._length = self._end
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
            self._there = str(self._path(self._segments[-1]))
        there = os.stat(self._there)  # noqa: PTH116 - once a batch, and a path object takes longer than the system
        if self._inode != (there.st_dev, there.st_ino):
            raise OSError("the journal's file was moved or replaced")
        if there.st_size != end:
            raise OSError("something else writes to the journal's file")

    def _cut_off(self, file: int) -> None:
        with suppress(OSError):
            os.ftruncate(file, self._end)
            self._length = self._end
        self._let_go()

    def _let_go(self) -> None:
        file, self._file, self._inode = self._file, None, None
        if file is not None:
            with suppress(OSError):
                os.close(file)


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
