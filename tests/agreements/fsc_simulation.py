"""A small country in one process with time and a network of its own: for trying what no real network does on demand.

The managers are real, with their routes and their databases. Below the client's HTTP interface lies a network that
loses, repeats, delays and re-orders messages as it is told; time passes when it is told to, so that waiting costs
nothing, and the same orders give the same course of events.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest.mock import patch

import httpx
from sqlalchemy import Connection, select

from stelsel.agreements import hashes, outbox, service, store
from stelsel.agreements.api import routes
from stelsel.agreements.client import PeerClients
from stelsel.agreements.group import Group
from stelsel.agreements.proposals import ConnectionProposal
from stelsel.agreements.service import Agreements
from stelsel.agreements.services import Service
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
from stelsel.base.database import Database
from stelsel.base.errors import Unavailable
from stelsel.base.web import application

T = TypeVar("T")

FATES = ("fine", "lost", "answer lost", "twice", "late", "slow", "busy")
"""What can happen to one message. Late: the sender gives up, and then it arrives after all, behind newer ones."""

_LATE = 40.0
_GIVES_UP = 10.0


class PowerCut(Unavailable):
    """What a machine without power does when it is asked to write."""


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Never waits: the time that would be waited has passed at once."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits for something that will never happen")
            if timeout > 0:
                self.passed += timeout + 1e-6
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is that of its selector."""

    def __init__(self) -> None:
        self._own = _Selector()
        super().__init__(self._own)

    def time(self) -> float:
        return self._own.passed


@dataclass
class SimulatedClock:
    """The clock of one peer: the time of the world, and how far this clock is off."""

    world: World
    off: float = 0.0

    def now(self) -> float:
        return self.world.now() + self.off


class Disk:
    """A peer's database as one run of its node sees it: it writes nothing once the power is gone."""

    def __init__(self, database: Database, chance: random.Random) -> None:
        self._database = database
        self._chance = chance
        self.powered = True

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._database.read() as connection:
            yield connection

    async def write(self, function: Callable[[Connection], T]) -> T:
        await self._moment()
        if not self.powered:
            raise PowerCut("the power is gone")
        result = self._database.write_now(function)
        await self._moment()  # the power may go right after the commit as well
        if not self.powered:
            raise PowerCut("the power is gone")
        return result

    async def _moment(self) -> None:
        for _ in range(self._chance.randrange(4)):
            await asyncio.sleep(0)


class SimulatedClients(PeerClients):
    """The production client with the simulated network below it."""

    def __init__(self, network: Network, node: Node, keypair: KeyPair, anchors: TrustAnchors, address: str) -> None:
        super().__init__(keypair, anchors, address)
        self._network = network
        self._node = node

    def of(self, peer_id: str) -> httpx.AsyncClient:
        if self._closed:
            raise Unavailable("this node is stopping")
        client = self._clients.get(peer_id)
        if client is None:
            client = self._clients[peer_id] = httpx.AsyncClient(transport=_Wire(self._network, self._node, peer_id))
        return client


class _Wire(httpx.AsyncBaseTransport):
    def __init__(self, network: Network, node: Node, receiver: str) -> None:
        self._network = network
        self._node = node
        self._receiver = receiver

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        message = Message(
            certificate=self._node.keypair.certificate,
            receiver=self._receiver,
            method=request.method,
            path=request.url.path,
            raw_path=request.url.raw_path,
            headers=[(name.lower(), value) for name, value in request.headers.raw],
            body=await request.aread(),
        )
        return await self._network.carry(self._node, message)


@dataclass(frozen=True)
class Message:
    """One request, as it travels."""

    certificate: Certificate
    receiver: str
    method: str
    path: str
    raw_path: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def sender(self) -> str:
        return self.certificate.peer_id

    @property
    def kind(self) -> str:
        """submit, accept, reject, revoke; anything else says nothing about a contract."""
        return "submit" if (self.method, self.path) == ("POST", "/v1/contracts") else self.path.rpartition("/")[2]


@dataclass
class Node:
    """One run of a peer's node, between a start and a stop or a power cut."""

    keypair: KeyPair
    disk: Disk
    agreements: Agreements = field(init=False)
    app: Any = None

    @property
    def up(self) -> bool:
        return self.app is not None and self.disk.powered


