"""What becomes durable together: parcels of records, each record in its frame already (see `frames`). Pure.

Frames are made where records are offered, by the thread or the process that offers them. Whoever writes only puts them
one after the other, and gives a number to each that is about a resident; a record about nobody costs it nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

from stelsel.ledger.frames import HEADER, LENGTHS, RECORD, RECORD_AT, Broken, end_of, frame
from stelsel.ledger.record import numbered

Item = tuple[bytes, bytes, str]
"""What is to be recorded: the nonce, the canonical record, and the subject reference that is in it, or ""."""
Named = tuple[int, str]
"""A record about a resident: where its frame begins among the frames of its parcel, and the subject reference."""


class Parcel:
    """Records that are offered together, so that they come to stand in a row, or none does."""

    def __init__(self, frames: bytes, count: int, named: Sequence[Named]) -> None:
        """The frames of `count` records one after the other, and in their order those about a resident."""
        self.frames = frames
        self.count = count
        self.named = named


def parcel_of(items: Iterable[Item]) -> Parcel:
    """A parcel of these records."""
    frames: list[bytes] = []
    named: list[Named] = []
    size = 0
    for nonce, record, subject in items:
        if subject:
            named.append((size, subject))
        made = frame(nonce, record)
        frames.append(made)
        size += len(made)
    return Parcel(b"".join(frames), len(frames), named)


def checked(frames: bytes, named: Sequence[Named], largest: int) -> Parcel:
    """The parcel with these frames, as another process made them: whole, of records, none over `largest` bytes.

    Raises `Broken` when they are anything else, or a place in `named` is not that of a frame.
    """
    at, count, step, size = 0, 0, 0, len(frames)
    while at < size:
        if size - at < HEADER.size + RECORD_AT:
            raise Broken(at, "the last frame is not whole")
        length, check, header = HEADER.unpack_from(frames, at)
        begin = at + HEADER.size
        end = begin + length
        if end > size or not RECORD_AT < length <= RECORD_AT + largest or frames[begin : begin + 1] != RECORD:
            raise Broken(at, "this is not the frame of a record")
        if crc32(frames[at : at + LENGTHS.size]) != header or crc32(frames[begin:end]) != check:
            raise Broken(at, "the frame is damaged")
        if step < len(named) and named[step][0] == at:
            step += 1
        at = end
        count += 1
    if step < len(named):
        raise Broken(named[step][0], "there is no frame here")
    return Parcel(frames, count, named)


class Batch:
    """Parcels that are written and synced at once. Goes through its records as items."""

    def __init__(self, parcels: Sequence[Parcel]) -> None:
        self._parcels = parcels
        count = 0
        named = False
        for parcel in parcels:
            count += parcel.count
            if parcel.named:
                named = True
        self._count = count
        self.named = named
        """Whether any of it is about a resident."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        for parcel in self._parcels:
            about = dict(parcel.named)
            at = 0
            while at < len(parcel.frames):
                end = end_of(parcel.frames, at)
                record = at + HEADER.size + RECORD_AT
                yield parcel.frames[at + HEADER.size + 1 : record], parcel.frames[record:end], about.get(at, "")
                at = end

    def subjects(self) -> list[str]:
        """The subject references in it, in the order of its records."""
        return [subject for parcel in self._parcels for _, subject in parcel.named]

    def data(self, numbers: Sequence[int] = ()) -> bytes:
        """The frames of all, with the numbers of those about a resident in them, which follow `subjects`.

        Raises `ValueError` when what should be about a resident is not a record.
        """
        parts: list[bytes] = []
        step = 0
        for parcel in self._parcels:
            frames, begin = parcel.frames, 0
            for at, _ in parcel.named:
                parts.append(frames[begin:at])
                begin = end_of(frames, at)
                record = at + HEADER.size + RECORD_AT
                nonce = frames[at + HEADER.size + 1 : record]
                parts.append(frame(nonce, numbered(frames[record:begin], numbers[step])))
                step += 1
            parts.append(frames[begin:] if begin else frames)
        return b"".join(parts)
