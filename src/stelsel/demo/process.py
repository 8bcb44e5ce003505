"""Runs one of the demo's small applications as a process of its own, on loopback, until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stelsel.base import log
from stelsel.base.errors import ConfigurationFault, Fault
from stelsel.base.web import listen, serving


def run(make: Callable[[], Any], address: str, close: Callable[[], Awaitable[None]] | None = None) -> int:
    """Serve the ASGI application that `make` gives on `address` (host:port) until SIGTERM or SIGINT,
    then `close` what it used.

    Gives the exit code: 0 after a clean stop, 2 when it cannot start (one line on standard error says why). The
    applications of the demo do no access control of their own, so any other address than loopback is refused.
    """
    log.configure()  # without it, a traceback would show the values of variables
    try:
        _check(address)
        app = make()
        listener = listen(address)
    except Fault as fault:
        sys.stderr.write(f"{fault.detail}{f': {fault.next_step}' if fault.next_step else ''}\n")
        return 2

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with serving(app, listener):
            await stop.wait()
        if close is not None:
            await close()

    uvloop.run(serve())
    return 0


def with_version(app: ASGIApp, version: str) -> ASGIApp:
    """The application with an `API-Version` header on every answer (API Design Rules, /core/version-header)."""

    async def versioned(scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"api-version", version.encode("ascii"))]
            await send(message)

        await app(scope, receive, add)

    return versioned


def _check(address: str) -> None:
    host = address.rpartition(":")[0].strip("[]")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigurationFault(
            "this application listens on loopback only, for it does no access control",
            next_step="use --listen 127.0.0.1:PORT and let an inway stand before it",
        )
