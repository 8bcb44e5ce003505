"""TLS between the socket and our protocols: cut anywhere, cut off, broken, or never finished. Gateways on uvloop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from exchange_world import Play, Seen, World, plain_answer, read_chunked, read_reply

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.exchange.identifiers import new_transaction_id
from stelsel.exchange.tls import TlsConnection


@asynccontextmanager
async def chopping(port: int, first: int, size: int) -> AsyncIterator[int]:
    """A relay to `port` that passes the first bytes `first` at a time, and the others `size` at a time."""
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        try:
            while data := await reader.read(65536):
                while data:
                    step = first if passed < 3000 else size
                    writer.write(data[:step])
                    data = data[step:]
                    passed += step
                    await writer.drain()
                    await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        for pair in ((reader, ours), (theirs, writer)):
            task = asyncio.create_task(pass_on(*pair))
            tasks.add(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def authority(world: World) -> bytes:
    token = await world.agreements.token("$1$3$plain")
    return f"Host: x\r\nFsc-Authorization: {token.compact}\r\nFsc-Transaction-Id: {new_transaction_id()}\r\n".encode()


@pytest.mark.parametrize(("first", "size"), [(1, 4096), (7, 1000), (100, 65536), (65536, 5)])
def test_tls_cut_anywhere_carries_the_same(play_fast: Play, first: int, size: int) -> None:
    body = bytes(range(256)) * (200 if size > 100 else 20)

    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            taken = b""
            if "transfer-encoding" in seen.headers:
                taken = await read_chunked(reader)
            elif "content-length" in seen.headers:
                taken = await reader.readexactly(int(seen.headers["content-length"]))
            writer.write(plain_answer(taken))

        world.service.handler = handler
        lines = await authority(world)
        context = world.municipality.client_context(world.anchors)
        async with chopping(world.inway_port, first, size) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            fixed = b"POST /a HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (lines, len(body), body)
            chunked = b"POST /b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            writer.write(fixed + chunked % (lines, len(body), body) + b"GET /c HTTP/1.1\r\n%b\r\n" % lines)
            for expected in (body, body, b""):
                reply = await asyncio.wait_for(read_reply(reader), 20)
                assert (reply.status, reply.body) == (200, expected)
            writer.transport.abort()
        assert [seen.target for seen in world.service.seen] == ["/a", "/b", "/c"]

    play_fast(scenario)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET /plain/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x80\x2e\x01\x00\x02" + b"\0" * 60,
        bytes(70_000),
        b"\x17\x03\x03\xff\xff" + bytes(65_535),
    ],
)
def test_what_is_no_handshake_ends_and_leaves_nothing(play_fast: Play, rubbish: bytes) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.inway_port)
        writer.write(rubbish)
        try:
            answer = await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:
            answer = b""
        assert len(answer) <= 7, "at most an alert"
        writer.transport.abort()
        await asyncio.sleep(0.02)
        assert not world.inway._handshakes
        assert (await world.ask("/plain/")).status == 200

    play_fast(scenario)


def test_a_handshake_that_stays_half_way_is_ended_in_time(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.inway_port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = world.municipality.client_context(world.anchors).wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(outgoing.read()[:100])
        try:
            assert await asyncio.wait_for(reader.read(), 5) == b""
        except ConnectionError:
            pass
        assert not world.inway._handshakes
        writer.transport.abort()

    play_fast(scenario, inway_limits={"head_seconds": 0.3})


def test_a_record_that_was_altered_ends_the_connection_and_reaches_nobody(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        lines = await authority(world)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.inway_port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = world.municipality.client_context(world.anchors).wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await asyncio.wait_for(reader.read(65536), 5))
        tls.write(b"GET /altered HTTP/1.1\r\n%b\r\n" % lines)
        record = bytearray(outgoing.read())
        record[-5] ^= 1
        writer.write(bytes(record))
        try:
            await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:
            pass
        writer.transport.abort()
        await asyncio.sleep(0.02)
        assert world.service.seen == []
        assert not world.inway.connections

    play_fast(scenario)


class Inside(asyncio.Protocol):
    """Hears what a protocol inside TLS hears."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


@pytest.mark.parametrize("goodbye", [True, False])
def test_what_was_cut_off_is_told_from_what_ended(
    register: KeyPair, municipality: KeyPair, anchors: TrustAnchors, goodbye: bool
) -> None:
    """An answer that goes on until the connection ends is whole only when its sender said goodbye (RFC 9112, 9.8)."""

    async def main() -> Inside:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"part of an answer")
            await writer.drain()
            await asyncio.sleep(0.05)
            if goodbye:
                writer.close()
            else:
                writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=register.server_context(anchors))
        port = server.sockets[0].getsockname()[1]
        inside, faults = Inside(), []
        context = municipality.client_context(anchors)
        await asyncio.get_running_loop().create_connection(
            lambda: TlsConnection(
                lambda _: inside,
                context,
                server_hostname="localhost",
                on_handshake=lambda _, error: faults.append(error),
            ),
            "127.0.0.1",
            port,
        )
        async with asyncio.timeout(5):
            while not inside.lost:
                await asyncio.sleep(0.01)
        server.close()
        assert faults == [None]
        return inside

    inside = uvloop.run(main())
    assert inside.data == b"part of an answer"
    assert len(inside.lost) == 1
    assert (inside.lost[0] is None) == goodbye


def test_a_client_that_says_goodbye_in_the_middle_ends_the_exchange(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool:
            assert await reader.read() == b""
            ended.set()
            return False

        ended = asyncio.Event()
        world.service.handler = handler
        context = world.municipality.client_context(world.anchors)
        _, writer = await asyncio.open_connection(
            "127.0.0.1", world.inway_port, ssl=context, server_hostname="localhost"
        )
        writer.write(b"GET /a HTTP/1.1\r\n%b\r\n" % await authority(world))
        async with asyncio.timeout(5):
            while not world.service.seen:
                await asyncio.sleep(0.01)
            writer.close()
            await ended.wait()
            while world.inway.in_flight or world.inway.connections:
                await asyncio.sleep(0.01)

    play_fast(scenario)
