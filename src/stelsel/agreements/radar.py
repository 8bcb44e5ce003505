"""The expiry radar: what ends soon, how urgent that is, and what to do about it. Pure.

It sees contracts, the certificates with which they were signed (an expired one makes a contract void until it is signed
again, FSC Core 4.2.7), this peer's own certificate and its issuers, the trust anchors, and revocation lists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stelsel.agreements.agreement import State
from stelsel.agreements.contract import Contract
from stelsel.agreements.difference import relation
from stelsel.agreements.readable import named
from stelsel.agreements.stored import StoredContract
from stelsel.base.revocation import RevocationList
from stelsel.base.text import Words, inert

Kind = Literal["contract", "signature", "certificate", "issuer", "trust anchor", "revocation list"]

URGENT_DAYS = 30
"""Within so many days a certificate or contract is urgent: signing anew takes people on two sides."""
_LIST_URGENT = 86_400.0
"""Seconds; a revocation list lives for days at most, and is renewed by machines."""
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Dated:
    """A certificate, by the name of its subject, and when it ends (seconds since the epoch)."""

    name: str
    until: float


@dataclass(frozen=True, slots=True)
class Own:
    """This peer's certificates: that of the peer itself, those of its issuers, and the group's trust anchors."""

    peer_id: str
    certificate: Dated
    issuers: tuple[Dated, ...] = ()
    anchors: tuple[Dated, ...] = ()


@dataclass(frozen=True, slots=True)
class Expiring:
    """One thing that ends. `until` in seconds since the epoch; it may have passed."""

    kind: Kind
    until: float
    urgent: bool
    what: Words
    next_step: Words
    contracts: tuple[str, ...] = field(default=())
    """Content hashes of the contracts that end or no longer hold by it."""
    renewable: bool = False
    """Whether what to do is to propose that contract anew."""

    def days_left(self, now: float) -> int:
        """Whole days, rounded down; negative once it has passed."""
        return int((self.until - now) // _DAY)

    def to_json(self, now: float) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "until": int(self.until),
            "days_left": self.days_left(now),
            "urgent": self.urgent,
            "what": self.what.to_json(),
            "next_step": self.next_step.to_json(),
            "contracts": list(self.contracts),
        }


def expiring(
    contracts: Iterable[StoredContract],
    own: Own,
    lists: Iterable[RevocationList],
    names: Mapping[str, str],
    now: float,
    *,
    days: int = 90,
    urgent_days: int = URGENT_DAYS,
) -> tuple[Expiring, ...]:
    """What ends within `days` from `now`, soonest first. `names` of peers by id."""
    every = list(contracts)
    soon = now + urgent_days * _DAY
    found = [
        *_contracts(every, names, now, soon),
        *_signatures(every, own, names, now, soon),
        *_certificates(own, soon),
        *_lists(lists, now),
    ]
    return tuple(sorted((item for item in found if item.until < now + days * _DAY), key=lambda item: item.until))


def _contracts(every: list[StoredContract], names: Mapping[str, str], now: float, soon: float) -> Iterator[Expiring]:
    by_relation: dict[Any, list[StoredContract]] = defaultdict(list)
    for stored in every:
        if stored.state in {State.VALID, State.PROPOSED}:
            by_relation[_relations(stored.contract)].append(stored)
    for stored in every:
        contract = stored.contract
        if stored.state is not State.VALID:
            continue
        later = [
            other
            for other in by_relation[_relations(contract)]
            if other.contract.not_after > contract.not_after and other.content_hash != stored.content_hash
        ]
        replaced = any(other.state is State.VALID and other.contract.not_before <= now for other in later)
        yield Expiring(
            kind="contract",
            until=contract.not_after,
            urgent=contract.not_after < soon and not replaced,
            what=_about(contract, names),
            next_step=_renewal(stored.content_hash, replaced=replaced, waiting=bool(later)),
            contracts=(stored.content_hash,),
            renewable=not later,
        )


def _relations(contract: Contract) -> frozenset[Any]:
    return frozenset(relation(grant) for grant in contract.grants)


def _about(contract: Contract, names: Mapping[str, str]) -> Words:
    grant = contract.grants[0]
    service, provider = inert(grant.service, 100), named(grant.provider, names)
    more = len(contract.grants) - 1
    nl, en = (f" (en {more} meer)", f" (and {more} more)") if more else ("", "")
    if grant.consumer is None:
        return Words(
            f"De publicatie van {service} van {provider}{nl}", f"The publication of {service} of {provider}{en}"
        )
    consumer = named(grant.consumer, names)
    return Words(
        f"De afspraak van {consumer} over {service} van {provider}{nl}",
        f"The agreement of {consumer} about {service} of {provider}{en}",
    )


def _renewal(content_hash: str, *, replaced: bool, waiting: bool) -> Words:
    if replaced:
        return Words("Niets: een nieuwere afspraak geldt al.", "Nothing: a newer agreement holds already.")
    if waiting:
        return Words(
            "Er ligt een vernieuwing; zorg dat iedereen die tekent.", "A renewal waits: have every party sign it."
        )
    start = content_hash.rpartition("$")[2][:12]
    return Words(f"Vernieuw de afspraak: stelsel agreement renew {start}", f"Renew it: stelsel agreement renew {start}")


def _signatures(
    every: list[StoredContract], own: Own, names: Mapping[str, str], now: float, soon: float
) -> Iterator[Expiring]:
    """The certificates that contracts were signed with, and that end before those contracts do."""
    under: dict[tuple[str, float], list[str]] = defaultdict(list)
    for stored in every:
        # One that was in force and whose certificate ended is "proposed" again: it is here until it is signed again.
        if stored.state not in {State.VALID, State.PROPOSED} or stored.unsigned:
            continue
        for signature in stored.signatures:
            end = signature.certificate_not_after
            if signature.type == "accept" and end < stored.contract.not_after:
                under[signature.peer_id, end].append(stored.content_hash)
    for (peer_id, end), hashes in under.items():
        count, who = len(hashes), named(peer_id, names)
        nl = "1 afspraak" if count == 1 else f"{count} afspraken"
        en = "1 agreement" if count == 1 else f"{count} agreements"
        yield Expiring(
            kind="signature",
            until=end,
            urgent=end < soon,
            what=Words(f"Het certificaat waarmee {who} {nl} tekende", f"The certificate with which {who} signed {en}"),
            next_step=_signing(peer_id, who, end, own, now),
            contracts=tuple(hashes),
        )


def _signing(peer_id: str, who: str, end: float, own: Own, now: float) -> Words:
    if peer_id != own.peer_id:
        return Words(
            f"Vraag {who} het certificaat te vernieuwen en opnieuw te tekenen.",
            f"Ask {who} to renew its certificate and sign again.",
        )
    if own.certificate.until > max(end, now):
        return Words(
            "Er is een nieuwer certificaat: start de node opnieuw, dan tekent die opnieuw.",
            "There is a newer certificate: restart the node, it then signs again.",
        )
    return Words(
        "Vernieuw het certificaat met dezelfde sleutel en start de node opnieuw; die tekent dan opnieuw.",
        "Renew the certificate with the same key and restart the node; it then signs again.",
    )


def _certificates(own: Own, soon: float) -> Iterator[Expiring]:
    def item(kind: Kind, dated: Dated, what: Words, step: Words) -> Expiring:
        return Expiring(kind, dated.until, dated.until < soon, what, step)

    name = inert(own.certificate.name, 100)
    yield item(
        "certificate",
        own.certificate,
        Words(f"Ons certificaat ({name})", f"Our certificate ({name})"),
        Words(
            "Vraag een nieuw certificaat aan met dezelfde sleutel en start de node opnieuw.",
            "Ask a new certificate for the same key, install it and restart the node.",
        ),
    )
    for issuer in own.issuers:
        name = inert(issuer.name, 200)
        yield item(
            "issuer",
            issuer,
            Words(f"De uitgever van ons certificaat ({name})", f"The issuer of our certificate ({name})"),
            Words(
                "Vraag een certificaat aan onder de nieuwe uitgever.", "Ask a certificate under the issuer's successor."
            ),
        )
    for anchor in own.anchors:
        name = inert(anchor.name, 200)
        yield item(
            "trust anchor",
            anchor,
            Words(f"Het vertrouwensanker {name}", f"The trust anchor {name}"),
            Words(
                "Vraag de beheerder van het stelsel om het nieuwe anker en zet het in het bestand.",
                "Ask the group's steward for its successor, and add it to the file with trust anchors.",
            ),
        )


def _lists(lists: Iterable[RevocationList], now: float) -> Iterator[Expiring]:
    for each in lists:
        name = inert(each.issuer_name, 200)
        yield Expiring(
            kind="revocation list",
            until=each.next_update,
            urgent=each.next_update < now + _LIST_URGENT,
            what=Words(f"De intrekkingslijst van {name}", f"The revocation list of {name}"),
            next_step=Words(
                "Haal de nieuwe lijst op; kijk of het ophalen nog loopt.",
                "Fetch the new list; see whether fetching runs.",
            ),
        )
