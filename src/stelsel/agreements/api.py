"""The FSC manager over HTTP (FSC Core 4.4.3 and its OpenAPI), for other peers over mutual TLS.

Every error has FSC's own form (4.4.5): an object with message, domain and code, and the header `Fsc-Error-Code`; at
`/token` the form of RFC 6749.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.agreements import directory, hashes, paging
from stelsel.agreements.dialect import FSC_VERSION, USUAL, Dialect
from stelsel.agreements.fsc_errors import (
    FscFault,
    PeerCertificateVerificationFailed,
    RequestNotReadable,
    TokenRequestFault,
)
from stelsel.agreements.intake import Submission
from stelsel.agreements.memory import Known
from stelsel.agreements.service import Agreements
from stelsel.agreements.stored import ListedPeer
from stelsel.base.certificates import Certificate
from stelsel.base.errors import BadRequest, Fault, Unauthenticated
from stelsel.base.ids import is_oin
from stelsel.base.web import client_certificate, read_body, read_json

MAXIMUM_CONTRACT = 2 * 1024 * 1024
"""Bytes in a submitted contract with its signature: properties of 1 MB must fit (4.2.2.2)."""
MAXIMUM_FORM = 16 * 1024
_KEYS_SECONDS = 60.0  # superseded certificates leave the key set when they have expired

_ADDRESS = re.compile(r"https://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,230}):[0-9]{1,5}")
_GRANT_TYPES = frozenset(hashes.HASH_TYPES)

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(agreements: Agreements) -> list[BaseRoute]:
    """The manager's routes, under /v1."""
    manager = _Manager(agreements)
    listed: list[tuple[str, str, Endpoint]] = [
        ("PUT", "/v1/announce", manager.announce),
        ("POST", "/v1/contracts", manager.submit),
        ("GET", "/v1/contracts", manager.contracts),
        ("PUT", "/v1/contracts/{hash}/accept", manager.accept),
        ("PUT", "/v1/contracts/{hash}/reject", manager.reject),
        ("PUT", "/v1/contracts/{hash}/revoke", manager.revoke),
        ("POST", "/v1/token", manager.token),
        ("GET", "/v1/peer", manager.peer),
        ("GET", "/v1/peers", manager.peers),
        ("GET", "/v1/services", manager.services),
        ("GET", "/v1/.well-known/jwks.json", manager.keys),
    ]
    return [
        Route(path, _told_in_fsc(endpoint, agreements.dialect), methods=[method]) for method, path, endpoint in listed
    ]


def fsc_response(fault: Fault, dialect: Dialect = USUAL) -> Response:
    """The answer that a fault gives in FSC's form."""
    if isinstance(fault, TokenRequestFault):
        return JSONResponse(fault.body(), fault.status, headers={"Cache-Control": "no-store"})
    if isinstance(fault, FscFault):
        code = dialect.error_code(fault.code)
        return JSONResponse(
            fault.body() | {"code": code}, fault.status, headers=fault.headers() | {"Fsc-Error-Code": code}
        )
    code = "STELSEL_" + fault.kind.replace("-", "_").upper()
    body = {"message": fault.detail, "domain": "ERROR_DOMAIN_MANAGER", "code": code}
    return JSONResponse(body, fault.status, headers={"Fsc-Error-Code": code})


