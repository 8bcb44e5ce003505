"""What people who manage agreements ask, put to a running manager: for the command line and for pages alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509

from stelsel.agreements.agreement import State
from stelsel.agreements.difference import Difference, differences, relation, running
from stelsel.agreements.radar import URGENT_DAYS, Dated, Expiring, Own, expiring
from stelsel.agreements.readable import named
from stelsel.agreements.renewal import Renewal, renew, what_follows
from stelsel.agreements.service import Agreements
from stelsel.agreements.stored import StoredContract
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.errors import Conflict
from stelsel.base.text import Words


@dataclass(frozen=True, slots=True)
class Renewed:
    """A renewal that was proposed, and what must happen now."""

    content_hash: str
    renewal: Renewal
    follows: tuple[Words, ...]


async def compare(agreements: Agreements, content_hash: str, now: float) -> tuple[Difference, ...]:
    """What each grant of a contract changes against what runs. Raises `NotFound`."""
    return await asyncio.to_thread(differences, agreements.contract(content_hash), agreements.contracts(), now)


async def propose_renewal(
    agreements: Agreements, content_hash: str, now: float, *, days: int | None = None, keep_key: bool = False
) -> Renewed:
    """Propose a contract anew (see `renewal.renew`). Raises `NotFound`, `Conflict` or what a proposal raises."""
    stored = agreements.contract(content_hash)
    certificate = agreements.keypair.certificate
    renewal = renew(stored.contract, stored.state, certificate, now, days=days, keep_key=keep_key)
    check_not_waiting(stored, agreements.contracts(state=State.PROPOSED))
    proposed = await agreements.propose_content(renewal.content)
    names = agreements.peer_names()
    others = tuple(named(peer_id, names) for peer_id in stored.others)
    return Renewed(proposed, renewal, tuple(what_follows(stored.contract, renewal, others, now)))


async def what_follows_now(agreements: Agreements, content_hash: str, now: float) -> tuple[Words, ...]:
    """What must happen with a proposal of ours that is to take the place of what runs; empty when nothing runs."""
    stored = agreements.contract(content_hash)
    grant, contract = stored.contract.grants[0], stored.contract
    found = await asyncio.to_thread(running, grant, content_hash, agreements.contracts(state=State.VALID), now)
    if found is None:
        return ()
    old, before = found
    days = (contract.not_after - contract.not_before) // 86_400
    renewal = Renewal(contract.content, days, before.outway_key_thumbprint != grant.outway_key_thumbprint)
    names = agreements.peer_names()
    return tuple(what_follows(old, renewal, tuple(named(peer_id, names) for peer_id in stored.unsigned), now))


async def on_radar(
    agreements: Agreements, anchors: TrustAnchors, now: float, *, days: int = 90, urgent_days: int = URGENT_DAYS
) -> tuple[Expiring, ...]:
    """What ends within `days`, soonest first (see `radar.expiring`)."""
    lists = anchors.revocations.lists() if anchors.revocations is not None else ()
    own = own_certificates(agreements.keypair, anchors)
    contracts, names = agreements.contracts(), agreements.peer_names()
    return await asyncio.to_thread(expiring, contracts, own, lists, names, now, days=days, urgent_days=urgent_days)


def own_certificates(keypair: KeyPair, anchors: TrustAnchors) -> Own:
    """This peer's certificates, for the radar."""
    certificate = keypair.certificate
    return Own(
        peer_id=certificate.peer_id,
        certificate=Dated(certificate.peer_name, certificate.not_after),
        issuers=tuple(_dated(x509.load_der_x509_certificate(der)) for der in keypair.chain[1:]),
        anchors=tuple(_dated(anchor) for anchor in x509.load_pem_x509_certificates(anchors.pem)),
    )


def waiting_renewal(stored: StoredContract, proposed: Iterable[StoredContract]) -> StoredContract | None:
    """What waits already to take the place of this contract: a newer proposal between the same about the same."""
    wanted = {relation(grant) for grant in stored.contract.grants}
    for other in proposed:
        newer = other.contract.created_at >= stored.contract.created_at and other.content_hash != stored.content_hash
        if newer and {relation(grant) for grant in other.contract.grants} == wanted:
            return other
    return None


def check_not_waiting(stored: StoredContract, proposed: Iterable[StoredContract]) -> None:
    """Raises `Conflict` when a renewal of this contract waits already: two that both get signed help nobody."""
    other = waiting_renewal(stored, proposed)
    if other is not None:
        start = other.content_hash.rpartition("$")[2][:12]
        raise Conflict(
            f"a newer proposal between the same peers about the same service waits already ({start})",
            next_step=f"have it signed, or take it away with: stelsel agreement reject {start}",
        )


def _dated(certificate: x509.Certificate) -> Dated:
    return Dated(certificate.subject.rfc4514_string(), certificate.not_valid_after_utc.timestamp())
