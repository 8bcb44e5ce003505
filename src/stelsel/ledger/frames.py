"""Frames: how a segment file of the journal holds records, byte by byte (see `journal`). Reading and making, no policy.

A payload is a kind (1 byte) and what belongs to it:

    R   a record: nonce (16 bytes), the record's canonical JSON
    P   what is left of a record that was erased: seal (32 bytes), the canonical counted part
    B   no record but the beginning of a batch, in a segment that was made beforehand: index of its first record (u64)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from zlib import crc32

from stelsel.ledger.commitment import HASH_SIZE, NONCE_SIZE, sealed
from stelsel.ledger.glance import counted_of

HEADER = struct.Struct("<III")
LENGTHS = struct.Struct("<II")
_CHECK = struct.Struct("<I")
RECORD, ERASED, MARK = b"R", b"P", b"B"
RECORD_AT, COUNTED_AT = 1 + NONCE_SIZE, 1 + HASH_SIZE
CHUNK = 1 << 18
LARGEST_PAYLOAD = 1 << 24
_LONGEST_TITLE = 64
_INDEX = struct.Struct("<Q")
MARK_SIZE = HEADER.size + len(MARK) + _INDEX.size
_MARK_LENGTH = struct.pack("<I", MARK_SIZE - HEADER.size)


class Broken(Exception):
    """A frame cannot be read; where, and why."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def title_of(first: int, generation: int = 0) -> bytes:
    """The first line of the segment that begins with this record, rewritten so many times."""
    rewritten = f" rewritten {generation}" if generation else ""
    return f"stelsel journal 1 {first:020d}{rewritten}\n".encode("ascii")


def marked_title_of(first: int) -> bytes:
    """The first line of a segment in which every batch begins with a mark; as long as that of any other."""
    return f"stelsel journal 2 {first:020d}\n".encode("ascii")


def generation_of(file: int, first: int) -> tuple[int, int]:
    """How often this segment was rewritten, and where its frames begin. Raises `Broken`."""
    line, newline, _ = os.pread(file, _LONGEST_TITLE, 0).partition(b"\n")
    if line + newline == marked_title_of(first):
        return 0, len(line) + 1
    number = line.removeprefix(title_of(first)[:-1]).removeprefix(b" rewritten ") or b"0"
    if newline and number.isdigit() and line + newline == title_of(first, int(number)):
        return int(number), len(line) + 1
    raise Broken(0, "it does not start with its own name")


def frame(nonce: bytes, record: bytes) -> bytes:
    """The frame of a record."""
    return framed(RECORD + nonce + record)


def framed(payload: bytes) -> bytes:
    """The frame with this payload."""
    lengths = LENGTHS.pack(len(payload), crc32(payload))
    return lengths + _CHECK.pack(crc32(lengths)) + payload


def erased(payload: bytes) -> bytes:
    """The payload of a record without the record: its seal and its counted part."""
    record = payload[RECORD_AT:]
    return ERASED + sealed(payload[1:RECORD_AT], record) + counted_of(record)


def mark(first: int) -> bytes:
    """The mark at the beginning of the batch whose first record has this index."""
    return framed(MARK + _INDEX.pack(first))


def marked_behind(file: int, offset: int, index: int) -> bool:
    """Whether a batch that begins after the record `index` stands anywhere behind `offset`."""
    rest = b""
    while chunk := os.pread(file, CHUNK, offset):
        offset += len(chunk)
        rest += chunk
        at = rest.find(_MARK_LENGTH)
        while at >= 0 and len(rest) - at >= MARK_SIZE:
            found = rest[at : at + MARK_SIZE]
            first = _INDEX.unpack_from(found, HEADER.size + len(MARK))[0]
            if found == mark(first) and first > index:
                return True
            at = rest.find(_MARK_LENGTH, at + 1)
        rest = rest[-MARK_SIZE:]
    return False


def end_of(data: bytes, at: int) -> int:
    """Where the frame ends that begins at `at` in these whole frames."""
    return at + HEADER.size + int.from_bytes(data[at : at + 4], "little")


def payloads_in(data: bytes, place: int, skipped: int, most: int) -> tuple[list[int], list[bytes]]:
    """Offsets and payloads of the whole frames in `data`, which stands at `place`: at most `most`, after `skipped`."""
    offsets: list[int] = []
    payloads: list[bytes] = []
    at, size = 0, len(data)
    while at < size and len(payloads) < most:
        end = end_of(data, at)
        if skipped > 0:
            skipped -= 1
        else:
            offsets.append(place + at)
            payloads.append(data[at + HEADER.size : end])
        at = end
    return offsets, payloads


def known_payload(payload: bytes) -> bool:
    """Whether this version knows this kind of payload."""
    kind = payload[:1]
    return (kind == RECORD and len(payload) >= RECORD_AT) or (kind == ERASED and len(payload) > COUNTED_AT)


class Frames:
    """Goes through the frames of a file, from `offset` to its end, `chunk` bytes at a time."""

    def __init__(self, file: int, offset: int, chunk: int = CHUNK) -> None:
        self._file = file
        self._chunk = chunk
        self._buffer = b""
        self._offset = offset
        """Where in the file the buffer begins."""
        self._at = 0
        self.place = offset
        """Where the frame begins whose payload was given last."""

    def next(self) -> bytes | None:
        """The payload of the next frame but marks; None at the end of the file. Raises `Broken`."""
        while True:
            at = self._at
            if len(self._buffer) - at < HEADER.size:
                self._read_on(self._chunk)
                at = 0
                if not self._buffer:
                    return None
                if len(self._buffer) < HEADER.size:
                    raise Broken(self._offset, "the last frame is not whole")
            length, check, header = HEADER.unpack_from(self._buffer, at)
            if crc32(self._buffer[at : at + LENGTHS.size]) != header or length > LARGEST_PAYLOAD:
                raise Broken(self._offset + at, "a frame's header is damaged")
            end = at + HEADER.size + length
            if len(self._buffer) < end:
                self._read_on(max(self._chunk, end - len(self._buffer)))
                at, end = 0, HEADER.size + length
                if len(self._buffer) < end:
                    raise Broken(self._offset, "the last frame is not whole")
            payload = self._buffer[at + HEADER.size : end]
            place = self._offset + at
            if crc32(payload) != check:
                raise Broken(place, "a frame's payload is damaged")
            self._at = end
            if payload[:1] != MARK:
                self.place = place
                return payload

    def take(self, most: int) -> tuple[list[int], list[bytes]]:
        """Offsets and payloads of the next frames but marks, as `next` gives them: fewer only at the end of the file.

        Raises `Broken`, also when a payload is of a kind that this version does not know.
        """
        offsets: list[int] = []
        payloads: list[bytes] = []
        while len(payloads) < most:
            payload = self.next()
            if payload is None:
                break
            if not known_payload(payload):
                raise Broken(self.place, "a frame of a kind that this version does not know")
            offsets.append(self.place)
            payloads.append(payload)
        return offsets, payloads

    def _read_on(self, wanted: int) -> None:
        """Drop what was gone through, and read so many bytes more."""
        rest = self._buffer[self._at :]
        self._offset += self._at
        self._buffer = rest + os.pread(self._file, wanted, self._offset + len(rest))
        self._at = 0


def read_frames(file: int, offset: int) -> Iterator[tuple[int, bytes]]:
    """(offset, payload) of every frame but marks, from `offset` to the end of the file. Raises `Broken`."""
    frames = Frames(file, offset)
    while (payload := frames.next()) is not None:
        yield frames.place, payload
