"""The heads of HTTP/1.1 messages: strict, pure, and quick for lines that came before.

Most lines of most heads are the same as in the head before (the same client, the same token), byte for byte. So a
field line is read once and remembered as it stood: a look in a dictionary takes the place of reading. And the lines
with which a head begins are remembered together, as a run, by whoever reads one connection: if the next head begins so
too, one comparison takes the place of all those looks. Lines that differ every time, and those with a client's own
secrets, are not remembered.

What is accepted here is narrower than what others accept: see RFC 9112, sections 2.2, 3, 4 and 5, and 11.2 for why.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from stelsel.base.errors import BadRequest
from stelsel.exchange.faults import HeadTooLarge, NotImplementedHere, VersionUnsupported

_REQUEST_LINE: Final = re.compile(rb"([A-Z][A-Z-]{0,31}) ([!-~]+) HTTP/([0-9])\.([0-9])\r")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r")
_FIELD_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)\r")
"""Lines as they stand before their line feed: what does not end in CR LF is no line."""
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"https?://[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]+(?:[/?][!-~]*)?", re.IGNORECASE)
"""Without user information, which RFC 9110, section 4.2.4 distrusts, and without what some take for a slash."""

HOP_BY_HOP: Final = frozenset(
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
"""They concern one connection only, and never pass (RFC 9110, section 7.6.1)."""
OURS: Final = (b"fsc-", b"stelsel-")
_LOOKED_AT: Final = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"expect",
    b"traceparent",
    b"accept-encoding",
    b"range",
    b"if-range",
}
"""Names that pass sometimes, or never: see `stelsel.exchange.headers`."""
_ONCE: Final = frozenset(
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
_NOT_REMEMBERED: Final = frozenset(
    (
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"proxy-authorization",
        b"stelsel-data-subjects",
        b"fsc-transaction-id",
        b"traceparent",
        b"tracestate",
        b"etag",
        b"last-modified",
        b"location",
        b"x-request-id",
    )
)
_MOST_REMEMBERED: Final = 2048
_LONGEST_REMEMBERED: Final = 2048
_LONGEST_RUN: Final = 4096


class FieldLine:
    """One field line (RFC 9112, section 5). Never altered: many heads share one."""

    __slots__ = ("lasting", "line", "name", "passes", "value")

    def __init__(self, name: bytes, value: bytes, line: bytes, passes: bool, lasting: bool) -> None:
        self.name = name
        """In lower case."""
        self.value = value
        self.line = line
        """As it is passed on, with its line end."""
        self.passes = passes
        """Whether it is passed on whatever the message is, unless the message itself says no (`Connection`)."""
        self.lasting = lasting
        """Whether it may be remembered."""


class Run:
    """Field lines with which a head began, all of them lasting. Never altered: many heads share one."""

    __slots__ = ("fields", "passing", "raw", "values")

    def __init__(self, raw: bytes, fields: list[FieldLine], values: dict[bytes, bytes]) -> None:
        self.raw = raw
        """As it stood, line ends included."""
        self.fields = fields
        self.values = values
        """As in a head: what the head's values were after these lines."""
        self.passing: dict[object, bytes] = {}
        """What of it is passed on, by the rule that says so: see `stelsel.exchange.headers`."""


_remembered: Final[dict[bytes, FieldLine]] = {}


def _read_line(line: bytes) -> FieldLine:
    match = _FIELD_LINE.fullmatch(line)
    if match is None:
        raise BadRequest("a header line cannot be read (RFC 9112, section 5)")
    written, value = match[1], match[2].rstrip(b" \t")
    name = written.lower()
    if name == b"transfer-encoding" and b"\t" in match[2]:  # allowed behind it, but some readers then see no chunks
        raise BadRequest("there is a tab in Transfer-Encoding (RFC 9110, section 5.5)")
    passed = b"".join((written, b": ", value, b"\r\n"))
    lasting = len(line) <= _LONGEST_REMEMBERED and name not in _NOT_REMEMBERED
    field = FieldLine(name, value, passed, name not in _LOOKED_AT and name[:4] not in _BEGIN, lasting)
    if lasting:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[line] = field
    return field


