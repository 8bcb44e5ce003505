"""What a careful proxy does with methods, bodies, hops, early answers, aborts and slow parties. Gateways on uvloop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from exchange_world import (
    PERSON,
    Play,
    Reply,
    Seen,
    World,
    connect,
    plain_answer,
    read_chunked,
    read_reply,
    until,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stelsel.exchange.identifiers import new_transaction_id

_MEGABYTE = 1024 * 1024
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Seen], Awaitable[Any]]


async def take_body(reader: asyncio.StreamReader, seen: Seen) -> bytes:
    if "transfer-encoding" in seen.headers:
        return await read_chunked(reader)
    return await reader.readexactly(int(seen.headers.get("content-length", "0")))


# --- methods and bodies ---


@pytest.mark.parametrize("framing", ["none", "fixed", "chunked"])
def test_every_method_passes_with_its_target_and_body(play_fast: Play, framing: str) -> None:
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE"]

    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            seen.body = await take_body(reader, seen)
            body = b"" if seen.method == "HEAD" else b"answer"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + body)

        world.service.handler = handler
        reader, writer = await connect(world)
        for method in methods:
            lines = {
                "none": b"\r\n",
                "fixed": b"Content-Length: 5\r\n\r\nhello",
                "chunked": b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            }[framing]
            writer.write(f"{method} /plain/a/{method}?q=%20 HTTP/1.1\r\nHost: x\r\n".encode() + lines)
            reply = await asyncio.wait_for(read_reply(reader, method), 5)
            assert (reply.status, reply.body) == (200, b"" if method == "HEAD" else b"answer")
            seen = world.service.seen[-1]
            assert (seen.method, seen.target) == (method, f"/a/{method}?q=%20")
            assert seen.body == (b"" if framing == "none" else b"hello")
        assert len(world.service.seen) == len(methods)
        assert world.service.connections == 1
        writer.close()

    play_fast(scenario)


@pytest.mark.parametrize(("status", "lines"), [("204 No Content", b""), ("304 Not Modified", b"Content-Length: 5\r\n")])
def test_an_answer_without_a_body_is_followed_by_the_next_on_the_same_connection(
    play_fast: Play, status: str, lines: bytes
) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            writer.write(f"HTTP/1.1 {status}\r\n".encode() + lines + b"\r\n")

        world.service.handler = handler
        reader, writer = await connect(world)
        for _ in range(3):
            writer.write(b"GET /plain/ HTTP/1.1\r\nHost: x\r\n\r\n")
            reply = await asyncio.wait_for(read_reply(reader), 5)
            assert (str(reply.status), reply.body) == (status[:3], b"")
        assert world.service.connections == 1
        writer.close()

    play_fast(scenario)


def test_an_old_client_gets_the_answer_whole_and_the_connection_ends(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"
        reader, writer = await connect(world)
        writer.write(b"GET /plain/ HTTP/1.0\r\n\r\n")
        everything = await asyncio.wait_for(reader.read(), 5)
        assert everything.endswith(b"\r\nConnection: close\r\n\r\nhello")
        assert b"chunked" not in everything
        writer.close()

    play_fast(scenario)


def test_trailers_pass_in_neither_direction(play_fast: Play) -> None:
    raw: list[bytes] = []

    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            if "transfer-encoding" in seen.headers:
                raw.append(await reader.readuntil(b"0\r\n\r\n"))
            else:
                raw.append(await take_body(reader, seen))
            writer.write(
                b"HTTP/1.1 200 OK\r\nTrailer: X-Told\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nhi\r\n0\r\nX-Told: secret\r\n\r\n"
            )

        world.service.handler = handler
        reader, writer = await connect(world)
        writer.write(
            b"POST /plain/ HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        )
        await asyncio.sleep(0.05)  # the body goes on as a stream, in chunks
        writer.write(b"0\r\nX-Sum: secret\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        body = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        assert b"secret" not in b"".join(raw) + head + body
        assert "trailer" not in world.service.seen[0].headers
        assert b"Trailer" not in head
        writer.close()

    play_fast(scenario)


def test_headers_of_one_hop_stay_behind_and_only_we_speak_as_gateways(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(
            b"{}",
            headers="Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n"
            "Fsc-Error-Code: FORGED\r\nFsc-Transaction-Id: FORGED\r\nStelsel-Answer: FORGED\r\nX-Own: kept\r\n",
        )
        reply = await world.ask(
            "/plain/",
            headers="Connection: X-Hop, Fsc-Authorization, X-Two\r\nX-Hop: 1\r\nX-Two: 2\r\nTE: trailers\r\n"
            "Keep-Alive: 1\r\nProxy-Authorization: secret\r\nProxy-Connection: close\r\nUpgrade: websocket\r\n"
            "Fsc-Authorization: FORGED\r\nFsc-Transaction-Id: FORGED\r\nStelsel-Data-Subjects: FORGED\r\n"
            "X-Own: kept\r\n",
        )
        seen = world.service.seen[0].headers
        forbidden = {"connection", "x-hop", "x-two", "te", "keep-alive", "proxy-authorization", "proxy-connection"}
        assert not (forbidden | {"upgrade", "stelsel-data-subjects"}) & set(seen)
        assert seen["x-own"] == "kept"
        assert "FORGED" not in str(seen) + str(reply.headers)
        assert seen["fsc-authorization"]
        assert seen["fsc-transaction-id"] == reply.headers["fsc-transaction-id"]
        assert not {"x-hop", "keep-alive", "proxy-authenticate", "upgrade"} & set(reply.headers)
        assert reply.headers["x-own"] == "kept"

    play_fast(scenario)


# --- 100-continue and early answers ---


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        (b"/elsewhere/", b"Content-Length: 5\r\n", 400),
        (b"/personen/", b"Content-Type: application/json\r\nContent-Length: 99999\r\n", 413),
        (b"/plain/", b"Content-Length: 99999999999\r\n", 413),
    ],
)
def test_who_is_refused_is_not_asked_for_a_body_first(
    play_fast: Play, target: bytes, lines: bytes, status: int
) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await connect(world)
        writer.write(b"POST %b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%b\r\n" % (target, lines))
        first = await asyncio.wait_for(reader.readline(), 5)
        assert first.startswith(b"HTTP/1.1 %d " % status)
        assert world.service.seen == []
        writer.close()

    play_fast(scenario)


@pytest.mark.parametrize("status", ["413 Content Too Large", "417 Expectation Failed"])
def test_a_service_that_answers_early_does_so_once_and_its_connection_is_not_used_again(
    play_fast: Play, status: str
) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            if seen.method == "GET":
                writer.write(plain_answer(b"next"))
                return
            writer.write(plain_answer(b"no", status=status))
            assert await reader.read() in (b"", b"part")  # and then the end
            ended.set()

        ended = asyncio.Event()
        world.service.handler = handler
        reader, writer = await connect(world)
        writer.write(b"POST /plain/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)) == b"HTTP/1.1 100 Continue\r\n\r\n"
        reply = await asyncio.wait_for(read_reply(reader), 5)
        assert (f"{reply.status}", reply.body, reply.headers["connection"]) == (status[:3], b"no", "close")
        writer.write(b"part")
        await asyncio.wait_for(ended.wait(), 5)
        assert (await world.ask("/plain/")).body == b"next"
        assert world.service.connections == 2
        writer.close()

    play_fast(scenario)


# --- parties that go away, or are slow ---


def test_a_client_that_goes_away_in_the_middle_of_its_body_ends_what_is_behind(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool:
            got.append(await reader.read(100))
            got.append(await reader.read())
            ended.set()
            return False

        got: list[bytes] = []
        ended = asyncio.Event()
        world.service.handler = handler
        _, writer = await connect(world)
        writer.write(b"POST /plain/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
        await until(lambda: bool(got))
        writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 5)
        assert got == [b"half", b""]
        await until(lambda: world.inway.in_flight == world.outway.in_flight == 0)
        await until(lambda: not world.outway.connections)

    play_fast(scenario)


def test_a_client_that_goes_away_in_the_middle_of_an_answer_ends_what_is_behind(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            try:
                while True:
                    writer.write(b"4\r\nmore\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.005)
            except ConnectionError:
                ended.set()
            return False

        ended = asyncio.Event()
        world.service.handler = handler
        reader, writer = await connect(world)
        writer.write(b"GET /plain/ HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"more"), 5)
        writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 5)
        await until(lambda: world.inway.in_flight == world.outway.in_flight == 0)

    play_fast(scenario)


def test_a_client_that_never_reads_is_not_kept_for_ever(play_fast: Play) -> None:
    """The answer is ready and small enough to be in our buffers; the client just does not take it."""

    async def scenario(world: World) -> None:
        world.service.answer = plain_answer(b"x" * 20 * _MEGABYTE)
        _, writer = await connect(world)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /plain/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await until(lambda: bool(world.outway.connections))
        await until(lambda: not world.outway.connections, 10)
        assert world.outway.in_flight == world.inway.in_flight == 0
        writer.transport.abort()

    limits = {"silence_seconds": 0.5, "idle_seconds": 0.5}
    play_fast(scenario, outway_limits=limits, inway_limits=limits)


@pytest.mark.parametrize("way", ["up", "down"])
def test_the_slowest_party_holds_back_the_others_in_bounded_memory(play_fast: Play, way: str) -> None:
    size, block = 200 * _MEGABYTE, bytes(64 * 1024)

    async def send(writer: asyncio.StreamWriter) -> None:
        try:
            for _ in range(size // len(block)):
                writer.write(block)
                await writer.drain()
                sent[0] += len(block)
        except ConnectionError:
            pass

    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool:
            if way == "up":
                await slow.wait()
                left = size
                while left:
                    left -= len(await reader.read(min(left, 1 << 20)))
                writer.write(plain_answer(b"all"))
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                await send(writer)
            await writer.drain()
            return False

        slow = asyncio.Event()
        world.service.handler = handler
        reader, writer = await connect(world)
        sending: asyncio.Task[None] | None = None
        if way == "up":
            writer.write(b"POST /plain/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
            sending = asyncio.create_task(send(writer))
        else:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /plain/ HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: sent[0] > 0)
        before = -1
        while before != sent[0]:
            before = sent[0]
            await asyncio.sleep(0.3)
        # What is under way is in the buffers of three sockets and two gateways, however large the body is.
        assert sent[0] < 40 * _MEGABYTE, f"{sent[0]} bytes were taken while nobody read"
        if way == "up":
            assert sending is not None
            slow.set()
            assert (await asyncio.wait_for(read_reply(reader), 30)).body == b"all"
            await sending
        else:
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            await reader.readuntil(b"\r\n\r\n")
            left = size
            while left:
                left -= len(await reader.read(min(left, 1 << 20)))
        writer.close()

    sent = [0]
    play_fast(scenario)


# --- limits, each with its status ---


def test_a_body_that_grows_too_large_is_413_and_never_a_whole_request(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool:
            try:
                await take_body(reader, seen)
                whole.append(seen)
            except asyncio.IncompleteReadError:
                broken.set()
            return False

        whole: list[Seen] = []
        broken = asyncio.Event()
        world.service.handler = handler
        reply = await world.raw(b"POST /plain/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
        assert reply.status == 413
        reader, writer = await connect(world)
        writer.write(
            b"POST /plain/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1000 + b"\r\n"
        )
        await until(lambda: bool(world.service.seen))
        writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n")
        reply = await asyncio.wait_for(read_reply(reader), 5)
        assert reply.status == 413
        await asyncio.wait_for(broken.wait(), 5)
        assert whole == []
        writer.close()

    play_fast(scenario, outway_limits={"maximum_body": 1500})


def test_a_head_that_is_too_large_is_431(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        assert (await world.ask("/plain/" + "a" * 5000)).status == 431
        assert (await world.ask("/plain/", headers="X: y\r\n" * 20)).status == 431
        assert (await world.ask("/plain/", headers="X: y\r\n" * 5)).status == 200

    play_fast(scenario, outway_limits={"maximum_head": 4096, "maximum_headers": 10})


def test_no_free_connection_behind_in_time_is_504(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            await release.wait()
            writer.write(plain_answer(b"{}"))

        release = asyncio.Event()
        world.service.handler = handler
        first = asyncio.create_task(world.ask("/plain/"))
        await until(lambda: bool(world.service.seen))
        assert (await world.ask("/plain/")).status == 504
        release.set()
        assert (await first).status == 200
        assert (await world.ask("/plain/")).status == 200

    play_fast(scenario, inway_limits={"maximum_upstream": 1, "connect_seconds": 0.3})


def test_a_peer_with_as_many_connections_as_it_may_gets_no_more_until_one_ends(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        context = world.municipality.client_context(world.anchors)

        async def connection() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection(
                "127.0.0.1", world.inway_port, ssl=context, server_hostname="localhost"
            )

        async def status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return (await asyncio.wait_for(read_reply(reader), 5)).status

        kept = [await connection() for _ in range(3)]
        assert [await status(*one) for one in kept] == [401] * 3
        extra = await connection()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await status(*extra)
        kept[0][1].close()
        await until(lambda: len(world.inway.connections) == 2)
        kept += [extra, await connection()]
        assert await status(*kept[-1]) == 401
        for _, writer in kept:
            writer.transport.abort()

    play_fast(scenario, inway_limits={"maximum_connections_per_peer": 3})


# --- sending again ---


@pytest.mark.parametrize(
    ("method", "times", "status"), [("GET", 2, 200), ("PUT", 2, 200), ("POST", 1, 502), ("PATCH", 1, 502)]
)
def test_only_what_is_safe_is_sent_again_and_once(play_fast: Play, method: str, times: int, status: int) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool | None:
            await take_body(reader, seen)
            count[writer] = count.get(writer, 0) + 1
            if count[writer] == 2:
                return False  # this connection was stale
            writer.write(plain_answer(b"{}"))
            return None

        count: dict[asyncio.StreamWriter, int] = {}
        world.service.handler = handler
        assert (await world.ask("/plain/first")).status == 200
        reply = await world.ask("/plain/again", method=method, body=b"x" if method in ("PUT", "POST", "PATCH") else b"")
        assert reply.status == status
        assert [seen.target for seen in world.service.seen].count("/again") == times

    play_fast(scenario)


def test_once_an_answer_has_begun_nothing_is_sent_again(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool | None:
            if seen.target == "/again":
                writer.write(b"HTTP/1.1 200")
                await writer.drain()
                return False
            writer.write(plain_answer(b"{}"))
            return None

        world.service.handler = handler
        assert (await world.ask("/plain/first")).status == 200
        assert (await world.ask("/plain/again")).status == 502
        assert [seen.target for seen in world.service.seen] == ["/first", "/again"]

    play_fast(scenario)


def test_a_service_that_never_gets_it_right_is_tried_twice_at_most(play_fast: Play) -> None:
    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> bool | None:
            if seen.target == "/again":
                return False
            writer.write(plain_answer(b"{}"))
            return None

        world.service.handler = handler
        await asyncio.gather(*(world.ask("/plain/first") for _ in range(5)))
        assert (await world.ask("/plain/again")).status == 502
        assert [seen.target for seen in world.service.seen].count("/again") == 2

    play_fast(scenario)


# --- the same verdict for any splitting of the body ---

_QUESTIONS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("agreed", {"fields": ["naam"], "burgerservicenummer": [PERSON]}, {"personen": [{"naam": "Suzanne"}]}),
    ("a field too many", {"fields": ["naam", "adres"], "burgerservicenummer": [PERSON]}, {"personen": []}),
    ("a parameter too many", {"fields": ["naam"], "geslacht": "v"}, {"personen": []}),
    (
        "over-supplied",
        {"fields": ["naam"], "burgerservicenummer": [PERSON]},
        {"personen": [{"naam": "S", "adres": "x"}]},
    ),
    (
        "over-supplied deep",
        {"fields": ["naam"], "burgerservicenummer": [PERSON]},
        {"personen": [{"naam": "S", "a": {"b": 1}}]},
    ),
]


def _verdict(reply: Reply) -> tuple[object, ...]:
    body = {} if not reply.body else json.loads(reply.body)
    return (
        reply.status,
        reply.headers.get("stelsel-answer"),
        body.get("fields"),
        body.get("parameters"),
        body.get("reason"),
    )


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(borders) if end > start]


def test_gate_and_guard_decide_alike_for_any_chunking(play_fast: Play) -> None:
    """Straight into the inway, over one connection, with question and answer cut anywhere, in chunks or not."""

    async def scenario(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
            await take_body(reader, seen)
            if told[1]:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            else:
                size = sum(len(piece) for piece in told[0])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size)
            for piece in told[0]:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if told[1] else piece)
                await asyncio.sleep(0)
            if told[1]:
                writer.write(b"0\r\n\r\n")

        told: tuple[list[bytes], bool] = ([], False)
        world.service.handler = handler
        token = await world.agreements.token("$1$3$personen")
        lines = f"Host: x\r\nFsc-Authorization: {token.compact}\r\nFsc-Transaction-Id: {new_transaction_id()}\r\n"
        context = world.municipality.client_context(world.anchors)
        port = world.inway_port

        async def ask(question: list[bytes], chunked: bool) -> tuple[object, ...]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {sum(map(len, question))}"
            head = f"POST /personen HTTP/1.1\r\n{lines}Content-Type: application/json\r\n{framing}\r\n\r\n"
            writer.write(head.encode())
            for piece in question:
                await asyncio.sleep(0)
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                writer.write(b"0\r\n\r\n")
            reply = await asyncio.wait_for(read_reply(reader), 5)
            writer.transport.abort()
            return _verdict(reply)

        usual = {}
        for name, question, answer in _QUESTIONS:
            told = ([json.dumps(answer).encode()], False)
            usual[name] = await ask([json.dumps(question).encode()], False)
        assert [verdict[0] for verdict in usual.values()] == [200, 403, 403, 502, 502]
        for (number, question_cuts, answer_cuts, chunked, answer_chunked), _ in zip(cuts, range(60), strict=False):
            name, question, answer = _QUESTIONS[number]
            told = (_cut(json.dumps(answer).encode(), answer_cuts), answer_chunked)
            assert await ask(_cut(json.dumps(question).encode(), question_cuts), chunked) == usual[name], name

    cuts: list[tuple[int, list[int], list[int], bool, bool]] = []

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.integers(0, len(_QUESTIONS) - 1),
        st.lists(st.integers(0, 500), max_size=40),
        st.lists(st.integers(0, 500), max_size=40),
        st.booleans(),
        st.booleans(),
    )
    def draw(number: int, question: list[int], answer: list[int], chunked: bool, answer_chunked: bool) -> None:
        cuts.append((number, question, answer, chunked, answer_chunked))

    draw()
    play_fast(scenario)
