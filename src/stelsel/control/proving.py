"""What the operator asks about proof: the audit of the ledger, and how it stands with witnesses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from stelsel.base.clock import Clock, moment
from stelsel.base.errors import BadRequest, Fault
from stelsel.base.text import inert
from stelsel.base.web import read_json
from stelsel.control.observation import Observation
from stelsel.ledger.audit import Progress
from stelsel.ledger.cosignature import Cosigned
from stelsel.ledger.service import Ledger
from stelsel.ledger.settings import LedgerSettings
from stelsel.ledger.witness_service import UNPROVEN, Witness
from stelsel.ledger.witness_store import Caught
from stelsel.ledger.witnessing import Witnessing, WitnessStatus

_PAUSE = 0.0002
"""Seconds that an audit of a running node leaves to its traffic, each 64 records."""
_LATE = 3
"""Intervals, and the hour in which a ledger at rest is not cosigned anew, after which a cosignature is overdue."""
_HOUR = 3600.0


@dataclass(frozen=True)
class Proving:
    """What this reaches of a node."""

    ledger: Ledger
    witness: Witness
    witnessing: Witnessing
    settings: LedgerSettings
    clock: Clock

    def routes(self) -> list[BaseRoute]:
        """For the operator's socket."""
        return [Route("/witnesses", self._witnesses), Route("/audit", self._audit, methods=["POST"])]

    def examine(self) -> list[Observation]:
        """For the doctor."""
        witnesses = judge_witnesses(self.witnessing.status, self.ledger.cosigned, self.settings, self.clock.now())
        return [witnesses, judge_caught(self.witness.findings())]

    async def _witnesses(self, request: Request) -> Response:
        del request
        cosigned = self.ledger.cosigned
        return JSONResponse(
            {
                "witnesses": [asdict(each) for each in self.witnessing.status],
                "quorum": self.settings.witness_quorum,
                "cosigned": None
                if cosigned is None
                else {
                    "size": cosigned.checkpoint.size,
                    "time": cosigned.checkpoint.time,
                    "witnesses": len(cosigned.witnesses),
                },
                "witness_of": self.witness.witnessed,
                "findings": [caught.to_json() for caught in self.witness.findings()],
            }
        )

    async def _audit(self, request: Request) -> Response:
        if await read_json(request):
            raise BadRequest("an audit is of the whole ledger: nothing can be given")

        async def lines() -> AsyncIterator[bytes]:
            await self.witnessing.look()
            try:
                async for step in self.ledger.audit(_PAUSE):
                    yield _line(asdict(step) if isinstance(step, Progress) else {"report": step.to_json()})
            except Fault as fault:  # the answer has begun, so the status can no longer say it
                yield _line({"fault": fault.problem()})

        return StreamingResponse(lines(), media_type="application/x-ndjson")


def judge_witnesses(
    status: tuple[WitnessStatus, ...], cosigned: Cosigned | None, settings: LedgerSettings, now: float
) -> Observation:
    """Whether enough witnesses cosign our checkpoints."""
    title = "witnesses"
    if not settings.witnesses:
        return Observation(title, None, "none: nobody else can show that this ledger was never rewritten")
    against = [each.peer_id for each in status if each.contradicts]
    if against:
        detail = f"{', '.join(against)} saw another history of this ledger"
        return Observation(title, False, detail, "run: stelsel log audit")
    troubles = "; ".join(f"{each.peer_id}: {inert(each.trouble, 200)}" for each in status if each.trouble)
    step = "see that these peers run and are witnesses; what they cosigned before stays valid"
    if cosigned is None:
        return Observation(title, False if troubles else None, troubles or "not asked yet", step if troubles else "")
    since = moment(cosigned.checkpoint.time)
    if now - cosigned.checkpoint.time > _HOUR + _LATE * settings.witness_interval:
        return Observation(title, False, f"the last cosigned checkpoint is of {since} ({troubles})", step)
    detail = f"{len(cosigned.witnesses)} cosigned {cosigned.checkpoint.size} records on {since}"
    return Observation(title, True, f"{detail}; but {troubles}" if troubles else detail)


def judge_caught(findings: list[Caught]) -> Observation:
    """Whether we, as a witness, caught a ledger that told two histories."""
    title = "ledgers of others"
    if not findings:
        return Observation(title, True, "no ledger that we witness told two histories")
    proven = sorted({caught.peer_id for caught in findings if caught.kind != UNPROVEN})
    if not proven:
        peers = ", ".join(sorted({caught.peer_id for caught in findings}))
        return Observation(title, None, f"no proof that they only grew, and none that they did not, came from: {peers}")
    peers = ", ".join(proven)
    step = "save the evidence with: stelsel log audit --evidence FOLDER, and put it to that organisation"
    return Observation(title, False, f"two histories were told by: {peers}", step)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("utf-8") + b"\n"