_BEGIN: Final = frozenset(begin[:4] for begin in OURS)

Lines = tuple[Run | None, list[FieldLine], dict[bytes, bytes]]
"""The field lines of a head, in order: a run that it begins with, the rest, and the values in all of them."""


class RequestHead:
    """The head of a request."""

    __slots__ = ("expects_continue", "keep_alive", "length", "method", "minor", "rest", "run", "target", "values")

    def __init__(self, method: bytes, target: bytes, minor: int, lines: Lines):
        self.method = method
        self.target = target
        self.minor = minor
        """The minor version of HTTP/1."""
        self.run, self.rest, self.values = lines
        """By lower-case name, the last one; names that matter here occur once, but `connection`, which holds all."""
        self.length: int | None = 0
        """Bytes in the body; None when it is chunked."""
        self.keep_alive = minor == 1
        self.expects_continue = False


class ResponseHead:
    """The head of an answer."""

    __slots__ = ("has_body", "keep_alive", "length", "minor", "reason", "rest", "run", "status", "values")

    def __init__(self, status: int, reason: bytes, minor: int, lines: Lines):
        self.status = status
        self.reason = reason
        self.minor = minor
        self.run, self.rest, self.values = lines
        self.length: int | None = None
        """Bytes in the body; None when that is not known beforehand."""
        self.has_body = True
        """False where there can be none: to HEAD, and with 204 and 304 (RFC 9112, section 6.3)."""
        self.keep_alive = False


