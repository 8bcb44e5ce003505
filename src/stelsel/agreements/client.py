"""Talking to the managers of other peers, over mutual TLS.

Of every connection two things are checked before anything is sent on it: the host name, and that the certificate is
of the very peer that we mean to talk to.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from stelsel.base.canonical import parse_object
from stelsel.base.certificates import KeyPair, PeerContext, TrustAnchors, identify
from stelsel.base.errors import BadGateway, BadRequest, Fault, Unauthenticated, Unavailable
from stelsel.base.text import inert

MAXIMUM_ANSWER = 8 * 1024 * 1024
"""Bytes in an answer of another manager: a page of 1000 contracts may be large, a flood may not."""

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_LIMITS = httpx.Limits(max_connections=10, max_keepalive_connections=4, keepalive_expiry=30.0)
_LONGEST = 60.0  # seconds after which no request is still under way on connections that were put aside
_RETRIED = {408, 425, 429}


class PeerRefused(Fault):
    """The other peer refused for a reason of its own (4xx): sending the same again does not help."""

    status, kind, title = 422, "peer-refused", "The other organisation refuses this"


class PeerMismatch(BadGateway):
    """Another peer answers at that address than the one that was asked for."""


class PeerTransport(httpx.AsyncBaseTransport):
    """Connections to one peer. Raises `PeerMismatch` before a request goes out to any other."""

    def __init__(self, peer_id: str, context: Callable[[], PeerContext]) -> None:
        """`context` gives the present context of this node's key pair."""
        self._peer_id = peer_id
        self._context = context
        self._retired: list[tuple[httpx.AsyncHTTPTransport, float]] = []
        self._transport = self._new()

    def _new(self) -> httpx.AsyncHTTPTransport:
        self._made_with = self._present()
        return httpx.AsyncHTTPTransport(verify=self._made_with[0], limits=_LIMITS, trust_env=False, retries=0)

    def _present(self) -> tuple[PeerContext, int]:
        context = self._context()
        lists = context.anchors.revocations
        return context, lists.generation if lists is not None else 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme != "https":
            raise PeerMismatch("peers are reached over https only")
        if self._present() != self._made_with:
            # Its certificate may have been revoked since the connections at hand were made, or ours renewed.
            self._retired.append((self._transport, time.monotonic()))
            self._transport = self._new()
        await self._close_retired(time.monotonic() - _LONGEST)
        request.extensions = {**request.extensions, "trace": _Watch(self._peer_id)}
        return await self._transport.handle_async_request(request)

    async def _close_retired(self, before: float) -> None:
        """Close connections that nothing is under way on any more."""
        while self._retired and self._retired[0][1] < before:
            await self._retired.pop(0)[0].aclose()

    async def aclose(self) -> None:
        await self._close_retired(float("inf"))
        await self._transport.aclose()


class _Watch:
    """Looks on while a connection is made for one request, and cuts it when it is not to the right peer."""

    def __init__(self, peer_id: str) -> None:
        self._peer_id = peer_id
        self._stream: Any = None

    async def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._stream = details["return_value"]
        elif event == "connection.start_tls.failed" and self._stream is not None:
            await self._stream.aclose()  # else a handshake that is broken off would leave its socket open
        elif event == "connection.start_tls.complete":
            await self._check(details["return_value"])

    async def _check(self, stream: Any) -> None:
        try:
            found = identify(stream.get_extra_info("ssl_object")).peer_id
        except (BadRequest, Unauthenticated) as fault:
            await stream.aclose()
            raise PeerMismatch(f"the certificate at that address does not hold: {fault.detail}") from fault
        if found != self._peer_id:
            await stream.aclose()
            raise PeerMismatch(
                f"at that address answers not peer {self._peer_id} but {found}",
                next_step="the peer should announce its right manager address",
            )


