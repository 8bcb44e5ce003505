"""A hostile service behind us: nobody gets two answers for one request, nor another's, nor one to be read two ways."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from exchange_corpus import Case, answer_outcome, cases
from exchange_nginx import quiet
from exchange_world import Play, World, plain_answer, read_reply

ANSWERS = cases("answers")


def _expected(case: Case) -> tuple[str, str]:
    """(method, what is expected)."""
    method, _, expected = case.expected[0].rpartition(" ")
    return method or "GET", expected


def test_our_reader_makes_of_each_answer_what_is_written_in_any_split() -> None:
    assert len(ANSWERS) >= 75
    for case in ANSWERS:
        method, expected = _expected(case)
        data = case.data()
        borders = [[0, len(data)], *([0, at, len(data)] for at in range(1, len(data), 1 + len(data) // 200))]
        if len(data) < 5000:
            borders.append(list(range(len(data) + 1)))
        for cuts in borders:
            pieces = [data[start:end] for start, end in pairwise(cuts)]
            assert answer_outcome(pieces, method.encode()) == expected, (str(case), cuts[:3])


@pytest.mark.parametrize("slow", [False, True])
def test_a_hostile_answer_reaches_one_client_once_or_not_at_all(play: Play, slow: bool) -> None:
    """`slow`: what a service says behind its answer comes a moment later, when the connection is in the pool again."""

    async def scenario(world: World) -> None:
        faults = []
        for case in ANSWERS:
            method, expected = _expected(case)
            try:
                await _hostile(world, case.data(), method, expected, slow=slow)
            except (AssertionError, TimeoutError, OSError, EOFError) as error:
                faults.append(f"{case}: {type(error).__name__} {str(error)[:200]}")
        assert not faults, "\n".join(faults)
        await asyncio.sleep(0.05)
        assert world.inway.in_flight == world.outway.in_flight == 0

    play(scenario)


async def _hostile(world: World, data: bytes, method: str, expected: str, *, slow: bool) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> None:
        if seen.target == "/second":
            writer.write(plain_answer(b"second"))
            return
        at = data.find(b"smuggled") if slow else -1
        if at > 0:
            at = max(data.rfind(b"HTTP/1.1", 0, at), 0) or at
        writer.write(data[:at] if at > 0 else data)
        if at > 0:
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write(data[at:])

    world.service.handler = handler
    reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
    closes = False
    try:
        writer.write(f"{method} /plain/a HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        if expected == "...":
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await asyncio.wait_for(read_reply(reader, method), 5)
            closes = True
        else:
            reply = await asyncio.wait_for(read_reply(reader, method), 5)
            status, _, size = expected.partition(":")
            assert (str(reply.status), len(reply.body)) == (status, int(size) if size else len(reply.body))
            assert b"smuggled" not in reply.body
            assert "smuggled" not in str(reply.headers)
            closes = reply.headers.get("connection") == "close"
            assert await quiet(reader, 0.02 if slow else 0.001) == b"", "there was more than one answer"
        if closes:
            writer.transport.abort()
            reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        writer.write(b"GET /plain/second HTTP/1.1\r\nHost: x\r\n\r\n")
        second = await asyncio.wait_for(read_reply(reader), 5)
        assert (second.status, second.body) == (200, b"second"), "another's answer"
    finally:
        writer.transport.abort()
