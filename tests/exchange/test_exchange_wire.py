"""The sans-I/O core: scripted conversations, refused messages, and the same events for any split of the bytes."""

from __future__ import annotations

from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.base.errors import Fault
from stelsel.exchange.headers import ANSWERS, ANSWERS_OF_INWAYS, REQUESTS, fields_of, passing
from stelsel.exchange.heads import RequestHead, ResponseHead
from stelsel.exchange.wire import END, RequestReader, ResponseReader, WireLimits

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def events(reader: RequestReader | ResponseReader, pieces: list[bytes]) -> list[object]:
    """What the reader makes of the pieces: heads as tuples, bodies joined, `END`, and a fault as its status."""
    found: list[object] = []
    try:
        for piece in pieces:
            reader.receive(piece)
            while (event := reader.next_event()) is not None:
                if isinstance(event, bytes):
                    if found and isinstance(found[-1], bytes):
                        found[-1] += event
                    else:
                        found.append(event)
                elif isinstance(event, RequestHead):
                    found.append(
                        (
                            event.method,
                            event.target,
                            event.minor,
                            event.length,
                            tuple((one.name, one.value, one.line) for one in fields_of(event)),
                        )
                    )
                elif isinstance(event, ResponseHead):
                    found.append(
                        (
                            event.status,
                            event.length,
                            event.has_body,
                            tuple((one.name, one.value, one.line) for one in fields_of(event)),
                        )
                    )
                else:
                    found.append(event)
    except Fault as fault:
        found.append(fault.status)
    return found


def requests(*pieces: bytes, limits: WireLimits | None = None) -> list[object]:
    return events(RequestReader(limits or WireLimits()), list(pieces))


def status_of(data: bytes, limits: WireLimits | None = None) -> object:
    return requests(data, limits=limits)[-1]


def test_a_request_without_a_body_is_a_head_and_an_end() -> None:
    head, end = requests(GET)
    assert head == (b"GET", b"/a?b=c", 1, 0, ((b"host", b"x", b"Host: x\r\n"),))
    assert end is END


