"""The gate: no new contract for a peer that does not keep a binding obligation past its deadline.

Only new contracts: running ones are never touched. Not knowing never refuses. The steward is held to the same rules.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol

import httpx

from stelsel.agreements.gate import Refusal
from stelsel.base.canonical import parse_object
from stelsel.base.clock import moment
from stelsel.base.errors import BadRequest, Fault
from stelsel.base.ids import is_oin
from stelsel.base.log import logger
from stelsel.base.text import inert
from stelsel.steering.findings import Standing

_log = logger("steering")
_MAXIMUM_ANSWER = 256 * 1024
_MAXIMUM_REMEMBERED = 1000


def refusal(standings: Iterable[Standing]) -> Refusal | None:
    """Why a peer with these standings gets no new contract, with the findings that show it; None when it may."""
    refusing = [standing for standing in standings if standing.refuses]
    if not refusing:
        return None
    dutch, english = (
        "; ".join(
            f"{getattr(standing.obligation.title, language)} ({standing.obligation.deadline.isoformat()})"
            for standing in refusing
        )
        for language in ("nl", "en")
    )
    reason = (
        f"Deze organisatie houdt zich na de uiterste datum niet aan een verplichte afspraak: {dutch}. Lopende "
        f"afspraken gaan door. / This organisation does not keep a mandatory agreement past its deadline: {english}. "
        "Running agreements go on."
    )
    return Refusal(reason, [item for standing in refusing for item in evidence(standing)])


def evidence(standing: Standing) -> list[dict[str, Any]]:
    """The findings that a standing rests on, as JSON that points into the steward's log."""
    return [
        {
            "obligation": standing.obligation.id,
            "legal_basis": standing.obligation.legal_basis,
            "finding": finding.id,
            "href": f"/steering/findings/{finding.id}",
            "outcome": finding.outcome.value,
            "at": moment(finding.at),
            "check": finding.reference,
            "ruleset_hash": finding.ruleset_hash,
            "evidence_hash": finding.evidence_hash,
            "reasons": [{"nl": reason.nl, "en": reason.en} for reason in finding.reasons],
        }
        for finding in standing.findings
    ]


class _Steering(Protocol):
    def standings(self, peer_id: str, now: float) -> tuple[Standing, ...]: ...


class SteeringGate:
    """The gate at the steward itself: it looks in its own log."""

    def __init__(self, steering: _Steering) -> None:
        self._steering = steering

    async def refuse_reason(self, peer_id: str, now: float) -> Refusal | None:
        """Why new contracts of this peer are refused at `now`; None when they are not."""
        return refusal(self._steering.standings(peer_id, now))


class PeerClient(Protocol):
    """What the gate needs of `Agreements`: a client with mutual TLS that speaks to this very peer only."""

    async def peer_client(self, peer_id: str) -> httpx.AsyncClient: ...


class RemoteGate:
    """The gate at any other peer: it asks the steward (the directory's peer) and remembers the answer for a moment.

    Whatever is not a clear answer by the steward itself lets pass.
    """

    def __init__(
        self,
        agreements: PeerClient,
        directory_address: str,
        directory_peer_id: str,
        *,
        ttl: float = 1,
        patience: float = 2,
    ) -> None:
        self._agreements = agreements
        self._address, self._steward = directory_address, directory_peer_id
        self._ttl, self._patience = min(ttl, 60.0), patience
        self._remembered: OrderedDict[str, tuple[float, Refusal | None]] = OrderedDict()

    async def refuse_reason(self, peer_id: str, now: float) -> Refusal | None:
        """Why new contracts of this peer are refused; None when they are not, or when that is not known."""
        del now  # the steward's own clock decides
        if not is_oin(peer_id):
            return None
        known = self._remembered.get(peer_id)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        answer: Refusal | None = None
        try:
            async with asyncio.timeout(self._patience):
                answer = await self._ask(peer_id)
        except (Fault, httpx.HTTPError, OSError, TimeoutError) as error:
            _log.warning("the steward gave no answer, so nothing is refused", error=type(error).__name__)
        self._remembered[peer_id] = (time.monotonic() + self._ttl, answer)
        self._remembered.move_to_end(peer_id)
        while len(self._remembered) > _MAXIMUM_REMEMBERED:
            self._remembered.popitem(last=False)
        return answer

    async def _ask(self, peer_id: str) -> Refusal | None:
        client = await self._agreements.peer_client(self._steward)  # pins who answers there
        async with client.stream("GET", f"{self._address}/stelsel/v1/standing/{peer_id}") as answer:
            body = await read_limited(answer, _MAXIMUM_ANSWER)
        if answer.status_code != 200:
            return None  # no steering there: then there is nothing to refuse on
        told = parse_object(body)
        found = told.get("refusal")
        if told.get("peer") != peer_id or not isinstance(found, dict):
            return None
        reason, shown = found.get("reason"), found.get("evidence")
        if not isinstance(reason, str) or not isinstance(shown, list) or not shown:
            raise BadRequest("the steward refuses without a reason or without evidence")
        return Refusal(inert(reason, 2000), [item for item in shown[:50] if isinstance(item, dict)])


async def read_limited(answer: httpx.Response, limit: int) -> bytes:
    """The body of an answer that is still open, at most `limit` bytes; more raises `BadRequest`."""
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > limit:
            raise BadRequest(f"the answer is larger than {limit} bytes")
    return bytes(body)