def request_head(data: bytes, most_fields: int, run: Run | None = None) -> RequestHead:
    """The head in these bytes, up to its empty line, line ends included; `run` is that of a head before.

    Raises a `Fault` with the status that tells what is wrong.
    """
    end = data.find(b"\n")
    match = _REQUEST_LINE.fullmatch(data, 0, end)
    if match is None:
        raise BadRequest("the request line cannot be read (RFC 9112, section 3)")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise VersionUnsupported("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if target[0] != 47 or b"#" in target:
        _check_target(method, target)
    head = RequestHead(method, target, 1 if minor == b"1" else 0, _read_lines(data, end + 1, most_fields, run))
    values = head.values
    host = values.get(b"host")
    if host is None:
        if head.minor == 1:
            raise BadRequest("there is no Host header (RFC 9112, section 3.2)")
    elif host not in _good_hosts:
        _check_host(host)
    if b"content-length" in values or b"transfer-encoding" in values:
        _, head.length = said_length(values, head.minor)
    if b"connection" in values and head.minor == 1:
        head.keep_alive = not _says_close(values)
    if b"expect" in values:
        head.expects_continue = head.minor == 1 and values[b"expect"].lower() == b"100-continue"
    return head


def response_head(data: bytes, most_fields: int, run: Run | None = None, *, to_head: bool) -> ResponseHead:
    """As `request_head`, of an answer; `to_head`: it answers a HEAD. Raises `BadRequest` if it is none.

    An interim answer (1xx) comes out as a head too.
    """
    end = data.find(b"\n")
    line = data[:end]
    status, reason, minor = _usual.get(line) or _read_status(line)
    head = ResponseHead(status, reason, minor, _read_lines(data, end + 1, most_fields, run))
    values = head.values
    known, length = said_length(values, head.minor)
    head.has_body = not (to_head or status in (204, 304))
    head.length = (length if known else None) if head.has_body else 0
    close = b"connection" in values and _says_close(values)
    head.keep_alive = head.minor == 1 and not close and (known or not head.has_body)
    return head


def _read_status(line: bytes) -> tuple[int, bytes, int]:
    """Status, reason phrase and minor version."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadRequest("the status line cannot be read (RFC 9112, section 4)")
    return int(match[2]), match[3] or b"", 1 if match[1] == b"1" else 0


_usual: Final = {
    line: _read_status(line) for line in (b"HTTP/1.1 %d %b\r" % (one.value, one.phrase.encode()) for one in HTTPStatus)
}
"""Status lines that need no reading: the registered ones."""


def _read_lines(data: bytes, at: int, most: int, run: Run | None) -> Lines:
    """The field lines of a head, which begin at `at`; its run is `run` if it begins so, else a new one if it can be."""
    if run is None or not data.startswith(run.raw, at):
        return _read_anew(data, at, most)
    fields: list[FieldLine] = []
    values = run.values.copy()
    at += len(run.raw)
    if at < len(data):
        lines = data[at:].split(b"\n")
        if len(run.fields) + len(lines) > most + 1:  # the last of the lines is empty
            raise HeadTooLarge(f"there are more than {most} headers")
        for line in lines[:-1]:
            field = _remembered.get(line) or _read_line(line)
            _add(field, values)
            fields.append(field)
    return run, fields, values


def _read_anew(data: bytes, at: int, most: int) -> Lines:
    lines = data[at:].split(b"\n")
    if len(lines) > most + 1:
        raise HeadTooLarge(f"there are more than {most} headers")
    fields: list[FieldLine] = []
    values: dict[bytes, bytes] = {}
    began: dict[bytes, bytes] | None = None
    count = size = 0
    for line in lines[:-1]:
        field = _remembered.get(line) or _read_line(line)
        if began is None:
            if field.lasting and size + len(line) < _LONGEST_RUN:
                count += 1
                size += len(line) + 1
            else:
                began = values.copy()
        _add(field, values)
        fields.append(field)
    if not count:
        return None, fields, values
    run = Run(data[at : at + size], fields[:count], values.copy() if began is None else began)
    return run, fields[count:], values


def _add(field: FieldLine, values: dict[bytes, bytes]) -> None:
    name, value = field.name, field.value
    if name in values:
        if name in _ONCE:
            raise BadRequest("a header that may occur once occurs twice")
        if name == b"connection":
            value = values[name] + b"," + value
    values[name] = value


def said_length(values: dict[bytes, bytes], minor: int) -> tuple[bool, int | None]:
    """(whether a head says how long its body is, the length or None when chunked) (RFC 9112, section 6)."""
    coding = values.get(b"transfer-encoding")
    length = values.get(b"content-length")
    if coding is not None:
        if length is not None or minor == 0:
            raise BadRequest("the message says its length in two ways, or in one that HTTP/1.0 does not know")
        if coding.lower() != b"chunked":
            *_, last = coding.lower().split(b",")
            if last.strip(b" \t") == b"chunked":
                raise NotImplementedHere("the only transfer coding known here is chunked")
            raise BadRequest("the transfer coding does not say where the body ends (RFC 9112, section 6.3)")
        return True, None
    if length is None:
        return False, 0
    if not (length.isdigit() and len(length) <= 15):
        raise BadRequest("the content length cannot be read")
    return True, int(length)


def connection_options(values: dict[bytes, bytes]) -> set[bytes]:
    """What all fields `Connection` name together, in lower case (RFC 9110, section 7.6.1)."""
    return {option.strip(b" \t").lower() for option in values.get(b"connection", b"").split(b",")}


def _says_close(values: dict[bytes, bytes]) -> bool:
    return values[b"connection"] != b"keep-alive" and b"close" in connection_options(values)


def _check_target(method: bytes, target: bytes) -> None:
    """The four forms of RFC 9112, section 3.2; a fragment in none of them."""
    if b"#" in target:
        raise BadRequest("a request target has no fragment (RFC 9112, section 3.2)")
    if method == b"CONNECT" or (method == b"OPTIONS" and target == b"*") or _ABSOLUTE.fullmatch(target):
        return
    raise BadRequest("the request target cannot be read (RFC 9112, section 3.2)")


_good_hosts: Final[set[bytes]] = set()


def _check_host(host: bytes) -> None:
    """One host, in the form of RFC 9112, section 3.2."""
    if not _HOST.fullmatch(host):
        raise BadRequest("the Host header cannot be read")
    if len(_good_hosts) >= _MOST_REMEMBERED:
        _good_hosts.clear()
    _good_hosts.add(host)
