"""One node: every room put together from one configuration file.

`stelsel.settings` declares that file. `Node` builds the rooms from the ground up, opens the listeners and closes them
in the opposite order; `stelsel.running` is a process that does only that.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute

from stelsel import __version__
from stelsel.agreements.api import routes as manager_routes
from stelsel.agreements.group import Group
from stelsel.agreements.service import Agreements
from stelsel.agreements.services import Service
from stelsel.base.certificates import KeyPair
from stelsel.base.clock import Clock, SystemClock
from stelsel.base.database import Database
from stelsel.base.errors import ConfigurationFault
from stelsel.base.listeners import Listeners
from stelsel.base.log import logger
from stelsel.base.renewal import Renewal
from stelsel.base.settings import read_toml
from stelsel.base.web import application, listen, serving
from stelsel.control import api as control
from stelsel.control.comparing import Comparing
from stelsel.control.keeping import Keeping
from stelsel.control.managing import Managing
from stelsel.control.operating import Operating
from stelsel.control.proving import Proving
from stelsel.control.upkeep import Upkeep
from stelsel.exchange.settings import InwaySettings, OutwaySettings
from stelsel.exchange.workers.traffic import Traffic
from stelsel.identity.api import routes as identity_routes
from stelsel.identity.service import OpenIdProvider
from stelsel.ledger.api import public_routes as ledger_public_routes
from stelsel.ledger.api import routes as ledger_routes
from stelsel.ledger.reconcile_service import Reconciliation
from stelsel.ledger.retention import Retention
from stelsel.ledger.service import Ledger
from stelsel.ledger.tlog_api import routes as tlog_routes
from stelsel.ledger.witness_api import routes as witness_routes
from stelsel.ledger.witness_service import Witness
from stelsel.ledger.witnessing import Witnessing, fetch_tile
from stelsel.opendata.api import routes as opendata_routes
from stelsel.opendata.service import OpenData
from stelsel.portal import security_txt
from stelsel.portal.service import Portal
from stelsel.privacy.api import authzen_routes
from stelsel.privacy.api import routes as insight_routes
from stelsel.privacy.api import service as insight_service
from stelsel.privacy.insight import Insight
from stelsel.privacy.subjects import SubjectReferences
from stelsel.settings import ManagerSettings, NodeSettings, WebSettings
from stelsel.steering.api import NodeInfo, node_routes
from stelsel.steering.api import manager_routes as steering_manager_routes
from stelsel.steering.api import routes as steering_routes
from stelsel.steering.gate import RemoteGate, SteeringGate
from stelsel.steering.service import Steering

_log = logger("node")

_EXTENSIONS = {"EXTENSION_TRANSACTION_LOGGING": "1.1.0"}
"""The extensions of FSC that every node has (`/peer`)."""
_ORPHANED = 5.0  # seconds
_GATEWAYS = frozenset({"inway", "outway"})
_LONGEST_SOCKET_PATH = 100  # bytes; the kernel allows 107 (unix(7))


class Node:
    """The rooms of one node. `start` opens it, `stop` closes it; nothing acknowledged is lost by either."""

    def __init__(
        self,
        settings: NodeSettings,
        clock: Clock | None = None,
        *,
        listeners: Listeners | None = None,
        restart: Callable[[], None] | None = None,
    ) -> None:
        """`listeners` may hold sockets that were given; `restart` restarts the process that this node runs in."""
        self.settings = settings
        self.listeners = listeners or Listeners()
        self._restart_process = restart
        self.clock = clock or SystemClock()
        self.group = read_toml(settings.group, Group)
        self.group.check_own_address("manager.address", settings.manager.address)
        if settings.inway is not None:
            self.group.check_own_address("inway.address", settings.inway.address)
        self._started = time.time()
        self.anchors = self.group.trust()
        self.keypair = KeyPair.load(settings.peer.certificate, settings.peer.key, self.group.elements)
        self._make_folder()
        self.services = self._services()
        self.database = Database(settings.data / "node.sqlite")
        self.ledger = Ledger(
            folder=settings.data / "ledger", keypair=self.keypair, clock=self.clock, settings=settings.ledger
        )
        self.agreements = Agreements(
            database=self.database,
            keypair=self.keypair,
            anchors=self.anchors,
            group=self.group,
            clock=self.clock,
            manager_address=settings.manager.address,
            inway_address=settings.inway.address if settings.inway else None,
            services=self.services,
            token_lifetime=settings.manager.token_lifetime,
            dialect=settings.dialect,
            extensions=_EXTENSIONS,
            catch_up_interval=settings.manager.catch_up_interval,
            settings=settings.agreements,
        )
        self.proving = self._proving()
        self.comparing = self._comparing()
        self.keeping = self._keeping()
        self.references = SubjectReferences.load(settings.data / "subject.key")
        names = _PeerNames(self.agreements)
        erased_before = self.keeping.retention.horizon
        self.insight = Insight(self.ledger, self.agreements, self.references, names, erased_before)
        self.steering = self._steering()
        self.provider = self._provider()
        self.opendata = self._opendata()
        self.portal = self._portal()
        self.traffic = self._traffic()
        self.upkeep = Upkeep(
            renewal=Renewal(self.keypair, self.anchors, self.group.trust_anchors, self.group.signature_algorithms),
            agreements=self.agreements,
            traffic=self.traffic,
            anchors=self.anchors,
            clock=self.clock,
        )
        self._open = AsyncExitStack()

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the node: first claim what can be claimed only once, then the rooms, last the operator's socket."""
        settings, stack = self.settings, self._open
        claimed = self.listeners
        for name, address in self._listeners().items():
            await self._claim(name, address, settings.workers if name in _GATEWAYS else 0)
        operator = listen(f"unix:{self._socket('control')}")
        stack.callback(operator.close)

        stack.push_async_callback(self.traffic.stop)
        await self.traffic.prepare(claimed)
        self.database.create()
        stack.callback(self.database.close)
        await self.ledger.start()
        stack.push_async_callback(self.ledger.stop)
        await self.agreements.start()
        stack.push_async_callback(self.agreements.stop)
        await self.agreements.set_gate(self._gate())
        if self.provider is not None:
            await self.provider.start()
            stack.push_async_callback(self.provider.stop)

        if settings.inway is not None:
            insight = listen(f"unix:{self._socket('inzage')}")
            stack.callback(insight.close)
            await stack.enter_async_context(serving(application(insight_routes(self.insight)), insight))
        stack.push_async_callback(self.traffic.stop)
        await self.traffic.start(claimed)
        tls = self.keypair.server_context(self.anchors)
        await stack.enter_async_context(serving(application(self._manager_routes()), claimed.one("manager"), tls))
        if settings.web is not None:
            if self.portal is not None:
                await self.portal.start()
                stack.push_async_callback(self.portal.stop)
            await stack.enter_async_context(serving(self._web(settings.web), claimed.one("web")))
        if self.steering is not None:
            await self.steering.start()
            stack.push_async_callback(self.steering.stop)
        await self.keeping.retention.start()
        stack.push_async_callback(self.keeping.retention.stop)
        await self.comparing.reconciliation.start()
        stack.push_async_callback(self.comparing.reconciliation.stop)
        await self.proving.witnessing.start()
        stack.push_async_callback(self.proving.witnessing.stop)
        await self.upkeep.start()
        stack.push_async_callback(self.upkeep.stop)
        await self.agreements.announce()
        await stack.enter_async_context(serving(application(control.routes(self._rooms())), operator))
        _log.info("running", peer=self.keypair.certificate.peer_name, peer_id=self.agreements.peer_id)

    async def _claim(self, name: str, address: str, workers: int) -> None:
        """Workers of a node that was killed hold its port until they notice, a moment later; that is waited for."""
        loop = asyncio.get_running_loop()
        end = loop.time() + (_ORPHANED if workers else 0)
        while True:
            try:
                return self.listeners.claim(name, address, workers)
            except ConfigurationFault:
                if loop.time() >= end:
                    raise
            await asyncio.sleep(0.1)

    async def stop(self, *, keep_listening: bool = False) -> None:
        """Close the node in the opposite order: what is under way is finished, what is not yet sent is kept.

        With `keep_listening` connections that come meanwhile wait, for whoever gets `listeners` next; else they are
        refused from the beginning.
        """
        if not keep_listening:
            self.listeners.close()
        await self._open.aclose()
        _log.info("stopped", peer=self.keypair.certificate.peer_name)

    # -- what is served where ----------------------------------------------------------------------------------------

    def _listeners(self) -> dict[str, str]:
        settings = self.settings
        sections: dict[str, ManagerSettings | InwaySettings | OutwaySettings | WebSettings | None] = {
            "manager": settings.manager,
            "inway": settings.inway,
            "outway": settings.outway,
            "web": settings.web,
        }
        return {name: section.listen for name, section in sections.items() if section is not None}

    def _manager_routes(self) -> list[BaseRoute]:
        inway, web = self.settings.inway, self.settings.web
        info = NodeInfo(web_address=web.address if web else "", inway_address=inway.address if inway else None)
        steering = steering_manager_routes(self.steering) if self.steering is not None else []
        return [*manager_routes(self.agreements), *self._log_routes(), *node_routes(info), *steering]

    def _log_routes(self) -> list[BaseRoute]:
        logs = ledger_routes(self.ledger, self.agreements.log_data, self.settings.dialect)
        witness = witness_routes(self.proving.witness) if self.settings.ledger.witness_for_others else []
        return [*logs, *tlog_routes(self.ledger), *witness]

    def _web(self, settings: WebSettings) -> Any:
        routes = [
            *ledger_public_routes(self.ledger),
            *tlog_routes(self.ledger),
            *self.comparing.public_routes(),
        ]
        if settings.security_contact is not None:
            routes.append(security_txt.route(settings.address, settings.security_contact, self.clock))
        if self.opendata is not None:
            routes += opendata_routes(self.opendata)
        if self.steering is not None:
            routes += steering_routes(self.steering)
        if self.portal is None:
            return application(routes)
        if self.provider is not None:
            routes += identity_routes(self.provider, self.portal.pages)
        return self.portal.application(routes)

    def _rooms(self) -> control.Rooms:
        managing = self._managing()
        commands = self._operating(managing).commands() | managing.commands() | self.keeping.commands()
        decide = authzen_routes(self.agreements, self.services, self.clock, self.settings.manager.address)
        return control.Rooms(
            self.agreements,
            self.ledger,
            self._about,
            self.agreements.peer_names,
            commands,
            (*decide, *self.proving.routes()),
        )

    def _managing(self) -> Managing:
        inway = self.settings.inway
        return Managing(
            agreements=self.agreements,
            ledger=self.ledger,
            anchors=self.anchors,
            clock=self.clock,
            inway_address=inway.address if inway else None,
            upkeep=self.upkeep,
            proving=self.proving,
            comparing=self.comparing,
        )

    def _operating(self, managing: Managing) -> Operating:
        return Operating(
            agreements=self.agreements,
            upkeep=self.upkeep,
            keypair=self.keypair,
            clock=self.clock,
            outway=self.traffic.outway,
            opendata=self.opendata,
            steering=self.steering,
            provider=self.provider,
            ask_version=managing.version_of,
            restart_process=self._restart_process,
            started=self._started,
        )

    def _about(self) -> dict[str, Any]:
        settings, certificate = self.settings, self.keypair.certificate
        return {
            "version": __version__,
            "peer_id": certificate.peer_id,
            "name": certificate.peer_name,
            "group": self.group.id,
            "certificate_until": int(certificate.not_after),
            "manager": settings.manager.address,
            "inway": settings.inway.address if settings.inway else None,
            "outway": f"http://{settings.outway.listen}" if settings.outway else None,
            "web": settings.web.address if settings.web else None,
            "services": [service.name for service in self.services],
            "process": {"pid": os.getpid(), "started": self._started, "in_flight": self.traffic.in_flight()},
            "workers": self.traffic.workers(),
            "other_fsc_versions": {
                version.peer_id: version.fsc_version for version in self.agreements.versions() if version.differs
            },
        }

    # -- building ----------------------------------------------------------------------------------------------------

    def _make_folder(self) -> None:
        folder = self.settings.data
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationFault(f"data: {folder} cannot be made ({error.strerror})") from error
        if len(str(folder / "control.sock").encode()) > _LONGEST_SOCKET_PATH:
            raise ConfigurationFault(
                f"data: the path {folder} is too long for unix sockets", next_step="choose a shorter folder for data"
            )

    def _socket(self, name: str) -> Path:
        return self.settings.data / f"{name}.sock"

    def _services(self) -> tuple[Service, ...]:
        if self.settings.inway is None:
            return self.settings.services
        return (*self.settings.services, insight_service(f"unix:{self._socket('inzage')}"))

    def _proving(self) -> Proving:
        witness = Witness(
            database=self.database,
            key_file=self.settings.data / "ledger" / "witness.key",
            keypair=self.keypair,
            anchors=self.anchors,
            clock=self.clock,
            fetch_tile=partial(fetch_tile, self.agreements),
        )
        witnessing = Witnessing(
            ledger=self.ledger,
            peers=self.agreements,
            anchors=self.anchors,
            clock=self.clock,
            settings=self.settings.ledger,
        )
        return Proving(self.ledger, witness, witnessing, self.settings.ledger, self.clock)

    def _keeping(self) -> Keeping:
        file, keep_days = self.settings.data / "ledger" / "retention.json", self.settings.ledger.keep_days
        return Keeping(Retention(ledger=self.ledger, file=file, clock=self.clock, keep_days=keep_days))

    def _comparing(self) -> Comparing:
        reconciliation = Reconciliation(
            own=self.agreements.peer_id,
            ledger=self.ledger,
            pages=self.agreements.pages,
            peers=self.agreements.counterparties,
            database=self.database,
            clock=self.clock,
            settings=self.settings.reconciliation,
            keep_days=self.settings.ledger.keep_days,
        )
        return Comparing(reconciliation, self.clock)

    def _traffic(self) -> Traffic:
        settings = self.settings
        return Traffic(
            agreements=self.agreements,
            ledger=self.ledger,
            references=self.references,
            subject_key=settings.data / "subject.key",
            services=self.services,
            keypair=self.keypair,
            anchors=self.anchors,
            group=self.group,
            clock=self.clock,
            inway=settings.inway,
            outway=settings.outway,
            ledger_settings=settings.ledger,
            dialect=settings.dialect,
            token_lifetime=settings.manager.token_lifetime,
            workers=settings.workers,
            processors=settings.processors,
            drain_seconds=settings.drain_seconds,
        )

    def _gate(self) -> SteeringGate | RemoteGate:
        if self.steering is not None:
            return SteeringGate(self.steering)
        return RemoteGate(self.agreements, self.group.directory_address, self.group.directory_peer_id)

    def _steering(self) -> Steering | None:
        if not self.settings.steering.enabled:
            return None
        return Steering(
            database=self.database,
            agreements=self.agreements,
            keypair=self.keypair,
            anchors=self.anchors,
            clock=self.clock,
            settings=self.settings.steering,
        )

    def _provider(self) -> OpenIdProvider | None:
        if self.settings.identity is None:
            return None
        folder = self.settings.data / "identity"
        return OpenIdProvider(settings=self.settings.identity, database=self.database, folder=folder, clock=self.clock)

    def _opendata(self) -> OpenData | None:
        settings = self.settings.opendata
        if not settings.enabled:
            return None
        return OpenData(
            self.settings.data / "opendata",
            settings.publisher,
            settings.base_url,
            minimum_frequency=settings.minimum_frequency,
            clock=self.clock,
        )

    def _portal(self) -> Portal | None:
        settings, web = self.settings.portal, self.settings.web
        if settings is None or web is None:
            return None
        return Portal(
            settings=settings,
            web_address=web.address,
            outway=f"http://{self.settings.outway.listen}" if self.settings.outway else None,
            folder=self.settings.data / "portal",
            keypair=self.keypair,
            anchors=self.anchors,
            clock=self.clock,
            database=self.database,
            agreements=self.agreements,
            ledger=self.ledger,
            opendata=self.opendata,
            steering=self.steering,
            doctor=lambda: self._managing().examine(),
        )


class _PeerNames(Mapping[str, str]):
    """The names of the peers as they are known at this moment."""

    def __init__(self, agreements: Agreements) -> None:
        self._agreements = agreements

    def __getitem__(self, peer_id: str) -> str:
        return self._agreements.peer_names()[peer_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._agreements.peer_names())

    def __len__(self) -> int:
        return len(self._agreements.peer_names())
