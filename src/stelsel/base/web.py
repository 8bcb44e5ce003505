"""Starlette and uvicorn glue: faults as problem+json, bounded bodies, client certificates, servers in one loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from stelsel.base.bounded_http import BoundedProtocol
from stelsel.base.canonical import parse_object
from stelsel.base.certificates import Certificate, TrustAnchors
from stelsel.base.errors import BadRequest, ConfigurationFault, Fault, TooLarge, Unauthenticated
from stelsel.base.ids import new_span_id
from stelsel.base.log import logger

_log = logger("base")

MAXIMUM_BODY = 1024 * 1024
"""Bytes in a request body, unless the caller of `read_body` says otherwise (FSC Core 4.2.2.2 recommends 1 MB)."""


_GRACE = 0.5
"""Seconds that an unused connection stays when a server drains."""


class ProblemResponse(JSONResponse):
    """A problem document (RFC 9457)."""

    media_type = "application/problem+json"


def problem_response(fault: Fault) -> Response:
    """The answer that a fault gives on HTTP."""
    return ProblemResponse(fault.problem(), status_code=fault.status)


def application(routes: list[BaseRoute], **options: Any) -> Starlette:
    """A Starlette application in which every error is a problem document."""
    handlers = {Fault: _on_fault, HTTPException: _on_http_exception, Exception: _on_mistake}
    return Starlette(routes=routes, exception_handlers=handlers, **options)


async def read_body(request: Request, limit: int = MAXIMUM_BODY) -> bytes:
    """The request's body, at most `limit` bytes; more raises `TooLarge` without reading on, less `BadRequest`."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise TooLarge(f"the body is larger than {limit} bytes")
    except ClientDisconnect as error:
        raise BadRequest("the body ended before it was whole") from error
    return bytes(body)


async def read_json(request: Request, limit: int = MAXIMUM_BODY) -> dict[str, Any]:
    """The request's body as a JSON object (I-JSON). Raises `BadRequest` or `TooLarge`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("send the body as application/json")
    return parse_object(await read_body(request, limit))


def client_certificate(request: Request) -> Certificate:
    """The certificate that the client proved to hold in the TLS handshake, as the group reads it.

    Raises `Unauthenticated` when there is none or it has been revoked since, `BadRequest` when it does not say who.
    """
    der = getattr(request.state, "client_certificate", None)
    if not der:
        raise Unauthenticated("this needs a client certificate of the group (mutual TLS)")
    anchors: TrustAnchors | None = getattr(request.state, "anchors", None)
    return anchors.identify(der) if anchors is not None else Certificate.read(der)


class _PeerProtocol(BoundedProtocol):
    """uvicorn's HTTP protocol that hands the verified client certificate (DER) to the application."""

    _draining = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        tls = transport.get_extra_info("ssl_object")
        self.app_state = {
            **self.app_state,
            "client_certificate": tls.getpeercert(True) if tls else None,
            "anchors": getattr(tls.context, "anchors", None) if tls else None,
        }
        super().connection_made(transport)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._draining:
            self.cycle.keep_alive = False  # uvicorn says so in the answer

    def shutdown(self) -> None:
        """Finish what is under way. An unused connection stays a moment, for a request that is on its way over it."""
        self._draining = True
        if self._unused:
            self.loop.call_later(_GRACE, self._let_go)
        else:
            super().shutdown()

    def _let_go(self) -> None:
        if not self._unused or self.transport.is_closing():
            return
        if self.transport.get_extra_info("ssl_object") is not None:
            self.transport.abort()  # to close TLS politely would wait for a client that is not listening
        else:
            self.transport.close()

    @property
    def _unused(self) -> bool:
        cycle = getattr(self, "cycle", None)
        return cycle is None or cycle.response_complete


def listen(address: str, *, share: bool = False) -> socket.socket:
    """A listening socket on `host:port` or `unix:/path`. Raises `ConfigurationFault` when it is taken.

    Sockets to `share` a port may be several: the kernel spreads connections over them (SO_REUSEPORT).
    """
    if address.startswith("unix:"):
        return _listen_unix(Path(address.removeprefix("unix:")))
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP: asyncio turns Nagle's algorithm off only then, which else costs 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
        listener.listen(1024)
    except (OSError, ValueError, OverflowError) as error:
        listener.close()
        raise ConfigurationFault(
            f"cannot listen on {address}: {getattr(error, 'strerror', None) or error}",
            next_step="stop the program that uses it, or choose another port in the file",
        ) from error
    listener.setblocking(False)
    return listener


def _listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with probe, suppress(FileNotFoundError, ConnectionRefusedError):
            probe.connect(str(path))
            raise ConfigurationFault(
                f"another node is already running here ({path} answers)", next_step="stop that node first"
            )
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigurationFault(f"cannot listen on {path}: {error.strerror or error}") from error
    except ConfigurationFault:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


@asynccontextmanager
async def serving(app: Any, listener: socket.socket, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """Serve an ASGI application on a listening socket for as long as the context lasts, then drain it."""
    config = uvicorn.Config(
        app,
        http=_PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        limit_concurrency=2000,
        h11_max_incomplete_event_size=64 * 1024,
    )
    config.load()
    if tls is not None:
        config.ssl = tls
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    ticker = asyncio.create_task(server.main_loop())
    try:
        yield
    finally:
        server.should_exit = True
        await ticker
        await server.shutdown(sockets=[listener])


async def _on_fault(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, Fault):
        raise error
    return problem_response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, HTTPException):
        raise error
    document = {"type": "about:blank", "title": error.detail, "status": error.status_code}
    return ProblemResponse(document, status_code=error.status_code, headers=error.headers)


async def _on_mistake(request: Request, error: Exception) -> Response:
    incident = new_span_id()
    _log.error("mistake", incident=incident, route=request.scope.get("path", "")[:80], exc_info=error)
    return problem_response(Fault("We made a mistake; the operator can find it by its number.", incident=incident))
