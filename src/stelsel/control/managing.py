"""Commands for people who manage agreements: diff, renewal, simulation, radar, and the running half of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stelsel.agreements.managing import compare, on_radar, propose_renewal
from stelsel.agreements.radar import URGENT_DAYS
from stelsel.agreements.readable import named
from stelsel.agreements.service import Agreements
from stelsel.agreements.stored import StoredContract
from stelsel.base.certificates import TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.errors import BadRequest, Unavailable
from stelsel.control import in_motion
from stelsel.control.api import Command, Json
from stelsel.control.comparing import Comparing
from stelsel.control.observation import Observation
from stelsel.control.proving import Proving
from stelsel.control.selectors import find
from stelsel.control.upkeep import Upkeep
from stelsel.exchange.simulation import Event, Flow, certificate_expiry, field_gone, revocation
from stelsel.exchange.uses import foresee
from stelsel.ledger.service import Ledger

_LONGEST_LOOK = 3660
"""Days."""


@dataclass(frozen=True)
class Managing:
    """What these commands reach of a node."""

    agreements: Agreements
    ledger: Ledger
    anchors: TrustAnchors
    clock: Clock
    inway_address: str | None
    upkeep: Upkeep
    proving: Proving
    comparing: Comparing

    def commands(self) -> dict[str, Command]:
        """The commands by name, for the operator's socket."""
        return {
            "diff": self.diff,
            "renew": self.renew,
            "simulate": self.simulate,
            "radar": self.radar,
            "doctor": self.doctor,
            **self.comparing.commands(),
        }

    async def diff(self, body: Json) -> Json:
        """What a contract changes against what runs, and whether it would be accepted without anyone looking."""
        stored = self._find(body)
        found = await compare(self.agreements, stored.content_hash, self.clock.now())
        return {
            "content_hash": stored.content_hash,
            "state": stored.state.value,
            "widens": any(difference.widens for difference in found),
            "grants": [difference.to_json() for difference in found],
            "approval": self.agreements.verdict(stored.content_hash).to_json(),
        }

    async def renew(self, body: Json) -> Json:
        """Propose a contract anew."""
        stored, days = self._find(body), body.get("days")
        if days is not None and (isinstance(days, bool) or not isinstance(days, int)):
            raise BadRequest("the number of days must be a whole number")
        keep_key = body.get("keep_key") is True
        now = self.clock.now()
        renewed = await propose_renewal(self.agreements, stored.content_hash, now, days=days, keep_key=keep_key)
        return {
            "content_hash": renewed.content_hash,
            "renews": stored.content_hash,
            "days": renewed.renewal.days,
            "new_key": renewed.renewal.new_key,
            "follows": [words.to_json() for words in renewed.follows],
        }

    async def simulate(self, body: Json) -> Json:
        """What would break."""
        days, now = _number(body, "days", 30, _LONGEST_LOOK), self.clock.now()
        contracts = self.agreements.contracts()
        stored = find(contracts, _text(body, "selector"))
        event = _event(stored, contracts, body, now)
        foreseen = await foresee(self.agreements, self.ledger, event, now, days)
        names = self.agreements.peer_names()
        return {
            "content_hash": stored.content_hash,
            "state": stored.state.value,
            "at": int(event.at),
            "days": days,
            "complete": foreseen.complete,
            "breaks": foreseen.breaks,
            "flows": [_shown(flow, names) for flow in foreseen.flows],
        }

    async def radar(self, body: Json) -> Json:
        """What ends soon."""
        days, urgent = _number(body, "days", 90, 36_500), _number(body, "urgent_days", URGENT_DAYS, 36_500)
        now = self.clock.now()
        found = await on_radar(self.agreements, self.anchors, now, days=days, urgent_days=urgent)
        return {
            "days": days,
            "urgent": any(item.urgent for item in found),
            "expiring": [item.to_json(now) for item in found],
        }

    async def doctor(self, body: Json) -> list[Json]:
        """What a running node sees of itself and its surroundings."""
        del body
        return [observation.to_json() for observation in await self.examine()]

    async def examine(self) -> list[Observation]:
        """The same, for this node's own pages."""
        seen = await in_motion.examine(self.agreements, self.ledger, self.anchors, self.clock, self.inway_address)
        return [*seen, *self.proving.examine(), *self.comparing.examine(), *self.upkeep.examine()]

    async def version_of(self, peer_id: str) -> str:
        """Which FSC a peer's manager says that it speaks. Raises `Unavailable`."""
        answer = await in_motion.ask(self.agreements, peer_id, self.clock)
        if answer.trouble:
            raise Unavailable(answer.trouble)
        return answer.version

    def _find(self, body: Json) -> StoredContract:
        return find(self.agreements.contracts(), _text(body, "selector"))


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
