"""Steering on HTTP: the board, the log and the goals for anyone; standings and node information for peers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

import stelsel
from stelsel.base.canonical import canonical
from stelsel.base.clock import moment
from stelsel.base.errors import BadRequest
from stelsel.base.ids import is_oin
from stelsel.base.web import client_certificate
from stelsel.steering.gate import evidence, refusal
from stelsel.steering.service import Steering
from stelsel.steering.store import Log

_LONGEST_NUMBER = 15


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node tells other peers of itself."""

    web_address: str
    """Where its website is, without a slash at the end; empty when it has none."""
    inway_address: str | None

    def to_json(self) -> dict[str, Any]:
        """The document at `/stelsel/v1/node`."""
        return {"web_address": self.web_address, "inway_address": self.inway_address, "version": stelsel.__version__}


def node_routes(info: NodeInfo) -> list[BaseRoute]:
    """For the manager of every node (mutual TLS): who it is besides its manager."""

    async def node(request: Request) -> Response:
        client_certificate(request)
        return JSONResponse(info.to_json())

    return [Route("/stelsel/v1/node", node)]


def manager_routes(steering: Steering) -> list[BaseRoute]:
    """For the steward's manager (mutual TLS): may this peer have a new contract?"""

    async def standing(request: Request) -> Response:
        client_certificate(request)
        peer_id = request.path_params["peer_id"]
        if not is_oin(peer_id):
            raise BadRequest("a peer id is an OIN: twenty digits")
        now = steering.now()
        standings = steering.standings(peer_id, now)
        refused = refusal(standings)
        document = {
            "peer": peer_id,
            "at": moment(now),
            "refusal": None if refused is None else {"reason": refused.reason, "evidence": refused.evidence},
            "standings": [
                {
                    "obligation": one.obligation.id,
                    "state": one.state.value,
                    "due": one.due,
                    "refuses": one.refuses,
                    "evidence": evidence(one),
                }
                for one in standings
            ],
        }
        return JSONResponse(document)

    return [Route("/stelsel/v1/standing/{peer_id}", standing)]


def routes(steering: Steering) -> list[BaseRoute]:
    """For anyone, on the steward's website, as JSON. Nothing in it is about a person."""

    async def board(_: Request) -> Response:
        return JSONResponse(steering.board().to_json())

    async def findings(request: Request) -> Response:
        start = _number(request.query_params.get("from", "0"))
        limit = _number(request.query_params["limit"]) if "limit" in request.query_params else None
        return StreamingResponse(_lines(steering.log, start, limit), media_type="application/x-ndjson")

    def finding(request: Request) -> Response:
        entry = steering.log.entry(_number(request.path_params["index"]))
        return Response(canonical(entry.to_json()), media_type="application/json")

    def certificate(_: Request) -> Response:
        return Response(steering.certificate_pem, media_type="application/pem-certificate-chain")

    async def goals(_: Request) -> Response:
        return JSONResponse({"goals": await steering.goals.reports()})

    async def goal(request: Request) -> Response:
        return JSONResponse(await steering.goals.report(request.path_params["identifier"]))

    return [
        Route("/steering/board", board),
        Route("/steering/findings", findings),
        Route("/steering/findings/{index}", finding),
        Route("/steering/certificate", certificate),
        Route("/steering/goals", goals),
        Route("/steering/goals/{identifier}", goal),
    ]


def _lines(log: Log, start: int, limit: int | None) -> Iterator[bytes]:
    for entry in log.entries(start, limit):
        yield canonical(entry.to_json()) + b"\n"


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise BadRequest("a whole number is expected here")
    return int(text)