class PeerClients:
    """One HTTP client for each peer, made when first needed."""

    def __init__(self, keypair: KeyPair, anchors: TrustAnchors, own_address: str) -> None:
        self._keypair = keypair
        self._anchors = anchors
        self._context = keypair.client_context(anchors)
        keypair.on_renewal(self._renewed)
        self._own_address = own_address
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._closed = False

    def _renewed(self) -> None:
        self._context = self._keypair.client_context(self._anchors)

    def of(self, peer_id: str) -> httpx.AsyncClient:
        """The client for this peer. It has no base address; it follows no redirects."""
        if self._closed:
            raise Unavailable("this node is stopping")
        client = self._clients.get(peer_id)
        if client is None:
            client = httpx.AsyncClient(
                transport=PeerTransport(peer_id, lambda: self._context),
                timeout=_TIMEOUT,
                follow_redirects=False,
                trust_env=False,
                headers={"User-Agent": "stelsel"},
            )
            self._clients[peer_id] = client
        return client

    async def close(self) -> None:
        """Close all connections, for good."""
        self._closed = True
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.aclose()

    async def put(self, peer_id: str, address: str, path: str, body: dict[str, Any] | None = None) -> None:
        """PUT to a peer's manager."""
        await self._send(peer_id, "PUT", address + path, json=body)

    async def post(self, peer_id: str, address: str, path: str, body: dict[str, Any]) -> None:
        """POST to a peer's manager."""
        await self._send(peer_id, "POST", address + path, json=body)

    async def form(self, peer_id: str, address: str, path: str, form: dict[str, str]) -> dict[str, Any]:
        """POST a form to a peer's manager; its answer."""
        return _object(await self._send(peer_id, "POST", address + path, data=form))

    async def get(self, peer_id: str, address: str, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
        """GET from a peer's manager; its answer."""
        return _object(await self._send(peer_id, "GET", address + path, params=query))

    async def _send(self, peer_id: str, method: str, url: str, **options: Any) -> bytes:
        """One request; the body of a 2xx answer.

        Raises `PeerRefused` (4xx), `Unavailable` (no connection, 5xx, slow down) or `BadGateway` (nonsense).
        """
        # FSC Core 4.4.4: each POST and PUT tells where our manager is.
        headers = {} if method == "GET" else {"Fsc-Manager-Address": self._own_address}
        if options.get("json") is not None:
            options["content"] = json.dumps(options.pop("json"), ensure_ascii=False).encode()
            headers["Content-Type"] = "application/json"
        try:
            async with self.of(peer_id).stream(method, url, headers=headers, **options) as response:
                body = await _read(response)
        except PeerMismatch:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ssl.SSLError) as error:
            raise Unavailable(f"no answer from peer {peer_id} ({_why(error)})") from error
        if response.is_success:
            return body
        if 400 <= response.status_code < 500 and response.status_code not in _RETRIED:
            raise _refusal(response.status_code, body)
        raise Unavailable(f"peer {peer_id} answers with status {response.status_code}")


def _object(body: bytes) -> dict[str, Any]:
    try:
        return parse_object(body)
    except BadRequest as error:
        raise BadGateway("the answer of the other manager is not a JSON object") from error


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAXIMUM_ANSWER:
            raise BadGateway(f"the answer of the other manager is larger than {MAXIMUM_ANSWER} bytes")
    return bytes(body)


def _why(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate does not hold: {inert(cause.verify_message, 200)}"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _refusal(status: int, body: bytes) -> PeerRefused:
    try:
        told = parse_object(body)
    except BadRequest:
        told = {}
    message = told.get("message") or told.get("error_description") or told.get("detail") or ""
    code = told.get("code") or told.get("error") or ""
    evidence = told.get("evidence")
    kept = [item for item in evidence if isinstance(item, dict)][:100] if isinstance(evidence, list) else []
    text = inert(str(message)) or f"status {status} without a reason"
    return PeerRefused(text, code=inert(str(code), 100), evidence=kept)
