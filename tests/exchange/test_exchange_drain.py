"""What a draining gateway does with connections: none is cut that is, or is about to be, of use."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from exchange_world import Play, World, read_reply

REQUEST = b"GET /plain/x HTTP/1.1\r\nHost: x\r\n\r\n"
SOON = 0.15


def drains(play: Play, scenario: object, **outway_limits: object) -> None:
    play(scenario, outway_limits={"grace_seconds": 0.6, **outway_limits})


def test_a_request_on_its_way_over_an_unused_connection_is_carried_and_told_that_it_ends(play: Play) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        writer.write(REQUEST)
        assert "connection" not in (await read_reply(reader)).headers
        stopping = asyncio.create_task(world.outway.stop(5))
        await asyncio.sleep(SOON)
        writer.write(REQUEST)
        reply = await read_reply(reader)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await reader.read() == b""
        # Nobody is connected any more, so nothing is waited for.
        await asyncio.wait_for(stopping, 0.3)
        writer.close()

    drains(play, scenario)


def test_unused_connections_end_after_the_grace(play: Play) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        await asyncio.sleep(0.02)
        begin = asyncio.get_running_loop().time()
        await world.outway.stop(5)
        assert 0.5 < asyncio.get_running_loop().time() - begin < 2
        assert await reader.read() == b""
        writer.close()

    drains(play, scenario)


def test_a_head_that_is_half_here_may_arrive_after_the_grace(play: Play) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        writer.write(REQUEST[:10])
        await asyncio.sleep(0.02)
        stopping = asyncio.create_task(world.outway.stop(5))
        await asyncio.sleep(0.9)
        writer.write(REQUEST[10:])
        assert (await read_reply(reader)).status == 200
        await stopping
        writer.close()

    drains(play, scenario)


def test_what_lasts_longer_than_the_drain_is_broken_off(play: Play) -> None:
    async def scenario(world: World) -> None:
        held = asyncio.Event()

        async def never(*_: object) -> None:
            held.set()
            await asyncio.sleep(60)

        world.service.handler = never
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        writer.write(REQUEST)
        await held.wait()
        begin = asyncio.get_running_loop().time()
        await world.outway.stop(0.4)
        assert asyncio.get_running_loop().time() - begin < 2
        assert await reader.read() == b""
        writer.close()

    drains(play, scenario)


def test_new_connections_wait_for_who_listens_next_when_the_socket_is_kept(play: Play) -> None:
    async def scenario(world: World) -> None:
        assert world.outway._server is not None
        kept = world.outway._server.sockets[0].dup()
        await world.outway.stop(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        writer.write(REQUEST)
        await asyncio.sleep(SOON)
        world.outway.draining = False
        await world.outway.start(kept)
        assert (await read_reply(reader)).status == 200
        writer.close()

    drains(play, scenario)


def test_a_tls_handshake_that_has_begun_is_finished(play: Play) -> None:
    async def scenario(world: World) -> None:
        context = world.municipality.client_context(world.anchors)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", world.inway_port)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(outgoing.read())
        incoming.write(await reader.read(65536))
        stopping = asyncio.create_task(world.inway.stop(5))
        await asyncio.sleep(SOON)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                data = await asyncio.wait_for(reader.read(65536), 5)
                assert data
                incoming.write(data)
        tls.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.write(outgoing.read())
        answer = b""
        while b"HTTP/1.1 401" not in answer:
            data = await asyncio.wait_for(reader.read(65536), 5)
            assert data, answer
            incoming.write(data)
            try:
                while piece := tls.read(65536):
                    answer += piece
            except ssl.SSLWantReadError:
                pass
        assert b"Connection: close" in answer
        writer.close()
        await stopping

    play(scenario, inway_limits={"grace_seconds": 2})
