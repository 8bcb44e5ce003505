"""Commands for people who manage agreements: diff, renewal, simulation, radar, and the running half of the doctor."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from stelsel.agreements.agreement import State
from stelsel.agreements.difference import differences, relation
from stelsel.agreements.policy import Verdict
from stelsel.agreements.radar import URGENT_DAYS, Dated, Own, expiring
from stelsel.agreements.readable import named
from stelsel.agreements.renewal import renew, what_follows
from stelsel.agreements.service import Agreements
from stelsel.agreements.stored import StoredContract
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.errors import BadRequest, Conflict, Unavailable
from stelsel.control import in_motion
from stelsel.control.api import Command, Json
from stelsel.control.selectors import find
from stelsel.exchange.simulation import Event, Flow, certificate_expiry, field_gone, revocation, simulate
from stelsel.exchange.uses import uses_of
from stelsel.ledger.service import Ledger

_LONGEST_LOOK = 3660
"""Days."""


@dataclass(frozen=True)
class Managing:
    """What these commands reach of a node."""

    agreements: Agreements
    ledger: Ledger
    keypair: KeyPair
    anchors: TrustAnchors
    clock: Clock
    inway_address: str | None

    def commands(self) -> dict[str, Command]:
        """The commands by name, for the operator's socket."""
        return {
            "diff": self.diff,
            "renew": self.renew,
            "simulate": self.simulate,
            "radar": self.radar,
            "doctor": self.doctor,
        }

    async def diff(self, body: Json) -> Json:
        """What a contract changes against what runs, and whether it would be accepted without anyone looking."""
        contracts = self.agreements.contracts()
        stored = find(contracts, _text(body, "selector"))
        found = await asyncio.to_thread(differences, stored, contracts, self.clock.now())
        return {
            "content_hash": stored.content_hash,
            "state": stored.state.value,
            "widens": any(difference.widens for difference in found),
            "grants": [difference.to_json() for difference in found],
            "approval": self._verdict(stored).to_json(),
        }

    async def renew(self, body: Json) -> Json:
        """Propose a contract anew."""
        now, contracts = self.clock.now(), self.agreements.contracts()
        stored = find(contracts, _text(body, "selector"))
        days = body.get("days")
        if days is not None and (isinstance(days, bool) or not isinstance(days, int)):
            raise BadRequest("the number of days must be a whole number")
        certificate = self.keypair.certificate
        renewal = renew(
            stored.contract, stored.state, certificate, now, days=days, keep_key=body.get("keep_key") is True
        )
        _check_not_waiting(stored, contracts)
        content_hash = await self.agreements.propose_content(renewal.content)
        names = self.agreements.peer_names()
        others = tuple(named(peer_id, names) for peer_id in stored.others)
        return {
            "content_hash": content_hash,
            "renews": stored.content_hash,
            "days": renewal.days,
            "new_key": renewal.new_key,
            "follows": [words.to_json() for words in what_follows(stored.contract, renewal, others, now)],
        }

    async def simulate(self, body: Json) -> Json:
        """What would break."""
        days = _number(body, "days", 30, _LONGEST_LOOK)
        now, contracts = self.clock.now(), self.agreements.contracts()
        stored = find(contracts, _text(body, "selector"))
        event = _event(stored, contracts, body, now)
        live = [agreement.grant_hash for agreement in event.agreements if agreement.holds(now)]
        uses = await uses_of(self.ledger, live, self.agreements.peer_id, now, days)
        flows = await asyncio.to_thread(simulate, event, self.agreements.agreements(), uses.by_grant, now, days)
        names = self.agreements.peer_names()
        return {
            "content_hash": stored.content_hash,
            "state": stored.state.value,
            "at": int(event.at),
            "days": days,
            "complete": uses.complete,
            "breaks": any(flow.breaking for flow in flows),
            "flows": [_shown(flow, names) for flow in flows],
        }

    async def radar(self, body: Json) -> Json:
        """What ends soon."""
        days, urgent = _number(body, "days", 90, 36_500), _number(body, "urgent_days", URGENT_DAYS, 36_500)
        now, lists = self.clock.now(), self.anchors.revocations
        found = await asyncio.to_thread(
            expiring,
            self.agreements.contracts(),
            own_certificates(self.keypair, self.anchors),
            lists.lists() if lists is not None else (),
            self.agreements.peer_names(),
            now,
            days=days,
            urgent_days=urgent,
        )
        return {
            "days": days,
            "urgent": any(item.urgent for item in found),
            "expiring": [item.to_json(now) for item in found],
        }

    async def doctor(self, body: Json) -> list[Json]:
        """What a running node sees of itself and its surroundings."""
        del body
        seen = await in_motion.examine(self.agreements, self.ledger, self.anchors, self.clock, self.inway_address)
        return [observation.to_json() for observation in seen]

    async def version_of(self, peer_id: str) -> str:
        """Which FSC a peer's manager says that it speaks. Raises `Unavailable`."""
        answer = await in_motion.ask(self.agreements, peer_id, self.clock)
        if answer.trouble:
            raise Unavailable(answer.trouble)
        return answer.version

    def _verdict(self, stored: StoredContract) -> Verdict:
        return self.agreements.verdict(stored.content_hash)


def own_certificates(keypair: KeyPair, anchors: TrustAnchors) -> Own:
    """This peer's certificates, for the radar."""
    certificate = keypair.certificate
    return Own(
        peer_id=certificate.peer_id,
        certificate=Dated(certificate.peer_name, certificate.not_after),
        issuers=tuple(_dated(x509.load_der_x509_certificate(der)) for der in keypair.chain[1:]),
        anchors=tuple(_dated(anchor) for anchor in x509.load_pem_x509_certificates(anchors.pem)),
    )


def _dated(certificate: x509.Certificate) -> Dated:
    return Dated(certificate.subject.rfc4514_string(), certificate.not_valid_after_utc.timestamp())


def _event(stored: StoredContract, contracts: list[StoredContract], body: Json, now: float) -> Event:
    wanted = [name for name in ("revoke", "without_field", "certificate_expires") if body.get(name)]
    if len(wanted) != 1:
        raise BadRequest(
            "say what is to happen, one thing at a time",
            next_step="choose one of --revoke, --without-field and --certificate-expires",
        )
    if wanted == ["revoke"]:
        return revocation(stored, now)
    if wanted == ["certificate_expires"]:
        return certificate_expiry(stored, contracts, now)
    return field_gone(stored, _text(body, "without_field"), now)


def _check_not_waiting(stored: StoredContract, contracts: list[StoredContract]) -> None:
    """Raises `Conflict` when a renewal of this contract waits already: two that both get signed help nobody."""
    wanted = {relation(grant) for grant in stored.contract.grants}
    for other in contracts:
        newer = other.contract.created_at >= stored.contract.created_at and other.content_hash != stored.content_hash
        if newer and other.state is State.PROPOSED and {relation(grant) for grant in other.contract.grants} == wanted:
            start = other.content_hash.rpartition("$")[2][:12]
            raise Conflict(
                f"a newer proposal between the same peers about the same service waits already ({start})",
                next_step=f"have it signed, or take it away with: stelsel agreement reject {start}",
            )


def _shown(flow: Flow, names: dict[str, str]) -> dict[str, Any]:
    return flow.to_json() | {
        "consumer_name": named(flow.consumer, names),
        "provider_name": named(flow.provider, names),
    }


def _text(body: Json, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 300:
        raise BadRequest(f"{name} is missing")
    return value


def _number(body: Json, name: str, default: int, most: int) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BadRequest(f"{name} must be a whole number from 1 to {most}")
    return value
