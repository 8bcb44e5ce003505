"""HTTP/1.1 without any input or output: bytes in, events out. Strict, so that nobody behind us can read otherwise.

Give bytes to `receive` and take events with `next_event`, one at a time: a head, then body chunks (`bytes`), then
`END`; `None` means: more bytes are needed. Bytes are split anywhere; the events are the same.

Heads are read whole (see `heads`). A message has at most one length, in one place, in the one form that everyone reads
alike (RFC 9112, section 6.3 and 11.2).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from stelsel.base.errors import BadGateway, BadRequest, Fault, TooLarge
from stelsel.exchange import heads
from stelsel.exchange.faults import HeadTooLarge
from stelsel.exchange.heads import RequestHead, ResponseHead

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;%b(?:=(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))
_TRAILER_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")
_BARE_LINE_FEED: Final = re.compile(rb"[^\r]\n")
_LONGEST_CHUNK_LINE: Final = 256
_MOST_TRAILER_BYTES: Final = 8192
_MOST_EMPTY_LINES: Final = 8  # before a head
_CHUNKED: Final = -1
_UNTIL_CLOSE: Final = -2
_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3


class End(enum.Enum):
    """The end of a message."""

    END = "end"


END: Final = End.END


@dataclass(frozen=True, slots=True)
class WireLimits:
    """How much one message may hold. Bytes, but `headers`."""

    head: int = 64 * 1024
    headers: int = 100
    body: int = 1024 * 1024 * 1024


RequestEvent = RequestHead | bytes | End
ResponseEvent = ResponseHead | bytes | End


class _Reader:
    """What reading requests and reading answers have in common: the buffer, the borders, the body."""

    def __init__(self, limits: WireLimits) -> None:
        self._limits = limits
        self._data = b""
        self._at = 0
        self._scanned = 0
        self._empty_lines = 0
        self._in_body = False
        self._left = 0
        """Bytes of the body (or of this chunk) still to come, or `_CHUNKED` / `_UNTIL_CLOSE`."""
        self._chunked = False
        self._chunk_state = _SIZE
        self._trailer = 0
        self._total = 0
        self._fault: Fault | None = None
        self._run: heads.Run | None = None
        """How the head before began."""

    @property
    def unread(self) -> int:
        """Bytes received that are in no event yet."""
        return len(self._data) - self._at

    def receive(self, data: bytes) -> None:
        """Take bytes from the connection."""
        if self._at == len(self._data):
            self._data = data
            self._scanned = 0
        else:
            self._data = self._data[self._at :] + data
            self._scanned = max(0, self._scanned - self._at)
        self._at = 0

    def _take_head(self) -> bytes | None:
        """The bytes of a whole head, without its empty line, or None."""
        data = self._data
        while data[self._at : self._at + 2] == b"\r\n":  # RFC 9112, section 2.2
            self._at += 2
            self._scanned = self._at
            self._empty_lines += 1
            if self._empty_lines > _MOST_EMPTY_LINES:
                raise BadRequest("there is nothing but empty lines")
        at = self._at
        start = max(at, self._scanned - 3)
        end = data.find(b"\r\n\r\n", start)
        size = (len(data) if end < 0 else end + 4) - at
        if size > self._limits.head:
            raise HeadTooLarge(f"the head is larger than {self._limits.head} bytes")
        if end < 0:
            # What stands before `at` is another message's, so a line feed right there is looked at by itself.
            if data[at : at + 1] == b"\n" or _BARE_LINE_FEED.search(data, start):
                raise BadRequest("a line ends without a carriage return (RFC 9112, section 2.2)")
            self._scanned = len(data)
            return None
        self._at = self._scanned = end + 4
        self._empty_lines = 0
        return data[at : end + 2]

    def _expect_body(self, length: int | None, *, until_close: bool = False) -> None:
        self._in_body = True
        self._total = 0
        self._chunked = length is None and not until_close
        self._chunk_state = _SIZE
        if length is None:
            self._left = _UNTIL_CLOSE if until_close else _CHUNKED
            return
        if length > self._limits.body:
            raise TooLarge(f"the body is larger than {self._limits.body} bytes")
        self._left = length

    def _body_event(self) -> bytes | End | None:
        if self._chunked:
            return self._chunk_event()
        if self._left == 0:
            self._in_body = False
            return END
        data = self._data if self._at == 0 else self._data[self._at :]
        if not data:
            return None
        if self._left == _UNTIL_CLOSE:
            self._at = len(self._data)
            self._count(len(data))
            return data
        if len(data) > self._left:
            data = data[: self._left]
        self._at += len(data)
        self._left -= len(data)
        return data

    def _count(self, size: int) -> None:
        self._total += size
        if self._total > self._limits.body:
            raise TooLarge(f"the body is larger than {self._limits.body} bytes")

    def _chunk_event(self) -> bytes | End | None:
        """RFC 9112, section 7.1; chunk extensions and trailers are read strictly, and dropped."""
        while True:
            if self._chunk_state == _SIZE:
                if not self._take_chunk_size():
                    return None
            elif self._chunk_state == _DATA:
                data = self._data[self._at : self._at + self._left]
                if not data:
                    return None
                self._at += len(data)
                self._left -= len(data)
                if not self._left:
                    self._chunk_state = _DATA_END
                return data
            elif self._chunk_state == _DATA_END:
                if self._data[self._at : self._at + 2] != b"\r\n"[: self.unread]:
                    raise BadRequest("a chunk is longer than it says")
                if self.unread < 2:
                    return None
                self._at += 2
                self._chunk_state = _SIZE
            else:
                return self._take_trailers()

    def _take_chunk_size(self) -> bool:
        line = self._line(_LONGEST_CHUNK_LINE)
        if line is None:
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise BadRequest("the size of a chunk cannot be read")
        self._left = int(match[1], 16)
        self._count(self._left)
        self._chunk_state = _DATA if self._left else _TRAILERS
        self._trailer = 0
        return True

    def _take_trailers(self) -> End | None:
        while (line := self._line(_MOST_TRAILER_BYTES)) is not None:
            if not line:
                self._in_body = False
                return END
            self._trailer += len(line)
            if self._trailer > _MOST_TRAILER_BYTES or not _TRAILER_LINE.fullmatch(line):
                raise BadRequest("the trailers cannot be read")
        return None

    def _line(self, limit: int) -> bytes | None:
        end = self._data.find(b"\r\n", self._at, self._at + limit + 2)
        if end < 0:
            begins = self._data[self._at : self._at + 1]
            if self.unread >= limit + 2 or begins == b"\n" or _BARE_LINE_FEED.search(self._data, self._at):
                raise BadRequest("a line is too long, or ends without a carriage return")
            return None
        line = self._data[self._at : end]
        if b"\n" in line:
            raise BadRequest("a line is too long, or ends without a carriage return")
        self._at = end + 2
        return line


class RequestReader(_Reader):
    """Reads the requests on one connection, one after another."""

    def next_event(self) -> RequestEvent | None:
        """The next event, or None when more bytes are needed. Raises a `Fault`, and from then on that same fault."""
        if self._fault is not None:
            raise self._fault
        try:
            return self._body_event() if self._in_body else self._head_event()
        except Fault as fault:
            self._fault = fault
            raise

    @property
    def begun(self) -> bool:
        """Whether part of a head has come."""
        return not self._in_body and self.unread > 0

    def _head_event(self) -> RequestHead | None:
        data = self._take_head()
        if data is None:
            return None
        head = heads.request_head(data, self._limits.headers, self._run)
        self._run = head.run
        self._expect_body(head.length)
        return head


class ResponseReader(_Reader):
    """Reads the answers on one connection; say with `expect` which request each answers."""

    _no_body = False

    def expect(self, method: bytes) -> None:
        """The next answer is to a request with this method."""
        self._no_body = method == b"HEAD"

    def next_event(self) -> ResponseEvent | None:
        """The next event, or None when more bytes are needed. Raises `BadGateway`, and from then on the same."""
        if self._fault is not None:
            raise self._fault
        try:
            return self._body_event() if self._in_body else self._head_event()
        except Fault as fault:
            self._fault = BadGateway(f"the answer cannot be read: {fault.detail}")
            raise self._fault from fault

    def closed(self) -> bool:
        """The connection ended; whether the body ended with it, as it may when it has no length."""
        if self._in_body and self._left == _UNTIL_CLOSE:
            self._in_body = False
            return True
        return False

    def _head_event(self) -> ResponseHead | None:
        while True:
            data = self._take_head()
            if data is None:
                return None
            head = heads.response_head(data, self._limits.headers, self._run, to_head=self._no_body)
            self._run = head.run
            if head.status == 101:
                raise BadRequest("it switches protocols, which was not asked")
            if head.status >= 200:
                break  # interim answers are for us alone (RFC 9110, section 15.2)
        self._expect_body(head.length, until_close=head.length is None and b"transfer-encoding" not in head.values)
        return head


LAST_CHUNK: Final = b"0\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def framing(length: int | None) -> bytes:
    """The header line that says how long the body is."""
    return b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length


def request_head(method: bytes, target: bytes, host: bytes, lines: bytes) -> bytes:
    """A request head; `lines` are whole header lines, with their line ends."""
    return b"".join((method, b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n", lines, b"\r\n"))


def response_head(status: int, reason: bytes, lines: bytes) -> bytes:
    """An answer's head; `lines` are whole header lines, with their line ends."""
    if status == 200:
        return b"".join((b"HTTP/1.1 200 ", reason, b"\r\n", lines, b"\r\n"))
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines)
