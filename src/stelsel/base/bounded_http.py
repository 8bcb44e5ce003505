"""uvicorn's HTTP protocol with what it leaves out: bounds on a request's head and on the time that a request may take.

Without them one client could fill the memory of a node with a head that never ends, or hold its connections for ever.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAXIMUM_HEAD = 64 * 1024
"""Bytes in the head of a request; more get 431 (RFC 6585, section 5)."""
MAXIMUM_HEADERS = 100
HEAD_SECONDS = 10.0
"""Time in which the head of a request must arrive, from the connection or from its first byte; then 408."""
REQUEST_SECONDS = 60.0
"""Time in which a request must arrive whole; then its connection is cut."""

_REFUSALS = {
    400: ("Bad Request", "bad-request", "The request is no HTTP that can be read"),
    408: ("Request Timeout", "too-slow", "The request did not arrive in time"),
    431: ("Request Header Fields Too Large", "too-large", "The head of the request is larger than allowed"),
}


class _HeadTooLarge(Exception):
    """Ends the parsing of a head: the parser takes any exception of ours for a fault in what it reads."""


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 for one connection: uvicorn's, within bounds, and with refusals as problem documents (RFC 9457)."""

    _head_bytes = 0
    _in_head = True
    _too_large = False
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        # The parser keeps a header until it is complete, so bytes are counted here as well as there.
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAXIMUM_HEAD:
                self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes, self._in_head = 0, True
        self._expect_within(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if not self._in_head:
            return  # A trailer: nothing here reads those, and none may pass for a header.
        if len(self.headers) >= MAXIMUM_HEADERS:
            self._too_large = True
            raise _HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_bytes, self._in_head = 0, False
        self._expect_within(REQUEST_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._expect_nothing()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called for what the parser cannot read, also where it was told to stop."""
        del msg
        self._refuse(431 if self._too_large else 400)

    def _count(self, length: int) -> None:
        self._head_bytes += length
        if self._head_bytes > MAXIMUM_HEAD:
            self._too_large = True
            raise _HeadTooLarge

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._late = self.loop.call_later(seconds, self._on_late)

    def _expect_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _on_late(self) -> None:
        if self._in_head and self._head_bytes:
            self._refuse(408)
        else:
            self.transport.abort()

    def _refuse(self, status: int) -> None:
        self._expect_nothing()
        cycle = getattr(self, "cycle", None)
        if (cycle is not None and not cycle.response_complete) or self.transport.is_closing():
            self.transport.abort()  # Another answer is under way: ours would be read as part of it.
            return
        reason, kind, title = _REFUSALS[status]
        document: dict[str, Any] = {"type": f"urn:stelsel:problem:{kind}", "title": title, "status": status}
        body = json.dumps(document).encode()
        head = (
            f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