class Network:
    """Carries messages between nodes, well or badly."""

    def __init__(self, chance: random.Random, anchors: TrustAnchors, now: Callable[[], float]) -> None:
        self._chance = chance
        self._anchors = anchors
        self._now = now
        self.nodes: dict[str, Node] = {}
        self.fates: dict[tuple[str, str], deque[str]] = defaultdict(deque)
        self.cut: set[tuple[str, str]] = set()
        self.carried: list[Message] = []
        self.acknowledged: set[tuple[str, str, str, str]] = set()
        """(receiver, content hash, sender, type of signature) of what was answered with 201."""
        self.mistakes: list[str] = []
        self.on_the_way: set[asyncio.Task[Any]] = set()

    async def carry(self, sender: Node, message: Message) -> httpx.Response:
        """The answer, or what httpx raises when there is none."""
        link = (message.sender, message.receiver)
        fate = self.fates[link].popleft() if self.fates[link] else "fine"
        await asyncio.sleep(self._chance.random() * 0.1)
        if link in self.cut or not sender.up:
            raise httpx.ConnectError("no way through")
        if fate == "lost":
            await asyncio.sleep(_GIVES_UP)
            raise httpx.ReadTimeout("lost")
        if fate == "busy":
            return httpx.Response(503)
        if fate == "late":
            self._later(message)
            await asyncio.sleep(_GIVES_UP)
            raise httpx.ReadTimeout("late")
        if fate == "slow":
            await asyncio.sleep(self._chance.random() * _GIVES_UP)
        response = await self.deliver(message)
        if fate == "twice":
            response = await self.deliver(message)
        if fate == "answer lost" or link in self.cut or not sender.up:
            await asyncio.sleep(_GIVES_UP)
            raise httpx.ReadTimeout("the answer is lost")
        return response

    def _later(self, message: Message) -> None:
        async def arrive() -> None:
            await asyncio.sleep(self._chance.random() * _LATE)
            try:
                await self.deliver(message)
            except httpx.HTTPError:
                pass

        task = asyncio.get_running_loop().create_task(arrive())
        self.on_the_way.add(task)
        task.add_done_callback(self.on_the_way.discard)

    async def deliver(self, message: Message) -> httpx.Response:
        """Hand a message to the node that is up now at the receiver."""
        node = self.nodes.get(message.receiver)
        if node is None or not node.up:
            raise httpx.ConnectError("nobody is there")
        ends = (message.certificate.not_after, node.keypair.certificate.not_after)
        if self._now() >= min(ends):
            raise httpx.ConnectError("a certificate has expired")  # TLS would not come about
        status, body = await self._ask(node, message)
        if not node.disk.powered:
            raise httpx.ReadError("it went down while answering")
        self.carried.append(message)
        if status >= 500 and status != 503:
            self.mistakes.append(f"{message.method} {message.path}: {status} {body[:300]!r}")
        if status == 201:
            kind = "accept" if message.kind == "submit" else message.kind
            content = httpx.Response(200, content=message.body).json()["content"]
            self.acknowledged.add((message.receiver, hashes.content_hash(content), message.sender, kind))
        return httpx.Response(status, content=body)

    async def _ask(self, node: Node, message: Message) -> tuple[int, bytes]:
        answer: dict[str, Any] = {"status": 500, "body": b""}
        unread = [message.body]

        async def receive() -> dict[str, Any]:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            if event["type"] == "http.response.start":
                answer["status"] = event["status"]
            else:
                answer["body"] += event.get("body", b"")

        path, _, query = message.raw_path.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": message.method,
            "scheme": "https",
            "path": message.path,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": message.headers,
            "server": ("localhost", 8443),
            "client": ("127.0.0.1", 1),
            "state": {"client_certificate": message.certificate.der, "anchors": self._anchors},
        }
        await node.app(scope, receive, send)
        return answer["status"], answer["body"]


