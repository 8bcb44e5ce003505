"""The node's side of the operator's socket: what commands can ask of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.agreements.agreement import State
from stelsel.agreements.proposals import (
    ConnectionProposal,
    DelegatedConnectionProposal,
    DelegatedPublicationProposal,
    PublicationProposal,
)
from stelsel.agreements.readable import sentences
from stelsel.agreements.service import Agreements
from stelsel.agreements.stored import StoredContract
from stelsel.agreements.terms import terms_of
from stelsel.base.errors import BadRequest, ConfigurationFault, NotFound, Unprocessable
from stelsel.base.web import read_json
from stelsel.control.selectors import find
from stelsel.ledger.query import Entry, Query
from stelsel.ledger.service import Ledger

Json = dict[str, Any]
_LONGEST_NUMBER = 15
_PATIENCE = 1.0
"""Seconds that who asks how the node stands waits for the index."""
Command = Callable[[Json], Awaitable[Any]]


@dataclass(frozen=True)
class Rooms:
    """What the control API reaches of a node."""

    agreements: Agreements
    ledger: Ledger
    about: Callable[[], Json]
    """What this node is: ids, addresses, version. No secrets."""
    names: Callable[[], dict[str, str]]
    """Peer id to name, of the peers known here."""
    commands: dict[str, Command]
    """Commands of the rooms that this node has beside these two, by name: explain, publish, check, activate."""
    decisions: tuple[BaseRoute, ...] = ()
    """The AuthZEN decision point, for this organisation's own enforcement points; audit and witnesses."""


def routes(rooms: Rooms) -> list[BaseRoute]:
    """The control API."""
    api = _Api(rooms)
    return [
        Route("/about", api.about),
        Route("/peers", api.peers),
        Route("/services", api.services),
        Route("/agreements", api.listing),
        Route("/agreements", api.propose, methods=["POST"]),
        Route("/agreements/{selector}", api.show),
        Route("/agreements/{selector}/{action}", api.act, methods=["POST"]),
        Route("/log", api.log, methods=["POST"]),
        Route("/receipts/{index}", api.receipt),
        Route("/commands/{name}", api.command, methods=["POST"]),
        *rooms.decisions,
    ]


