"""When parties are slow, die or go away: limits, streaming, aborts, drain. Over real loopback TLS."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import pytest
from exchange_world import Play, World, plain_answer

_MEGABYTE = 1024 * 1024


def test_a_service_that_is_not_there_is_unreachable(play: Play) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask("/gone/")
        assert (reply.status, reply.headers["fsc-error-code"]) == (502, "ERROR_CODE_SERVICE_UNREACHABLE")
        assert world.provider_ledger.records[0].allowed

    play(scenario)


def test_an_inway_that_is_not_there_is_a_bad_gateway_with_a_next_step(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.inway.stop(0)
        reply = await world.ask("/plain/")
        assert reply.status == 502
        assert reply.json["next_step"]

    play(scenario)


@pytest.mark.parametrize(
    "address", ["https://a..b:443", f"https://{'x' * 70}.nl", "https://.", "https://localhost:99999", "https://[:::]:1"]
)
def test_an_address_in_a_token_that_can_be_none_is_a_bad_gateway_too(
    play: Play, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(world: World) -> None:
        world.agreements.audience = address
        reply = await world.ask("/plain/")
        assert reply.status == 502
        assert "incident" not in reply.json

    play(scenario)
    assert "mistake" not in capsys.readouterr().err


def test_inways_that_are_used_no_more_are_forgotten(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider may say another address in every token."""

    async def scenario(world: World) -> None:
        good = world.agreements.audience
        assert (await world.ask("/plain/")).status == 200
        for port in range(1, 21):
            world.agreements.audience = f"https://localhost:{port}"
            world.agreements.forget_token("$1$3$plain")
            assert (await world.ask("/plain/")).status == 502
        assert len(world.outway._pools) == len(world.outway._hosts) == 21
        monkeypatch.setattr("stelsel.exchange.upstream.FORGOTTEN", 0.3)
        end = asyncio.get_running_loop().time() + 10
        while len(world.outway._pools) + len(world.outway._hosts) > 2:
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.05)
        world.agreements.audience = good
        world.agreements.forget_token("$1$3$plain")
        assert (await world.ask("/plain/")).status == 200

    play(scenario)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX\r\n\r\n"],
)
def test_a_service_that_dies_before_its_answer_is_a_502(play: Play, answer: bytes) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> bool:
            writer.write(answer)
            return False

        world.service.handler = handler
        reply = await world.ask("/plain/")
        assert (reply.status, reply.headers["fsc-error-code"]) == (502, "ERROR_CODE_SERVICE_UNREACHABLE")

    play(scenario)


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_service_that_dies_mid_answer_never_looks_like_a_whole_answer(play: Play, framing: str) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> bool:
            writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n".encode())
            await writer.drain()
            await asyncio.sleep(0.05)
            return False

        world.service.handler = handler
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await world.ask("/plain/")
        assert world.inway.in_flight == world.outway.in_flight == 0

    play(scenario)


