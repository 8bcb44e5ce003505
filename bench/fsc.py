"""The FSC manager under load: contracts, tokens, and pages of long lists. Prints JSON.

    python bench/fsc.py [--seconds 3] [--contracts 100000] [--records 1000000] [--folder FOLDER]

One manager with its ledger in a process of its own, as a node runs it; the asking peers in another, over mutual TLS
with keep-alive. The lists are filled before: `contracts` are all with the peer that asks; of the `records` half is of
the peer that asks, and one in 5,000 of a peer that is seldom seen, which must be found among all the others.
`..._cpu_us` is the manager's processor time a request; a million divided by it is what one core can do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

import uvloop

PROVIDER, CONSUMER, SELDOM = "00000099000000002000", "00000099000000003000", "00000099000000004000"
OPEN = 4000  # contracts that wait for the consumer's signature, to be accepted while we measure
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_DAY = 86_400


# --- what is in it ---


def content(key_thumbprint: str, created_at: int, number: int) -> dict[str, Any]:
    """The content of a contract, as a connection proposal makes it."""
    from stelsel.base.ids import uuid7

    identification = {
        "type": "OUTWAY_IDENTIFICATION_TYPE_PUBLIC_KEY_THUMBPRINT",
        "public_key_thumbprint": key_thumbprint,
    }
    grant = {
        "type": "GRANT_TYPE_SERVICE_CONNECTION",
        "service": {"type": "SERVICE_TYPE_SERVICE", "peer_id": PROVIDER, "name": f"service-{number % 50}"},
        "outway": {"peer_id": CONSUMER, "identification": identification},
        "properties": {"purpose": "Bepalen of iemand een parkeervergunning kan krijgen", "number": number},
    }
    return {
        "fsc_version": "2.0.0",
        "iv": uuid7(created_at + number / 1e6),
        "group_id": "bench",
        "validity": {"not_before": created_at, "not_after": created_at + 300 * _DAY},
        "grants": [{"data": grant}],
        "hash_algorithm": "HASH_ALGORITHM_SHA3_512",
        "created_at": created_at,
    }


def group(folder: Path, port: int) -> Any:
    from stelsel.agreements.group import Group

    return Group(
        id="bench",
        name="Bench",
        trust_anchors=folder / "anchors.pem",
        directory_peer_id=PROVIDER,
        directory_address=f"https://localhost:{port}",
        ports=(),
    )


def keypair(folder: Path, name: str) -> Any:
    from stelsel.base.certificates import KeyPair

    return KeyPair.load(folder / name / "certificate.pem", folder / name / "key.pem")


# --- the manager, a process of its own ---


def fill_contracts(database: Any, provider: Any, consumer: Any, count: int) -> list[str]:
    """Store contracts; the content hashes of those that wait for the consumer.

    They carry one signature a peer between them: what is stored was verified before, and is not verified again.
    """
    from stelsel.agreements import signatures, store
    from stelsel.agreements.contract import parse
    from stelsel.base.jose import Signer

    now, waiting, most = time.time(), [], min(OPEN, count // 2)
    signers = {each: Signer(each) for each in (provider, consumer)}
    one = parse(content(consumer.certificate.key_thumbprint, int(now) - 5, 0))
    signed = [signatures.sign(one, "accept", signers[each], each, now) for each in (provider, consumer)]
    for begin in range(0, count, 5000):
        contracts = [
            parse(content(consumer.certificate.key_thumbprint, int(now) - count + number, number))
            for number in range(begin, min(begin + 5000, count))
        ]

        def write(connection: Any, contracts: list[Any] = contracts) -> None:
            for contract in contracts:
                store.add_contract(connection, contract, PROVIDER, float(contract.created_at))
                for signature in signed[:1] if len(waiting) < most else signed:
                    store.put_signature(connection, contract.content_hash, signature)
                if len(waiting) < most:
                    waiting.append(json.dumps(contract.content))

        database.write_now(write)
    return waiting


async def fill_ledger(ledger: Any, count: int) -> None:
    from stelsel.base.ids import new_span_id, new_trace_id, uuid7
    from stelsel.ledger.record import Record

    numbers = iter(range(count))
    others = [f"000000990000000{number:02d}000" for number in range(10, 60)]
    began = time.time() - 30 * _DAY

    async def appender() -> None:
        for number in numbers:
            consumer = SELDOM if number % 5000 == 4999 else CONSUMER if number % 2 else others[number % 50]
            moment = began + 30 * _DAY * number / count
            await ledger.append(
                Record(
                    transaction_id=uuid7(moment),
                    trace_id=new_trace_id(),
                    span_id=new_span_id(),
                    parent_span_id=new_span_id(),
                    time=int(moment * 1000),
                    direction="incoming",
                    event="request",
                    grant_hash=grant_hash(number % 40),
                    consumer=consumer,
                    provider=PROVIDER,
                    service=f"service-{number % 10}",
                    allowed=True,
                    reason="allowed",
                    fields=("naam.volledigeNaam", "verblijfplaats.straat"),
                    search_parameters=("burgerservicenummer",),
                    processing_activity="https://example.nl/activities/parking@1",
                    subject="6f1f1a1c5a0b4e0c9f5b1e3d7c2a9b48",
                )
            )

    await asyncio.gather(*(appender() for _ in range(1000)))


def grant_hash(number: int) -> str:
    return "$1$3$" + chr(65 + number % 26) * 43 + chr(65 + number // 26) * 43


async def tokens_in_process(app: Any, der: bytes, scope_hash: str, seconds: float) -> dict[str, float]:
    """Token requests through the handler, without a network: what one core can issue."""
    body = urlencode({"grant_type": "client_credentials", "scope": scope_hash, "client_id": CONSUMER}).encode()
    headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"content-length", str(len(body)).encode())]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            statuses.append(event["status"])

    async def ask() -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "https",
            "path": "/v1/token",
            "raw_path": b"/v1/token",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "state": {"client_certificate": der},
        }
        await app(scope, receive, send)

    for _ in range(200):
        await ask()
    statuses.clear()
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        await ask()
    took, used = time.perf_counter() - began, time.process_time() - used
    assert set(statuses) == {200}, statuses[:3]
    return {"per_s": round(len(statuses) / took), "cpu_us": round(used / len(statuses) * 1e6, 1)}


async def manager(folder: Path, port: int, contracts: int, records: int, seconds: float) -> None:
    from stelsel.agreements.api import routes
    from stelsel.agreements.service import Agreements
    from stelsel.agreements.services import Service
    from stelsel.base.certificates import TrustAnchors
    from stelsel.base.clock import SystemClock
    from stelsel.base.database import Database
    from stelsel.base.errors import Unavailable
    from stelsel.base.log import configure
    from stelsel.base.web import application, listen, serving
    from stelsel.ledger.api import routes as ledger_routes
    from stelsel.ledger.service import Ledger

    configure(level="error")
    own, consumer, anchors = (
        keypair(folder, "provider"),
        keypair(folder, "consumer"),
        TrustAnchors.load(folder / "anchors.pem"),
    )
    database = Database(folder / "node.sqlite")
    database.create()
    began = time.perf_counter()
    waiting = fill_contracts(database, own, consumer, contracts)
    (folder / "waiting.json").write_text("\n".join(waiting))
    filled = time.perf_counter() - began
    ledger = Ledger(folder=folder / "ledger", keypair=own, clock=SystemClock())
    await ledger.start()
    began = time.perf_counter()
    await fill_ledger(ledger, records)
    appended = time.perf_counter() - began
    while True:  # until the index has caught up
        try:
            await ledger.checkpoint()
            break
        except Unavailable:
            await asyncio.sleep(0.2)
    indexed = time.perf_counter() - began
    agreements = Agreements(
        database=database,
        keypair=own,
        anchors=anchors,
        group=group(folder, port),
        clock=SystemClock(),
        manager_address=f"https://localhost:{port}",
        inway_address=f"https://localhost:{port + 1}",
        services=tuple(Service(name=f"service-{number}", endpoint="http://127.0.0.1:1") for number in range(50)),
    )
    began = time.perf_counter()
    await agreements.start()
    started = time.perf_counter() - began
    app = application(routes(agreements) + ledger_routes(ledger))
    now = time.time()
    valid = [agreement.grant_hash for agreement in agreements.agreements() if agreement.holds(now)]
    told = {
        "filled_s": round(filled, 1),
        "appends_per_s": round(records / appended),
        "indexed_s": round(indexed, 1),
        "start_s": round(started, 2),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "grants": random.Random(1).sample(valid, min(500, len(valid))),
        "token_handler": await tokens_in_process(app, consumer.certificate.der, valid[0], seconds),
    }
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with serving(app, listen(f"127.0.0.1:{port}"), own.server_context(anchors)):
        print(json.dumps(told), flush=True)
        await stopped.wait()
    await agreements.stop()
    await ledger.stop()
    database.close()


# --- the peers that ask ---


class Asker(asyncio.Protocol):
    """One keep-alive connection that asks the next thing as soon as it is answered."""

    def __init__(self, requests: Iterator[bytes], waits: list[float], done: asyncio.Future[None], keep: list[bytes]):
        self._requests = requests
        self._waits = waits
        self._done = done
        self._keep = keep
        self._parts: list[bytes] = []
        self._missing = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            data = b"".join(self._parts) + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._parts = [data]
                return
            found = _LENGTH.search(data, 0, end + 2)
            if found is None or not data.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")):
                self._end(AssertionError(data[:600].decode("latin-1")))
                return
            self._parts, data = [], data[end + 4 :]
            self._missing = int(found[1])
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing == 0:
            self._waits.append(time.perf_counter() - self._began)
            self._keep[:] = self._parts
            self._parts, self._missing = [], -1
            self._ask()

    def _end(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error) if error else self._done.set_result(None)
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)


class Peer:
    """A peer that asks things of the manager."""

    def __init__(self, port: int, context: ssl.SSLContext, manager_pid: int) -> None:
        self._port = port
        self._context = context
        self._pid = manager_pid

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{self._port}\r\n"
        if method != "GET":
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            head += f"Fsc-Manager-Address: https://localhost:{self._port + 2}\r\n"
        return head.encode() + b"\r\n" + body

    async def ask(self, requests: Iterator[bytes], connections: int) -> dict[str, float]:
        """Ask all of these over so many connections; how long each took, and what it cost the manager."""
        return (await self._ask(requests, connections))[0]

    async def one(self, path: str) -> Any:
        return json.loads((await self._ask(iter([self.request("GET", path)]), 1))[1])

    async def _ask(self, requests: Iterator[bytes], connections: int) -> tuple[dict[str, float], bytes]:
        loop = asyncio.get_running_loop()
        waits: list[float] = []
        kept: list[bytes] = []
        used, began = processor_seconds(self._pid), time.perf_counter()
        ends: list[asyncio.Future[None]] = []
        for _ in range(connections):
            end: asyncio.Future[None] = loop.create_future()
            await loop.create_connection(
                lambda end=end: Asker(requests, waits, end, kept),  # type: ignore[misc]
                "127.0.0.1",
                self._port,
                ssl=self._context,
                server_hostname="localhost",
            )
            ends.append(end)
        await asyncio.gather(*ends)
        took, used = time.perf_counter() - began, processor_seconds(self._pid) - used
        waits.sort()
        return {
            "requests": len(waits),
            "per_s": round(len(waits) / took),
            "p50_ms": round(waits[len(waits) // 2] * 1000, 2),
            "p95_ms": round(waits[len(waits) * 95 // 100] * 1000, 2),
            "cpu_us": round(used / len(waits) * 1e6, 1),
        }, b"".join(kept)


def processor_seconds(pid: int) -> float:
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def lasting(seconds: float, requests: Iterator[bytes]) -> Iterator[bytes]:
    """These requests, for so long."""
    until = time.perf_counter() + seconds
    for request in requests:
        if time.perf_counter() >= until:
            return
        yield request


def for_ever(requests: list[bytes]) -> Iterator[bytes]:
    while True:
        yield from requests


async def contracts_taken_in(peer: Peer, folder: Path, seconds: float) -> dict[str, Any]:
    """New contracts, and accept signatures on contracts that were waiting; each verified, and durable when answered."""
    from stelsel.agreements import signatures
    from stelsel.agreements.contract import parse
    from stelsel.base.jose import Signer

    consumer, now = keypair(folder, "consumer"), time.time()
    signer = Signer(consumer)

    def signed(read: dict[str, Any]) -> tuple[Any, bytes]:
        contract = parse(read)
        signature = signatures.sign(contract, "accept", signer, consumer, now)
        return contract, json.dumps({"content": contract.content, "signature": signature.compact}).encode()

    new, accepts = [], []
    for number in range(int(seconds * 1500)):
        _, body = signed(content(consumer.certificate.key_thumbprint, int(now) - 5, number))
        new.append(peer.request("POST", "/v1/contracts", body, "application/json"))
    for line in (folder / "waiting.json").read_text().splitlines():
        contract, body = signed(json.loads(line))
        path = f"/v1/contracts/{quote(contract.content_hash, safe='$')}/accept"
        accepts.append(peer.request("PUT", path, body, "application/json"))
    return {
        "submitted": await peer.ask(lasting(seconds, iter(new)), 32),
        "accepted": await peer.ask(lasting(seconds, iter(accepts)), 32),
    }


async def contract_pages(peer: Peer, grants: list[str], pages: int) -> dict[str, Any]:
    """Pages from places all through the list, and one contract by its grant."""
    cursors = [""]
    while len(cursors) <= 100:
        found = await peer.one(f"/v1/contracts?limit=1000&cursor={cursors[-1]}")
        following = found["pagination"]["next_cursor"]
        if not found["contracts"] or not following:
            break
        cursors.append(following)
    chance = random.Random(2)

    def asked(query: str, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield peer.request("GET", f"/v1/contracts?{query}&cursor={chance.choice(cursors)}")

    kind = "grant_type=GRANT_TYPE_SERVICE_CONNECTION"
    by_hash = (peer.request("GET", f"/v1/contracts?grant_hash={each}") for each in chance.choices(grants, k=pages))
    return {
        "page_of_25": await peer.ask(asked("limit=25", pages), 1),
        "page_of_100": await peer.ask(asked("limit=100", pages), 1),
        "page_of_100_by_grant_type": await peer.ask(asked(f"limit=100&{kind}", pages), 1),
        "page_of_1000": await peer.ask(asked("limit=1000", pages // 5), 1),
        "by_grant_hash": await peer.ask(by_hash, 1),
    }


async def log_pages(often: Peer, seldom: Peer, records: int, pages: int) -> dict[str, Any]:
    """Pages of the transaction log, for a peer that is everywhere and for one that is seldom seen."""
    chance = random.Random(3)
    transactions = [
        record["transaction_id"]
        for _ in range(5)
        for record in (await often.one(f"/v1/logs?limit=100&cursor={chance.randrange(records)}"))["records"]
    ]
    now = int(time.time())

    def window(days: float) -> str:
        begin = now - chance.randrange(2 * _DAY, 28 * _DAY)
        return f"after={begin}&before={begin + int(days * _DAY)}"

    def asked(peer: Peer, query: Any, count: int = pages) -> Iterator[bytes]:
        for _ in range(count):
            yield peer.request("GET", f"/v1/logs?{query()}")

    def anywhere() -> str:
        return f"cursor={chance.randrange(records)}"

    questions: dict[str, tuple[Peer, Any]] = {
        "first_page": (often, lambda: "limit=25"),
        "page_of_100": (often, lambda: f"limit=100&{anywhere()}"),
        "page_of_100_ascending": (often, lambda: f"limit=100&sort_order=SORT_ORDER_ASCENDING&{anywhere()}"),
        "an_hour": (often, lambda: f"limit=100&{window(1 / 24)}"),
        "by_grant": (often, lambda: f"limit=100&grant_hash={quote(grant_hash(chance.randrange(40)))}&{anywhere()}"),
        "by_unknown_grant": (often, lambda: "grant_hash=$1$3$unknown"),
        "by_service": (often, lambda: f"limit=100&service_name=service-{chance.randrange(10)}&{window(3)}"),
        "by_transaction": (often, lambda: "transaction_ids=" + ",".join(chance.sample(transactions, 5))),
        "seldom_first_page": (seldom, lambda: "limit=25"),
        "seldom_page_of_100": (seldom, lambda: f"limit=100&{anywhere()}"),
        "seldom_by_service": (seldom, lambda: f"limit=100&service_name=service-9&{window(3)}"),
        "seldom_an_hour": (seldom, lambda: f"limit=100&{window(1 / 24)}"),
    }
    return {name: await peer.ask(asked(peer, query), 1) for name, (peer, query) in questions.items()}


async def measure(folder: Path, port: int, pid: int, told: dict[str, Any], options: Any) -> dict[str, Any]:
    from stelsel.base.certificates import TrustAnchors

    anchors = TrustAnchors.load(folder / "anchors.pem")
    often = Peer(port, keypair(folder, "consumer").client_context(anchors), pid)
    seldom = Peer(port, keypair(folder, "seldom").client_context(anchors), pid)
    grants = told.pop("grants")
    forms = [
        often.request(
            "POST",
            "/v1/token",
            urlencode({"grant_type": "client_credentials", "scope": each, "client_id": CONSUMER}).encode(),
            "application/x-www-form-urlencoded",
        )
        for each in grants
    ]
    handler = told.pop("token_handler")
    await often.ask(lasting(0.3, for_ever(forms)), 16)
    tokens = await often.ask(lasting(options.seconds, for_ever(forms)), 16)
    pages = await contract_pages(often, grants, options.pages)
    logs = await log_pages(often, seldom, options.records, options.pages)
    return {
        "contracts": options.contracts,
        "records": options.records,
        "manager": told,
        "tokens_handler": handler,
        "tokens_mutual_tls": tokens,
        "contract_pages": pages,
        "contract_pages_p95_ms": max(each["p95_ms"] for each in pages.values()),
        "log_pages": logs,
        "log_pages_p95_ms": max(each["p95_ms"] for each in logs.values()),
        "contracts_taken_in": await contracts_taken_in(often, folder, options.seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--contracts", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--manager", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.manager:
        folder, port = options.manager
        uvloop.run(manager(Path(folder), int(port), options.contracts, options.records, options.seconds))
        return
    from stelsel.demo.authority import Authority

    with tempfile.TemporaryDirectory(prefix="stelsel-bench-", dir=options.folder) as name, socket.socket() as probe:
        folder, authority = Path(name), Authority()
        (folder / "anchors.pem").write_bytes(authority.root_pem)
        for peer_id, title in ((PROVIDER, "provider"), (CONSUMER, "consumer"), (SELDOM, "seldom")):
            authority.issue(folder / title, peer_id, title.capitalize())
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        command = [sys.executable, __file__, "--manager", name, str(port), "--contracts", str(options.contracts)]
        command += ["--records", str(options.records), "--seconds", str(options.seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            figures = uvloop.run(measure(folder, port, process.pid, told, options))
        finally:
            process.terminate()
            process.wait(30)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
