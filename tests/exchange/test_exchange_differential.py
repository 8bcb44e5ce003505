"""Our readers against llhttp: a grammar of messages that are nearly right, and the corpus with mistakes put into it."""

from __future__ import annotations

from exchange_corpus import FOLDER, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_properties import hold_for_answers, hold_for_requests

_LONG = 4000
SEEDS = [data for case in cases() if len(data := case.data()) < _LONG]
ANSWERS = [data for case in cases("answers") if len(data := case.data()) < _LONG]
_ODD = [
    b"",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b":",
    b",",
    b";",
    b'"',
    b"0",
    b"-",
]


def odd(*usual: bytes) -> st.SearchStrategy[bytes]:
    """Nearly always the first, often another, now and then something near one of them."""
    near = st.sampled_from(usual).flatmap(
        lambda text: st.tuples(st.integers(0, len(text)), st.sampled_from(_ODD)).map(
            lambda pair: text[: pair[0]] + pair[1] + text[pair[0] :]
        )
    )
    return st.integers(0, 59).flatmap(
        lambda number: near if number == 37 else st.sampled_from(usual) if number % 4 == 3 else st.just(usual[0])
    )


_END = st.integers(0, 99).map(lambda number: {37: b"\n", 71: b"\r", 83: b"\r\r\n", 91: b"\r\n "}.get(number, b"\r\n"))
_METHODS = odd(b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"FOO")
_TARGETS = odd(b"/", b"/a?b=c", b"*", b"http://x/a", b"//x", b"/%0d%0a", b"x:80", b"/\xc3\xa9", b"/a#b", b"/|{}^`")
_VERSIONS = odd(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2")
_SIZES = odd(b"5", b"0", b"1", b"5", b"05", b"+5", b"5, 5", b"0x5", b"", b"99999999999999999999", b"5 5")
_CODINGS = odd(b"chunked", b"Chunked", b"identity", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"")
_FIELDS = st.one_of(
    st.tuples(odd(b"Content-Length", b"content-length", b"Content_Length"), _SIZES),
    st.tuples(odd(b"Transfer-Encoding", b"transfer-encoding"), _CODINGS),
    st.tuples(odd(b"Accept", b"X", b"Host"), odd(b"x", b"x:80", b"[::1]", b"", b"x/y")),
    st.tuples(odd(b"Connection"), odd(b"close", b"keep-alive", b"content-length, te", b"upgrade", b"x-own")),
    st.tuples(
        odd(b"X-Own", b"Expect", b"Upgrade", b"TE", b"Fsc-Authorization"), odd(b"y", b"", b"100-continue", b"\xe9")
    ),
)
_BODIES = st.one_of(
    st.just(b""),
    odd(b"hello", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    st.lists(
        st.tuples(odd(b"5", b"05", b"5;a=b", b'5;a="b"', b"5 ", b"6", b"0"), _END, odd(b"hello"), _END), max_size=3
    ).map(lambda chunks: b"".join(b"".join(chunk) for chunk in chunks) + b"0\r\n\r\n"),
    odd(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n"),
)


def _fields(pairs: list[tuple[bytes, bytes]], ends: list[bytes], colons: list[bytes]) -> bytes:
    return b"".join(
        name + colons[number % len(colons)] + value + ends[number % len(ends)]
        for number, (name, value) in enumerate(pairs)
    )


_LINES = st.builds(
    _fields,
    st.lists(_FIELDS, max_size=4),
    st.lists(_END, min_size=1, max_size=4),
    st.lists(odd(b": ", b":", b":\t"), min_size=1, max_size=3),
)
REQUESTS = st.builds(
    lambda method, target, version, end, host, lines, last, body: (
        method + b" " + target + b" " + version + end + host + lines + last + body
    ),
    _METHODS,
    _TARGETS,
    _VERSIONS,
    _END,
    st.sampled_from([b"Host: x\r\n"] * 5 + [b""]),
    _LINES,
    _END,
    _BODIES,
)
RESPONSES = st.builds(
    lambda version, status, end, lines, last, body: version + b" " + status + end + lines + last + body,
    _VERSIONS,
    odd(b"200 OK", b"204 No Content", b"304 ", b"100 Continue", b"404", b"500 \xe9"),
    _END,
    _LINES,
    _END,
    _BODIES,
)


@settings(max_examples=250, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=3), st.integers(0, 2**32))
def test_what_we_accept_of_nearly_valid_requests_llhttp_reads_alike(requests: list[bytes], seed: int) -> None:
    hold_for_requests(b"".join(requests), seed)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, _LONG), st.sampled_from(_ODD), st.integers(0, 3), st.integers(0, 2**32))
def test_the_corpus_with_one_mistake_more_is_read_as_llhttp_reads_it(
    data: bytes, at: int, more: bytes, less: int, seed: int
) -> None:
    at %= len(data) + 1
    hold_for_requests(data[:at] + more + data[at + less :], seed)


@settings(max_examples=150, deadline=None)
@given(st.one_of(RESPONSES, st.sampled_from(ANSWERS)), st.integers(0, 2**32), st.sampled_from([b"GET", b"HEAD"]))
def test_what_we_accept_of_nearly_valid_answers_llhttp_reads_alike(data: bytes, seed: int, method: bytes) -> None:
    hold_for_answers(data, seed, method)


def test_what_fuzzing_found_interesting_still_holds() -> None:
    for path in sorted((FOLDER / "fuzz").glob("[!R]*")):
        data = path.read_bytes()
        for seed in (1, 2, 3):
            hold_for_requests(data, seed)
            hold_for_answers(data, seed)
