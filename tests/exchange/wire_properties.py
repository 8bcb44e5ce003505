"""What must hold of our readers for whatever bytes come. Used by tests at random, and by fuzzing (tools/fuzz_wire.py).

Each function takes bytes and raises AssertionError when something does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import httptools

from stelsel.base.errors import Fault
from stelsel.exchange import headers, wire
from stelsel.exchange.heads import HOP_BY_HOP, RequestHead, ResponseHead
from stelsel.exchange.routing import origin_form
from stelsel.exchange.wire import END, RequestReader, ResponseReader, WireLimits

LIMITS = WireLimits(head=8192, headers=40, body=1_000_000)
_KNOWN_TO_LLHTTP = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS TRACE PATCH PROPFIND COPY LOCK MKCOL MOVE SEARCH".split()
)
_INTERIM = re.compile(rb"HTTP/1.[01] 1")
_SENTINEL = b"GET /sentinel HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Message:
    """One whole message, and the bytes it was read from."""

    head: RequestHead | ResponseHead
    body: bytes = b""
    data: bytes = b""


def read(reader: RequestReader | ResponseReader, pieces: Iterable[bytes]) -> tuple[list[Message], Message | None, int]:
    """(whole messages, the message that is not whole, the status of the refusal or 0)."""
    data, start, whole, now = b"", 0, [], None
    try:
        for piece in pieces:
            data += piece
            reader.receive(piece)
            while (event := reader.next_event()) is not None:
                if event is END:
                    assert now is not None, "an end without a beginning"
                    end = len(data) - reader.unread
                    now.data = data[start:end]
                    whole.append(now)
                    start, now = end, None
                elif isinstance(event, bytes):
                    assert now is not None, "a body without a head"
                    assert event, "an empty piece of a body"
                    now.body += event
                else:
                    assert now is None, "a head inside a message"
                    now = Message(event)
    except Fault as fault:
        return whole, now, fault.status
    return whole, now, 0


def _told(message: Message | None) -> object:
    if message is None:
        return None
    head = message.head
    first = (head.method, head.target) if isinstance(head, RequestHead) else (head.status, head.reason)
    return (
        first,
        head.minor,
        head.length,
        head.keep_alive,
        [(one.name, one.value, one.line) for one in headers.fields_of(head)],
        message.body,
    )


def _pieces(data: bytes, random: Random) -> list[bytes]:
    if random.random() < 0.2:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.randint(1, 8)))
    return [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


def hold_for_requests(data: bytes, seed: int = 0) -> list[Message]:
    """Any split is read alike; llhttp sees the same messages; what we would send on is one message, and the same."""
    whole, unfinished, status = read(RequestReader(LIMITS), [data])
    again = read(RequestReader(LIMITS), _pieces(data, Random(seed)))
    assert [_told(one) for one in again[0]] == [_told(one) for one in whole], "a split made other messages"
    assert _told(again[1]) == _told(unfinished), "a split made another last message"
    assert bool(again[2]) == bool(status), "a split made the difference between accepted and refused"
    for message in whole:
        _llhttp_agrees(message)
        _is_sent_on_as_one(message)
    return whole


@dataclass
class Seen:
    """What llhttp makes of bytes."""

    bodies: list[bytes] = field(default_factory=list)
    urls: list[bytes] = field(default_factory=list)
    fields: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    whole: int = 0

    def on_message_begin(self) -> None:
        self.bodies.append(b"")
        self.urls.append(b"")
        self.fields.append([])

    def on_url(self, url: bytes) -> None:
        self.urls[-1] += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields[-1].append((name.lower(), value.strip(b" \t")))

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body

    def on_message_complete(self) -> None:
        self.whole += 1


def _without_trailers(message: Message) -> bytes:
    """Without interim answers too: llhttp heeds trailers as if they stood in the head, and the version of the first."""
    data = message.data
    interim = True
    while interim:
        data = data.lstrip(b"\r\n")
        at = data.index(b"\r\n\r\n") + 4
        interim = _INTERIM.match(data) is not None
        if interim:
            data = data[at:]
    if message.head.length is not None or at == len(data):
        return data
    while True:
        end = data.index(b"\r\n", at) + 2
        size = int(data[at:end].partition(b";")[0], 16)
        if not size:
            return data[:end] + b"\r\n"
        at = end + size + 2


def _llhttp_agrees(message: Message) -> None:
    """llhttp reads the same one message out of these bytes, and the next one behind it."""
    head = message.head
    assert isinstance(head, RequestHead)
    if head.method not in _KNOWN_TO_LLHTTP or b"upgrade" in head.values:
        return  # it does not know the method, or stops reading to change the protocol
    # What closes is read in more ways than one (llhttp heeds Proxy-Connection), and then it takes nothing behind it.
    follows = head.keep_alive and b"connection" not in head.values and b"proxy-connection" not in head.values
    seen = Seen()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(_without_trailers(message))
        if follows:
            parser.feed_data(_SENTINEL)
    except httptools.HttpParserError as error:
        raise AssertionError(f"llhttp refuses what we accept: {error!r} in {message.data!r}") from error
    wanted = 1 + follows
    assert seen.whole == wanted, f"llhttp sees {seen.whole} messages in {message.data!r}"
    assert (parser.get_method(), seen.urls[-1]) == (
        (b"GET", b"/sentinel") if wanted == 2 else (head.method, head.target)
    )
    assert (seen.urls[0], seen.bodies[0]) == (head.target, message.body)
    ours = [(one.name, one.value) for one in headers.fields_of(head)]
    assert seen.fields[0][: len(ours)] == ours  # behind them come its trailers


def _is_sent_on_as_one(message: Message) -> None:
    """What a gateway sends on is read, by us and by llhttp, as one message with the same body."""
    head = message.head
    assert isinstance(head, RequestHead)
    chunked = head.length is None
    lines = headers.passing(head, headers.REQUESTS) + wire.framing(None if chunked else len(message.body))
    sent = wire.request_head(head.method, origin_form(head.target), b"service:80", lines)
    if chunked:
        sent += (wire.chunk(message.body) if message.body else b"") + wire.LAST_CHUNK
    else:
        sent += message.body
    whole, unfinished, status = read(RequestReader(WireLimits(head=65536, headers=100)), [sent])
    assert (len(whole), unfinished, status) == (1, None, 0), f"what we send on is not one message: {sent!r}"
    one = whole[0]
    assert isinstance(one.head, RequestHead)
    assert (one.head.method, one.body) == (head.method, message.body)
    assert one.head.values[b"host"] == b"service:80"
    for name in (line.name for line in headers.fields_of(one.head)):
        assert not name.startswith((b"fsc-", b"stelsel-")), name
        assert name == b"transfer-encoding" or name not in HOP_BY_HOP, name
    _llhttp_agrees(one)


def hold_for_answers(data: bytes, seed: int = 0, method: bytes = b"GET") -> None:
    """The same for the first answer on a connection, which is all that is used of it when there is more."""

    def first(pieces: Iterable[bytes]) -> tuple[Message | None, bool, int]:
        reader = ResponseReader(LIMITS)
        reader.expect(method)
        whole, unfinished, status = read(reader, pieces)
        return (whole[0], True, 0) if whole else (unfinished, False, status)

    message, whole, status = first([data])
    again = first(_pieces(data, Random(seed)))
    assert _told(again[0]) == _told(message), "a split made another answer"
    assert (again[1], bool(again[2])) == (whole, bool(status))
    if message is None or not whole or method == b"HEAD":
        return
    head = message.head
    assert isinstance(head, ResponseHead)
    seen = Seen()
    parser = httptools.HttpResponseParser(seen)
    try:
        parser.feed_data(_without_trailers(message))
    except httptools.HttpParserUpgrade:
        return
    except httptools.HttpParserError as error:
        raise AssertionError(f"llhttp refuses what we accept: {error!r} in {message.data!r}") from error
    assert (parser.get_status_code(), seen.bodies[-1]) == (head.status, message.body), message.data
    ours = [(one.name, one.value) for one in headers.fields_of(head)]
    assert seen.fields[-1][: len(ours)] == ours
