"""A glance at a canonical record: the few members that index, numbers and pruning need, without reading it whole.

Members stand in the order of their names, quotes in JSON strings are escaped, and a record has objects nowhere else
than at its top. So `,"name":` stands in it at most once, and where it stands is known: ids, subject and time, which
differ from record to record, are found by searching for them, and what is left is the same for all records of a kind:
of it everything is looked up.
"""

from __future__ import annotations

import json
from typing import Any, Final

from stelsel.ledger.record import Record

_PARENT, _SPAN, _SUBJECT = b',"parent_span_id":"', b',"span_id":"', b',"subject":"'
_SEQUENCE, _TIME, _TRACE, _TRANSACTION = b',"subject_sequence":', b',"time":', b',"trace_id":"', b'","transaction_id":"'
_TIME_AT: Final = 8
_TRACE_AT: Final = _TIME_AT + 13 + 13
_TRANSACTION_AT: Final = _TRACE_AT + 32 + 20
_TAIL_SIZE: Final = _TRANSACTION_AT + 36 + 2
"""How a record usually ends: time, trace id and transaction id of the length that they should have."""
_SPAN_SIZE: Final = 16
_QUOTE: Final = 34
_HOUR = 3_600_000
_PARENT_SIZE = len(_PARENT) + _SPAN_SIZE + 1
"""With a span id of sixteen characters, and the quote after it."""
_MAXIMUM_KINDS, _MAXIMUM_MIDDLES = 4096, 32
_LONGEST: Final = 4096
"""Bytes of a record of which is remembered how it begins; who asks chooses how many fields are in it."""

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


class _Form:
    """What stands before the span in all records of a kind, and where."""

    __slots__ = ("after", "before", "begin", "kind", "middle", "span")

    def __init__(self, before: bytes, after: int, middle: bytes, kind: Kind) -> None:
        self.before = before if after == len(before) else before + _PARENT
        self.begin = len(self.before)
        self.after = after
        """Where what stands behind the parent span begins, if there is one."""
        self.middle = middle
        self.span = after + len(middle)
        self.kind = kind


class Glances:
    """Glances at records, with a memory for kinds. For one thread."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, list[tuple[bytes, Kind]]] = {}
        """By what stands before the parent span (or the span, if there is none): what stands from there to the span."""
        self._forms: dict[int, _Form] = {}
        """By the length of a record: how the last one that was so long began, which is looked at first."""
        self._time, self._time_text = 0, b"0"

    def at(self, record: bytes) -> Glance:
        """The glance at a canonical record. Raises `ValueError` when it is not one."""
        size = len(record)
        end = size - _TAIL_SIZE
        if (
            end < 0
            or b"\\" in record
            or record[end : end + _TIME_AT] != _TIME
            or record[end + _TIME_AT + 13 : end + _TRACE_AT] != _TRACE
            or record[end + _TRACE_AT + 32 : end + _TRANSACTION_AT] != _TRANSACTION
            or record[end + _TRANSACTION_AT + 36 :] != b'"}'
        ):
            return self._whole(record)
        form = self._forms.get(size)
        if form is None or record[: form.begin] != form.before or record[form.after : form.span] != form.middle:
            form = self._form(record, end)
            if form is None:
                return self._whole(record)
            if size <= _LONGEST:
                if len(self._forms) >= _MAXIMUM_KINDS:
                    self._forms.clear()
                self._forms[size] = form
        time = record[end + _TIME_AT : end + _TIME_AT + 13]
        if time != self._time_text:
            self._time, self._time_text = int(time), time
        trace = record[end + _TRACE_AT : end + _TRACE_AT + 32]
        transaction = record[end + _TRANSACTION_AT : end + _TRANSACTION_AT + 36]
        span = form.span
        if end - span == _SPAN_SIZE + 1 and b'"' not in record[span : end - 1]:
            return form.kind, self._time, trace, transaction, b""
        start = record.find(_SUBJECT, span, end)
        if start < 0:
            return form.kind, self._time, trace, transaction, b""
        start += len(_SUBJECT)
        return form.kind, self._time, trace, transaction, record[start : record.index(b'"', start)]

    def _form(self, record: bytes, end: int) -> _Form | None:
        """How this record begins, which ends at `end` as it should; None when not as others do."""
        parent = record.find(_PARENT, 0, end)
        if parent < 0:
            parent = after = record.rfind(_SPAN, 0, end)
        else:
            after = parent + _PARENT_SIZE
        if after < 0:
            return None
        before = record[:parent]
        for middle, kind in self._kinds.get(before, ()):
            if record.startswith(middle, after):
                return _Form(before, after, middle, kind)
        span = record.find(_SPAN, after, end)
        if span < 0 or (parent != after and record[after - 1] != _QUOTE):
            return None
        middle = record[after : span + len(_SPAN)]
        return _Form(before, after, middle, self._new_kind(before, middle, record))

    def _new_kind(self, before: bytes, middle: bytes, record: bytes) -> Kind:
        kind = Kind(_read(record))
        if len(record) > _LONGEST:
            return kind
        if len(self._kinds) >= _MAXIMUM_KINDS:
            self._kinds.clear()
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
