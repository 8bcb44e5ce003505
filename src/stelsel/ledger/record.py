"""A record: what the ledger keeps of an exchange.

One record holds what three Dutch logs ask for, under one trace id: the FSC transaction (Logging 1.1.0), the decision
(Authorization Decision Log) and the processing (Logboek Dataverwerkingen). No data of the register is ever in it, and
a resident is known only by a subject reference.

**At most one resident a record** (Logboek Dataverwerkingen; more become child spans), so that a receipt, which shows a
whole record, tells nobody about anyone else. A request about exactly one resident names that one itself. Of an
exchange about several, the request names nobody and each of them has a record of its own under it.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal, NamedTuple

from stelsel.base.errors import BadRequest

Direction = Literal["incoming", "outgoing"]
Event = Literal["request", "response"]


class Record(NamedTuple):
    """One step of one exchange, as one peer saw it.

    A `request` is recorded before it is forwarded, once. Whatever else is recorded of the exchange is a `response`: it
    has a span of its own with the span of the request as its parent, and it is durable before the answer is released.
    It says about whom else the exchange is (one resident each), or that it had to be refused after all.
    """

    transaction_id: str
    """UUIDv7, the same at both peers (FSC Logging 3.4.1.1)."""
    trace_id: str
    span_id: str
    parent_span_id: str | None
    time: int
    """Milliseconds since the epoch."""
    direction: Direction
    event: Event
    grant_hash: str
    """Empty when the request came without any agreement."""
    consumer: str
    provider: str
    service: str
    allowed: bool
    reason: str
    """Why it was decided so, one of `stelsel.privacy.decision.REASONS` or an FSC error code."""
    fields: tuple[str, ...] = ()
    search_parameters: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    """The names that were asked but not agreed."""
    processing_activity: str = ""
    """id@version of the consumer's processing activity."""
    subject: str = ""
    """Subject reference, this peer's own pseudonym of the resident whom it is about. Empty: it names nobody."""
    consumer_delegator: str | None = None
    provider_delegator: str | None = None
    subject_sequence: int = 0
    """Which record about `subject` it is in this ledger: 1, 2, 3... without gaps. The journal gives it (`numbered`)."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, without what is empty, its members in canonical order."""
        result: dict[str, Any] = {}
        for name in _NAMES:
            value = getattr(self, name)
            if value is None or value in ("", ()) or (name == "subject_sequence" and value == 0):
                continue
            result[name] = list(value) if value.__class__ is tuple else value
        return result

    def canonical(self) -> bytes:
        """The canonical JSON (RFC 8785) of the record: what the ledger keeps and seals.

        On the path of every request, hence not by `base.canonical`; a test holds the two equal. With names in ASCII,
        in order, and only text, whole numbers and truth values, the standard library writes the same bytes; and what
        records of one agreement have in common is written once (`_form`).
        Raises `BadRequest` when the record holds what JSON cannot carry.
        """
        try:
            if not (self.span_id and self.trace_id and self.transaction_id):
                return _encode(self.to_json()).encode()  # of nothing that really happened
            before, after = _forms.get(common := self._common()) or _form(common, self)
            parent = f',"parent_span_id":{_quoted(self.parent_span_id)}' if self.parent_span_id else ""
            subject = f',"subject":{_quoted(self.subject)}' if self.subject else ""
            if self.subject_sequence:
                subject += f',"subject_sequence":{self.subject_sequence}'
            return (
                f'{before}{parent}{after},"span_id":{_quoted(self.span_id)}{subject},"time":{self.time},'
                f'"trace_id":{_quoted(self.trace_id)},"transaction_id":{_quoted(self.transaction_id)}}}'
            ).encode()
        except UnicodeEncodeError as error:
            raise BadRequest("the record holds half of a surrogate pair (RFC 7493, section 2.1)") from error

    def _common(self) -> tuple[object, ...]:
        """What decides all of the canonical JSON but ids, time and subject. True is no number here, nor 1 a truth."""
        return (
            self.allowed is True,
            self.consumer,
            self.consumer_delegator,
            self.direction,
            self.event,
            self.fields,
            self.grant_hash,
            self.processing_activity,
            self.provider,
            self.provider_delegator,
            self.reason,
            self.refused,
            self.search_parameters,
            self.service,
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        """The record that `to_json` gave."""
        values: dict[str, Any] = {
            "parent_span_id": None,
            "grant_hash": "",
            "consumer": "",
            "provider": "",
            "service": "",
            "reason": "",
        }
        values.update(value)
        for name in _LISTS:
            if name in value:
                values[name] = tuple(value[name])
        return cls(**values)

    @classmethod
    def read(cls, value: object) -> Record:
        """A record out of a JSON value that may be hostile. Raises `BadRequest` unless it is exactly a record."""
        if not isinstance(value, dict) or not value.keys() <= set(_NAMES):
            raise BadRequest("this is not a record of a ledger")
        for name, member in value.items():
            if not _fits(name, member):
                raise BadRequest(f"{name} of the record is not what it should be")
        try:
            record = cls.from_json(value)
        except TypeError as error:
            raise BadRequest("the record lacks a member that every record has") from error
        if record.to_json() != value:
            raise BadRequest("the record holds empty members")
        return record

    def counted(self) -> dict[str, Any]:
        """The part that may be shown to anyone, so that anyone can count: nothing of it is about a person."""
        return {
            "allowed": self.allowed,
            "consumer": self.consumer,
            "direction": self.direction,
            "event": self.event,
            "hour": self.time // 3_600_000,
            "processing_activity": self.processing_activity,
            "provider": self.provider,
            "service": self.service,
        }

    def canonical_counted(self) -> bytes:
        """The canonical JSON (RFC 8785) of `counted`, made as `canonical` makes it."""
        return _encode(self.counted()).encode("utf-8")


def numbered(record: bytes, sequence: int) -> bytes:
    """The canonical record about a resident with its number in it, canonical still.

    Quotes in JSON strings are escaped and no string is followed by a colon but a member's name, so the text before
    which the number goes stands in it once. Raises `ValueError` when it does not.
    """
    head, found, tail = record.partition(_TIME)
    if not found:
        raise ValueError("this is not a record")
    return b'%b,"subject_sequence":%d%b%b' % (head, sequence, found, tail)


_TIME: Final = b',"time":'
_NAMES: Final = tuple(sorted(Record._fields))
_LISTS: Final = frozenset({"fields", "search_parameters", "refused"})
_LARGEST_TIME = 2**53 - 1
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), check_circular=False, allow_nan=False
).encode
_quoted: Final = json.encoder.encode_basestring

