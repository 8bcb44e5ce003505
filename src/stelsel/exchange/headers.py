"""Which headers pass, and which are ours alone. Pure.

Hop-by-hop headers concern one connection only (RFC 9110, section 7.6.1) and never pass. `Fsc-*` and `Stelsel-*` are
said by gateways only: what a client or a service sends under those names is dropped, so that nobody can speak for us.
"""

from __future__ import annotations

import re
from typing import Final

from stelsel.exchange.heads import HOP_BY_HOP, OURS, FieldLine, RequestHead, ResponseHead, connection_options

_OF_REQUESTS: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"traceparent"}
_OF_ANSWERS: Final = HOP_BY_HOP | {b"content-length"}
_USUAL: Final = frozenset((b"keep-alive", b"close"))

SAID_BY_INWAY: Final = frozenset((b"fsc-error-code", b"stelsel-answer"))
"""Headers in an inway's answer that an outway lets pass; its own transaction id it adds itself."""
NOTHING: Final[frozenset[bytes]] = frozenset()

UUID7: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def request_lines(head: RequestHead, *, drop: frozenset[bytes] = NOTHING) -> bytes:
    """The header lines of a request that pass, without those that name its host, length and trace."""
    return _lines(head.fields, head.values, _OF_REQUESTS | drop if drop else _OF_REQUESTS, NOTHING)


def response_lines(head: ResponseHead, *, keep: frozenset[bytes] = NOTHING) -> bytes:
    """The header lines of an answer that pass, without its length; `keep` names gateway headers that may."""
    return _lines(head.fields, head.values, _OF_ANSWERS, keep)


def _lines(
    fields: list[FieldLine], values: dict[bytes, bytes], dropped: frozenset[bytes], keep: frozenset[bytes]
) -> bytes:
    if b"connection" in values and values[b"connection"].lower() not in _USUAL:
        named = connection_options(values)
        fields = [field for field in fields if field.name not in named]
    return b"".join(
        [
            field.line
            for field in fields
            if field.passes or (field.name not in dropped and (field.name in keep or not field.name.startswith(OURS)))
        ]
    )


def lines(values: dict[str, str]) -> bytes:
    """Header lines out of our own names and values; both are ours, or have been checked."""
    return "".join(f"{name}: {value}\r\n" for name, value in values.items()).encode("latin-1")