class _Manager:
    def __init__(self, agreements: Agreements) -> None:
        self._agreements = agreements
        self._dialect = agreements.dialect
        self._keys: dict[str, Any] | None = None
        self._keys_until = 0.0
        agreements.on_change(self._forget_keys)

    async def announce(self, request: Request) -> Response:
        certificate, address = _caller(request), self._manager_address(request)
        await read_body(request, 1024)
        await self._agreements.met(ListedPeer(certificate.peer_id, certificate.peer_name, address))
        return Response(status_code=200)

    async def submit(self, request: Request) -> Response:
        return await self._receive(request, "submit")

    async def accept(self, request: Request) -> Response:
        return await self._receive(request, "accept")

    async def reject(self, request: Request) -> Response:
        return await self._receive(request, "reject")

    async def revoke(self, request: Request) -> Response:
        return await self._receive(request, "revoke")

    async def _receive(self, request: Request, kind: str) -> Response:
        certificate, address = _caller(request), self._manager_address(request)
        body = await read_json(request, MAXIMUM_CONTRACT)
        for member in ("content", "signature"):
            if member not in body:
                raise RequestNotReadable(f"the member {member} is missing")
        await self._agreements.receive(
            Submission(
                kind=kind,
                content=body["content"],
                signature=body["signature"],
                certificate=certificate,
                manager_address=address,
                path_hash=request.path_params.get("hash"),
            )
        )
        return Response(status_code=201)

    async def contracts(self, request: Request) -> Response:
        caller = _caller(request).peer_id
        memory = self._agreements.memory
        wanted = _listed(request, "grant_hash")
        if wanted:
            found = {id(known): known for known in map(memory.with_grant, sorted(wanted)) if known is not None}
            mine = [_contract(known) for known in found.values() if caller in known.contract.signatories]
            return JSONResponse({"contracts": mine, "pagination": {"next_cursor": ""}})
        kind = request.query_params.get("grant_type") or ""
        if kind and kind not in _GRANT_TYPES:
            raise RequestNotReadable("grant_type is not a type of grant")
        # Only to peers that are in it (4.4.1.5).
        keys = memory.listing(caller, kind)
        page, cursor = paging.page_of(keys, paging.read(request.query_params), self._dialect)
        listed = [_contract(memory.at(key)) for key in page]
        return JSONResponse({"contracts": listed, "pagination": {"next_cursor": cursor}})

    async def token(self, request: Request) -> Response:
        certificate = _caller(request)
        answer = self._agreements.issue_token(await _form(request), certificate)
        # RFC 6749, section 5.1
        return JSONResponse(answer, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def peer(self, request: Request) -> Response:
        _caller(request)
        own = self._agreements.keypair.certificate
        return JSONResponse(
            {
                "peer_id": own.peer_id,
                "peer_name": own.peer_name,
                "fsc_version": FSC_VERSION,
                "enabled_extensions": self._agreements.extensions,
            }
        )

    async def peers(self, request: Request) -> Response:
        _caller(request)
        found = self._agreements.listed_peers()
        wanted = _listed(request, "peer_id")
        if wanted:
            chosen = [directory.peer_to_json(peer) for peer in found if peer.peer_id in wanted]
            return JSONResponse({"peers": chosen, "pagination": {"next_cursor": ""}})
        name = request.query_params.get("peer_name")
        if name is not None:
            found = [peer for peer in found if name.casefold() in peer.name.casefold()]
        page, cursor = paging.page(found, lambda peer: peer.peer_id, paging.read(request.query_params), self._dialect)
        return JSONResponse(
            {"peers": [directory.peer_to_json(peer) for peer in page], "pagination": {"next_cursor": cursor}}
        )

    async def services(self, request: Request) -> Response:
        _caller(request)
        asked = request.query_params
        found = directory.select(self._agreements.listed_services(), asked.get("peer_id"), asked.get("service_name"))
        page, cursor = paging.page(found, lambda s: f"{s.peer.peer_id} {s.name}", paging.read(asked), self._dialect)
        return JSONResponse(
            {"services": [directory.service_to_json(s) for s in page], "pagination": {"next_cursor": cursor}}
        )

    async def keys(self, request: Request) -> Response:
        _caller(request)
        now = time.monotonic()
        if self._keys is None or now >= self._keys_until:
            self._keys, self._keys_until = self._agreements.key_set(), now + _KEYS_SECONDS
        return JSONResponse(self._keys)

    def _forget_keys(self) -> None:
        self._keys = None

    def _manager_address(self, request: Request) -> str:
        address = request.headers.get("fsc-manager-address", "")
        if len(address) > 255 or _ADDRESS.fullmatch(address) is None:
            raise RequestNotReadable("the header Fsc-Manager-Address must hold https://host:port (FSC Core 4.4.4)")
        if not self._agreements.group.allows_port(address):
            raise RequestNotReadable("the header Fsc-Manager-Address has a port that the group does not allow (4.1.1)")
        return address


def _told_in_fsc(endpoint: Endpoint, dialect: Dialect) -> Endpoint:
    async def told(request: Request) -> Response:
        try:
            return await endpoint(request)
        except BadRequest as fault:
            return fsc_response(RequestNotReadable(fault.detail), dialect)
        except Fault as fault:
            return fsc_response(fault, dialect)

    return told


def _caller(request: Request) -> Certificate:
    try:
        return client_certificate(request)
    except (BadRequest, Unauthenticated) as fault:
        raise PeerCertificateVerificationFailed(fault.detail) from fault


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise TokenRequestFault("invalid_request", "send the request as application/x-www-form-urlencoded")
    try:
        body = await read_body(request, MAXIMUM_FORM)
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=20)
    except Fault:
        raise TokenRequestFault("invalid_request", f"the form is larger than {MAXIMUM_FORM} bytes") from None
    except ValueError:
        raise TokenRequestFault("invalid_request", "the form cannot be read") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise TokenRequestFault("invalid_request", "a parameter is given twice (RFC 6749, section 3.2)")
    return form


def _listed(request: Request, name: str) -> frozenset[str]:
    """A list in the query: `style: form, explode: false` is with commas; repeating the name is taken too."""
    values = [part for value in request.query_params.getlist(name) for part in value.split(",") if part]
    if len(values) > 1000 or any(len(value) > 1024 for value in values):
        raise RequestNotReadable(f"{name} lists more than can be asked at once")
    if name == "peer_id" and not all(is_oin(value) for value in values):
        raise RequestNotReadable("peer_id must be an OIN")
    return frozenset(values)


def _contract(known: Known) -> dict[str, Any]:
    signatures: dict[str, dict[str, str]] = {"accept": {}, "reject": {}, "revoke": {}}
    for (peer_id, kind), signature in sorted(known.signatures.items()):
        signatures[kind][peer_id] = signature.compact
    return {"content": known.contract.content, "signatures": signatures}
