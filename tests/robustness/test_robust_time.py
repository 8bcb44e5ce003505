"""Clients that are slow, break off, or never finish: the listeners of pages and APIs let go of them in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stelsel.base import bounded_http
from stelsel.base.web import application, listen, read_body, serving

_SEEN: list[dict[str, str]] = []


async def _echo(request: Request) -> Response:
    body = await read_body(request, 1000)
    _SEEN.append(dict(request.headers))
    return JSONResponse({"bytes": len(body)})


@contextlib.asynccontextmanager
async def _site() -> AsyncIterator[int]:
    listener = listen("127.0.0.1:0")
    port = listener.getsockname()[1]
    async with serving(application([Route("/", _echo, methods=["GET", "POST"])]), listener):
        yield port


@contextlib.asynccontextmanager
async def _client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 3)
    except ConnectionError:
        return b""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(bounded_http, "REQUEST_SECONDS", 0.5)
    _SEEN.clear()


def test_a_connection_on_which_nothing_comes_is_closed() -> None:
    async def run() -> None:
        async with _site() as port, _client(port) as (reader, _):
            assert await _all(reader) == b""

    asyncio.run(run())


def test_a_head_that_comes_too_slowly_gets_408() -> None:
    async def run() -> None:
        async with _site() as port, _client(port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
            await asyncio.sleep(0.1)
            writer.write(b"X-A: b\r\n")
            answer = await _all(reader)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in answer

    asyncio.run(run())


def test_a_body_that_drips_is_cut_off_and_reaches_nothing() -> None:
    async def run() -> None:
        async with _site() as port, _client(port) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    writer.write(b"a")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            assert not (await _all(reader)).startswith(b"HTTP/1.1 200")
        assert not _SEEN

    asyncio.run(run())


def test_a_body_that_breaks_off_is_no_mistake_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        async with _site() as port:
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc")
                await asyncio.sleep(0.05)
        assert not _SEEN

    asyncio.run(run())
    told = capsys.readouterr()
    assert "mistake" not in told.out + told.err


def test_a_slow_answer_is_not_taken_for_a_slow_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.8)
        return JSONResponse({"done": True})

    async def run() -> None:
        listener = listen("127.0.0.1:0")
        async with (
            serving(application([Route("/", slow)]), listener),
            _client(listener.getsockname()[1]) as (reader, writer),
        ):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await _all(reader)).startswith(b"HTTP/1.1 200 ")

    asyncio.run(run())


def test_more_headers_than_allowed_get_431_and_trailers_are_no_headers() -> None:
    async def run() -> None:
        async with _site() as port:
            async with _client(port) as (reader, writer):
                writer.write(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n")
                assert (await _all(reader)).startswith(b"HTTP/1.1 431 ")
            async with _client(port) as (reader, writer):
                writer.write(
                    b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"3\r\nabc\r\n0\r\nX-Role: admin\r\n\r\n"
                )
                assert (await _all(reader)).startswith(b"HTTP/1.1 200 ")
        assert len(_SEEN) == 1
        assert "x-role" not in _SEEN[0]

    asyncio.run(run())


def test_two_requests_at_once_are_both_answered_and_a_fault_after_them_ends_the_connection() -> None:
    async def run() -> None:
        async with _site() as port, _client(port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.2)
            writer.write(b"NONSENSE\r\n\r\n")
            answer = await _all(reader)
        assert answer.count(b"HTTP/1.1 200 ") == 2
        assert answer.count(b"HTTP/1.1 400 ") == 1

    asyncio.run(run())


def test_a_socket_path_that_is_a_folder_or_too_long_is_one_line(tmp_path: Path) -> None:
    from stelsel.base.errors import ConfigurationFault

    for path in (tmp_path, tmp_path / ("x" * 200)):
        with pytest.raises(ConfigurationFault) as refused:
            listen(f"unix:{path}")
        assert "\n" not in refused.value.detail
