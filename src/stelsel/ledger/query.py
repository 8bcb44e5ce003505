"""What can be asked of a ledger."""

from __future__ import annotations

from dataclasses import dataclass

from stelsel.ledger.record import Record

MAXIMUM_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Query:
    """Which records to find; what is None does not matter, the rest must all hold."""

    subject: str | None = None
    """A subject reference of this peer."""
    or_nobody: bool = False
    """With `subject`: also the records that name nobody, so that an exchange can be seen without anyone else in it."""
    transaction_id: str | None = None
    trace_id: str | None = None
    grant_hash: str | None = None
    peer: str | None = None
    """Takes part as consumer, provider or delegator."""
    service: str | None = None
    after_ms: int | None = None
    """Recorded at this moment or later, milliseconds since the epoch."""
    before_ms: int | None = None
    """Recorded before this moment."""
    after_index: int | None = None
    """Continue a listing: only what comes after this index in the order asked for."""
    limit: int = 100
    """At most `MAXIMUM_LIMIT`."""
    descending: bool = True


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which transactions to show to a peer that asks over `GET /logs` (FSC Logging 1.1.0, 3.2.1.1).

    `grant_hashes` and `service_names` are alternatives: a record that meets either is shown. `transaction_ids`, when
    there are any, stand in place of every other condition but `peer`.
    """

    peer: str
    grant_hashes: tuple[str, ...] = ()
    service_names: tuple[str, ...] = ()
    transaction_ids: tuple[str, ...] = ()
    after_ms: int | None = None
    before_ms: int | None = None
    after_index: int | None = None
    limit: int = 25
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """A record at its place in the ledger."""

    index: int
    record: Record
