"""Heads are read line by line, and lines and runs of lines that came before are remembered: that changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.base.errors import Fault
from stelsel.exchange import heads
from stelsel.exchange.headers import REQUESTS, fields_of, passing
from stelsel.exchange.heads import RequestHead, Run, request_head

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


def head_of(lines: list[bytes], run: Run | None = None) -> RequestHead:
    return request_head(b"".join(line + b"\r\n" for line in (b"POST /a HTTP/1.1", *lines)), 5, run)


def read(lines: list[bytes], run: Run | None = None) -> object:
    try:
        head = head_of(lines, run)
    except Fault as fault:
        return fault.status, fault.detail
    return head.length, head.keep_alive, head.values, [one.line for one in fields_of(head)], passing(head, REQUESTS)


def run_of(lines: list[bytes]) -> Run | None:
    try:
        return head_of(lines).run
    except Fault:
        return None


@given(first=LINES, then=LINES)
def test_what_came_before_changes_nothing(first: list[bytes], then: list[bytes]) -> None:
    heads._remembered.clear()
    alone = read(then)
    heads._remembered.clear()
    read(first)
    assert read(then) == alone


@given(begins=LINES, first=LINES, then=LINES)
def test_how_the_head_before_began_changes_nothing(begins: list[bytes], first: list[bytes], then: list[bytes]) -> None:
    run = run_of(begins + first)
    assert read(begins + then, run) == read(begins + then)
    assert read(begins + then, run) == read(begins + then), "what was passed on before changed something"


@given(begins=LINES, then=LINES)
def test_a_run_ends_before_what_is_not_remembered(begins: list[bytes], then: list[bytes]) -> None:
    run = run_of([*begins, b"Cookie: session=secret", *then])
    assert run is None or b"secret" not in run.raw


def test_a_run_that_was_met_again_is_kept() -> None:
    run = head_of([b"Host: a", b"Accept: */*", b"Cookie: session=1"]).run
    again = head_of([b"Host: a", b"Accept: */*", b"Cookie: session=2"], run)
    assert again.run is run
    assert [field.value for field in again.rest] == [b"session=2"]


def test_a_line_that_goes_on_where_a_run_ends_is_another_line() -> None:
    run = head_of([b"Host: a"]).run
    assert run is not None
    assert head_of([b"Host: ab"], run).values[b"host"] == b"ab"


def test_a_run_grows_no_longer_than_a_connection_may_hold() -> None:
    lines = [b"X-%d: " % number + b"x" * 1200 for number in range(4)]
    run = head_of([b"Host: a", *lines]).run
    assert run is not None
    assert len(run.raw) <= heads._LONGEST_RUN


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
    head = request_head(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One\r\nConnection: close\r\nX-One: 1\r\nX-Two: 2\r\n", 9
    )
    assert passing(head, REQUESTS) == b"X-Two: 2\r\n"
