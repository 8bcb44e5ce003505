"""What the operator asks about reconciliation: compare now, what was found, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.base.clock import Clock, moment
from stelsel.base.errors import BadRequest
from stelsel.base.ids import is_oin
from stelsel.base.text import inert
from stelsel.control.api import Command, Json
from stelsel.control.observation import Observation
from stelsel.ledger.reconcile import Discrepancy
from stelsel.ledger.reconcile_service import Outcome, Reconciliation
from stelsel.ledger.reconcile_store import Standing

_MOST_SHOWN = 200
_LONG_TROUBLE = 86_400.0
"""Seconds after which a log that cannot be compared is no passing trouble any more."""


@dataclass(frozen=True)
class Comparing:
    """What this reaches of a node."""

    reconciliation: Reconciliation
    clock: Clock

    def commands(self) -> dict[str, Command]:
        """The commands by name, for the operator's socket."""
        return {"reconcile": self.reconcile}

    def public_routes(self) -> list[BaseRoute]:
        """Counts for anyone: no peer, no transaction."""

        async def counts(_: Request) -> Response:
            return JSONResponse(count(self.reconciliation.standings()))

        return [Route("/stelsel/v1/ledger/reconciliation", counts, methods=["GET"])]

    def examine(self) -> list[Observation]:
        """For the doctor."""
        return [judge(self.reconciliation.standings(), self.clock.now())]

    async def reconcile(self, body: Json) -> Json:
        """Compare with one peer or all, and tell all that stands."""
        peer_id, since = body.get("peer_id"), body.get("since")
        if peer_id is not None and not (isinstance(peer_id, str) and is_oin(peer_id)):
            raise BadRequest("a peer is named by its OIN, 20 digits")
        if since is not None and (isinstance(since, bool) or not isinstance(since, int | float) or since < 0):
            raise BadRequest("since must be a moment in seconds")
        outcomes = await self.reconciliation.run(peer_id, None if since is None else float(since))
        kept = self.reconciliation.kept(peer_id, _MOST_SHOWN)
        standings = {each.peer_id: each for each in self.reconciliation.standings()}
        return {
            "peers": [
                _outcome(outcome) | _standing(standings.get(outcome.peer_id, Standing(outcome.peer_id)))
                for outcome in outcomes
            ],
            "found": [{"peer_id": each.peer_id} | _discrepancy(each.discrepancy) for each in kept],
        }


def count(standings: list[Standing]) -> dict[str, Any]:
    """How it stands with all peers together."""
    current = [each for each in standings if each.current]
    compared = [each.up_to for each in current if each.up_to]
    return {
        "counterparties": len(current),
        "compared": len(compared),
        "compared_until": moment(min(compared)) if compared else None,
        "contradictions": sum(each.certain for each in standings),
        "possibly_not_arrived": sum(each.uncertain for each in standings),
        "beyond_these": sum(each.not_kept for each in standings),
        "cannot_be_compared": sum(bool(each.trouble) for each in current),
    }


def judge(standings: list[Standing], now: float) -> Observation:
    """Whether counterparties' logs tell what ours tells."""
    title, see = "reconciliation", "see which with: stelsel log reconcile"
    contradicting = [each.peer_id for each in standings if each.certain]
    if contradicting:
        total = sum(each.certain for each in standings)
        detail = f"{total} transaction(s) are told by one side only, or otherwise ({', '.join(contradicting)})"
        return Observation(title, False, detail, f"{see}; one of the two logs is wrong: put it to that organisation")
    current = [each for each in standings if each.current]
    lasting = [each for each in current if each.trouble and now - each.trouble_since > _LONG_TROUBLE]
    if lasting:
        why = "; ".join(f"{each.peer_id}: {inert(each.trouble, 200)}" for each in lasting[:5])
        step = "ask that organisation why its log cannot be read; what was missed is compared later"
        return Observation(title, False, f"not possible for more than a day ({why})", step)
    if not current:
        return Observation(title, None, "there are no counterparties to compare with")
    counts = count(standings)
    if counts["compared"] < counts["counterparties"] or counts["cannot_be_compared"]:
        detail = f"{counts['compared']} of {counts['counterparties']} logs were compared with ours so far"
        return Observation(title, None, detail, see)
    uncertain = counts["possibly_not_arrived"]
    more = f"; {uncertain} request(s) may not have arrived" if uncertain else ""
    return Observation(title, True, f"{len(current)} log(s) tell what ours tells{more}")


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "peer_id": outcome.peer_id,
        "from": moment(outcome.start),
        "until": moment(outcome.stop),
        "ours": outcome.ours,
        "theirs": outcome.theirs,
        "new": len(outcome.found) + outcome.more,
        "trouble": outcome.trouble,
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {"contradictions": standing.certain, "possibly_not_arrived": standing.uncertain}


def _discrepancy(found: Discrepancy) -> dict[str, Any]:
    logged = found.logged
    return {
        "kind": found.kind.value,
        "certain": found.kind.certain,
        "transaction_id": logged.transaction_id,
        "time": moment(logged.at),
        "consumer": logged.consumer,
        "provider": logged.provider,
        "service": inert(logged.service, 100),
        "grant_hash": inert(logged.grant_hash, 200),
        "detail": found.detail,
    }
