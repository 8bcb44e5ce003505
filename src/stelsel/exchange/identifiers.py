"""Transaction, trace and span ids for the hot path: random bytes are fetched by the page, not by the id.

Asking the kernel costs more than everything else about an id. For the event loop's thread only; a forked process
begins with nothing, so that two processes never share bytes.
"""

from __future__ import annotations

import os
import time

_PAGE = 4096


class _Random:
    __slots__ = ("_at", "_bytes")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._bytes = b""
        self._at = _PAGE

    def take(self, count: int) -> str:
        """Random bytes as lower-case hex."""
        at = self._at
        if at + count > _PAGE or not self._bytes:
            self._bytes = os.urandom(_PAGE)
            at = 0
        self._at = at + count
        return self._bytes[at : at + count].hex()


_random = _Random()
os.register_at_fork(after_in_child=_random.forget)


def new_trace_id() -> str:
    """16 random bytes as lower-case hex (W3C Trace Context, 3.2.2.3)."""
    return _random.take(16)


def new_span_id() -> str:
    """8 random bytes as lower-case hex (W3C Trace Context, 3.2.2.4)."""
    return _random.take(8)


def new_transaction_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7; Digikoppeling 3.4.3)."""
    stamp = f"{int(time.time() * 1000) & 0xFFFFFFFFFFFF:012x}"
    noise = _random.take(10)
    variant = "89ab"[int(noise[3], 16) & 3]
    return f"{stamp[:8]}-{stamp[8:]}-7{noise[:3]}-{variant}{noise[4:7]}-{noise[7:19]}"
