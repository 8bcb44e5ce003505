"""A small world for tests of the exchange: a register behind an inway, a municipality behind an outway, a service.

The rooms `agreements` and `ledger` have stand-ins here behind the same interface; the certificates, the TLS and the
tokens are real.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stelsel.agreements import tokens
from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.fsc_errors import TokenMissing
from stelsel.agreements.group import Group
from stelsel.agreements.services import Service
from stelsel.agreements.terms import Terms
from stelsel.agreements.tokens import Token, TokenClaims
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import SystemClock
from stelsel.base.jose import Signer
from stelsel.base.moment import Moment
from stelsel.exchange.inway import Inway
from stelsel.exchange.outway import Outway
from stelsel.exchange.settings import InwaySettings, OutwaySettings
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.record import Record
from stelsel.privacy.subjects import SubjectReferences

REGISTER = "00000099000000002000"
MUNICIPALITY = "00000099000000003000"
COMPANY = "00000099000000005000"
PERSON = "999990019"
OTHER_PERSON = "999990020"


def terms(fields: tuple[str, ...] = ("naam", "geboorte"), search: tuple[str, ...] = ("burgerservicenummer",)) -> Terms:
    return Terms.model_validate(
        {
            "purpose": "parkeervergunning",
            "legal_basis": {"article": "artikel 225 Gemeentewet", "ground": "e"},
            "processing_activity": {"id": "urn:test:parkeren", "name": "Parkeren", "version": "1"},
            "fields": fields,
            "search_parameters": search,
            "retention": "P1Y",
            "confidentiality": "confidential",
        }
    )


def an_agreement(service: str, consumer: KeyPair, *, with_terms: Terms | None = None, **changes: Any) -> Agreement:
    now = int(time.time())
    base = Agreement(
        grant_hash=f"$1$3${service}",
        content_hash="$1$1$content",
        consumer=consumer.certificate.peer_id,
        provider=REGISTER,
        service=service,
        outway_key_thumbprint=consumer.certificate.key_thumbprint,
        outway_domain_name=None,
        terms=with_terms,
        not_before=now - 60,
        not_after=now + 3600,
        created_at=now - 60,
        state=State.VALID,
    )
    return replace(base, **changes)


async def nothing() -> None:
    """What happens meanwhile, unless a test says otherwise."""


class StandInAgreements:
    """Agreements that a test sets, with real tokens and the real check of tokens."""

    def __init__(self, provider: KeyPair, consumer: KeyPair, group: Group) -> None:
        self._provider = provider
        self._consumer = consumer
        self._signer = Signer(provider)
        self._group = group
        self._all: dict[str, Agreement] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._tokens: dict[str, Token] = {}
        self.audience = ""
        self.lifetime = 300
        self.before_token: Callable[[], Awaitable[None]] = nothing
        self.forgotten = 0

    def put(self, agreement: Agreement) -> None:
        self._all[agreement.grant_hash] = agreement
        for callback in self._callbacks:
            callback()

    def forget(self, grant_hash: str) -> None:
        del self._all[grant_hash]

    def revoke(self, grant_hash: str) -> None:
        self.put(replace(self._all[grant_hash], state=State.REVOKED))

    def agreements(self) -> tuple[Agreement, ...]:
        return tuple(self._all.values())

    def agreement(self, grant_hash: str) -> Agreement | None:
        return self._all.get(grant_hash)

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def make_token(self, agreement: Agreement, **changes: Any) -> Token:
        claims = tokens.claims_for(
            agreement,
            None,
            group_id=self._group.id,
            audience=self.audience,
            certificate=self._consumer.certificate,
            now=time.time(),
            lifetime=self.lifetime,
            clock_skew=60,
        )
        claims = replace(claims, **changes)
        return Token(tokens.sign(claims, self._signer), claims)

    def token_at_hand(self, grant_hash: str) -> Token | None:
        """None, so that every request waits for `before_token`, as one whose token is not at hand does."""
        return None

    async def token(self, grant_hash: str) -> Token:
        await self.before_token()
        if grant_hash not in self._tokens:
            self._tokens[grant_hash] = self.make_token(self._all[grant_hash])
        return self._tokens[grant_hash]

    def keep_token(self, token: Token) -> None:
        self._tokens[token.claims.grant_hash] = token

    def forget_token(self, grant_hash: str) -> None:
        self.forgotten += 1
        self._tokens.pop(grant_hash, None)

    def verify_token(self, compact: str, thumbprint: str) -> TokenClaims:
        if not compact:
            raise TokenMissing("no token")
        claims = tokens.verify(compact, self._provider.certificate)
        tokens.check(
            claims,
            thumbprint=thumbprint,
            group_id=self._group.id,
            provider=self._provider.certificate.peer_id,
            audience=self.audience,
            now=time.time(),
        )
        return claims


class StandInLedger:
    """Keeps records in a list; `broken` makes it refuse; `disk` is what happens while the disk is at work."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.broken = False
        self.disk: Callable[[], Awaitable[None]] = nothing
        self.waiting = self.most_waiting = 0
        self._tasks: set[asyncio.Future[None]] = set()

    def append_then(self, record: Record, moment: Moment) -> None:
        task = asyncio.ensure_future(self._append(record, moment))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _append(self, record: Record, moment: Moment) -> None:
        self.waiting += 1
        self.most_waiting = max(self.waiting, self.most_waiting)
        await asyncio.sleep(0)
        await self.disk()
        self.waiting -= 1
        if self.broken:
            moment.fails(LedgerUnavailable("the disk is full"))
        elif not moment.over():
            self.records.append(record)
            moment.comes(len(self.records) - 1)


