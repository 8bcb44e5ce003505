"""Peers for tests: real managers in this process, over real mutual TLS on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stelsel.agreements.api import routes
from stelsel.agreements.dialect import USUAL, Dialect
from stelsel.agreements.gate import Gate
from stelsel.agreements.group import Group
from stelsel.agreements.service import Agreements
from stelsel.agreements.services import Service
from stelsel.agreements.settings import AgreementsSettings
from stelsel.agreements.terms import Terms
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import Clock, SystemClock
from stelsel.base.database import Database
from stelsel.base.web import application, listen, serving
from stelsel.demo.authority import Authority
from stelsel.demo.ports import free_ports

DIRECTORY = "00000099000000001000"
PROVIDER = "00000099000000002000"
CONSUMER = "00000099000000003000"
OTHER = "00000099000000004000"

Middleware = Callable[[Any], Any]


@dataclass
class Peer:
    """One organisation's manager. `up` serves it; `down` is a power cut: only what is on disk remains."""

    keypair: KeyPair
    anchors: TrustAnchors
    group: Group
    folder: Path
    port: int
    services: tuple[str, ...] = ()
    gate: Gate | None = None
    clock: Clock = field(default_factory=SystemClock)
    dialect: Dialect = USUAL
    catch_up_interval: float = 0
    settings: AgreementsSettings = field(default_factory=AgreementsSettings)
    wrap: Middleware | None = None
    """Puts something between the network and the manager, such as a thief of answers."""
    agreements: Agreements = field(init=False)
    _stack: AsyncExitStack | None = None
    _database: Database | None = None

    @property
    def id(self) -> str:
        return self.keypair.certificate.peer_id

    @property
    def address(self) -> str:
        return f"https://localhost:{self.port}"

    def open(self) -> Agreements:
        """The manager on its database, not served and not sending."""
        self._database = Database(self.folder / "node.sqlite")
        self._database.create()
        self.agreements = Agreements(
            database=self._database,
            keypair=self.keypair,
            anchors=self.anchors,
            group=self.group,
            clock=self.clock,
            manager_address=self.address,
            inway_address=f"https://localhost:{self.port + 1}" if self.services else None,
            services=tuple(Service(name=name, endpoint="http://127.0.0.1:1") for name in self.services),
            gate=self.gate,
            dialect=self.dialect,
            extensions={"EXTENSION_TRANSACTION_LOGGING": "1.1.0"},
            catch_up_interval=self.catch_up_interval,
            settings=self.settings,
        )
        return self.agreements

    async def up(self) -> Agreements:
        agreements = self.open()
        self._stack = AsyncExitStack()
        await agreements.start()
        app: Any = application(routes(agreements))
        if self.wrap is not None:
            app = self.wrap(app)
        listener = listen(f"127.0.0.1:{self.port}")
        self._stack.callback(listener.close)
        await self._stack.enter_async_context(serving(app, listener, self.keypair.server_context(self.anchors)))
        return agreements

    async def down(self) -> None:
        if self._stack is not None:
            stack, self._stack = self._stack, None
            await self.agreements.stop()
            await stack.aclose()
        if self._database is not None:
            self._database.close()
            self._database = None


@dataclass
class Country:
    """A directory, a provider of `personen`, a consumer, and another consumer."""

    directory: Peer
    provider: Peer
    consumer: Peer
    other: Peer

    @property
    def peers(self) -> tuple[Peer, ...]:
        return (self.directory, self.provider, self.consumer, self.other)

    @asynccontextmanager
    async def running(self, *peers: Peer) -> AsyncIterator[Country]:
        try:
            for peer in peers or (self.directory, self.provider, self.consumer):
                await peer.up()
                await peer.agreements.announce()
            yield self
        finally:
            await asyncio.gather(*(peer.down() for peer in self.peers))  # each lets its connections go in peace


@pytest.fixture(scope="session")
def keypairs(new_keypair: Callable[..., KeyPair]) -> dict[str, KeyPair]:
    names = {DIRECTORY: "Regie", PROVIDER: "Bevolkingsregister", CONSUMER: "Gemeente Zilverdam", OTHER: "Bouwer"}
    return {peer_id: new_keypair(peer_id, name) for peer_id, name in names.items()}


@pytest.fixture
def group(tmp_path: Path, authority: Authority) -> Group:
    return make_group(tmp_path, authority, free_ports(1)[0])


def make_group(folder: Path, authority: Authority, port: int) -> Group:
    anchors = folder / "anchors.pem"
    anchors.write_bytes(authority.root_pem)
    return Group(
        id="stelsel-test",
        name="Test",
        trust_anchors=anchors,
        directory_peer_id=DIRECTORY,
        directory_address=f"https://localhost:{port}",
        ports=(),
    )


@pytest.fixture
def country(tmp_path: Path, keypairs: dict[str, KeyPair], anchors: TrustAnchors, group: Group) -> Country:
    def make(peer_id: str, port: int, services: tuple[str, ...] = ()) -> Peer:
        folder = tmp_path / peer_id
        folder.mkdir()
        return Peer(keypairs[peer_id], anchors, group, folder, port, services)

    return Country(
        directory=make(DIRECTORY, int(group.directory_address.rpartition(":")[2])),
        provider=make(PROVIDER, free_ports(1)[0], ("personen",)),
        consumer=make(CONSUMER, free_ports(1)[0]),
        other=make(OTHER, free_ports(1)[0]),
    )


@pytest.fixture(scope="session")
def terms() -> Terms:
    return Terms.model_validate(
        {
            "purpose": "Bepalen of iemand een parkeervergunning kan krijgen",
            "legal_basis": {"article": "Parkeerverordening 2026, artikel 4", "ground": "e"},
            "processing_activity": {
                "id": "https://gemeente.example/verwerkingen/parkeren",
                "name": "Parkeervergunningen",
                "version": "1",
            },
            "fields": ["naam.geslachtsnaam", "verblijfplaats.postcode"],
            "search_parameters": ["burgerservicenummer"],
            "retention": "P1Y6M",
            "confidentiality": "confidential",
        }
    )
