"""Files of the journal in segments: their names, what is in their folder, writing all of it, and what can be wrong."""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable
from stelsel.ledger.frames import CHUNK, HEADER, LARGEST_PAYLOAD, LENGTHS, Broken

_NEXT_STEP = "make the ledger's folder writable and give it room; recording then goes on by itself"


def torn(file: int, offset: int) -> bool:
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


def write_all(file: int, data: bytes, place: int) -> None:
    """Write all of it there; a full disk may take a part before it refuses."""
    written = os.pwrite(file, data, place)
    while written < len(data):
        written += os.pwrite(file, data[written:], place + written)


def segments_in(folder: Path) -> list[int]:
    """The first indexes of the segments in the folder, in order."""
    names = sorted(path.stem for path in folder.glob("*.segment"))
    if any(len(name) != 20 or not name.isdecimal() for name in names) or (names and int(names[0]) != 0):
        raise LedgerCorrupt(
            f"{folder}: the journal's files are not all there, or there are strange ones",
            next_step="put back the segment files from the backup",
        )
    return [int(name) for name in names]


def make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, mode=0o700)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unavailable(error: OSError) -> LedgerUnavailable:
    return LedgerUnavailable(f"the ledger cannot be used: {error.strerror or error}", next_step=_NEXT_STEP)


def corrupt(path: Path, broken: Broken) -> LedgerCorrupt:
    _damaged(file=path.name, offset=broken.offset, reason=broken.reason)
    return LedgerCorrupt(
        f"{path} is damaged at byte {broken.offset}: {broken.reason}",
        next_step="stop the node and put this file back from the backup; nothing was cut off",
    )


def lost(folder: Path, size: int, known: int) -> LedgerCorrupt:
    _damaged(folder=str(folder), records=size, known=known)
    return LedgerCorrupt(
        f"{folder}: holds {size} records, but it held {known} before",
        next_step="put back the segment files; only if they are lost for good, remove index.sqlite beside them",
    )


def _damaged(**told: object) -> None:
    from stelsel.base.log import logger  # it takes more memory than all of a process that only reads segments

    logger("ledger").error("ledger damaged", **told)
