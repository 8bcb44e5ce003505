"""Names of things: UUIDv7 (RFC 9562), trace ids (W3C Trace Context), peer ids."""

from __future__ import annotations

import os
import re
import secrets
import time
import uuid
from typing import Final

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16  # which W3C Trace Context, 2.2.3, calls invalid
_PEER_ID: Final = re.compile(r"[0-9]{20}")


def uuid7(seconds: float | None = None) -> str:
    """A new UUIDv7 (RFC 9562, section 5.7) in its usual text form; `seconds` since the epoch, default now."""
    milliseconds = int((time.time() if seconds is None else seconds) * 1000)
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def is_uuid(text: str, version: int | None = None) -> bool:
    """Whether `text` is a UUID in the canonical lower-case form, of this version if one is given."""
    try:
        value = uuid.UUID(text)
    except ValueError:
        return False
    return str(value) == text and (version is None or value.version == version)


def is_oin(text: str) -> bool:
    """Whether `text` has the form of an OIN: twenty digits (Digikoppeling, Identificatie en Authenticatie)."""
    return _PEER_ID.fullmatch(text) is not None


def new_trace_id() -> str:
    """A new trace id: 16 random bytes as lower-case hex (W3C Trace Context, 3.2.2.3)."""
    return secrets.token_hex(16)


def new_span_id() -> str:
    """A new span id: 8 random bytes as lower-case hex (W3C Trace Context, 3.2.2.4)."""
    return secrets.token_hex(8)


def parse_traceparent(header: str) -> tuple[str, str] | None:
    """(trace id, parent span id) out of a `traceparent` header, or None when it is not one."""
    match = _TRACEPARENT.fullmatch(header)
    if match is None or match[1] == _NO_TRACE or match[2] == _NO_SPAN:
        return None
    return match[1], match[2]


def traceparent(trace_id: str, span_id: str) -> str:
    """A `traceparent` header value; we record everything, so the sampled flag is set."""
    return f"00-{trace_id}-{span_id}-01"