def test_pipelined_requests_come_one_after_another() -> None:
    found = requests(POST + b"Content-Length: 2\r\n\r\nhi" + GET + CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n" + GET)
    assert [event for event in found if not isinstance(event, tuple)] == [b"hi", END, END, b"abc", END, END]


def test_trailers_and_chunk_extensions_are_dropped() -> None:
    assert requests(CHUNKED + b"3;name=value\r\nabc\r\n0\r\nExpires: now\r\n\r\n")[1:] == [b"abc", END]


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
        (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
        (POST + b"Content-Length: +5\r\n\r\nhello", 400),
        (POST + b"Content-Length: 5 5\r\n\r\nhello", 400),
        (POST + b"Content-Length: 0x5\r\n\r\nhello", 400),
        (POST + b"Content-Length:\r\n\r\nhello", 400),
        (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
        (POST + b"Content-Length : 5\r\n\r\nhello", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\nY: z\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nY: z\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nY: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nY\x00: z\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /#part HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505),
        (b"SOURCE / ICE/1.0\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (GET[:-2] + b"Fsc-Grant-Hash: a\r\nFsc-Grant-Hash: b\r\n\r\n", 400),
        (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"5\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"\r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n", 400),
        (CHUNKED + b"5\r\nhello0\r\n\r\n", 400),
        (CHUNKED + b"5\r\nhello\n0\r\n\r\n", 400),
        (CHUNKED + b"fffffffffffffffff\r\nhello", 400),
        (CHUNKED + b"ffffffffffffff\r\nhello", 413),
        (CHUNKED + b"5;" + b"a" * 500 + b"\r\nhello\r\n0\r\n\r\n", 400),
        (CHUNKED + b"0\r\nno colon here\r\n\r\n", 400),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 3000 + b"\r\n", 400),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(message: bytes, status: int) -> None:
    assert status_of(message) == status


def test_a_fault_stays_a_fault_whatever_follows() -> None:
    reader = RequestReader(WireLimits())
    assert events(reader, [b"GET / HTTP/1.1\nHost: x\n\n"]) == [400]
    assert events(reader, [GET]) == [400]


def test_a_head_that_is_too_large_is_refused() -> None:
    assert status_of(b"GET /" + b"a" * 70_000) == 431
    assert status_of(GET[:-2] + b"X: " + b"a" * 70_000 + b"\r\n\r\n") == 431
    assert status_of(GET[:-2] + b"X: y\r\n" * 101 + b"\r\n") == 431
    assert status_of(GET[:-2] + b"X: y\r\n" * 99 + b"\r\n") is END


def test_a_body_that_is_too_large_is_refused() -> None:
    limits = WireLimits(body=10)
    assert status_of(POST + b"Content-Length: 11\r\n\r\n", limits) == 413
    assert status_of(CHUNKED + b"6\r\nabcdef\r\n6\r\n", limits) == 413
    assert status_of(POST + b"Content-Length: 10\r\n\r\n0123456789", limits) is END


def test_a_wish_to_upgrade_is_not_granted_and_changes_no_border() -> None:
    wish = b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    found = requests(POST + wish + b"Content-Length: 2\r\n\r\nhi" + GET)
    assert [event for event in found if not isinstance(event, tuple)] == [b"hi", END, END]


def test_keep_alive_follows_the_version_and_the_connection_header() -> None:
    def keep(data: bytes) -> bool:
        reader = RequestReader(WireLimits())
        reader.receive(data)
        head = reader.next_event()
        assert isinstance(head, RequestHead)
        return head.keep_alive

    assert keep(GET)
    assert not keep(GET[:-2] + b"Connection: x, Close\r\n\r\n")
    assert not keep(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")


def answers(method: bytes, *pieces: bytes) -> list[object]:
    reader = ResponseReader(WireLimits())
    reader.expect(method)
    return events(reader, list(pieces))


def test_answers_end_where_their_head_says() -> None:
    assert answers(b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")[1:] == [b"hi", END]
    assert answers(b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")[1:] == [
        b"hi",
        END,
    ]
    assert answers(b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")[1:] == [END]
    assert answers(b"GET", b"HTTP/1.1 204 No Content\r\n\r\n")[1:] == [END]
    assert answers(b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")[1:] == [END]
    assert answers(b"GET", b"HTTP/1.1 200 OK\r\n\r\nuntil close")[1:] == [b"until close"]


def test_interim_answers_are_for_us_alone() -> None:
    found = answers(
        b"POST", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n"
    )
    assert found[0][0] == 204  # type: ignore[index]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\n\r\n",
        b"HTTP/1.1 0200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"ICY 200 OK\r\n\r\n",
    ],
)
def test_an_answer_that_could_be_read_differently_is_a_bad_gateway(answer: bytes) -> None:
    assert answers(b"GET", answer) == [502]


def _head(lines: bytes) -> RequestHead:
    reader = RequestReader(WireLimits())
    reader.receive(GET[:-2] + lines + b"\r\n")
    head = reader.next_event()
    assert isinstance(head, RequestHead)
    return head


def test_headers_of_one_hop_and_headers_that_are_ours_do_not_pass() -> None:
    head = _head(
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\n"
        b"Proxy-Authorization: secret\r\nFsc-Authorization: forged\r\nFSC-Transaction-ID: forged\r\n"
        b"Stelsel-Anything: forged\r\nExpect: 100-continue\r\ntraceparent: 00-0-0-0\r\nX-Own:  kept \r\n"
    )
    assert passing(head, REQUESTS) == b"X-Own: kept\r\n"


def test_what_a_service_says_in_our_name_does_not_pass() -> None:
    reader = ResponseReader(WireLimits())
    reader.receive(
        b"HTTP/1.1 200 OK\r\nFsc-Error-Code: FORGED\r\nStelsel-Data-Subjects: 999990019\r\nETag: x\r\n"
        b"Set-Cookie: a\r\nSet-Cookie: b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    head = reader.next_event()
    assert isinstance(head, ResponseHead)
    assert passing(head, ANSWERS) == b"ETag: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
    assert b"FORGED" in passing(head, ANSWERS_OF_INWAYS)


MESSAGES = [
    GET,
    POST + b"Content-Length: 11\r\n\r\nhello world",
    POST + b"Content-Length: 0\r\n\r\n",
    CHUNKED + b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: z\r\n\r\n",
    b"\r\n" + GET,
    GET[:-2] + b"Upgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\nY: z\r\n\r\n",
    CHUNKED + b"5\r\nhelloX0\r\n\r\n",
]


@given(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=4), st.lists(st.integers(0, 400), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_events(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(messages)
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(borders)]
    assert requests(*pieces) == requests(data)


def test_byte_by_byte_gives_the_same_events() -> None:
    for data in [b"".join(MESSAGES[:5]), *MESSAGES[5:]]:
        assert requests(*(bytes([byte]) for byte in data)) == requests(data)


@given(st.binary(max_size=300), st.integers(0, 3))
def test_no_bytes_make_it_err_other_than_by_a_fault(noise: bytes, at: int) -> None:
    requests(MESSAGES[at] + noise)
    requests(CHUNKED + noise)
    answers(b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + noise)


@given(st.lists(st.sampled_from(MESSAGES[:4]), min_size=1, max_size=4), st.binary(max_size=5), st.integers(0, 500))
def test_our_borders_are_never_other_than_those_of_llhttp(messages: list[bytes], noise: bytes, at: int) -> None:
    """What we accept as a whole, llhttp reads as the same number of messages with the same bodies."""
    data = b"".join(messages)
    at = min(at, len(data))
    data = data[:at] + noise + data[at:]
    ours = _bodies(requests(data))
    seen = _Seen()
    try:
        httptools.HttpRequestParser(seen).feed_data(data)
    except httptools.HttpParserError:
        pass  # what it had read before still counts
    both = min(len(ours), len(seen.bodies))
    assert seen.bodies[:both] == ours[:both], "two readers disagree on where messages end"


def _bodies(found: list[object]) -> list[bytes]:
    """The bodies of the messages that came to their end."""
    result: list[bytes] = []
    body = b""
    for event in found:
        if isinstance(event, bytes):
            body = event
        elif event is END:
            result.append(body)
            body = b""
    return result


class _Seen:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._body = b""

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.bodies.append(self._body)
