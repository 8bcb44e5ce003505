"""Whoever does not read, or does not finish its handshake, holds nothing for ever. Gateways on uvloop."""

from __future__ import annotations

import asyncio

from exchange_world import Play, Seen, World, connect, plain_answer, read_reply, until

_MEGABYTE = 1024 * 1024


def test_clients_that_leave_the_last_of_an_answer_unread_are_not_kept_for_ever(play_fast: Play) -> None:
    """Of many sizes around what sockets hold, so that with some the end of the answer waits in our own buffer."""

    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            writer.write(plain_answer(b"x" * int(seen.target[1:])))
            await writer.drain()

        world.service.handler = handler
        writers = []
        for size in range(100_000, 6_000_000, 150_000):
            _, writer = await connect(world)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /plain/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % size)
            writers.append(writer)
        await until(lambda: len(world.outway.connections) > 0)
        await until(lambda: not world.outway.connections, 10)
        for writer in writers:
            writer.transport.abort()

    limits = {"silence_seconds": 0.5, "idle_seconds": 0.5}
    play_fast(scenario, outway_limits=limits, inway_limits=limits)


def test_a_service_that_answers_early_and_never_reads_on_is_let_go(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            if seen.method == "GET":
                writer.write(plain_answer(b"next"))
                return
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.2)
            writer.write(plain_answer(b"no", status="413 Content Too Large"))
            await asyncio.sleep(20)

        world.service.handler = handler
        reader, writer = await connect(world)
        writer.write(b"POST /plain/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 30 * _MEGABYTE)
        reply = await asyncio.wait_for(read_reply(reader), 5)
        assert reply.status == 413
        writer.transport.abort()
        pool = world.inway._pools["plain"]
        await until(lambda: pool.size == 0, 6)
        assert (await world.ask("/plain/")).body == b"next"

    play_fast(scenario, inway_limits={"silence_seconds": 1})


def test_handshakes_that_never_end_count_as_connections(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        kept = [await asyncio.open_connection("127.0.0.1", world.inway_port) for _ in range(12)]
        await asyncio.sleep(0.2)
        ended = 0
        for reader, _ in kept:
            try:
                ended += await asyncio.wait_for(reader.read(1), 0.02) == b""
            except TimeoutError:
                pass
            except ConnectionError:
                ended += 1
        assert ended >= 7, "more handshakes are kept waiting than there may be connections"
        for _, writer in kept:
            writer.transport.abort()

    play_fast(scenario, inway_limits={"maximum_connections": 5})


def test_a_connection_behind_us_is_not_left_paused_for_a_client_that_was_slow(play_fast: Play) -> None:
    """The end of an answer may fill the buffer of a slow client; the next one to use that connection must not wait."""

    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            writer.write(plain_answer(b"x" * int(seen.target[1:])))
            await writer.drain()

        world.service.handler = handler
        for _ in range(3):
            clients = []
            for size in range(2_000_000, 8_000_000, 100_000):
                reader, writer = await connect(world)
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                writer.write(b"GET /plain/%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
                clients.append((reader, writer))
            await asyncio.sleep(1)
            for reader, writer in clients:
                writer.transport.resume_reading()  # type: ignore[attr-defined]
                await asyncio.wait_for(read_reply(reader), 5)
            for _, writer in clients:  # all at once, so that every connection behind us is used
                writer.write(b"GET /plain/5 HTTP/1.1\r\nHost: x\r\n\r\n")
            for reader, _ in clients:
                assert (await asyncio.wait_for(read_reply(reader), 5)).body == b"xxxxx"
            for _, writer in clients:
                writer.transport.abort()

    play_fast(scenario)
