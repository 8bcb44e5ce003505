"""The traffic of a node: its inway and outway, in its own process or in workers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Protocol

from stelsel.agreements.dialect import Dialect
from stelsel.agreements.group import Group
from stelsel.agreements.services import Service
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import Clock
from stelsel.exchange.inway import Inway
from stelsel.exchange.outway import Outway
from stelsel.exchange.ports import AgreementsPort, LedgerPort
from stelsel.exchange.settings import InwaySettings, OutwaySettings
from stelsel.exchange.workers.desk import HouseAgreements, HouseLedger
from stelsel.exchange.workers.supervisor import Configuration, Supervisor
from stelsel.ledger.settings import LedgerSettings
from stelsel.privacy.subjects import SubjectReferences


class Agreements(AgreementsPort, HouseAgreements, Protocol):
    """What both ways need of the agreements."""


class Ledger(LedgerPort, HouseLedger, Protocol):
    """What both ways need of the ledger."""


class Sockets(Protocol):
    """The listening sockets of the node (`base.listeners`)."""

    def all(self, name: str) -> list[socket.socket]: ...

    def one(self, name: str) -> socket.socket: ...


class Traffic:
    """Carries what there is to carry between `start` and `stop`."""

    def __init__(
        self,
        *,
        agreements: Agreements,
        ledger: Ledger,
        references: SubjectReferences,
        subject_key: Path,
        services: tuple[Service, ...],
        keypair: KeyPair,
        anchors: TrustAnchors,
        group: Group,
        clock: Clock,
        inway: InwaySettings | None,
        outway: OutwaySettings | None,
        ledger_settings: LedgerSettings,
        dialect: Dialect,
        token_lifetime: int,
        workers: int,
        processors: tuple[int, ...],
        drain_seconds: float,
    ) -> None:
        self._names = [name for name, there in (("inway", inway), ("outway", outway)) if there is not None]
        self._workers = workers if self._names else 0
        self._drain_seconds = drain_seconds
        rooms: dict[str, Any] = {
            "agreements": agreements,
            "ledger": ledger,
            "references": references,
            "keypair": keypair,
            "anchors": anchors,
            "group": group,
            "clock": clock,
        }
        self._inway: Inway | None = None
        if inway is not None and not self._workers:
            self._inway = Inway(services=services, settings=inway, **rooms)
        self.outway: Outway | None = None
        """With workers it does not listen, and serves only to explain."""
        if outway is not None:
            self.outway = Outway(settings=outway, **rooms)
        self._supervisor: Supervisor | None = None
        if self._workers:
            self._supervisor = Supervisor(
                agreements=agreements,
                ledger=ledger,
                keypair=keypair,
                anchors=anchors,
                configuration=Configuration(
                    group=group.model_dump(mode="json"),
                    services=[service.model_dump(mode="json") for service in services],
                    inway=None if inway is None else inway.model_dump(mode="json"),
                    outway=None if outway is None else outway.model_dump(mode="json"),
                    dialect=dialect.model_dump(mode="json"),
                    subject_key=subject_key.resolve(),
                    token_lifetime=token_lifetime,
                    deadline=ledger_settings.deadline,
                    waiting_records=ledger_settings.waiting_records,
                    record_bytes=ledger_settings.record_bytes,
                    drain_seconds=drain_seconds,
                    processors=processors,
                ),
            )

    async def prepare(self, sockets: Sockets) -> None:
        """Begin what takes its time, before the other rooms are open."""
        if self._supervisor is not None:
            await self._supervisor.prepare(self._workers, {name: sockets.all(name) for name in self._names})

    async def start(self, sockets: Sockets) -> None:
        """Take connections. Raises `ConfigurationFault` when workers do not start."""
        if self._supervisor is not None:
            await self._supervisor.start()
            return
        if self._inway is not None:
            await self._inway.start(sockets.one("inway"))
        if self.outway is not None:
            await self.outway.start(sockets.one("outway"))

    async def stop(self) -> None:
        """Take no more, finish what is under way: first the outway, for its requests may need our own inway."""
        if self._supervisor is not None:
            await self._supervisor.stop(self._drain_seconds)
        for gateway in (self.outway, self._inway):
            if gateway is not None:
                await gateway.stop(self._drain_seconds)

    async def roll(self) -> int:
        """Replace the workers one by one; how many there are. Raises `ConfigurationFault` when one does not start."""
        return 0 if self._supervisor is None else await self._supervisor.roll()

    def lists_changed(self) -> None:
        """Revocation lists changed on disk."""
        if self._supervisor is not None:
            self._supervisor.read_lists()

    def workers(self) -> list[dict[str, Any]]:
        """What there is to see of each worker; empty when there are none."""
        return [] if self._supervisor is None else self._supervisor.status()

    def in_flight(self) -> int:
        """Requests that are being carried now."""
        if self._supervisor is not None:
            return sum(int(worker["in_flight"]) for worker in self._supervisor.status())
        return sum(gateway.in_flight for gateway in (self._inway, self.outway) if gateway is not None)
