"""A connection to the party behind a gateway by itself: when it is used again, and when it is let go of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stelsel.base.errors import Fault
from stelsel.exchange.heads import ResponseHead
from stelsel.exchange.upstream import Pool, UpstreamConnection
from stelsel.exchange.wire import WireLimits


class _Transport:
    """Of which the other side does not take everything."""

    def __init__(self, unsent: int) -> None:
        self.unsent = unsent
        self.ends: list[str] = []

    def set_write_buffer_limits(self, high: int) -> None: ...

    def write(self, data: bytes) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return bool(self.ends)

    def close(self) -> None:
        self.ends.append("closed")

    def abort(self) -> None:
        self.ends.append("aborted")


class _Sink:
    def __init__(self) -> None:
        self.over = False

    def answer_head(self, head: ResponseHead) -> None: ...

    def answer_data(self, data: bytes) -> None: ...

    def answer_end(self) -> None: ...

    def answer_over(self) -> None:
        self.over = True

    def answer_failed(self, fault: Fault) -> None:
        raise AssertionError(fault)

    def answer_flush(self) -> None: ...

    def upstream_writable(self, writable: bool) -> None: ...


@pytest.mark.parametrize(
    ("unsent", "lines", "ends", "kept"),
    [
        (0, b"", [], True),
        (0, b"Connection: close\r\n", ["closed"], False),
        (1, b"", ["aborted"], False),
        (1, b"Connection: close\r\n", ["aborted"], False),
    ],
)
def test_who_answers_without_taking_the_whole_request_is_not_waited_for(
    unsent: int, lines: bytes, ends: list[str], kept: bool
) -> None:
    async def run() -> None:
        async def connect(pool: Pool, fresh: bool) -> UpstreamConnection:
            raise AssertionError

        pool = Pool(connect, maximum=1, idle_seconds=10, connect_seconds=1)
        connection, transport, sink = UpstreamConnection(pool, WireLimits()), _Transport(unsent), _Sink()
        given: Any = transport
        connection.connection_made(given)
        connection.begin(sink, b"POST", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", ended=True)
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + lines + b"\r\n")
        assert sink.over
        assert transport.ends == ends
        assert (pool.take() is connection) == kept

    asyncio.run(run())
