"""HTTP/1.1 without any input or output: bytes in, events out. Strict, so that nobody behind us can read otherwise.

Give bytes to `receive` and take events with `next_event`, one at a time: a head, then body chunks (`bytes`), then
`END`; `None` means: more bytes are needed. Bytes are split anywhere; the events are the same.

Heads are read by llhttp (httptools), whole heads only; the borders of messages are ours alone: a message has at most
one length, in one place, in the one form that everyone reads alike (RFC 9112, section 6.3 and 11.2).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

import httptools

from stelsel.base.errors import BadGateway, BadRequest, Fault, TooLarge
from stelsel.exchange.faults import HeadTooLarge, NotImplementedHere, VersionUnsupported

Header = tuple[bytes, bytes, bytes]
"""(name in lower case, name as it came, value)."""

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t -~]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")
_REQUEST_LINE = re.compile(rb"[A-Z-]+ [!-~]+ HTTP/([0-9])\.([0-9])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) [1-5][0-9][0-9](?: [\t -~\x80-\xff]*)?")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_LONGEST_CHUNK_LINE = 256
_MOST_TRAILER_BYTES = 8192
_CHUNKED = -1
_UNTIL_CLOSE = -2
_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)


class End(enum.Enum):
    """The end of a message."""

    END = "end"


END = End.END


@dataclass(frozen=True, slots=True)
class WireLimits:
    """How much one message may hold. Bytes, but `headers`."""

    head: int = 64 * 1024
    headers: int = 100
    body: int = 1024 * 1024 * 1024


class RequestHead:
    """The head of a request."""

    __slots__ = ("expects_continue", "headers", "keep_alive", "length", "method", "minor", "target", "values")

    def __init__(self, method: bytes, target: bytes, minor: int, headers: list[Header], values: dict[bytes, bytes]):
        self.method = method
        self.target = target
        self.minor = minor
        """The minor version of HTTP/1."""
        self.headers = headers
        self.values = values
        """The last value by lower-case name; the names that matter here can occur only once."""
        self.length: int | None = 0
        """Bytes in the body; None when it is chunked."""
        self.keep_alive = False
        self.expects_continue = False


class ResponseHead:
    """The head of an answer."""

    __slots__ = ("has_body", "headers", "keep_alive", "length", "minor", "reason", "status", "values")

    def __init__(self, status: int, reason: bytes, minor: int, headers: list[Header], values: dict[bytes, bytes]):
        self.status = status
        self.reason = reason
        self.minor = minor
        self.headers = headers
        self.values = values
        self.length: int | None = None
        """Bytes in the body; None when that is not known beforehand."""
        self.has_body = True
        """False where there can be none: to HEAD, and with 204 and 304 (RFC 9112, section 6.3)."""
        self.keep_alive = False


RequestEvent = RequestHead | bytes | End
ResponseEvent = ResponseHead | bytes | End


class _Head:
    """Takes what llhttp finds in one head."""

    __slots__ = ("headers", "reason", "url", "values")

    def __init__(self) -> None:
        self.url = b""
        self.reason = b""
        self.headers: list[Header] = []
        self.values: dict[bytes, bytes] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        value = value.strip(b" \t")
        self.headers.append((lower, name, value))
        if lower in self.values and lower in _ONCE:
            raise BadRequest("a header that may occur once occurs twice")
        self.values[lower] = value


_ONCE = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"expect",
        b"authorization",
        b"traceparent",
        b"fsc-authorization",
        b"fsc-transaction-id",
        b"fsc-grant-hash",
        b"fsc-error-code",
        b"stelsel-data-subjects",
    )
)


class _Reader:
    """What reading requests and reading answers have in common: the buffer, the borders, the body."""

    def __init__(self, limits: WireLimits) -> None:
        self._limits = limits
        self._data = b""
        self._at = 0
        self._scanned = 0
        self._in_body = False
        self._left = 0
        """Bytes of the body (or of this chunk) still to come, or `_CHUNKED` / `_UNTIL_CLOSE`."""
        self._chunked = False
        self._chunk_state = _SIZE
        self._trailer = 0
        self._total = 0
        self._fault: Fault | None = None

    @property
    def unread(self) -> int:
        """Bytes received that are in no event yet."""
        return len(self._data) - self._at

    def receive(self, data: bytes) -> None:
        """Take bytes from the connection."""
        if self._at == len(self._data):
            self._data = data
        else:
            self._data = self._data[self._at :] + data
            self._scanned = max(0, self._scanned - self._at)
            self._at = 0
            return
        self._at = 0
        self._scanned = 0

    def _take_head(self) -> bytes | None:
        """The bytes of a whole head, with its empty line, or None."""
        while self._data.startswith(b"\r\n", self._at):  # RFC 9112, section 2.2
            self._at += 2
            self._scanned = self._at
        start = max(self._at, self._scanned - 3)
        end = self._data.find(b"\r\n\r\n", start)
        size = (len(self._data) if end < 0 else end + 4) - self._at
        if size > self._limits.head:
            raise HeadTooLarge(f"the head is larger than {self._limits.head} bytes")
        if end < 0:
            if _BARE_LINE_FEED.search(self._data, start):
                raise BadRequest("a line ends without a carriage return (RFC 9112, section 2.2)")
            self._scanned = len(self._data)
            return None
        head = self._data[self._at : end + 4]
        self._at = self._scanned = end + 4
        return head

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
            if self.unread >= limit + 2 or _BARE_LINE_FEED.search(self._data, self._at):
                raise BadRequest("a line is too long, or ends without a carriage return")
            return None
        line = self._data[self._at : end]
        if b"\n" in line:
            raise BadRequest("a line is too long, or ends without a carriage return")
        self._at = end + 2
        return line

    def _length(self, head: _Head, minor: int) -> tuple[bool, int | None]:
        """(whether the head says how long the body is, the length or None when chunked)."""
        values = head.values
        coding = values.get(b"transfer-encoding")
        length = values.get(b"content-length")
        if len(head.headers) > self._limits.headers:
            raise HeadTooLarge(f"there are more than {self._limits.headers} headers")
        if coding is not None:
            if length is not None or minor == 0:
                raise BadRequest("the message says its length in two ways, or in one that HTTP/1.0 does not know")
            if coding.lower() != b"chunked":
                raise NotImplementedHere("the only transfer coding known here is chunked")
            return True, None
        if length is None:
            return False, 0
        if not (length.isdigit() and len(length) <= 15):
            raise BadRequest("the content length cannot be read")
        return True, int(length)


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
        line = _REQUEST_LINE.fullmatch(data, 0, data.index(b"\r\n"))
        if line is None:
            raise BadRequest("the request line cannot be read (RFC 9112, section 3)")
        if line[1] != b"1" or line[2] not in b"01":
            raise VersionUnsupported("only HTTP/1.1 and HTTP/1.0 are spoken here")
        found = _Head()
        parser = httptools.HttpRequestParser(found)
        _parse(parser, data)
        method = parser.get_method()
        head = RequestHead(method, found.url, int(line[2]), found.headers, found.values)
        _, head.length = self._length(found, head.minor)
        _check_host(head)
        if b"#" in head.target:
            raise BadRequest("a request target has no fragment (RFC 9112, section 3.2)")
        values = found.values
        connection = values.get(b"connection")
        head.keep_alive = head.minor == 1
        if connection is not None:
            head.keep_alive = head.keep_alive and b"close" not in tokens(found.headers, b"connection")
        expected = values.get(b"expect")
        if expected is not None:
            head.expects_continue = head.minor == 1 and expected.lower() == b"100-continue"
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
            line = _STATUS_LINE.fullmatch(data, 0, data.index(b"\r\n"))
            if line is None:
                raise BadRequest("the status line cannot be read (RFC 9112, section 4)")
            found = _Head()
            parser = httptools.HttpResponseParser(found)
            _parse(parser, data)
            status = parser.get_status_code()
            if status == 101:
                raise BadRequest("it switches protocols, which was not asked")
            if status >= 200:
                break  # interim answers are for us alone (RFC 9110, section 15.2)
        head = ResponseHead(status, found.reason, int(line[1]), found.headers, found.values)
        known, length = self._length(found, head.minor)
        head.has_body = not (self._no_body or status in (204, 304))
        head.length = (length if known else None) if head.has_body else 0
        close = b"close" in tokens(found.headers, b"connection") if b"connection" in found.values else False
        head.keep_alive = head.minor == 1 and not close and (known or not head.has_body)
        self._expect_body(head.length, until_close=head.has_body and not known)
        return head


def tokens(headers: list[Header], name: bytes) -> set[bytes]:
    """The comma-separated tokens in all headers of this lower-case name, in lower case."""
    return {token.strip().lower() for lower, _, value in headers if lower == name for token in value.split(b",")}


def _parse(parser: httptools.HttpRequestParser | httptools.HttpResponseParser, data: bytes) -> None:
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return  # we do not switch protocols: the request stays what it is (RFC 9110, section 7.8)
    except httptools.HttpParserCallbackError as error:
        if isinstance(error.__context__, Fault):
            raise error.__context__ from None
        raise BadRequest("the head cannot be read") from error
    except httptools.HttpParserError as error:
        raise BadRequest(f"the head cannot be read: {error}") from None


def _check_host(head: RequestHead) -> None:
    """One host, in HTTP/1.1 always (RFC 9112, section 3.2)."""
    host = head.values.get(b"host")
    if host is None:
        if head.minor == 1:
            raise BadRequest("there is no Host header (RFC 9112, section 3.2)")
    elif not _HOST.fullmatch(host):
        raise BadRequest("the Host header cannot be read")


LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def framing(length: int | None) -> bytes:
    """The header line that says how long the body is."""
    return b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length


def request_head(method: bytes, target: bytes, host: bytes, lines: bytes) -> bytes:
    """A request head; `lines` are whole header lines, with their line ends."""
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, target, host, lines)


def response_head(status: int, reason: bytes, lines: bytes) -> bytes:
    """An answer's head; `lines` are whole header lines, with their line ends."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines)