@dataclass
class Seen:
    """One request as the service saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Play = Callable[..., None]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Seen], Any]


def plain_answer(body: bytes, *, status: str = "200 OK", headers: str = "Content-Type: application/json\r\n") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Backend:
    """A service behind the inway. `answer` is what it says; `handler` takes over when set."""

    answer: bytes = field(default_factory=lambda: plain_answer(b"{}"))
    handler: Handler | None = None
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {line.split(": ")[0].lower(): line.split(": ", 1)[1] for line in head[1:-2]}
                seen = Seen(method, target, headers, b"")
                self.seen.append(seen)
                if self.handler is not None:
                    if await self.handler(reader, writer, seen) is False:
                        break
                    continue
                if "content-length" in headers:
                    seen.body = await reader.readexactly(int(headers["content-length"]))
                elif "transfer-encoding" in headers:
                    seen.body = await read_chunked(reader)
                writer.write(self.answer)
                await writer.drain()
        writer.close()


async def read_chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).strip(), 16)
        if not size:
            await reader.readuntil(b"\r\n")
            return body
        body += await reader.readexactly(size)
        await reader.readexactly(2)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def read_reply(reader: asyncio.StreamReader, method: str = "GET") -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ")[1])
    headers = {line.split(": ")[0].lower(): line.split(": ", 1)[1] for line in head[1:-2]}
    if status == 100:
        return await read_reply(reader, method)
    body = b""
    if method != "HEAD" and status not in (204, 304):
        if headers.get("transfer-encoding") == "chunked":
            body = await read_chunked(reader)
        elif "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = await reader.read()
    return Reply(status, headers, body)


@dataclass
class World:
    """What a test has in hand."""

    agreements: StandInAgreements
    provider_ledger: StandInLedger
    consumer_ledger: StandInLedger
    service: Backend
    inway: Inway
    outway: Outway
    inway_port: int
    outway_port: int
    register: KeyPair
    municipality: KeyPair
    anchors: TrustAnchors
    references: SubjectReferences

    async def raw(self, data: bytes, method: str = "GET") -> Reply:
        """One reply of the outway to these bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.outway_port)
        writer.write(data)
        try:
            return await asyncio.wait_for(read_reply(reader, method), 10)
        finally:
            writer.close()

    async def ask(
        self, target: str, *, method: str = "GET", headers: str = "", body: bytes = b"", json_body: Any = None
    ) -> Reply:
        if json_body is not None:
            body = json.dumps(json_body).encode()
            headers += "Content-Type: application/json\r\n"
        if body or method == "POST":
            headers += f"Content-Length: {len(body)}\r\n"
        return await self.raw(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode() + body, method)

    async def at_inway(
        self, keypair: KeyPair, headers: str, *, line: str = "GET /x HTTP/1.1", body: bytes = b""
    ) -> Reply:
        """One reply of the inway, asked directly over mutual TLS with this key pair."""
        context = keypair.client_context(self.anchors)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.inway_port, ssl=context, server_hostname="localhost"
        )
        if body:
            headers += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{line}\r\nHost: localhost\r\n{headers}\r\n".encode() + body)
        try:
            return await asyncio.wait_for(read_reply(reader), 10)
        finally:
            writer.close()


