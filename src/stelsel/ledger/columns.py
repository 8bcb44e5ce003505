"""What the index keeps of records, a column for each member, and their leaves of the tree. Pure: bytes in, columns out.

Every record goes through here once: it can be compiled, and what can be done for many at once is done so.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from binascii import a2b_hex
from collections.abc import Callable, Sequence
from typing import Final

from stelsel.ledger.blocks import ERASED, INCOMING, LOGGED, NAMED, TRANSACTION_SIZE
from stelsel.ledger.frames import COUNTED_AT, RECORD_AT
from stelsel.ledger.glance import Glances, Kind

_sha256 = hashlib.sha256
_KEY = struct.Struct("=Q")
_UUID_SIZE, _TRACE_SIZE = 36, 16
_NO_TRACE, _NO_TRANSACTION = b"0" * 32, b"00000000-0000-0000-0000-000000000000"
_RECORD: Final = 82
"""The first byte of the payload of a record (`frames.RECORD`)."""


def transaction_key(text: bytes) -> bytes:
    """What stands for a transaction id: the sixteen bytes of the UUID, or of a hash. No two UUIDs fall together."""
    try:
        key = a2b_hex(text.replace(b"-", b""))
    except ValueError:
        key = b""
    return key if len(key) == TRANSACTION_SIZE else _sha256(text).digest()[:TRANSACTION_SIZE]


def trace_key(text: bytes) -> int:
    """What stands for a trace id: the half of it that is surely random, or a hash. Two may fall together."""
    try:
        key = a2b_hex(text)
    except ValueError:
        key = b""
    return int(_KEY.unpack_from(key if len(key) == _TRACE_SIZE else _sha256(text).digest(), 8)[0])


def subject_key(text: bytes) -> int:
    """What stands for a subject reference. Two may fall together, by a chance of one in billions."""
    return int(_KEY.unpack_from(_sha256(text).digest())[0])


def entry_of(index: int, flags: int) -> int:
    """How a record stands among those of its transaction: its place, direction, and whether it is logged."""
    return index << 2 | flags & (INCOMING | LOGGED)


class Columns:
    """The columns of some records that follow each other."""

    def __init__(
        self,
        first: int,
        payloads: Sequence[bytes],
        glances: Glances,
        codes: dict[Kind, tuple[int, int]],
        new_code: Callable[[Kind], tuple[int, int]],
    ) -> None:
        """Of the payloads of the records from `first` on; see `journal.Piece`.

        `codes` has the number of the relation and the flags of kinds of records, `new_code` gives and adds others.
        """
        self.leaves: list[bytes] = []
        """Their hashes in the tree."""
        self.relations: list[int] = []
        self.flags: list[int] = []
        self.times: list[int] = []
        self.subjects: list[int] = []
        self._traces: list[bytes] = []
        self._transactions: list[bytes] = []
        self._entries: list[int] = []
        leaves, entries, times = self.leaves, self._entries, self.times
        relations, flags, subjects = self.relations, self.flags, self.subjects
        traces, transactions = self._traces, self._transactions
        sha256 = _sha256
        held: Kind | None = None
        relation = common = 0
        index = first
        for payload in payloads:
            if payload[0] == _RECORD:
                kind, time, trace, transaction, subject = glances.at(payload[RECORD_AT:])
                seal = sha256(payload[1:]).digest()
                leaves.append(sha256(b"\0" + sha256(kind.counted_at(time) + seal).digest()).digest())
                if kind is not held:
                    relation, common = codes.get(kind) or new_code(kind)
                    held = kind
                relations.append(relation)
                times.append(time)
                traces.append(trace)
                transactions.append(transaction)
                entries.append(index << 2 | common)
                if subject:
                    flags.append(common | NAMED)
                    subjects.append(subject_key(subject))
                else:
                    flags.append(common)
                    subjects.append(0)
            else:  # erased: nothing is searched for any more
                leaves.append(sha256(b"\0" + sha256(payload[COUNTED_AT:] + payload[1:COUNTED_AT]).digest()).digest())
                relations.append(0)
                times.append(0)
                subjects.append(0)
                traces.append(_NO_TRACE)
                transactions.append(_NO_TRANSACTION)
                entries.append(-1)
                flags.append(ERASED)
            index += 1

    def trace_keys(self) -> bytes:
        """The keys of traces, as they stand in a column; regular ones all at once."""
        texts = self._traces
        try:
            ids = a2b_hex(b"".join(texts))
            if len(ids) == len(texts) * _TRACE_SIZE and all(len(text) == 2 * _TRACE_SIZE for text in texts):
                return array("Q", ids)[1::2].tobytes()
        except ValueError:
            pass
        return array("Q", [trace_key(text) for text in texts]).tobytes()

    def transaction_keys(self) -> bytes:
        """The keys of transactions, one after the other; UUIDs all at once."""
        texts = self._transactions
        try:
            keys = a2b_hex(b"".join(texts).replace(b"-", b""))
            if len(keys) == len(texts) * TRANSACTION_SIZE and all(len(text) == _UUID_SIZE for text in texts):
                return keys
        except ValueError:
            pass
        return b"".join([transaction_key(text) for text in texts])

    def transaction_rows(self, keys: bytes) -> list[bytes | int]:
        """Key of the transaction, `entry_of`, and so on, of all records that were not erased; `keys` are all keys."""
        values: list[bytes | int] = []
        at = 0
        for entry in self._entries:
            if entry >= 0:
                values.append(keys[at : at + TRANSACTION_SIZE])
                values.append(entry)
            at += TRANSACTION_SIZE
        return values
