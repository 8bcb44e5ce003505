"""Transaction, trace and span ids for the hot path: random bytes are fetched by the page, not by the id.

Asking the kernel costs more than everything else about an id. For the event loop's thread only; a forked process
begins with nothing, so that two processes never share bytes.
"""

from __future__ import annotations

import os
import time
from typing import Final

_PAGE: Final = 8192  # hex digits
_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


class _Random:
    __slots__ = ("_at", "_digits")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._digits = ""
        self._at = _PAGE

    def take(self, count: int) -> str:
        """So many random digits, lower-case hex."""
        at = self._at
        if at + count > _PAGE or not self._digits:
            self._digits = os.urandom(_PAGE // 2).hex()
            at = 0
        self._at = at + count
        return self._digits[at : at + count]


class _Stamp:
    """The time as transaction ids begin with it, made once a millisecond."""

    __slots__ = ("_milliseconds", "_text")

    def __init__(self) -> None:
        self._milliseconds = -1
        self._text = ""

    def now(self) -> str:
        milliseconds = int(time.time() * 1000)
        if milliseconds != self._milliseconds:
            self._milliseconds = milliseconds
            digits = f"{milliseconds & 0xFFFFFFFFFFFF:012x}"
            self._text = f"{digits[:8]}-{digits[8:]}-7"
        return self._text


_random: Final = _Random()
_stamp: Final = _Stamp()
os.register_at_fork(after_in_child=_random.forget)


def new_trace_id() -> str:
    """16 random bytes as lower-case hex (W3C Trace Context, 3.2.2.3)."""
    return _random.take(32)


def new_span_id() -> str:
    """8 random bytes as lower-case hex (W3C Trace Context, 3.2.2.4)."""
    return _random.take(16)


def new_transaction_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7; Digikoppeling 3.4.3)."""
    noise = _random.take(19)
    return f"{_stamp.now()}{noise[:3]}-{_VARIANT[noise[3]]}{noise[4:7]}-{noise[7:]}"
