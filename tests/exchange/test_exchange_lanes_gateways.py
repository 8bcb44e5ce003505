"""Lanes between a real outway and a real inway, over real TLS, on the loop that nodes run on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from exchange_world import Play, Reply, Seen, World, a_world, listener, plain_answer, read_reply

from stelsel.base.certificates import KeyPair, PeerContext, TrustAnchors
from stelsel.exchange.carrier import PROTOCOL, PROTOCOLS, Carrier
from stelsel.exchange.identifiers import new_transaction_id
from stelsel.exchange.tls import TlsConnection

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


class Held:
    """A service that answers when told to; echoes bodies."""

    def __init__(self, world: World) -> None:
        self.go = asyncio.Event()
        self.paths: list[str] = []
        world.service.handler = self

    async def __call__(self, reader: Reader, writer: Writer, seen: Seen) -> None:
        body = await reader.readexactly(int(seen.headers.get("content-length", 0)))
        self.paths.append(seen.target)
        if "held" in seen.target:
            await self.go.wait()
        writer.write(plain_answer(body or seen.target.encode()))
        await writer.drain()


class Lines(asyncio.Protocol):
    """A client on a lane."""

    def __init__(self) -> None:
        self.received = b""
        self.over = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.over = True


class Peer:
    """The connecting side of a connection with lanes, in the hands of a test."""

    def __init__(self, carrier: Carrier, tls: TlsConnection, ended: list[Carrier]) -> None:
        self.carrier = carrier
        self.tls = tls
        self._ended = ended

    @classmethod
    async def connect(cls, world: World) -> Peer:
        carriers: list[Carrier] = []
        ended: list[Carrier] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def inside(agreed: str | None) -> asyncio.Protocol:
            assert agreed == PROTOCOL
            carriers.append(Carrier(None, ended.append))
            return carriers[0]

        def over(_: TlsConnection, error: OSError | None) -> None:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        context = world.municipality.client_context(world.anchors, PROTOCOLS)
        _, tls = await asyncio.get_running_loop().create_connection(
            lambda: TlsConnection(inside, context, server_hostname="localhost", on_handshake=over),
            "127.0.0.1",
            world.inway_port,
        )
        await done
        await until(lambda: not world.inway._handshakes)
        return cls(carriers[0], tls, ended)

    @property
    def over(self) -> bool:
        return bool(self._ended)

    def open(self, data: bytes = b"") -> Lines:
        client = Lines()
        lane = self.carrier.open(client)
        if data:
            lane.write(data)
        return client


async def request(world: World, line: str = "GET /x HTTP/1.1") -> bytes:
    token = await world.agreements.token("$1$3$plain")
    lines = f"Host: x\r\nFsc-Authorization: {token.compact}\r\nFsc-Transaction-Id: {new_transaction_id()}\r\n"
    return f"{line}\r\n{lines}\r\n".encode()


class OldKeyPair(KeyPair):
    """Makes an inway that knows no lanes, when told to."""

    old = True

    def server_context(self, anchors: TrustAnchors, protocols: tuple[str, ...] = ()) -> PeerContext:
        return super().server_context(anchors, () if self.old else protocols)


async def start_again(world: World, drain_seconds: float = 5) -> None:
    """Restart the inway in place; who connects meanwhile waits."""
    assert world.inway._server is not None
    kept = world.inway._server.sockets[0].dup()
    await world.inway.stop(drain_seconds)
    world.inway.draining = False
    await world.inway.start(kept)


@asynccontextmanager
async def a_gate(world: World) -> AsyncIterator[asyncio.Event]:
    """Bytes between outway and inway pass when the event is set."""
    gate = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()
    writers: list[Writer] = []

    async def pass_on(reader: Reader, writer: Writer) -> None:
        while data := await reader.read(65536):
            await gate.wait()
            writer.write(data)
        writer.close()

    async def serve(reader: Reader, writer: Writer) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", world.inway_port)
        writers.extend((writer, ours))
        tasks.update(asyncio.create_task(pass_on(*pair)) for pair in ((reader, ours), (theirs, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    world.agreements.audience = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    try:
        yield gate
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


# --- between our own gateways ---


@pytest.mark.parametrize(("lanes", "connections"), [(64, 1), (5, 3), (1, 12)])
def test_exchanges_share_connections_as_the_outway_is_told(play_fast: Play, lanes: int, connections: int) -> None:
    async def scenario(world: World) -> None:
        service = Held(world)
        asking = [asyncio.create_task(world.ask(f"/plain/held/{number}")) for number in range(12)]
        await until(lambda: len(service.paths) == 12)
        assert len(world.inway.connections) == 12
        assert len(world.inway._carriers) == connections
        service.go.set()
        replies = await asyncio.gather(*asking)
        assert [reply.body for reply in replies] == [b"/held/%d" % number for number in range(12)]
        await asyncio.gather(*(world.ask(f"/plain/{number}") for number in range(12)))
        assert len(world.inway._carriers) <= connections

    play_fast(scenario, outway_limits={"lanes": lanes})


@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h2", "http/1.1"), ("h2",)])
def test_others_speak_http_over_tls_itself(play_fast: Play, protocols: tuple[str, ...]) -> None:
    async def scenario(world: World) -> None:
        context = world.municipality.client_context(world.anchors, protocols)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", world.inway_port, ssl=context, server_hostname="localhost"
        )
        for _ in range(2):
            writer.write(await request(world))
            assert (await read_reply(reader)).status == 200
        assert not world.inway._carriers
        writer.transport.abort()

    play_fast(scenario)


def test_an_inway_may_come_to_know_lanes_and_forget_them(
    register: KeyPair, municipality: KeyPair, anchors: TrustAnchors
) -> None:
    keypair = OldKeyPair(register.current, register.certificate_file, register.key_file)

    async def main() -> None:
        async with a_world(keypair, municipality, anchors) as world:
            for knows in (False, True, False, True):
                if knows is keypair.old:
                    keypair.old = not knows
                    await start_again(world, 0.1)
                service = Held(world)
                asking = [asyncio.create_task(world.ask("/plain/held")) for _ in range(6)]
                await until(lambda service=service: len(service.paths) == 6)
                assert len(world.inway.connections) == 6
                assert bool(world.inway._carriers) == knows
                service.go.set()
                assert [reply.status for reply in await asyncio.gather(*asking)] == [200] * 6

    uvloop.run(asyncio.wait_for(main(), 30))


def test_large_bodies_go_both_ways_at_once_among_small_ones(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        Held(world)
        bodies = [bytes([number]) * 3_000_000 for number in range(6)]
        large = [asyncio.create_task(world.ask("/plain/echo", method="POST", body=body)) for body in bodies]
        small = [await world.ask(f"/plain/{number}") for number in range(30)]
        assert [reply.body for reply in small] == [b"/%d" % number for number in range(30)]
        assert [reply.body for reply in await asyncio.gather(*large)] == bodies
        assert len(world.inway._carriers) == 1

    play_fast(scenario)


def test_a_client_that_reads_slowly_holds_up_nobody_else(play_fast: Play) -> None:
    size = 30_000_000

    async def scenario(world: World) -> None:
        sent = 0

        async def handler(reader: Reader, writer: Writer, seen: Seen) -> None:
            nonlocal sent
            if seen.target != "/large":
                writer.write(plain_answer(b"small"))
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // 100_000):
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000

        world.service.handler = handler
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port, limit=2**16)
        writer.write(b"GET /plain/large HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: sent)
        before = -1
        while sent != before:  # until it is held up
            before = sent
            await asyncio.sleep(0.1)
        assert sent < size
        begin = asyncio.get_running_loop().time()
        for _ in range(20):
            assert (await world.ask("/plain/small")).body == b"small"
        assert asyncio.get_running_loop().time() - begin < 5
        assert len(world.inway._carriers) == 1
        assert len((await read_reply(reader)).body) == size
        writer.close()

    play_fast(scenario)


def test_a_service_that_reads_slowly_holds_up_nobody_else(play_fast: Play) -> None:
    body = b"x" * 20_000_000

    async def scenario(world: World) -> None:
        go = asyncio.Event()

        async def handler(reader: Reader, writer: Writer, seen: Seen) -> None:
            if seen.method == "POST":
                await go.wait()
                writer.write(plain_answer(b"%d" % len(await reader.readexactly(int(seen.headers["content-length"])))))
            else:
                writer.write(plain_answer(b"small"))

        world.service.handler = handler
        large = asyncio.create_task(world.ask("/plain/large", method="POST", body=body))
        await until(lambda: world.service.seen)
        for _ in range(20):
            assert (await world.ask("/plain/small")).body == b"small"
        assert not large.done()
        go.set()
        assert (await large).body == b"%d" % len(body)

    play_fast(scenario)


def test_a_client_that_goes_away_takes_its_own_exchange_along(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        service = Held(world)
        others = [asyncio.create_task(world.ask("/plain/held/on")) for _ in range(3)]
        _, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        writer.write(b"GET /plain/held/gone HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(service.paths) == 4)
        writer.transport.abort()
        await until(lambda: world.inway.in_flight == 3)
        assert len(world.inway.connections) == 3
        service.go.set()
        assert [reply.status for reply in await asyncio.gather(*others)] == [200] * 3

    play_fast(scenario)


def test_a_request_on_a_connection_that_proves_stale_is_asked_again(play_fast: Play) -> None:
    """Its lane is new, but what is under it was there before; once, and where that is safe."""

    async def scenario(world: World) -> None:
        breaks = 2

        async def handler(reader: Reader, writer: Writer, seen: Seen) -> None:
            nonlocal breaks
            if "break" in seen.target and breaks:
                breaks -= 1
                for carrier in list(world.inway._carriers):
                    carrier.abort()
            elif "held" in seen.target:
                await asyncio.sleep(60)
            writer.write(plain_answer(b"{}"))

        world.service.handler = handler
        for method, status in (("GET", 200), ("POST", 502)):
            held = asyncio.create_task(world.ask("/plain/held"))
            await until(lambda: world.service.seen and world.service.seen[-1].target == "/held")
            breaks = 1
            assert (await world.ask("/plain/break", method=method)).status == status
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)
            world.service.seen.clear()

    play_fast(scenario)


def test_who_waits_for_a_connection_gets_one_though_its_maker_went_away(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async with a_gate(world) as gate:
            _, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
            writer.write(b"GET /plain/maker HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: world.outway._pools and next(iter(world.outway._pools.values())).size == 1)
            waiting = [asyncio.create_task(world.ask("/plain/waits")) for _ in range(5)]
            await until(lambda: next(iter(world.outway._pools.values())).size == 6)
            writer.transport.abort()
            await until(lambda: next(iter(world.outway._pools.values())).size == 5)
            gate.set()
            assert [reply.status for reply in await asyncio.gather(*waiting)] == [200] * 5
            assert {seen.target for seen in world.service.seen} == {"/waits"}
            assert len(world.inway._carriers) == 1

    play_fast(scenario)


# --- restart, renewal ---


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_inway_that_restarts_under_load_loses_no_request(play_fast: Play, method: str) -> None:
    async def scenario(world: World) -> None:
        statuses: list[int] = []
        going = True

        async def ask() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
            while going:
                writer.write(b"%b /plain/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" % method.encode())
                statuses.append((await read_reply(reader)).status)
            writer.close()

        clients = [asyncio.create_task(ask()) for _ in range(10)]
        for _ in range(3):
            count = len(statuses)
            await until(lambda count=count: len(statuses) > count + 50)
            await start_again(world)
        count = len(statuses)
        await until(lambda: len(statuses) > count + 50)
        going = False
        await asyncio.gather(*clients)
        assert set(statuses) == {200}

    play_fast(scenario, inway_limits={"grace_seconds": 0.2})


def test_who_just_connected_is_still_served_by_an_inway_that_stops(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        peer = await Peer.connect(world)
        stopping = asyncio.create_task(world.inway.stop(5))
        await asyncio.sleep(0.1)
        client = peer.open(await request(world))
        await until(lambda: client.over)
        assert client.received.startswith(b"HTTP/1.1 200")
        assert b"Connection: close\r\n" in client.received
        await asyncio.wait_for(stopping, 2)
        assert peer.over

    play_fast(scenario, inway_limits={"grace_seconds": 1})


def test_who_connected_and_asks_nothing_holds_up_no_stop(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        peers = [await Peer.connect(world) for _ in range(3)]
        peers[0].open()
        await asyncio.sleep(0.05)
        await asyncio.wait_for(world.inway.stop(10), 2)
        await until(lambda: all(peer.over for peer in peers))

    play_fast(scenario, inway_limits={"grace_seconds": 0.2})


def test_exchanges_under_way_finish_before_the_inway_stops(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        service = Held(world)
        asking = [asyncio.create_task(world.ask("/plain/held")) for _ in range(5)]
        await until(lambda: len(service.paths) == 5)
        stopping = asyncio.create_task(world.inway.stop(10))
        await asyncio.sleep(0.3)
        service.go.set()
        assert [reply.status for reply in await asyncio.gather(*asking)] == [200] * 5
        await asyncio.wait_for(stopping, 2)

    play_fast(scenario, inway_limits={"grace_seconds": 0.1})


def test_lanes_are_spoken_after_a_renewal_on_either_side(play_fast: Play, authority: Any) -> None:
    async def scenario(world: World) -> None:
        assert (await world.ask("/plain/x")).status == 200
        first = list(world.inway._carriers)
        world.register.renew(world.register.current)
        pair = world.municipality.current
        world.municipality.renew(type(pair)(pair.key, pair.chain, pair.certificate, pair.pem))
        await asyncio.sleep(0.25)
        assert (await world.ask("/plain/x")).status == 200
        assert world.inway._carriers
        assert not set(world.inway._carriers) & set(first)

    play_fast(scenario)


# --- limits ---


def test_each_lane_counts_as_a_connection_of_its_peer(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        service = Held(world)
        asking = [asyncio.create_task(world.ask("/plain/held")) for _ in range(3)]
        await until(lambda: len(service.paths) == 3)
        assert (await world.ask("/plain/more")).status == 502
        service.go.set()
        assert [reply.status for reply in await asyncio.gather(*asking)] == [200] * 3
        assert (await world.ask("/plain/more")).status == 200

    play_fast(scenario, inway_limits={"maximum_connections_per_peer": 3})


def test_a_lane_that_is_refused_costs_the_others_nothing(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        service = Held(world)
        peer = await Peer.connect(world)
        good = peer.open(await request(world, "GET /held HTTP/1.1"))
        await until(lambda: service.paths)
        refused = [peer.open(await request(world)) for _ in range(20)]
        await until(lambda: all(client.over for client in refused))
        assert not any(client.received for client in refused)
        service.go.set()
        await until(lambda: good.received.startswith(b"HTTP/1.1 200"))
        assert not good.over
        peer.carrier.abort()

    play_fast(scenario, inway_limits={"maximum_connections_per_peer": 1})


def test_connections_without_lanes_make_way(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        peers = [await Peer.connect(world) for _ in range(8)]
        assert (await world.ask("/plain/x")).status == 200
        assert len(world.inway._carriers) <= 4
        await until(lambda: sum(peer.over for peer in peers) >= 4)

    play_fast(scenario, inway_limits={"maximum_connections": 4})


def test_an_unused_lane_makes_way_and_those_in_use_do_not(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        service = Held(world)
        peer = await Peer.connect(world)
        unused = peer.open()
        used = peer.open(await request(world, "GET /held HTTP/1.1"))
        await until(lambda: service.paths)
        reply = await world.at_inway(world.municipality, "")
        assert reply.status == 401
        await until(lambda: unused.over)
        service.go.set()
        await until(lambda: used.received.startswith(b"HTTP/1.1 200"))
        peer.carrier.abort()

    play_fast(scenario, inway_limits={"maximum_connections": 2})


def test_unused_lanes_and_unused_connections_end_in_time(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        empty, peer = await Peer.connect(world), await Peer.connect(world)
        unused = peer.open()
        half = peer.open(b"GET /x HTTP/1.1\r\nHos")
        await until(lambda: unused.over and half.over and empty.over and peer.over)
        assert unused.received == b""
        assert half.received.startswith(b"HTTP/1.1 408")
        await until(lambda: not world.inway._carriers)

    play_fast(scenario, inway_limits={"idle_seconds": 0.3, "head_seconds": 0.5})


def test_a_peer_that_takes_nothing_is_let_go(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: Reader, writer: Writer, seen: Seen) -> None:
            writer.write(plain_answer(bytes(3_000_000)))

        world.service.handler = handler
        peer = await Peer.connect(world)
        for _ in range(40):
            peer.open(await request(world))
        await asyncio.sleep(0)
        peer.tls.pause_reading()
        await until(lambda: world.inway.in_flight)
        await until(lambda: not (world.inway.connections or world.inway._carriers or world.inway.in_flight))
        peer.carrier.abort()

    play_fast(scenario, inway_limits={"idle_seconds": 0.3, "silence_seconds": 0.3})


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(100), b"\xff" * 100])
def test_rubbish_ends_its_own_connection_alone(play_fast: Play, rubbish: bytes) -> None:
    async def scenario(world: World) -> None:
        service = Held(world)
        asking = asyncio.create_task(world.ask("/plain/held"))
        await until(lambda: service.paths)
        peer = await Peer.connect(world)
        peer.open(await request(world, "GET /held HTTP/1.1"))
        await until(lambda: len(service.paths) == 2)
        peer.tls.write(rubbish)
        await until(lambda: peer.over)
        await until(lambda: world.inway.in_flight == 1)
        service.go.set()
        reply: Reply = await asking
        assert reply.status == 200

    play_fast(scenario)


def test_an_inway_that_breaks_the_rules_costs_the_requests_on_that_connection_alone(
    play_fast: Play, register: KeyPair
) -> None:
    async def scenario(world: World) -> None:
        async def serve(reader: Reader, writer: Writer) -> None:
            tls = writer.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == PROTOCOL
            await reader.read(100)
            writer.write(b"\x00\x00\x00\xff\xff\x00\x01x")  # a lane that was never opened
            writer.close()

        context: ssl.SSLContext = register.server_context(world.anchors, PROTOCOLS)
        sock = listener()
        hostile = await asyncio.start_server(serve, sock=sock, ssl=context)
        good = world.agreements.audience
        world.agreements.audience = f"https://localhost:{sock.getsockname()[1]}"
        for _ in range(3):
            assert (await world.ask("/plain/x")).status == 502
        world.agreements.audience = good
        world.agreements.forget_token("$1$3$plain")
        assert (await world.ask("/plain/x")).status == 200
        hostile.close()

    play_fast(scenario)
