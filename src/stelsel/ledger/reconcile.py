"""Reconciliation: what one side's transaction log holds and the other's does not. Pure.

Both gateways record a request before they pass it on (FSC Logging 1.1.0, 3.3.1.1 and 3.4.1.1), the outway first. So:

| we hold | they hold | that is |
|---|---|---|
| incoming | nothing | **missing there**: their outway must have recorded it before it sent it |
| nothing | incoming | **missing here**: our outway should have, or they made it up |
| both | both, but under another grant, service or delegator | **different** |
| outgoing, refused here | incoming | **different**: it was refused, and arrived all the same |
| outgoing, allowed | nothing | **not arrived there**: the connection failed, or their record is gone; see below |
| nothing | outgoing, allowed | **not arrived here**: the same, seen from the other side |
| outgoing, refused | nothing | in order: it never left |
| outgoing, allowed, later recorded as stopped | nothing | in order: it never left |

What was sent and did not arrive cannot be told from what arrived and was struck out, by two logs alone: the first is
common whenever a connection fails. It is told apart from what is certain, and counted; a receipt of the other side, or
evidence under its signed checkpoints, settles one.

A peer's answer is hostile until read: `read_logged` takes nothing that is not exactly a log record between the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stelsel.base.errors import BadGateway
from stelsel.ledger.record import Record

_TRANSACTION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGEST = 300
_LATEST = 2**40
"""Seconds; a moment that no clock will say."""

Key = tuple[str, str]
"""Transaction id and consumer: two peers may each call the other in one transaction."""


class Kind(StrEnum):
    """What is wrong with a transaction."""

    MISSING_THERE = "missing-there"
    MISSING_HERE = "missing-here"
    DIFFERENT = "different"
    NOT_ARRIVED_THERE = "not-arrived-there"
    NOT_ARRIVED_HERE = "not-arrived-here"

    @property
    def certain(self) -> bool:
        """Whether one of the two logs must be wrong."""
        return self in {Kind.MISSING_THERE, Kind.MISSING_HERE, Kind.DIFFERENT}


@dataclass(frozen=True, slots=True)
class Logged:
    """A transaction as one side's log tells of it."""

    transaction_id: str
    consumer: str
    provider: str
    grant_hash: str
    service: str
    consumer_delegator: str
    provider_delegator: str
    at: float
    """Seconds since the epoch, by the clock of who recorded it."""
    allowed: bool | None
    """None when the log does not say: FSC has no member for it."""

    @property
    def key(self) -> Key:
        return self.transaction_id, self.consumer


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One transaction that both logs do not tell alike."""

    kind: Kind
    logged: Logged
    """As told by the side that has it; by us when both have."""
    detail: str = ""
    """Which members differ."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """What the first look at a window leaves to be asked by transaction id: clocks may differ."""

    there: tuple[Logged, ...]
    here: tuple[Logged, ...]

    @property
    def count(self) -> int:
        return len(self.there) + len(self.here)


def of_record(record: Record) -> Logged:
    """A record of our own ledger, as a log tells of it."""
    return Logged(
        transaction_id=record.transaction_id.lower(),
        consumer=record.consumer,
        provider=record.provider,
        grant_hash=record.grant_hash,
        service=record.service,
        consumer_delegator=record.consumer_delegator or "",
        provider_delegator=record.provider_delegator or "",
        at=record.time / 1000,
        allowed=record.allowed,
    )


def between(record: Record, own: str, peer: str) -> bool:
    """Whether a record of ours is of a call between us and this peer; in others it may only be a delegator."""
    if record.direction == "outgoing":
        return (record.consumer, record.provider) == (own, peer)
    return (record.consumer, record.provider) == (peer, own)


def read_logged(item: Any, own: str, peer: str) -> Logged | None:
    """A log record out of a peer's answer; None when it is of no call between us and it.

    Raises `BadGateway` when it is no log record (FSC Logging 1.1.0, 3.1).
    """
    if not isinstance(item, dict):
        raise _no_record()
    source, destination = item.get("source"), item.get("destination")
    if not isinstance(source, dict) or not isinstance(destination, dict):
        raise _no_record()
    outgoing = _direction(item.get("direction"))
    consumer, provider = _text(source, "outway_peer_id"), _text(destination, "service_peer_id")
    if (consumer, provider) != ((peer, own) if outgoing else (own, peer)):
        return None
    transaction_id, at = _text(item, "transaction_id").lower(), item.get("created_at")
    if not _TRANSACTION.fullmatch(transaction_id) or type(at) is not int or not 0 <= at <= _LATEST:
        raise _no_record()
    more = item.get("additional_data")
    allowed = more.get("allowed") if isinstance(more, dict) else None
    return Logged(
        transaction_id=transaction_id,
        consumer=consumer,
        provider=provider,
        grant_hash=_text(item, "grant_hash"),
        service=_text(item, "service_name"),
        consumer_delegator=_text(source, "delegator_peer_id", required=False),
        provider_delegator=_text(destination, "delegator_peer_id", required=False),
        at=float(at),
        allowed=allowed if isinstance(allowed, bool) else None,
    )


def lacking(ours: Mapping[Key, Logged], theirs: Mapping[Key, Logged], own: str, start: float, stop: float) -> Lacking:
    """What only one side told of the window [start, stop), each by its own clock, and had to be told by both."""
    there = (logged for key, logged in ours.items() if key not in theirs and start <= logged.at < stop)
    here = (logged for key, logged in theirs.items() if key not in ours and start <= logged.at < stop)
    return Lacking(
        tuple(logged for logged in there if _kind(logged, own, here=True) is not None),
        tuple(logged for logged in here if _kind(logged, own, here=False) is not None),
    )


def differences(ours: Mapping[Key, Logged], theirs: Mapping[Key, Logged], own: str) -> list[Discrepancy]:
    """The transactions that both tell of, but not alike."""
    found = []
    for key in ours.keys() & theirs.keys():
        names = _differing(ours[key], theirs[key], own)
        if names:
            found.append(Discrepancy(Kind.DIFFERENT, ours[key], ", ".join(names)))
    return sorted(found, key=lambda each: (each.logged.at, each.logged.key))


def judge(left: Lacking, own: str, stopped: AbstractSet[Key]) -> list[Discrepancy]:
    """What is wrong with what one side lacks for good; `stopped` are ours that were recorded as stopped later."""
    found = []
    for logged in left.there:
        kind = _kind(logged, own, here=True)
        if kind is not None and not (kind is Kind.NOT_ARRIVED_THERE and logged.key in stopped):
            found.append(Discrepancy(kind, logged))
    for logged in left.here:
        kind = _kind(logged, own, here=False)
        if kind is not None:
            found.append(Discrepancy(kind, logged))
    return found


def by_key(every: Iterable[Logged]) -> dict[Key, Logged]:
    """By transaction and consumer; of two, the first."""
    found: dict[Key, Logged] = {}
    for logged in every:
        found.setdefault(logged.key, logged)
    return found


def _kind(logged: Logged, own: str, *, here: bool) -> Kind | None:
    """What it is that only one side holds this (`here`: we do); None when that is in order."""
    outgoing = (logged.consumer == own) is here  # as the side that holds it saw it
    if not outgoing:
        return Kind.MISSING_THERE if here else Kind.MISSING_HERE
    if logged.allowed is False:
        return None
    return Kind.NOT_ARRIVED_THERE if here else Kind.NOT_ARRIVED_HERE


def _differing(ours: Logged, theirs: Logged, own: str) -> list[str]:
    names = ("grant_hash", "service", "consumer_delegator", "provider_delegator")
    found = [name for name in names if getattr(ours, name) != getattr(theirs, name)]
    sent = ours if ours.consumer == own else theirs
    if sent.allowed is False:
        found.append("refused by the sender, yet arrived")
    return found


def _direction(value: Any) -> bool:
    if value not in ("DIRECTION_INCOMING", "DIRECTION_OUTGOING"):
        raise _no_record()
    return bool(value == "DIRECTION_OUTGOING")


def _text(item: dict[str, Any], name: str, *, required: bool = True) -> str:
    value = item.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or not (value or not required) or len(value) > _LONGEST:
        raise _no_record()
    return value


def _no_record() -> BadGateway:
    return BadGateway("the peer's log holds something that is no log record")