def listener() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def a_world(
    register: KeyPair,
    municipality: KeyPair,
    anchors: TrustAnchors,
    *,
    inway_limits: dict[str, Any] | None = None,
    outway_limits: dict[str, Any] | None = None,
    group_id: str = "stelsel.test",
    front: Callable[[int], Awaitable[str]] | None = None,
) -> AsyncIterator[World]:
    """`front` puts something before the service: it gets the port of the service, and gives its own endpoint."""
    group = Group(
        id=group_id,
        name="Test",
        trust_anchors=Path("/nowhere"),
        directory_peer_id="00000099000000001000",
        directory_address="https://localhost:7143",
        ports=(),
    )
    service = Backend()
    backend = await asyncio.start_server(service.serve, "127.0.0.1", 0, limit=2**20)
    service.port = backend.sockets[0].getsockname()[1]
    endpoint = await front(service.port) if front is not None else f"http://127.0.0.1:{service.port}"
    services = (
        Service(name="plain", endpoint=endpoint),
        Service(name="personen", endpoint=endpoint, personal=True, records="personen"),
        Service(name="gone", endpoint="http://127.0.0.1:9"),
    )
    agreements = StandInAgreements(register, municipality, group)
    agreements.put(an_agreement("plain", municipality))
    agreements.put(an_agreement("personen", municipality, with_terms=terms(search=("burgerservicenummer", "naam"))))
    agreements.put(an_agreement("gone", municipality))
    references = SubjectReferences(b"k" * 32)
    provider_ledger, consumer_ledger = StandInLedger(), StandInLedger()
    in_socket, out_socket = listener(), listener()
    inway_port, outway_port = in_socket.getsockname()[1], out_socket.getsockname()[1]
    agreements.audience = f"https://localhost:{inway_port}"
    inway = Inway(
        agreements=agreements,
        ledger=provider_ledger,
        references=references,
        services=services,
        keypair=register,
        anchors=anchors,
        group=group,
        clock=SystemClock(),
        settings=InwaySettings(listen="127.0.0.1:1", address=agreements.audience, **(inway_limits or {})),
    )
    outway = Outway(
        agreements=agreements,
        ledger=consumer_ledger,
        references=references,
        keypair=municipality,
        anchors=anchors,
        group=group,
        clock=SystemClock(),
        settings=OutwaySettings(
            listen="127.0.0.1:1",
            aliases={"plain": f"{REGISTER}/plain", "personen": f"{REGISTER}/personen", "gone": f"{REGISTER}/gone"},
            **(outway_limits or {}),
        ),
    )
    await inway.start(in_socket)
    await outway.start(out_socket)
    try:
        yield World(
            agreements,
            provider_ledger,
            consumer_ledger,
            service,
            inway,
            outway,
            inway_port,
            outway_port,
            register,
            municipality,
            anchors,
            references,
        )
    finally:
        await outway.stop(0.2)
        await inway.stop(0.2)
        backend.close()
        for task in service.tasks:
            task.cancel()
        await asyncio.gather(*service.tasks, return_exceptions=True)
        await asyncio.sleep(0.01)


async def connect(world: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of an application to the outway."""
    return await asyncio.open_connection("127.0.0.1", world.outway_port)


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