class World:
    """The peers, their clocks, and the network between them."""

    def __init__(
        self,
        *,
        keypairs: dict[str, KeyPair],
        databases: dict[str, Database],
        services: dict[str, tuple[str, ...]],
        anchors: TrustAnchors,
        group: Group,
        begin: float,
        seed: int,
    ) -> None:
        self.loop = SimulatedLoop()
        self.loop.set_exception_handler(self._unhandled)
        self.begin = begin
        self.group = group
        self.anchors = anchors
        self.keypairs = dict(keypairs)
        self.databases = databases
        self.services = services
        self.clocks = {peer_id: SimulatedClock(self) for peer_id in keypairs}
        self.chance = random.Random(seed)
        self.network = Network(self.chance, anchors, self.now)
        self.unhandled: list[str] = []
        self._patches = ExitStack()
        self._patches.enter_context(patch.object(outbox, "_random", self.chance))
        for database in databases.values():
            database.write_now(_empty)

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.begin + self.loop.time()

    def run(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    def address(self, peer_id: str) -> str:
        return f"https://p{peer_id[-4:]}.example:8443"

    def agreements(self, peer_id: str) -> Agreements | None:
        """A peer's manager; None while it is down."""
        node = self.network.nodes.get(peer_id)
        return node.agreements if node is not None and node.up else None

    def start(self, peer_id: str) -> None:
        """A new node on the database that is there."""
        self.run(self._start(peer_id))

    async def _start(self, peer_id: str) -> None:
        keypair = self.keypairs[peer_id]
        node = Node(keypair, Disk(self.databases[peer_id], self.chance))

        def clients(*arguments: Any) -> SimulatedClients:
            return SimulatedClients(self.network, node, *arguments)

        with patch.object(service, "PeerClients", clients):
            agreements = Agreements(
                database=node.disk,  # type: ignore[arg-type]
                keypair=keypair,
                anchors=self.anchors,
                group=self.group,
                clock=self.clocks[peer_id],
                manager_address=self.address(peer_id),
                inway_address=f"https://p{peer_id[-4:]}.example:443" if self.services[peer_id] else None,
                services=tuple(Service(name=name, endpoint="http://127.0.0.1:1") for name in self.services[peer_id]),
                catch_up_interval=0,  # only when told to, so that what the outbox does alone is tried
            )
        node.agreements = agreements
        await agreements.start()
        node.app = application(routes(agreements))
        self.network.nodes[peer_id] = node
        await agreements.announce()

    async def propose(self, peer_id: str, content: dict[str, Any]) -> str:
        """Have this peer, which is up, propose a contract with exactly this content."""
        agreements = self.network.nodes[peer_id].agreements
        with patch.object(service, "content_of", lambda *_, **__: content):
            return await agreements.propose(ConnectionProposal(peer_id, "any"))

    def stop(self, peer_id: str, *, power_cut: bool) -> None:
        """Stop a node in good order, or pull its plug."""
        node = self.network.nodes.pop(peer_id, None)
        if node is None:
            return
        if power_cut:
            node.disk.powered = False
        self.run(node.agreements.stop())
        node.disk.powered = False

    def close(self) -> None:
        for peer_id in list(self.network.nodes):
            self.stop(peer_id, power_cut=True)
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.run(asyncio.wait(tasks))
        self.loop.close()
        self._patches.close()

    def waiting(self) -> list[str]:
        """What is in the outboxes, and what is on the way."""
        found = [str(task) for task in self.network.on_the_way]
        for peer_id, database in self.databases.items():
            with database.read() as connection:
                rows = connection.execute(select(store.outbox).where(store.outbox.c.status == "pending"))
                found += [f"{peer_id} to {row.peer_id}: {row.kind} {row.content_hash} {row.reason}" for row in rows]
        return found

    def signed(self, peer_id: str) -> set[tuple[str, str, str]]:
        """(content hash, peer, type) of the signatures on this peer's disk."""
        columns = store.signatures.c.content_hash, store.signatures.c.peer_id, store.signatures.c.type
        with self.databases[peer_id].read() as connection:
            return {(row.content_hash, row.peer_id, row.type) for row in connection.execute(select(*columns))}

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), PowerCut):
            self.unhandled.append(f"{context.get('message')}: {context.get('exception')!r}")


def _empty(connection: Connection) -> None:
    for table in (store.outbox, store.signatures, store.contracts, store.peers):
        connection.execute(table.delete())