def test_a_slow_service_times_out(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> None:
            await asyncio.sleep(5)

        world.service.handler = handler
        reply = await world.ask("/plain/")
        assert (reply.status, reply.json["type"]) == (504, "urn:stelsel:problem:gateway-timeout")
        assert world.inway.in_flight == 0

    play(scenario, inway_limits={"silence_seconds": 0.3})


def test_a_service_that_drips_is_stopped_by_the_total_time(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> bool:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(100):
                writer.write(b"x")
                await asyncio.sleep(0.05)
            return False

        world.service.handler = handler
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await world.ask("/plain/")

    play(scenario, inway_limits={"total_seconds": 0.5})


def test_a_client_that_sends_its_head_or_body_too_slowly_gets_408(play: Play) -> None:
    async def scenario(world: World) -> None:
        reply = await world.raw(b"GET /plain/ HTTP/1.1\r\nHost:")
        assert reply.status == 408
        reply = await world.raw(b"POST /plain/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        assert reply.status == 408
        assert world.outway.in_flight == 0

    play(scenario, outway_limits={"head_seconds": 0.3, "silence_seconds": 0.3})


def test_an_unused_connection_is_closed_in_time(play: Play) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()

    play(scenario, outway_limits={"idle_seconds": 0.2})


def test_more_in_flight_than_allowed_gets_503(play: Play) -> None:
    async def scenario(world: World) -> None:
        release = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> None:
            await release.wait()
            writer.write(plain_answer(b"{}"))

        world.service.handler = handler
        first = asyncio.create_task(world.ask("/plain/"))
        while not world.service.seen:
            await asyncio.sleep(0.01)
        reply = await world.ask("/plain/")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        release.set()
        assert (await first).status == 200

    play(scenario, outway_limits={"maximum_in_flight": 1})


def test_more_connections_than_allowed_are_closed_when_all_are_in_use(play: Play) -> None:
    async def scenario(world: World) -> None:
        kept = [await asyncio.open_connection("127.0.0.1", world.outway_port) for _ in range(2)]
        for _, writer in kept:
            writer.write(b"GET /plain/ HTTP/1.1\r\n")
        await asyncio.sleep(0.05)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await world.ask("/plain/")
        for _, writer in kept:
            writer.close()
        await asyncio.sleep(0.05)
        assert (await world.ask("/plain/")).status == 200

    play(scenario, outway_limits={"maximum_connections": 2})


def test_an_unused_connection_makes_way_when_there_are_as_many_as_allowed(play: Play) -> None:
    async def scenario(world: World) -> None:
        kept = [await asyncio.open_connection("127.0.0.1", world.outway_port) for _ in range(2)]
        kept[0][1].write(b"GET /plain/ HTTP/1.1\r\n")
        await asyncio.sleep(0.05)
        assert (await world.ask("/plain/")).status == 200
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await kept[1][0].readexactly(1)
        kept[0][1].write(b"Host: x\r\nConnection: close\r\n\r\n")
        assert (await kept[0][0].read()).startswith(b"HTTP/1.1 200")
        for _, writer in kept:
            writer.close()

    play(scenario, outway_limits={"maximum_connections": 2})


def test_a_peer_has_no_more_connections_than_it_may(play: Play) -> None:
    async def scenario(world: World) -> None:
        replies = await asyncio.gather(*(world.ask("/plain/") for _ in range(4)))
        assert sorted({reply.status for reply in replies}) in ([200], [200, 502])
        assert sum(world.inway._connected.values()) <= 2

    play(scenario, inway_limits={"maximum_connections_per_peer": 2})


def test_requests_wait_for_one_of_few_connections_behind(play: Play) -> None:
    async def scenario(world: World) -> None:
        replies = await asyncio.gather(*(world.ask("/plain/") for _ in range(20)))
        assert {reply.status for reply in replies} == {200}
        assert world.service.connections <= 2

    play(scenario, inway_limits={"maximum_upstream": 2}, outway_limits={"maximum_upstream": 3})


def test_a_client_that_goes_away_ends_the_exchange_behind_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        gone = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> bool:
            assert await reader.read() == b""  # the connection ends, and with it our work
            gone.set()
            return False

        world.service.handler = handler
        _, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        writer.write(b"GET /plain/ HTTP/1.1\r\nHost: x\r\n\r\n")
        while not world.service.seen:
            await asyncio.sleep(0.01)
        writer.close()
        await asyncio.wait_for(gone.wait(), 3)
        await asyncio.sleep(0.05)
        assert world.inway.in_flight == world.outway.in_flight == 0

    play(scenario)


def test_a_client_that_leaves_at_once_leaves_nothing_behind(play: Play) -> None:
    async def scenario(world: World) -> None:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
            writer.write(b"POST /personen/ HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf")
            writer.transport.abort()
        await asyncio.sleep(0.2)
        assert world.outway.in_flight == 0
        assert not world.outway.connections

    play(scenario)


def test_an_answer_that_comes_early_reaches_a_client_that_still_sends(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> bool:
            writer.write(plain_answer(b"no", status="413 Too Large", headers="Connection: close\r\n"))
            return False

        world.service.handler = handler
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        writer.write(b"POST /plain/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"Connection: close" in answer
        writer.close()

    play(scenario)


def test_a_client_that_waits_for_100_continue_gets_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        for path in (b"/plain/", b"/personen/"):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
            writer.write(
                b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n" % path
            )
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"{}")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200" if path == b"/plain/" else b"HTTP/1.1 400")
            writer.close()
        assert "expect" not in world.service.seen[0].headers

    play(scenario)


def test_a_stale_connection_is_replaced_where_that_is_safe(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> bool | None:
            # Answer the first request on each connection; drop the connection on the second.
            count[writer] = count.get(writer, 0) + 1
            if count[writer] == 2:
                return False
            if "content-length" in seen.headers:
                await reader.readexactly(int(seen.headers["content-length"]))
            writer.write(plain_answer(b"{}"))
            return None

        count: dict[asyncio.StreamWriter, int] = {}
        world.service.handler = handler
        assert (await world.ask("/plain/")).status == 200
        assert (await world.ask("/plain/")).status == 200  # the second connection, at once
        assert (await world.ask("/plain/", method="POST", body=b"x")).status == 502  # not safe to send twice

    play(scenario)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_streams_both_ways_in_bounded_memory(play: Play, chunked: bool) -> None:
    size = 20 * _MEGABYTE

    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> bool:
            if chunked:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            left = size
            while left:
                if chunked:
                    data = await reader.readexactly(int(await reader.readline(), 16))
                    await reader.readexactly(2)
                else:
                    data = await reader.read(min(left, 65536))
                left -= len(data)
                writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                await writer.drain()
            if chunked:
                assert await reader.readexactly(5) == b"0\r\n\r\n"
                writer.write(b"0\r\n\r\n")
                await writer.drain()
            return False

        world.service.handler = handler
        reader, writer = await asyncio.open_connection("127.0.0.1", world.outway_port)
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        writer.write(b"POST /plain/ HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
        block = bytes(65536)

        async def send() -> None:
            for _ in range(size // len(block)):
                writer.write(b"10000\r\n" + block + b"\r\n" if chunked else block)
                await writer.drain()
            if chunked:
                writer.write(b"0\r\n\r\n")

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sending = asyncio.create_task(send())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.3)  # a client that does not read holds back everyone before it
        received = 0
        while received < size:
            if chunked:
                length = int(await reader.readline(), 16)
                received += len(await reader.readexactly(length))
                await reader.readexactly(2)
            else:
                received += len(await reader.read(65536))
        await sending
        writer.close()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after - before < 12 * 1024, "kilobytes; the body is 20 megabytes"

    play(scenario)


def test_stopping_finishes_what_is_being_carried(play: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> None:
            await asyncio.sleep(0.2)
            writer.write(plain_answer(b"{}"))

        world.service.handler = handler
        asking = asyncio.create_task(world.ask("/plain/"))
        while not world.service.seen:
            await asyncio.sleep(0.01)
        await world.outway.stop(3)
        reply = await asking
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        with pytest.raises(ConnectionRefusedError):
            await world.ask("/plain/")

    play(scenario)


def test_a_mistake_of_ours_is_an_opaque_500(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        def mistake(*_: Any) -> None:
            raise KeyError("secret")

        monkeypatch.setattr(world.agreements, "agreement", mistake)
        reply = await world.ask("/x", headers="Fsc-Grant-Hash: x\r\n")
        assert reply.status == 500
        assert b"secret" not in reply.body
        assert reply.json["incident"]
        assert world.outway.in_flight == 0

    play(scenario)
