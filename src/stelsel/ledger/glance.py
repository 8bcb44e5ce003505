"""A glance at a canonical record: the few members that index, numbers and pruning need, without reading it whole.

Members stand in the order of their names, quotes in JSON strings are escaped, and a record has objects nowhere else
than at its top. So `,"name":` stands in it at most once, and where it stands is known: ids, subject and time, which
differ from record to record, are found by searching for them, and what is left is the same for all records of a kind:
of it everything is looked up.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from stelsel.ledger.record import Record

_PARENT, _SPAN, _SUBJECT = b',"parent_span_id":"', b',"span_id":"', b',"subject":"'
_SEQUENCE, _TIME, _TRACE, _TRANSACTION = b',"subject_sequence":', b',"time":', b',"trace_id":"', b',"transaction_id":"'
_HOUR = 3_600_000
_MAXIMUM_KINDS = 4096


class Kind(NamedTuple):
    """What all records of a kind have in common, as far as it is searched for or counted."""

    relation: tuple[str, str, str, str, str, str]
    """Grant hash, service, consumer, provider, consumer's delegator, provider's delegator."""
    incoming: bool
    logged: bool
    """Whether a transaction log tells of it: a request under an agreement, of which all names are known.

    What was refused without any agreement has no grant hash, which every log record must have (FSC Logging 1.1.0).
    """
    counted: tuple[bytes, bytes]
    """The canonical counted part, before and after the hour."""

    def counted_at(self, time: int) -> bytes:
        """The canonical counted part (`Record.canonical_counted`) of a record of this kind, made at this time (ms)."""
        before, after = self.counted
        return b"%b%d%b" % (before, time // _HOUR, after)


def kind_of(record: Record) -> Kind:
    """The kind of a record."""
    relation = (
        record.grant_hash,
        record.service,
        record.consumer,
        record.provider,
        record.consumer_delegator or "",
        record.provider_delegator or "",
    )
    hour = b',"hour":%d,' % (record.time // _HOUR)
    before, _, after = record.canonical_counted().partition(hour)
    logged = record.event == "request" and all(relation[:4])
    return Kind(relation, record.direction == "incoming", logged, (before + b',"hour":', b"," + after))


class Glance(NamedTuple):
    """What differs from record to record, as far as it is searched for, and the kind."""

    kind: Kind
    time: int
    trace_id: bytes
    transaction_id: bytes
    subject: bytes
    """Empty when it names nobody. Ids and subject: UTF-8, as in the JSON string, without the escapes of JSON."""


class Glances:
    """Glances at records, with a memory for kinds. For one thread."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[bytes, bytes], Kind] = {}

    def at(self, record: bytes) -> Glance:
        """The glance at a canonical record. Raises `ValueError` when it is not one."""
        if b"\\" in record:
            return self._whole(record)
        time = record.rfind(_TIME)
        trace = record.find(_TRACE, time)
        transaction = record.find(_TRANSACTION, trace)
        span = record.rfind(_SPAN, 0, time)
        if min(time, trace, transaction, span) < 0:
            return self._whole(record)
        subject = record.find(_SUBJECT, span, time)
        parent = record.find(_PARENT, 0, span)
        if parent < 0:
            key = (record[:span], b"")
        else:
            key = (record[:parent], record[record.index(b'"', parent + len(_PARENT)) : span])
        kind = self._kinds.get(key) or self._new_kind(key, record)
        return Glance(
            kind,
            int(record[time + len(_TIME) : trace]),
            record[trace + len(_TRACE) : transaction - 1],
            record[transaction + len(_TRANSACTION) : -2],
            b"" if subject < 0 else record[subject + len(_SUBJECT) : record.index(b'"', subject + len(_SUBJECT))],
        )

    def _new_kind(self, key: tuple[bytes, bytes], record: bytes) -> Kind:
        if len(self._kinds) >= _MAXIMUM_KINDS:
            self._kinds.clear()
        kind = self._kinds[key] = kind_of(_read(record))
        return kind

    def _whole(self, data: bytes) -> Glance:
        """Where characters are escaped, or members are missing that every record of an exchange has."""
        record = _read(data)
        texts = (record.trace_id, record.transaction_id, record.subject)
        trace, transaction, subject = (text.encode("utf-8", "surrogatepass") for text in texts)
        return Glance(kind_of(record), record.time, trace, transaction, subject)


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
