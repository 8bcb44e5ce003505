"""The web glue: faults become problem documents, clients are known by their certificate, two cannot share a port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.errors import ConfigurationFault, Forbidden
from stelsel.base.web import application, client_certificate, listen, read_json, serving


async def _who(request: Request) -> Response:
    return JSONResponse({"peer": client_certificate(request).peer_id})


async def _no(request: Request) -> Response:
    raise Forbidden("not you", next_step="ask", fields=["naam"])


async def _mistake(request: Request) -> Response:
    raise RuntimeError("secret detail")


async def _json(request: Request) -> Response:
    return JSONResponse(await read_json(request, 100))


ROUTES = [Route("/who", _who), Route("/no", _no), Route("/mistake", _mistake), Route("/json", _json, methods=["POST"])]


def test_a_peer_is_known_by_its_certificate_and_a_stranger_gets_no_connection(
    anchors: TrustAnchors, new_keypair: Callable[..., KeyPair]
) -> None:
    server, client = new_keypair("00000099000000001000"), new_keypair("00000099000000002000")

    async def run() -> None:
        listener = listen("127.0.0.1:0")
        port = listener.getsockname()[1]
        async with serving(application(list(ROUTES)), listener, server.server_context(anchors)):
            async with httpx.AsyncClient(verify=client.client_context(anchors)) as http:
                answer = await http.get(f"https://localhost:{port}/who")
            assert answer.json() == {"peer": "00000099000000002000"}
            import ssl

            bare = ssl.create_default_context(cadata=anchors.pem.decode())
            async with httpx.AsyncClient(verify=bare) as http:
                with pytest.raises(httpx.TransportError):
                    await http.get(f"https://localhost:{port}/who")

    asyncio.run(run())


def test_faults_are_problem_documents_and_mistakes_tell_nothing() -> None:
    async def run() -> None:
        listener = listen("127.0.0.1:0")
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serving(application(list(ROUTES)), listener), httpx.AsyncClient(base_url=base) as http:
            answer = await http.get("/no")
            assert answer.status_code == 403
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["fields"] == ["naam"]
            mistake = await http.get("/mistake")
            assert mistake.status_code == 500
            assert "secret" not in mistake.text
            assert (await http.get("/nowhere")).json()["status"] == 404
            assert (await http.post("/json", json={"a": "x" * 200})).status_code == 413
            headers = {"content-type": "application/json"}
            assert (await http.post("/json", content=b'{"a":1,"a":2}', headers=headers)).status_code == 400

    asyncio.run(run())


def test_two_listeners_on_one_port_give_one_clear_line() -> None:
    first = listen("127.0.0.1:0")
    address = f"127.0.0.1:{first.getsockname()[1]}"
    with pytest.raises(ConfigurationFault, match="cannot listen on"):
        listen(address)
    first.close()


def test_an_unused_connection_may_still_ask_once_while_a_server_drains_and_is_told_that_it_ends() -> None:
    async def run() -> None:
        listener = listen("127.0.0.1:0")
        port = listener.getsockname()[1]
        request = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
        stop = asyncio.Event()

        async def serve() -> None:
            async with serving(application(list(ROUTES)), listener):
                await stop.wait()

        served = asyncio.create_task(serve())
        await asyncio.sleep(0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        unused, other = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            assert (b"connection: close" in head.lower()) is stop.is_set()
            stop.set()
            await asyncio.sleep(0.25)
        assert await reader.read() == b""
        assert await unused.read() == b""
        await served
        writer.close()
        other.close()

    asyncio.run(run())
