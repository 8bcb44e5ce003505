"""Numbers of records about residents: how many there are of each, so that the next gets the next number.

`Numbers` is a hash table in a file that is mapped into memory, beside the segments of the journal. The writer thread
asks it and tells it, some microseconds a record, however many residents there are; the pages that are in use stay in
memory, the system takes back the rest. A slot holds 12 bytes of the SHA-256 of a subject reference and the last number:

    key    u64, u32   the first twelve bytes
    last   u32        the last number given; 0: the slot is empty

**It can always be made anew**, from the journal, in which the numbers are (see `SegmentJournal`). A number is told only
when its record is durable, and never gets lower, so telling it again does no harm. What a process wrote that was killed
is in the system's memory and still there for the next; `covered` says how many records it knows of. Only when the
machine was started anew since, that is worth nothing, and `flushed` says how many records are surely on the disk. A
copy of the file may be torn, so it is not used: the file knows its own inode.

It grows by a second table of twice the size into which the first is emptied bit by bit, so that nobody waits for it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_SLOT = struct.Struct("<QII")
_LAST = struct.Struct("<I")
_KEY = struct.Struct("<QI")
_HEADER = struct.Struct("<16sQQQ16sQQQ")
_COUNTS = struct.Struct("<QQQ")
_COUNTS_AT = _HEADER.size - _COUNTS.size
_MAGIC = b"stelsel numbers1"
_PAGE = 4096
_FIRST_SLOTS = 1 << 14
_USUAL, _UTMOST = 0.6, 0.95
"""The part of a table that is filled before a larger one takes its place, and when there is no room for that."""
_MOVED = 32
"""Slots that are emptied into the larger table whenever a number is told, while it grows."""

Key = tuple[int, int]


def key_of(subject: str) -> Key:
    """What stands for a subject reference: twelve bytes of its hash, of which two never fall together by chance."""
    first, second = _KEY.unpack_from(hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest())
    return first, second


class Numbers:
    """Last numbers by subject, in the file at `path`. One thread tells; any may ask. Raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._grown = path.with_name(path.name + ".grown")
        table = _Table.open(path)
        larger = _Table.open(self._grown) if table is not None else None
        if table is None:
            with suppress(FileNotFoundError):
                self._grown.unlink()
            table = _Table.make(path, _FIRST_SLOTS)
        if larger is not None:
            larger.count()
        self._table, self._larger, self._moved = table, larger, 0

    @property
    def covered(self) -> int:
        """Of so many records of the journal it knows the numbers."""
        return self._table.covered

    def cover(self, size: int) -> None:
        """It was told the numbers of the first `size` records."""
        self._table.set_covered(size)

    def roomy(self, more: int) -> bool:
        """Whether so many can be told without making room, so without waiting for the disk."""
        return self._larger is None and self._table.has_room(more, _USUAL)

    def give(self, subjects: Sequence[str]) -> tuple[list[int], dict[Key, int]]:
        """The numbers of records about these, and the last ones so given: `tell` them when the records are durable.

        Raises `OSError` when there is no room to tell them: then nothing may be made durable.
        """
        self.make_room(len(subjects))
        given: dict[Key, int] = {}
        numbers = []
        for subject in subjects:
            key = key_of(subject)
            number = given[key] = (given.get(key) or self.last(key)) + 1
            numbers.append(number)
        return numbers, given

    def last(self, key: Key) -> int:
        """The last number of this subject; 0 when there is none."""
        larger = self._larger
        found = larger.last(key) if larger is not None else 0
        return found or self._table.last(key)

    def tell(self, key: Key, number: int) -> None:
        """This number is durable. A lower one than is known changes nothing. Needs room (`give`, `make_room`)."""
        larger = self._larger
        if larger is not None:
            if number > self._table.last(key):
                larger.tell(key, number)
            self._move(larger)
            return
        self._table.tell(key, number)

    def forget(self) -> None:
        """Begin anew."""
        with suppress(FileNotFoundError):
            self._grown.unlink()
        self._table, self._larger = _Table.make(self._path, _FIRST_SLOTS), None

    def flush(self) -> None:
        """Bring to disk what it knows now. May take long; any thread may do it."""
        covered = self._table.covered
        table = self._table
        for path in (self._grown, self._path):  # in this order: the first may just now take the place of the second
            _sync(path)
        table.set_flushed(covered)

    def close(self) -> None:
        """Bring it to disk, with the word that it is there, and let go of the file."""
        with suppress(OSError):  # a disk that fails now costs a replay of the journal at the next start
            self.flush()
            _sync(self._path)
        for table in (self._table, self._larger):
            if table is not None:
                table.close()

    def make_room(self, more: int) -> None:
        """See to it that so many can be told: in a table that is filled a search never ends. Raises `OSError`."""
        while self._larger is not None and not self._larger.has_room(self._table.used + more, _UTMOST):
            self._move(self._larger)  # as long as it takes, which is only when a batch is larger than the table
        table = self._table
        if self._larger is not None or table.has_room(more, _USUAL):
            return
        slots = 2 * table.slots
        while table.used + more > slots * _USUAL:
            slots *= 2
        try:
            self._larger, self._moved = _Table.make(self._grown, slots), 0
        except OSError:
            if not table.has_room(more, _UTMOST):
                raise  # else it will do until the disk has room again

    def _move(self, larger: _Table) -> None:
        stop = min(self._moved + _MOVED, self._table.slots)
        for first, second, number in self._table.between(self._moved, stop):
            larger.tell((first, second), number)
        self._moved = stop
        if stop == self._table.slots:
            larger.set_covered(self._table.covered)  # and nothing of it is surely on disk until the next `flush`
            self._grown.replace(self._path)
            self._table, self._larger = larger, None  # who asks the old one now still gets an answer


