"""Which live flows break if an agreement is revoked, if a certificate expires, if a field goes? Pure.

Judged by what was really asked: the requests that the ledger holds of the last days. Every way of asking that was used
(which fields, searched how) is put to the same decision that the gateways take, under what would be left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stelsel.agreements.agreement import Agreement
from stelsel.agreements.fieldsets import touches, within
from stelsel.agreements.services import Service
from stelsel.agreements.stored import StoredContract
from stelsel.base.errors import Unprocessable
from stelsel.base.text import inert
from stelsel.ledger.record import Record
from stelsel.privacy.decision import decide
from stelsel.privacy.request import DataRequest

Outcome = Literal["unused", "goes on", "breaks in part", "breaks", "ends before"]
"""`ends before`: the agreement is over by itself before it happens."""
Asked = tuple[tuple[str, ...], tuple[str, ...]]
"""Fields and search parameters of a request."""

_DAY_MS = 86_400_000
_MOST_WAYS = 10_000
"""Ways of asking that are told apart for one agreement; what is beyond is counted as one that breaks."""


@dataclass(slots=True)
class Use:
    """What was asked under one agreement."""

    calls: int = 0
    """Requests that were let through."""
    refused: int = 0
    last_ms: int = 0
    """When the last one that was let through was recorded; 0: never."""
    by_day: Counter[int] = field(default_factory=Counter)
    """Requests let through, by day (days since the epoch, UTC)."""
    ways: Counter[Asked | None] = field(default_factory=Counter)
    """Requests let through, by what they asked; None: more ways than are told apart."""


def tally(records: Iterable[Record], peer_id: str, uses: dict[str, Use] | None = None) -> dict[str, Use]:
    """Use by grant hash out of the records of this peer; goes on with `uses` when given."""
    found = {} if uses is None else uses
    for record in records:
        # What a peer asks of itself is in its ledger twice, going out and coming in.
        if record.event != "request" or (record.direction == "outgoing" and record.provider == peer_id):
            continue
        use = found.setdefault(record.grant_hash, Use())
        if not record.allowed:
            use.refused += 1
            continue
        use.calls += 1
        use.last_ms = max(use.last_ms, record.time)
        use.by_day[record.time // _DAY_MS] += 1
        asked = (record.fields, record.search_parameters)
        use.ways[asked if asked in use.ways or len(use.ways) < _MOST_WAYS else None] += 1
    return found


@dataclass(frozen=True, slots=True)
class Event:
    """What is supposed to happen, to whom, and when."""

    agreements: tuple[Agreement, ...]
    """The agreements that it touches, as they are now."""
    at: float
    """Seconds since the epoch; what has ended by itself before then is not broken by it."""
    without_field: str = ""
    """Not empty: they stay, without this field."""
    ending: frozenset[str] = frozenset()
    """Grant hashes of what cannot take their place, for it ends too."""


def revocation(contract: StoredContract, now: float) -> Event:
    """The contract is revoked now."""
    return Event(contract.agreements, now, ending=frozenset(agreement.grant_hash for agreement in contract.agreements))


def field_gone(contract: StoredContract, path: str, now: float) -> Event:
    """A field is no longer in the terms. Raises `Unprocessable` when it is not in them now."""
    touched = tuple(
        agreement
        for agreement in contract.agreements
        if agreement.terms is not None and any(touches(path, agreed) for agreed in agreement.terms.fields)
    )
    if not touched:
        raise Unprocessable(
            f"the field {inert(path, 200)} is not in this agreement", next_step="see its fields: stelsel agreement show"
        )
    return Event(touched, now, without_field=path)


def certificate_expiry(contract: StoredContract, contracts: Iterable[StoredContract], now: float) -> Event:
    """The certificate that ends first, of those with which this contract was signed, ends without signing again.

    Every contract that was signed with that same certificate is touched (FSC Core 4.2.7).
    """
    accepted = [signature for signature in contract.signatures if signature.type == "accept"]
    if not accepted:
        raise Unprocessable("nobody has signed this contract", next_step="choose one that holds")
    first = min(accepted, key=lambda signature: signature.certificate_not_after)
    mark = (first.peer_id, first.chain[:1], first.certificate_not_after)
    touched = [
        agreement
        for stored in contracts
        if any(
            s.type == "accept" and (s.peer_id, s.chain[:1], s.certificate_not_after) == mark for s in stored.signatures
        )
        for agreement in stored.agreements
    ]
    ending = frozenset(agreement.grant_hash for agreement in touched)
    return Event(tuple(touched), max(first.certificate_not_after, now), ending=ending)


@dataclass(frozen=True, slots=True)
class Flow:
    """What would become of what is asked under one agreement."""

    grant_hash: str
    content_hash: str
    consumer: str
    provider: str
    service: str
    outcome: Outcome
    calls: int
    """In the days that were looked at."""
    calls_a_day: float
    busiest_day: int
    breaking: int
    """How many of those calls would be refused."""
    refused: int
    """Calls that were refused already."""
    last_use: int | None
    """Milliseconds since the epoch."""
    instead: str
    """Grant hash of the agreement that would take its place; empty: there is none."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def simulate(
    event: Event, agreements: Iterable[Agreement], uses: Mapping[str, Use], now: float, days: int
) -> tuple[Flow, ...]:
    """What becomes of each flow that `event` touches and that lives at `now`; `uses` are of the `days` days before."""
    others = list(agreements)
    flows = [
        _flow(event, agreement, others, uses.get(agreement.grant_hash, Use()), now, days)
        for agreement in event.agreements
        if agreement.holds(now)
    ]
    return tuple(sorted(flows, key=lambda flow: (-flow.breaking, -flow.calls, flow.service, flow.grant_hash)))


