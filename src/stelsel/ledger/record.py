"""A record: what the ledger keeps of an exchange.

One record holds what three Dutch logs ask for, under one trace id: the FSC transaction (Logging 1.1.0), the decision
(Authorization Decision Log) and the processing (Logboek Dataverwerkingen). No data of the register is ever in it, and
a resident is known only by a subject reference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Direction = Literal["incoming", "outgoing"]
Event = Literal["request", "response"]


@dataclass(frozen=True, slots=True)
class Record:
    """One step of one exchange, as one peer saw it.

    A `request` is recorded before it is forwarded. A `response` is recorded, before it is released, when the answer
    told something that the request did not: about whom it is, or that it had to be refused.
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
    subjects: tuple[str, ...] = ()
    """Subject references, this peer's own pseudonyms."""
    consumer_delegator: str | None = None
    provider_delegator: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, without what is empty."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value not in (None, (), "")
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        """The record that `to_json` gave."""
        values: dict[str, Any] = {
            "parent_span_id": None,
            "grant_hash": "",
            "consumer": "",
            "provider": "",
            "service": "",
        }
        values |= {name: tuple(member) if isinstance(member, list) else member for name, member in value.items()}
        return cls(**values)

    def counted(self) -> dict[str, Any]:
        """The part that may be shown to anyone, so that anyone can count: nothing of it is about a person."""
        return {
            "hour": self.time // 3_600_000,
            "direction": self.direction,
            "event": self.event,
            "consumer": self.consumer,
            "provider": self.provider,
            "service": self.service,
            "allowed": self.allowed,
            "processing_activity": self.processing_activity,
        }
