"""HTTP of this room: the service `inzage` behind the node's own inway, and the AuthZEN decision point.

`routes` answers `{"gebruik": [...]}` and `{"bewijs": {...}}`: all an answer holds lies under the one field that was
asked, so the inway's gate and guard treat it as they treat any service about people.
"""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.agreements.agreement import Agreement
from stelsel.agreements.services import Service
from stelsel.base.clock import Clock
from stelsel.base.errors import BadRequest, Fault
from stelsel.base.text import inert
from stelsel.base.web import problem_response, read_json
from stelsel.privacy import bsn
from stelsel.privacy.authzen import AgreementIndex, evaluate, read_question
from stelsel.privacy.insight import INSIGHT_SERVICE, Insight

USES, RECEIPT, SUBJECT, INDEX = "gebruik", "bewijs", "burgerservicenummer", "index"
_MAXIMUM_BODY = 16 * 1024
_LARGEST_INDEX = 2**53 - 1
_NO_STORE = {"Cache-Control": "no-store"}


def service(endpoint: str) -> Service:
    """The settings with which a node offers insight: `endpoint` is `unix:<data>/inzage.sock`."""
    return Service(
        name=INSIGHT_SERVICE,
        endpoint=endpoint,
        description="Laat een inwoner zien wie haar gegevens heeft gebruikt, en bewijst het",
        personal=True,
        subject_parameter=SUBJECT,
        records="",
    )


def routes(insight: Insight) -> list[BaseRoute]:
    """The routes of the service `inzage`. It trusts who reaches it: serve it where only the inway can."""

    async def uses(request: Request) -> JSONResponse:
        members = await _members(request, USES)
        before = _index(members) if INDEX in members else None
        rows = await insight.uses(_subject(members), before_index=before)
        return JSONResponse({USES: [row.to_json() for row in rows]}, headers=_NO_STORE)

    async def receipt(request: Request) -> JSONResponse:
        members = await _members(request, RECEIPT)
        if INDEX not in members:
            raise BadRequest("say which record: `index` is mandatory", code="paramsRequired")
        return JSONResponse({RECEIPT: await insight.receipt(_subject(members), _index(members))}, headers=_NO_STORE)

    return [Route(f"/{USES}", uses, methods=["POST"]), Route(f"/{RECEIPT}", receipt, methods=["POST"])]


async def _members(request: Request, field: str) -> dict[str, Any]:
    members = await read_json(request, _MAXIMUM_BODY)
    if not members.keys() <= {"type", "fields", SUBJECT, INDEX}:
        raise BadRequest(f"only fields, {SUBJECT} and {INDEX} can be asked here", code="unknownParam")
    if members.get("fields") != [field]:
        raise BadRequest(f'ask for what this gives: "fields": ["{field}"]', code="paramsRequired")
    return members


def _subject(members: dict[str, Any]) -> str:
    given = members.get(SUBJECT)
    number = given[0] if isinstance(given, list) and len(given) == 1 else given
    if not isinstance(number, str) or not bsn.valid(number):
        raise BadRequest(f"{SUBJECT} must be one valid citizen service number", code="paramsValidation")
    return number


def _index(members: dict[str, Any]) -> int:
    index = members[INDEX]
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < _LARGEST_INDEX:
        raise BadRequest(f"{INDEX} must be a whole number from 0", code="paramsValidation")
    return index


class AgreementsSource(Protocol):
    """What the decision point needs of the agreements."""

    peer_id: str

    def agreements(self) -> tuple[Agreement, ...]: ...

    def on_change(self, callback: Any) -> Any: ...


def authzen_routes(
    agreements: AgreementsSource, services: tuple[Service, ...], clock: Clock, address: str
) -> list[BaseRoute]:
    """The AuthZEN decision point for this peer's services; `address` is its https identifier, without a path.

    It tells who may ask what: serve it where only this organisation's own enforcement points can reach it.
    """
    by_name = {service.name: service for service in services}
    index = AgreementIndex(agreements.peer_id, agreements.agreements())

    def rebuild() -> None:
        nonlocal index
        index = AgreementIndex(agreements.peer_id, agreements.agreements())

    agreements.on_change(rebuild)

    async def evaluation(request: Request) -> Response:
        headers = _request_id(request)
        try:
            question = read_question(await read_json(request))
        except Fault as fault:
            response = problem_response(fault)
            response.headers.update(headers)
            return response
        answer = evaluate(question, by_name, index, clock.now())
        return Response(answer.to_bytes(), media_type="application/json", headers=headers)

    async def configuration(request: Request) -> JSONResponse:
        del request
        return JSONResponse(
            {"policy_decision_point": address, "access_evaluation_endpoint": f"{address}/access/v1/evaluation"}
        )

    return [
        Route("/access/v1/evaluation", evaluation, methods=["POST"]),
        Route("/.well-known/authzen-configuration", configuration, methods=["GET"]),
    ]


def _request_id(request: Request) -> dict[str, str]:
    """The request's own id, given back (AuthZEN 1.0, 10.1.3); one that could do harm in a header or log is not."""
    given = request.headers.get("x-request-id", "")
    return {"X-Request-ID": given} if given.isascii() and given == inert(given, 200) and given else {}
