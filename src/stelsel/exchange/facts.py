"""What is known of one exchange at one gateway, and the records that follow from it. Pure.

One record holds what three Dutch logs ask for, under one trace id, about at most one resident (see
`stelsel.ledger.record`).
"""

from __future__ import annotations

from typing import Final

from stelsel.agreements.agreement import Agreement
from stelsel.base.errors import BadRequest, Fault
from stelsel.base.ids import parse_traceparent, traceparent
from stelsel.exchange.faults import reason_of
from stelsel.exchange.heads import RequestHead
from stelsel.exchange.identifiers import new_span_id, new_trace_id
from stelsel.ledger.record import Direction, Event, Record
from stelsel.privacy.decision import Decision, Reason, forbidden
from stelsel.privacy.request import DataRequest

NOTHING_ASKED: Final = DataRequest((), (), ())
MAXIMUM_SUBJECTS: Final = 500
"""Residents whom one answer may be about: each gets a record, and all are durable before it is released."""
_AGREED: Final = Reason.AGREED.value


class Facts:
    """Filled in along the way, so that a refusal records all that was known by then."""

    __slots__ = (
        "agreement",
        "consumer",
        "consumer_delegator",
        "direction",
        "grant_hash",
        "parent_span_id",
        "provider",
        "provider_delegator",
        "request",
        "service",
        "span_id",
        "subjects",
        "trace_id",
        "transaction_id",
        "transaction_line",
    )

    def __init__(self, direction: Direction, head: RequestHead, transaction_id: str) -> None:
        self.direction: Direction = direction
        self.transaction_id = transaction_id
        self.transaction_line = f"Fsc-Transaction-Id: {transaction_id}\r\n".encode()
        """The header line that tells the transaction id, to the next hop and in the answer."""
        parent = head.values.get(b"traceparent")
        trace = parse_traceparent(parent.decode("latin-1")) if parent is not None else None
        self.trace_id = trace[0] if trace is not None else new_trace_id()
        self.parent_span_id = trace[1] if trace is not None else None
        self.span_id = new_span_id()
        self.grant_hash = ""
        self.consumer = ""
        self.provider = ""
        self.service = ""
        self.consumer_delegator: str | None = None
        self.provider_delegator: str | None = None
        self.agreement: Agreement | None = None
        self.request = NOTHING_ASKED
        self.subjects: tuple[str, ...] = ()
        """References of those whom the request names."""

    @property
    def traceparent(self) -> bytes:
        """The header line for the next hop (W3C Trace Context)."""
        return f"traceparent: {traceparent(self.trace_id, self.span_id)}\r\n".encode()

    def record(
        self,
        now: float,
        event: Event,
        *,
        allowed: bool,
        reason: str,
        refused: tuple[str, ...] = (),
        subject: str = "",
    ) -> Record:
        """One record at `now` (seconds since the epoch). A response is a child span of the request."""
        request = event == "request"
        terms = self.agreement.terms if self.agreement is not None else None
        activity = f"{terms.processing_activity.id}@{terms.processing_activity.version}" if terms is not None else ""
        # In the order of its members: by their names it would take three times as long, on the path of every request.
        return Record(
            self.transaction_id,
            self.trace_id,
            self.span_id if request else new_span_id(),
            self.parent_span_id if request else self.span_id,
            int(now * 1000),
            self.direction,
            event,
            self.grant_hash,
            self.consumer,
            self.provider,
            self.service,
            allowed,
            reason,
            self.request.fields,
            self.request.search_parameters,
            refused,
            activity,
            subject,
            self.consumer_delegator,
            self.provider_delegator,
        )

    def allowed(self, now: float) -> tuple[Record, ...]:
        """The records of a request that may pass."""
        return self._asked(now, True, _AGREED, ())

    def refusal(self, now: float, fault: Fault) -> tuple[Record, ...]:
        """The records of a request that may not."""
        reason = reason_of(fault)
        refused: tuple[str, ...] = ()
        if isinstance(fault, Refused):
            reason, refused = fault.decision.reason.value, fault.decision.refused
        elif isinstance(fault, BadRequest):
            reason = Reason.UNREADABLE_REQUEST.value
        return self._asked(now, False, reason, refused)

    def _asked(self, now: float, allowed: bool, reason: str, refused: tuple[str, ...]) -> tuple[Record, ...]:
        """One request, which names its resident if there is exactly one; else one record more for each."""
        asked = self.record(now, "request", allowed=allowed, reason=reason, refused=refused, subject=self._only_subject)
        if len(self.subjects) < 2:
            return (asked,)
        others = (
            self.record(now, "response", allowed=allowed, reason=reason, refused=refused, subject=subject)
            for subject in self.subjects
        )
        return (asked, *others)

    @property
    def _only_subject(self) -> str:
        return self.subjects[0] if len(self.subjects) == 1 else ""

    def answered_about(self, now: float, subjects: tuple[str, ...]) -> tuple[Record, ...]:
        """The records of whom an answer is about, beyond whom the request named."""
        return tuple(
            self.record(now, "response", allowed=True, reason=_AGREED, subject=subject) for subject in subjects
        )

    def stopped(self, now: float, reason: Reason, refused: tuple[str, ...]) -> Record:
        """The record that a request which was allowed got no answer after all. It holds for all whom that named."""
        return self.record(
            now, "response", allowed=False, reason=reason.value, refused=refused, subject=self._only_subject
        )


class Refused(Fault):
    """A privacy refusal: 403 problem+json that names what was asked but not agreed."""

    status = 403
    kind = "forbidden"
    title = "This was not agreed"

    def __init__(self, decision: Decision) -> None:
        told = forbidden(decision)
        extra = dict(told.extra)
        if decision.reason is Reason.UNAUTHORIZED_FIELD:
            extra["fields"] = list(decision.refused)
        elif decision.reason is Reason.UNAUTHORIZED_PARAMETER:
            extra["parameters"] = list(decision.refused)
        super().__init__(told.detail, next_step=told.next_step, **extra)
        self.decision = decision


def check(decision: Decision) -> None:
    """Raises `Refused` unless it is allowed."""
    if not decision.allowed:
        raise Refused(decision)


def limits_data(agreement: Agreement) -> bool:
    """Whether the agreement says which data may be asked, so that the request must be read whole."""
    terms = agreement.terms
    return terms is not None and bool(terms.fields or terms.search_parameters)
