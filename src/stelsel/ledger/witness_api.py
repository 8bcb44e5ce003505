"""HTTP of a witness, at the manager behind mutual TLS: C2SP tlog-witness under `/stelsel/v1/witness`.

`POST .../add-checkpoint` and `GET .../<origin hash>/checkpoint` are the standard's. Two paths are our own: a ledger
introduces itself with its peer's word for its key (`.../introduction`), and gets the witness's in return; and whoever
is in the group may read what the witness caught (`.../findings`), to check it offline.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.base.errors import NotFound
from stelsel.base.web import client_certificate, read_body, read_json
from stelsel.ledger.witness import MAXIMUM_REQUEST, Outdated
from stelsel.ledger.witness_service import Witness

PREFIX = "/stelsel/v1/witness"
_HASH_LENGTH = 64


def routes(witness: Witness) -> list[BaseRoute]:
    """The routes for the manager."""

    async def introduction(request: Request) -> Response:
        by = client_certificate(request).peer_id
        document = await read_json(request)
        return JSONResponse({"endorsement": await witness.introduce(document.get("endorsement"), by)})

    async def add_checkpoint(request: Request) -> Response:
        by = client_certificate(request).peer_id
        try:
            return PlainTextResponse(await witness.cosign(await read_body(request, MAXIMUM_REQUEST), by))
        except Outdated as outdated:
            return Response(f"{outdated.size}\n", outdated.status, media_type="text/x.tlog.size")

    async def checkpoint(request: Request) -> Response:
        client_certificate(request)
        origin_hash = request.path_params["origin_hash"]
        if len(origin_hash) != _HASH_LENGTH or not set(origin_hash) <= set("0123456789abcdef"):
            raise NotFound("a ledger is asked by the SHA-256 of its origin, in lower-case hexadecimal")
        return PlainTextResponse(witness.checkpoint(origin_hash), headers={"Cache-Control": "no-store"})

    async def findings(request: Request) -> Response:
        client_certificate(request)
        return JSONResponse({"findings": [caught.to_json() for caught in witness.findings()]})

    return [
        Route(f"{PREFIX}/introduction", introduction, methods=["POST"]),
        Route(f"{PREFIX}/add-checkpoint", add_checkpoint, methods=["POST"]),
        Route(f"{PREFIX}/findings", findings, methods=["GET"]),
        Route(f"{PREFIX}/{{origin_hash}}/checkpoint", checkpoint, methods=["GET"]),
    ]
