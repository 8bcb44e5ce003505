"""Blocks and runs: how the index keeps millions of records small, and cheap to add to. Pure: bytes in, bytes out.

A *block* holds what is searched for of `BLOCK` records that follow each other, a column for each member. A *run* holds
the keys of `RUN` records, in `BUCKETS` buckets by their first byte, so that a key is looked for in one small piece of
every run.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

BLOCK: Final = 1024
"""Records in a block."""
RUN: Final = 32
"""Blocks in a run."""
BUCKETS: Final = 256
INCOMING, LOGGED, NAMED, ERASED = 1, 2, 4, 8
"""Flags of a record: its direction; whether a transaction log tells of it; whether it names a resident; whether it was
erased, and then nothing else of it is true."""
TRANSACTION_SIZE: Final = 16
_KEY_SIZE, _STEP_SIZE = 8, 2


class Block:
    """What is searched for of some records that follow each other, the first of which is `number * BLOCK`."""

    __slots__ = ("flags", "number", "places", "relations", "subjects", "times", "traces", "transactions")

    def __init__(self, number: int, columns: Sequence[bytes] = (b"",) * 7) -> None:
        """With the columns that `columns` gave."""
        self.number = number
        self.relations = array("I", columns[0])
        self.flags = bytearray(columns[1])
        self.times = array("Q", columns[2])
        self.places = array("Q", columns[3])
        self.subjects = array("Q", columns[4])
        self.traces = array("Q", columns[5])
        self.transactions = bytearray(columns[6])

    def __len__(self) -> int:
        return len(self.flags)

    def columns(self) -> tuple[bytes, ...]:
        """The columns as bytes."""
        arrays = (self.times, self.places, self.subjects, self.traces)
        return (
            self.relations.tobytes(),
            bytes(self.flags),
            *(column.tobytes() for column in arrays),
            bytes(self.transactions),
        )

    def moments(self) -> tuple[int, int] | None:
        """The earliest and the latest moment; None when all was erased."""
        if ERASED not in self.flags:
            return min(self.times), max(self.times)
        kept = [time for time, flags in zip(self.times, self.flags, strict=True) if flags != ERASED]
        return (min(kept), max(kept)) if kept else None

    def transaction(self, step: int) -> bytes:
        """The key of the transaction of a record in it."""
        return bytes(self.transactions[step * TRANSACTION_SIZE : (step + 1) * TRANSACTION_SIZE])

    def erase(self, step: int) -> None:
        """Forget this record."""
        self.flags[step] = ERASED
        self.relations[step] = self.times[step] = self.subjects[step] = self.traces[step] = 0
        self.transactions[step * TRANSACTION_SIZE : (step + 1) * TRANSACTION_SIZE] = bytes(TRANSACTION_SIZE)


def buckets(keys: Sequence[int], steps: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """The buckets of a run: (bucket, bytes) for those that are not empty, of those of its keys that are at `steps`."""
    found: list[list[int]] = [[] for _ in range(BUCKETS)]
    for step in steps:
        found[keys[step] >> 56].append(step)
    for number, some in enumerate(found):
        if some:
            yield number, bucket([(keys[step], step) for step in some])


def bucket(pairs: Sequence[tuple[int, int]]) -> bytes:
    """The bytes of a bucket with these (key, step in the run)."""
    return array("Q", [key for key, _ in pairs]).tobytes() + array("H", [step for _, step in pairs]).tobytes()


def pairs_in(data: bytes) -> list[tuple[int, int]]:
    """The (key, step in the run) of a bucket."""
    count = len(data) // (_KEY_SIZE + _STEP_SIZE)
    keys, steps = array("Q", data[: count * _KEY_SIZE]), array("H", data[count * _KEY_SIZE :])
    return list(zip(keys, steps, strict=True))


def steps_of(key: bytes, data: bytes) -> list[int]:
    """Where in the run the records with this key (8 bytes, as `key_bytes` gives them) are, rising."""
    count = len(data) // (_KEY_SIZE + _STEP_SIZE)
    found = places_of(key, data[: count * _KEY_SIZE])
    if not found:
        return []
    steps = array("H", data[count * _KEY_SIZE :])
    return [steps[place] for place in found]


def places_of(key: bytes, keys: bytes) -> list[int]:
    """Where among keys of eight bytes each this one stands."""
    found = []
    at = keys.find(key)
    while at >= 0:
        if at % _KEY_SIZE == 0:
            found.append(at // _KEY_SIZE)
            at += _KEY_SIZE - 1
        at = keys.find(key, at + 1)
    return found


def key_bytes(key: int) -> bytes:
    """A key as it stands in columns and buckets."""
    return array("Q", [key]).tobytes()