def _flow(event: Event, agreement: Agreement, others: list[Agreement], use: Use, now: float, days: int) -> Flow:
    instead = None if event.without_field else _instead(event, agreement, others)
    left = _without(agreement, event.without_field) if event.without_field else instead
    at = max(event.at, now)
    breaking = sum(count for asked, count in use.ways.items() if not _allowed(left, asked, event.without_field, at))
    outcome: Outcome = "unused"
    if agreement.not_after <= event.at and event.at > now:
        outcome, breaking = "ends before", 0
    elif use.calls:
        outcome = "goes on" if not breaking else "breaks" if breaking == use.calls else "breaks in part"
    return Flow(
        grant_hash=agreement.grant_hash,
        content_hash=agreement.content_hash,
        consumer=agreement.consumer,
        provider=agreement.provider,
        service=agreement.service,
        outcome=outcome,
        calls=use.calls,
        calls_a_day=round(use.calls / days, 2),
        busiest_day=max(use.by_day.values(), default=0),
        breaking=breaking,
        refused=use.refused,
        last_use=use.last_ms or None,
        instead=instead.grant_hash if instead is not None else "",
    )


def _instead(event: Event, agreement: Agreement, others: list[Agreement]) -> Agreement | None:
    """What the outway would take: the newest that holds then for the same outway, service and peers (`routing`)."""
    candidates = [
        other
        for other in others
        if other.grant_hash not in event.ending
        and other.content_hash != agreement.content_hash
        and _between(other) == _between(agreement)
        and other.holds(event.at)
    ]
    return max(candidates, key=lambda other: (other.created_at, other.grant_hash), default=None)


def _between(agreement: Agreement) -> tuple[str | None, ...]:
    return (
        agreement.consumer,
        agreement.provider,
        agreement.service,
        agreement.outway_key_thumbprint,
        agreement.outway_domain_name,
        agreement.consumer_delegator,
        agreement.provider_delegator,
    )


def _allowed(left: Agreement | None, asked: Asked | None, without: str, at: float) -> bool:
    if left is None or asked is None:
        return False
    fields, search_parameters = asked
    if without and any(touches(path, without) for path in fields):
        return False
    # Whether a service is about people is for its provider to say. A request that named fields is taken to be.
    service = Service.model_validate({"name": left.service, "endpoint": "http://service", "personal": bool(fields)})
    return decide(service, left, DataRequest(fields, search_parameters, ()), at).allowed


def _without(agreement: Agreement, path: str) -> Agreement:
    terms = agreement.terms
    if terms is None:
        return agreement
    # Of an agreed parent a part cannot be taken out: the calls that ask that part, or all of it, are judged apart.
    kept = tuple(agreed for agreed in terms.fields if not within(agreed, (path,)))
    # Another object under the same hash: what `decide` remembers of the terms of that hash is not taken for these.
    return replace(agreement, terms=terms.model_copy(update={"fields": kept}))
