"""Heads are read line by line, and lines that came before are remembered: that must change nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.base.errors import Fault
from stelsel.exchange import heads
from stelsel.exchange.headers import request_lines
from stelsel.exchange.heads import request_head

LINES = st.lists(
    st.sampled_from(
        [
            b"Host: a",
            b"Host: b",
            b"X-One: 1",
            b"x-one: 2",
            b"Accept: */*",
            b"Connection: close",
            b"Connection: keep-alive, X-One",
            b"Content-Length: 3",
            b"Fsc-Grant-Hash: $1$",
            b"Te: trailers",
            b"No colon",
            b"Space : before",
            b" folded",
        ]
    ),
    max_size=6,
)


def read(lines: list[bytes]) -> object:
    try:
        head = request_head(b"".join(line + b"\r\n" for line in (b"POST /a HTTP/1.1", *lines)), 100)
    except Fault as fault:
        return fault.status, fault.detail
    return head.length, head.keep_alive, head.values, [one.line for one in head.fields], request_lines(head)


@given(first=LINES, then=LINES)
def test_what_came_before_changes_nothing(first: list[bytes], then: list[bytes]) -> None:
    heads._remembered.clear()
    alone = read(then)
    heads._remembered.clear()
    read(first)
    assert read(then) == alone


def test_no_more_lines_are_remembered_than_fit() -> None:
    for number in range(heads._MOST_REMEMBERED * 2):
        read([b"Host: a", b"X-Number: %d" % number])
    assert len(heads._remembered) <= heads._MOST_REMEMBERED


@pytest.mark.parametrize(
    "line", [b"Authorization: Basic c2VjcmV0", b"Cookie: session=secret", b"Set-Cookie: session=secret"]
)
def test_a_clients_secrets_are_not_remembered(line: bytes) -> None:
    read([b"Host: a", line])
    assert not any(line in one for one in heads._remembered)


def test_a_long_line_is_not_remembered() -> None:
    line = b"X-Long: " + b"x" * heads._LONGEST_REMEMBERED
    read([b"Host: a", line])
    assert not any(line in one for one in heads._remembered)


def test_what_one_connection_header_names_is_dropped_whatever_the_next_one_says() -> None:
    lines = request_lines(
        request_head(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One\r\nConnection: close\r\nX-One: 1\r\nX-Two: 2\r\n", 9
        )
    )
    assert lines == b"X-Two: 2\r\n"
