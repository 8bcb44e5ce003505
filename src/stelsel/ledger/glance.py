"""A glance at a canonical record: the few members that index, numbers and pruning need, without reading it whole.

Members stand in the order of their names, quotes in JSON strings are escaped, and a record has objects nowhere else
than at its top. So `,"name":` stands in it at most once, and where it stands is known: ids, subject and time, which
differ from record to record, are found by searching for them, and what is left is the same for all records of a kind:
of it everything is looked up.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from stelsel.ledger.record import Record

_PARENT, _SPAN, _SUBJECT = b',"parent_span_id":"', b',"span_id":"', b',"subject":"'
_SEQUENCE, _TIME, _TRACE, _TRANSACTION = b',"subject_sequence":', b',"time":', b',"trace_id":"', b'","transaction_id":"'
_TAIL = struct.Struct("8s13s13s32s20s36s2s")
"""How a record usually ends: time, trace id and transaction id of the length that they should have."""
_SEPARATORS = (_TIME, _TRACE, _TRANSACTION, b'"}')
_HOUR = 3_600_000
_PARENT_SIZE = len(_PARENT) + 16 + 1
"""With a span id of sixteen characters, and the quote after it."""
_MAXIMUM_KINDS, _MAXIMUM_MIDDLES = 4096, 32

Glance = tuple["Kind", int, bytes, bytes, bytes]
"""Kind, time (ms), trace id, transaction id, subject (empty: nobody): UTF-8, without the escapes of JSON."""


class Kind:
    """What all records of a kind have in common, as far as it is searched for or counted."""

    __slots__ = ("_after", "_before", "_counted", "_hour", "incoming", "logged", "relation")

    def __init__(self, record: Record) -> None:
        """The kind of this record."""
        self.relation = (
            record.grant_hash,
            record.service,
            record.consumer,
            record.provider,
            record.consumer_delegator or "",
            record.provider_delegator or "",
        )
        self.incoming = record.direction == "incoming"
        self.logged = record.event == "request" and all(self.relation[:4])
        """Whether a transaction log tells of it: a request under an agreement, of which all names are known.

        What was refused without any agreement has no grant hash, which every log record must have (FSC Logging 1.1.0).
        """
        self._hour, self._counted = record.time // _HOUR, record.canonical_counted()
        self._before, _, self._after = self._counted.partition(b'%d,"processing_activity"' % self._hour)

    def counted_at(self, time: int) -> bytes:
        """The canonical counted part (`Record.canonical_counted`) of a record of this kind, made at this time (ms)."""
        hour = time // _HOUR
        if hour != self._hour:
            self._counted = b'%b%d,"processing_activity"%b' % (self._before, hour, self._after)
            self._hour = hour
        return self._counted


class Glances:
    """Glances at records, with a memory for kinds. For one thread."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, list[tuple[bytes, Kind]]] = {}
        """By what stands before the parent span (or the span, if there is none): what stands from there to the span."""

    def at(self, record: bytes) -> Glance:
        """The glance at a canonical record. Raises `ValueError` when it is not one."""
        end = len(record) - _TAIL.size
        parent = record.find(_PARENT, 0, end)
        if parent < 0:
            parent = after = record.rfind(_SPAN, 0, end)
        else:
            after = parent + _PARENT_SIZE
        if end < 0 or after < 0 or b"\\" in record:
            return self._whole(record)
        before_time, time, before_trace, trace, before_transaction, transaction, last = _TAIL.unpack_from(record, end)
        if (before_time, before_trace, before_transaction, last) != _SEPARATORS:
            return self._whole(record)
        for middle, kind in self._kinds.get(record[:parent], ()):  # noqa: B007 - used after the loop
            if record.startswith(middle, after):
                break
        else:
            span = record.find(_SPAN, after, end)
            if span < 0 or (parent != after and record[after - 1 : after] != b'"'):
                return self._whole(record)
            middle = record[after : span + len(_SPAN)]
            kind = self._new_kind(record[:parent], middle, record)
        start = record.find(_SUBJECT, after + len(middle), end)
        if start < 0:
            return kind, int(time), trace, transaction, b""
        start += len(_SUBJECT)
        return kind, int(time), trace, transaction, record[start : record.index(b'"', start)]

    def _new_kind(self, before: bytes, middle: bytes, record: bytes) -> Kind:
        if len(self._kinds) >= _MAXIMUM_KINDS:
            self._kinds.clear()
        kind = Kind(_read(record))
        kinds = self._kinds.setdefault(before, [])
        del kinds[_MAXIMUM_MIDDLES:]
        kinds.insert(0, (middle, kind))
        return kind

    def _whole(self, data: bytes) -> Glance:
        """Where characters are escaped, or members are missing or longer than those of any real exchange."""
        record = _read(data)
        texts = (record.trace_id, record.transaction_id, record.subject)
        trace, transaction, subject = (text.encode("utf-8", "surrogatepass") for text in texts)
        return Kind(record), record.time, trace, transaction, subject


def time_of(record: bytes) -> int:
    """When a canonical record was made, milliseconds since the epoch."""
    start = record.rfind(_TIME) + len(_TIME)
    end = record.find(b",", start)
    return int(record[start : end if end >= 0 else -1])


def subject_of(record: bytes) -> tuple[str, int]:
    """The subject reference in a canonical record and its number; ("", 0) when it has no number."""
    end = record.rfind(_TIME)
    at = record.rfind(_SEQUENCE, 0, end)
    if at < 0:
        return "", 0
    start = record.rfind(_SUBJECT, 0, at)
    return json.loads(record[start + len(_SUBJECT) - 1 : at]), int(record[at + len(_SEQUENCE) : end])


def counted_of(record: bytes) -> bytes:
    """The canonical counted part (`Record.canonical_counted`) of a canonical record."""
    return _read(record).canonical_counted()


def _read(record: bytes) -> Record:
    value: dict[str, Any] = json.loads(record)
    missing = dict.fromkeys(("span_id", "trace_id", "transaction_id"), "")  # of nothing that really happened
    return Record.from_json(missing | value)