_MAXIMUM_FORMS: Final = 4096
_LONGEST_FORM: Final = 4096
"""Characters. Who asks chooses how many fields: what is remembered must not fill our memory."""
_forms: Final[dict[tuple[object, ...], tuple[str, str]]] = {}


def _form(common: tuple[object, ...], record: Record) -> tuple[str, str]:
    """The canonical JSON of such records, up to the parent span and from there to the span; remembered."""
    own: dict[str, Any] = dict.fromkeys(("span_id", "subject", "trace_id", "transaction_id"), "")
    members = record._replace(parent_span_id=None, subject_sequence=0, **own).to_json()
    del members["time"]
    before = _encode({name: value for name, value in members.items() if name < "parent_span_id"})[:-1]
    after = _encode({name: value for name, value in members.items() if name > "parent_span_id"})[1:-1]
    form = before, f",{after}" if after else ""
    if len(before) + len(after) <= _LONGEST_FORM:
        if len(_forms) >= _MAXIMUM_FORMS:
            _forms.clear()
        _forms[common] = form
    return form


def _fits(name: str, member: object) -> bool:
    if name == "time":
        return type(member) is int and 0 <= member <= _LARGEST_TIME
    if name == "subject_sequence":
        return type(member) is int and 0 < member <= _LARGEST_TIME
    if name == "allowed":
        return isinstance(member, bool)
    if name == "direction":
        return member in ("incoming", "outgoing")
    if name == "event":
        return member in ("request", "response")
    if name in _LISTS:
        return isinstance(member, list) and all(isinstance(item, str) for item in member)
    return isinstance(member, str)
