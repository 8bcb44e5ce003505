"""Erasing records from a segment file: it is written anew without them, and takes the place of the old one.

At every moment the file at the segment's path is whole: the old one, or the new one. In this order, so that a crash
anywhere leaves nothing worse than a draft that is written over: the last numbers of residents of whom no record will
be left go to disk (`carried`); the new file goes to disk; it takes the old one's place; the folder goes to disk. The
system frees the old file's blocks when the last reader has closed it; what the disk itself does with them is a matter
of encrypting the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from stelsel.ledger.carried import Carried
from stelsel.ledger.frames import (
    RECORD,
    Broken,
    erased,
    framed,
    generation_of,
    known_payload,
    read_frames,
    title_of,
)
from stelsel.ledger.glance import subject_of, time_of
from stelsel.ledger.numbers import Key, Numbers, key_of

_BUFFER = 1 << 20
_SLICE, _PAUSE = 64, 0.0005
"""Records between two pauses, in seconds: erasing is never urgent, answering always is."""


def prune_segment(path: Path, first: int, count: int, before_ms: int, numbers: Numbers, carried: Carried) -> int:
    """Erase the records made before `before_ms` from the segment at `path`, which holds `count` and is closed.

    Gives how many were erased; when none were, the file is left as it is. Raises `OSError` and `Broken`.
    """
    draft = path.with_name(path.name + ".new")
    with path.open("rb", buffering=0) as file:
        generation, offset = generation_of(file.fileno(), first)
        due = 0
        last: dict[Key, int] = {}
        for payload in _payloads(file.fileno(), offset, count):
            if _is_due(payload, before_ms):
                due += 1
                subject, number = subject_of(payload)
                if number:
                    last[key_of(subject)] = number
        if not due:
            return 0
        carried.keep((key, number) for key, number in last.items() if number >= numbers.last(key))
        _write(draft, title_of(first, generation + 1), _payloads(file.fileno(), offset, count), before_ms)
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return due


def _write(draft: Path, title: bytes, payloads: Iterator[bytes], before_ms: int) -> None:
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb", buffering=_BUFFER) as output:
        output.write(title)
        for payload in payloads:
            output.write(framed(erased(payload) if _is_due(payload, before_ms) else payload))
        output.flush()
        os.fsync(output.fileno())


def _is_due(payload: bytes, before_ms: int) -> bool:
    return payload[:1] == RECORD and time_of(payload) < before_ms


def _payloads(file: int, offset: int, count: int) -> Iterator[bytes]:
    found = 0
    for place, payload in read_frames(file, offset):
        if found % _SLICE == 0:
            time.sleep(_PAUSE)
        if not known_payload(payload):
            raise Broken(place, "a frame of a kind that this version does not know")
        if found == count:
            return
        found += 1
        yield payload
    if found < count:
        raise Broken(offset, f"it holds {found} records of {count}")