class _Table:
    """One file: a page of header, then slots; a key is looked for from its own slot on until an empty one."""

    def __init__(self, file: int, slots: int) -> None:
        self._map = mmap.mmap(file, _PAGE + slots * _SLOT.size)
        self.slots = slots
        self._mask, self.used = slots - 1, 0

    @classmethod
    def make(cls, path: Path, slots: int) -> _Table:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, _PAGE + slots * _SLOT.size)  # a full disk tells now, not when memory is used
            table = cls(file, slots)
            table._sign(file, 0, 0)
        finally:
            os.close(file)
        return table

    @classmethod
    def open(cls, path: Path) -> _Table | None:
        """The table at this path; None when there is none that can be trusted."""
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            status, header = os.fstat(file), os.pread(file, _HEADER.size, 0)
            if len(header) < _HEADER.size:
                return None
            magic, slots, inode, device, boot, covered, flushed, used = _HEADER.unpack(header)
            if magic != _MAGIC or slots < 2 or slots & (slots - 1) or status.st_size != _PAGE + slots * _SLOT.size:
                return None
            if (inode, device) != (status.st_ino, status.st_dev):
                return None
            table = cls(file, slots)
            table.used = used
            if boot != _boot():
                table.count()
                table._sign(file, min(covered, flushed), flushed)
            return table
        finally:
            os.close(file)

    @property
    def covered(self) -> int:
        return int(_COUNTS.unpack_from(self._map, _COUNTS_AT)[0])

    @property
    def flushed(self) -> int:
        return int(_COUNTS.unpack_from(self._map, _COUNTS_AT)[1])

    def has_room(self, more: int, part: float) -> bool:
        """Whether no more than this part of it is filled with so many more."""
        return self.used + more <= self.slots * part

    def set_covered(self, size: int) -> None:
        _COUNTS.pack_into(self._map, _COUNTS_AT, size, self.flushed, self.used)

    def set_flushed(self, size: int) -> None:
        _COUNTS.pack_into(self._map, _COUNTS_AT, self.covered, size, self.used)

    def last(self, key: Key) -> int:
        return self._find(key)[1]

    def tell(self, key: Key, number: int) -> None:
        place, last = self._find(key)
        if last:
            if number > last:
                _LAST.pack_into(self._map, place + _KEY.size, number)
        else:
            _SLOT.pack_into(self._map, place, *key, number)
            self.used += 1

    def between(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """The slots start..stop-1 that are not empty."""
        data = self._map[_PAGE + start * _SLOT.size : _PAGE + stop * _SLOT.size]
        return [slot for slot in _SLOT.iter_unpack(data) if slot[2]]

    def count(self) -> None:
        """Look how many slots are in use."""
        self.used = sum(len(self.between(at, min(at + _PAGE, self.slots))) for at in range(0, self.slots, _PAGE))

    def close(self) -> None:
        self._map.close()

    def _sign(self, file: int, covered: int, flushed: int) -> None:
        status = os.fstat(file)
        own = (self.slots, status.st_ino, status.st_dev, _boot())
        _HEADER.pack_into(self._map, 0, _MAGIC, *own, covered, flushed, self.used)

    def _find(self, key: Key) -> tuple[int, int]:
        """(place, last number) of the slot of this key, or of the empty one where it would be."""
        wanted, second = key
        at = wanted & self._mask
        while True:
            place = _PAGE + at * _SLOT.size
            first, rest, last = _SLOT.unpack_from(self._map, place)
            if not last or (first == wanted and rest == second):
                return place, last
            at = (at + 1) & self._mask


def _sync(path: Path) -> None:
    """Bring to disk what was written to the mapped file; unlike `msync`, with the interpreter free meanwhile."""
    with suppress(FileNotFoundError):
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _boot() -> bytes:
    """Which start of the machine this is; on a system that does not tell, no two are the same."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return os.urandom(16)