class _Api:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._actions: dict[str, Callable[[str], Awaitable[None]]] = {
            "accept": rooms.agreements.accept,
            "reject": rooms.agreements.reject,
            "revoke": rooms.agreements.revoke,
            "resend": rooms.agreements.resend,
        }

    async def about(self, request: Request) -> Response:
        del request
        ledger = self._rooms.ledger
        building = ledger.building  # before the root is asked: for that the index would hurry
        size, root = await ledger.tree(_PATIENCE)
        told = {"size": size, "root": None if root is None else root.hex(), "index": asdict(building)}
        return JSONResponse(self._rooms.about() | {"ledger": told})

    async def peers(self, request: Request) -> Response:
        del request
        listed = await self._rooms.agreements.directory_peers()
        return JSONResponse(
            [{"peer_id": peer.peer_id, "name": peer.name, "manager": peer.manager_address} for peer in listed]
        )

    async def services(self, request: Request) -> Response:
        del request
        listed = await self._rooms.agreements.directory_services()
        return JSONResponse(
            [
                {
                    "peer_id": service.peer.peer_id,
                    "peer": service.peer.name,
                    "service": service.name,
                    "description": service.description,
                    "protocol": service.protocol,
                }
                for service in listed
            ]
        )

    async def listing(self, request: Request) -> Response:
        wanted = request.query_params.get("state")
        if wanted is not None and wanted not in set(State):
            raise BadRequest("there is no such state", next_step=f"choose from {', '.join(State)}")
        state = State(wanted) if wanted else None
        names = self._rooms.names()
        return JSONResponse([_summary(stored, names) for stored in self._rooms.agreements.contracts(state=state)])

    async def show(self, request: Request) -> Response:
        stored = self._find(request.path_params["selector"])
        names = self._rooms.names()
        languages = {
            language: [line for agreement in stored.agreements for line in sentences(agreement, language, names)]
            for language in ("nl", "en")
        }
        return JSONResponse(_summary(stored, names) | {"content": stored.content, "readable": languages})

    async def propose(self, request: Request) -> Response:
        body = await read_json(request)
        content_hash = await self._rooms.agreements.propose(_proposal(body))
        return JSONResponse(_summary(self._rooms.agreements.contract(content_hash), self._rooms.names()), 201)

    async def act(self, request: Request) -> Response:
        action = self._actions.get(request.path_params["action"])
        if action is None:
            raise NotFound("there is no such action", next_step=f"choose from {', '.join(self._actions)}")
        stored = self._find(request.path_params["selector"])
        await action(stored.content_hash)
        return JSONResponse(_summary(self._rooms.agreements.contract(stored.content_hash), self._rooms.names()))

    async def log(self, request: Request) -> Response:
        try:
            query = Query(**await read_json(request))
        except TypeError as error:
            raise BadRequest("the log cannot be asked that", next_step="see: stelsel log --help") from error
        return JSONResponse([_entry(entry) for entry in await self._rooms.ledger.find(query)])

    async def receipt(self, request: Request) -> Response:
        index = request.path_params["index"]
        if not (index.isascii() and index.isdecimal() and len(index) <= _LONGEST_NUMBER):
            raise BadRequest("a receipt is asked by the number of a record", next_step="see them with: stelsel log")
        return JSONResponse(await self._rooms.ledger.receipt(int(index)))

    async def command(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._rooms.commands:
            raise NotFound(f"this node has no {name}", next_step="ask the node whose task it is")
        body = await read_json(request)
        _only(body, _MEMBERS[name])
        try:
            return JSONResponse(await self._rooms.commands[name](body))
        except ConfigurationFault as fault:  # a file that the operator named, not one of this node's own
            raise Unprocessable(fault.detail, next_step=fault.next_step) from fault

    def _find(self, selector: str) -> StoredContract:
        """The contract whose content hash, or a grant hash in it, starts with or equals `selector`."""
        return find(self._rooms.agreements.contracts(), selector)


_MEMBERS = {
    "explain": frozenset({"service", "fields"}),
    "publish": frozenset({"schema", "source", "query"}),
    "check": frozenset({"peer_id"}),
    "activate": frozenset({"name", "burgerservicenummer"}),
    "sign-again": frozenset(),
    "catch-up": frozenset({"peer_id"}),
    "reload": frozenset({"keep_workers"}),
    "restart": frozenset(),
    "diff": frozenset({"selector"}),
    "renew": frozenset({"selector", "days", "keep_key"}),
    "simulate": frozenset({"selector", "revoke", "without_field", "certificate_expires", "days"}),
    "reconcile": frozenset({"peer_id", "since"}),
    "radar": frozenset({"days", "urgent_days"}),
    "doctor": frozenset(),
    "prune": frozenset({"before", "dry_run"}),
    "retention": frozenset(),
}
"""Every command, and what may be said with it."""
_CONNECTION = frozenset(
    {"peer_id", "service", "properties", "days", "delegator", "service_delegator", "outway_domain_name"}
)
_PUBLICATION = frozenset({"service", "description", "personal", "days", "delegator"})


def _only(body: Json, members: frozenset[str]) -> None:
    """Refuses a member that means nothing here: what was meant by it would silently not happen."""
    if not body.keys() <= members:
        raise BadRequest(f"only these can be given here: {', '.join(sorted(members))}")


def _proposal(body: Json) -> ConnectionProposal | PublicationProposal:
    _only(body, _CONNECTION if "peer_id" in body else _PUBLICATION)
    days = body.get("days", 365)
    service = body.get("service")
    if isinstance(days, bool) or not isinstance(days, int) or not 0 < days <= 3650 or not isinstance(service, str):
        raise BadRequest("a proposal names a service and a number of days from 1 to 3650")
    delegator = _text(body, "delegator")
    if "peer_id" not in body:
        personal = body.get("personal", False)
        if not isinstance(personal, bool):  # the text "false" would count as true
            raise BadRequest("personal must be true or false")
        about: Json = {"description": str(body.get("description", "")), "personal": personal}
        if delegator is None:
            return PublicationProposal(service, days=days, **about)
        return DelegatedPublicationProposal(service, days=days, delegator=delegator, **about)
    connection: Json = {
        "provider": str(body["peer_id"]),
        "service": service,
        "terms": terms_of(body.get("properties")),
        "days": days,
        "service_delegator": _text(body, "service_delegator"),
        "outway_domain_name": _text(body, "outway_domain_name"),
    }
    if delegator is None:
        return ConnectionProposal(**connection)
    return DelegatedConnectionProposal(**connection, delegator=delegator)


def _text(body: Json, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"{name} must be text")
    return value


def _summary(stored: StoredContract, names: dict[str, str]) -> Json:
    grants = [grant["data"] for grant in stored.content["grants"]]
    return {
        "content_hash": stored.content_hash,
        "state": stored.state.value,
        "proposed_by": {"peer_id": stored.proposed_by, "name": names.get(stored.proposed_by, "")},
        "grants": [
            {
                "type": grant["type"],
                "service": grant["service"]["name"],
                "provider": grant["service"]["peer_id"],
                "consumer": grant.get("outway", {}).get("peer_id"),
                "delegator": grant.get("delegator", {}).get("peer_id"),
                "service_delegator": grant["service"].get("delegator", {}).get("peer_id"),
            }
            for grant in grants
        ],
        "grant_hashes": [agreement.grant_hash for agreement in stored.agreements],
        "not_before": stored.content["validity"]["not_before"],
        "not_after": stored.content["validity"]["not_after"],
        "waiting_for": list(stored.unsigned),
        "deliveries": [
            {
                "peer_id": delivery.peer_id,
                "kind": delivery.kind,
                "status": delivery.status,
                "attempts": delivery.attempts,
                "reason": delivery.reason,
                "evidence": delivery.evidence,
            }
            for delivery in stored.deliveries
        ],
    }


def _entry(entry: Entry) -> Json:
    return {"index": entry.index} | entry.record.to_json()
