"""Which headers pass, and which are ours alone. Pure.

Hop-by-hop headers concern one connection only (RFC 9110, section 7.6.1) and never pass. `Fsc-*` and `Stelsel-*` are
said by gateways only: what a client or a service sends under those names is dropped, so that nobody can speak for us.
"""

from __future__ import annotations

import re

from stelsel.exchange.wire import Header, RequestHead, ResponseHead, tokens

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
_OF_REQUESTS = _HOP_BY_HOP | {b"host", b"content-length", b"expect", b"traceparent"}
_OF_ANSWERS = _HOP_BY_HOP | {b"content-length"}
_OURS = (b"fsc-", b"stelsel-")

SAID_BY_INWAY = frozenset((b"fsc-error-code", b"stelsel-answer"))
"""Headers in an inway's answer that an outway lets pass; its own transaction id it adds itself."""
NOTHING: frozenset[bytes] = frozenset()

UUID7 = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def request_lines(head: RequestHead, *, drop: frozenset[bytes] = NOTHING) -> bytes:
    """The header lines of a request that pass, without those that name its host, length and trace."""
    return _lines(head.headers, head.values, _OF_REQUESTS, NOTHING, drop)


def response_lines(head: ResponseHead, *, keep: frozenset[bytes] = NOTHING) -> bytes:
    """The header lines of an answer that pass, without its length; `keep` names gateway headers that may."""
    return _lines(head.headers, head.values, _OF_ANSWERS, keep, NOTHING)


def _lines(
    headers: list[Header],
    values: dict[bytes, bytes],
    dropped: frozenset[bytes],
    keep: frozenset[bytes],
    drop: frozenset[bytes],
) -> bytes:
    named = tokens(headers, b"connection") if b"connection" in values else NOTHING
    if drop:
        dropped = dropped | drop
    return b"".join(
        [
            b"%b: %b\r\n" % (name, value)
            for lower, name, value in headers
            if lower not in dropped and lower not in named and (not lower.startswith(_OURS) or lower in keep)
        ]
    )


def lines(values: dict[str, str]) -> bytes:
    """Header lines out of our own names and values; both are ours, or have been checked."""
    return "".join(f"{name}: {value}\r\n" for name, value in values.items()).encode("latin-1")
