"""The process of one worker: `python -m stelsel.exchange.workers.worker`, started by the supervisor and by nobody else.

It inherits its end of the link and one listening socket for each gateway. It loads only what carrying takes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from stelsel.agreements.dialect import Dialect
from stelsel.agreements.group import Group
from stelsel.agreements.services import Service
from stelsel.agreements.token_check import TokenCheck
from stelsel.base.certificates import Certificate, KeyPair, Pair, TrustAnchors
from stelsel.base.clock import SystemClock
from stelsel.base.errors import Fault
from stelsel.base.log import configure, logger
from stelsel.base.process import settle
from stelsel.base.renewal import read_lists
from stelsel.exchange.gateway import Gateway
from stelsel.exchange.inway import Inway
from stelsel.exchange.outway import Outway
from stelsel.exchange.settings import InwaySettings, OutwaySettings
from stelsel.exchange.workers.link import VERSION, Kind, Link, LinkBroken
from stelsel.exchange.workers.messages import from_json, to_json, unpack_agreements, unpack_refusal, unpack_runs
from stelsel.exchange.workers.remote import RemoteAgreements
from stelsel.exchange.workers.remote_ledger import RemoteLedger
from stelsel.privacy.subjects import SubjectReferences

_log = logger("exchange")

_STATUS_SECONDS = 1.0
_LAST_SECONDS = 1.0
"""Time to finish what was recorded already, when the house is gone."""


class Worker:
    """Runs the gateways of one worker until the house lets go of it."""

    def __init__(self, listeners: dict[str, socket.socket]) -> None:
        self._listeners = listeners
        self._link = Link(self._on_frame, self._on_lost)
        self._ended = asyncio.Event()
        self._said: dict[str, Any] = {}
        self._clock = SystemClock()
        self._keypair: KeyPair | None = None
        self._anchors: TrustAnchors | None = None
        self._agreements: RemoteAgreements | None = None
        self._ledger: RemoteLedger | None = None
        self._check: TokenCheck | None = None
        self._gateways: dict[str, Gateway] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._faulty = False

    async def run(self, link: socket.socket) -> bool:
        """Work until the house lets go; whether all went well."""
        await self._link.connect(link)
        status = asyncio.create_task(self._tell())
        await self._ended.wait()
        status.cancel()
        await asyncio.gather(*(gateway.stop(_LAST_SECONDS) for gateway in self._gateways.values()))
        return not self._faulty

    def drain(self) -> None:
        """Somebody else than the house asks it to end."""
        self._begin(self._leave())

    # --- what the house says ---

    def _on_frame(self, kind: Kind, payload: bytes) -> None:
        handler = self._handlers.get(kind)
        if handler is None:
            raise LinkBroken("only a worker says this")
        handler(self, payload)

    def _configure(self, payload: bytes) -> None:
        self._said = from_json(payload)
        if self._said.get("link") != VERSION:
            raise LinkBroken("the house speaks another version of the link")

    def _identity(self, payload: bytes) -> None:
        told, group = from_json(payload), self._group
        pair, anchors = Pair.parse(told["pair"].encode("ascii"), group.elements), told["anchors"].encode("ascii")
        if self._keypair is not None and self._anchors is not None:
            if anchors != self._anchors.pem:
                self._anchors.renew(anchors)
            self._keypair.renew(pair)
            return
        self._anchors = group.trust(anchors)
        self._keypair = KeyPair(pair, Path(told["certificate_file"]), Path(told["key_file"]))
        said = self._said
        self._agreements = RemoteAgreements(self._link, keypair=self._keypair, clock=self._clock)
        self._ledger = RemoteLedger(
            self._link,
            deadline=said["deadline"],
            waiting_records=said["waiting_records"],
            record_bytes=said["record_bytes"],
        )
        self._check = TokenCheck(
            keypair=self._keypair,
            group_id=group.id,
            inway_address=said["inway"]["address"] if said["inway"] else None,
            clock=self._clock,
            agreement=self._agreements.agreement,
            lifetime=said["token_lifetime"],
            dialect=Dialect.model_validate(said["dialect"]),
            anchors=self._anchors,
        )
        for der, until in told["earlier"]:
            self._check.remember(Certificate.read(base64.b64decode(der), group.elements), until)
        self._agreements.check_with(self._check.verify)

    def _put(self, payload: bytes) -> None:
        if self._agreements is not None:
            self._agreements.put(unpack_agreements(payload))

    def _recorded(self, payload: bytes) -> None:
        if self._ledger is not None:
            self._ledger.results(unpack_runs(payload))

    def _refused(self, payload: bytes) -> None:
        if self._ledger is not None:
            self._ledger.refused(*unpack_refusal(payload))

    def _token(self, payload: bytes) -> None:
        if self._agreements is not None:
            self._agreements.token_came(payload)

    def _lists(self, payload: bytes) -> None:
        del payload
        if self._anchors is not None:
            read_lists(self._anchors)

    def _serve(self, payload: bytes) -> None:
        del payload
        self._begin(self._open())

    def _drain(self, payload: bytes) -> None:
        told = from_json(payload)
        self._begin(self._drain_one(str(told["gateway"]), float(told["seconds"])))

    _handlers: dict[Kind, Callable[[Worker, bytes], None]] = {  # noqa: RUF012
        Kind.CONFIGURE: _configure,
        Kind.IDENTITY: _identity,
        Kind.AGREEMENTS: _put,
        Kind.RECORDED: _recorded,
        Kind.REFUSED: _refused,
        Kind.TOKEN: _token,
        Kind.LISTS: _lists,
        Kind.SERVE: _serve,
        Kind.DRAIN: _drain,
    }

    # --- what follows ---

    @property
    def _group(self) -> Group:
        return Group.model_validate(self._said["group"])

    async def _open(self) -> None:
        """Take connections: the whole state is here."""
        said = self._said
        if self._agreements is None or self._ledger is None or self._keypair is None or self._anchors is None:
            raise LinkBroken("the house lets a worker begin that has no state")
        rooms: dict[str, Any] = {
            "agreements": self._agreements,
            "ledger": self._ledger,
            "references": SubjectReferences.load(Path(said["subject_key"])),
            "keypair": self._keypair,
            "anchors": self._anchors,
            "group": self._group,
            "clock": self._clock,
        }
        if "inway" in self._listeners:
            services = tuple(Service.model_validate(each) for each in said["services"])
            inway = Inway(services=services, settings=InwaySettings.model_validate(said["inway"]), **rooms)
            await inway.start(self._listeners["inway"])
            self._gateways["inway"] = inway
        if "outway" in self._listeners:
            outway = Outway(settings=OutwaySettings.model_validate(said["outway"]), **rooms)
            await outway.start(self._listeners["outway"])
            self._gateways["outway"] = outway
        settle(said["processor"])
        self._link.send(Kind.READY)

    async def _drain_one(self, name: str, seconds: float) -> None:
        gateway = self._gateways.get(name)
        if gateway is not None:
            await gateway.stop(seconds)
        self._link.send(Kind.DRAINED, name.encode())

    async def _leave(self) -> None:
        seconds = float(self._said.get("drain_seconds", _LAST_SECONDS))
        for name in ("outway", "inway"):
            await self._drain_one(name, seconds)
        self._link.close()

    async def _tell(self) -> None:
        while True:
            gateways = self._gateways.values()
            load = {
                "in_flight": sum(gateway.in_flight for gateway in gateways),
                "connections": sum(len(gateway.connections) for gateway in gateways),
                "recorded": self._ledger.recorded if self._ledger is not None else 0,
            }
            self._link.send(Kind.STATUS, to_json(load))
            await asyncio.sleep(_STATUS_SECONDS)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self._faulty = True
        if isinstance(error, Fault):
            _log.error("a worker cannot go on", reason=error.detail, next_step=error.next_step)
        else:
            _log.error("a worker cannot go on", exc_info=error)
        self._link.close()

    def _on_lost(self) -> None:
        """Without the house nothing can be recorded, so nothing is passed; what was recorded may still be answered."""
        if self._ledger is not None:
            self._ledger.close()
        if self._agreements is not None:
            self._agreements.close()
        self._ended.set()


def main() -> None:
    """Run a worker."""
    parser = argparse.ArgumentParser(prog="stelsel worker", description="Started by a node, for itself.")
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--inway", type=int)
    parser.add_argument("--outway", type=int)
    parser.add_argument("--log-json", action="store_true")
    parser.add_argument("--log-level", default="info")
    chosen = parser.parse_args()
    configure(as_json=chosen.log_json, level=chosen.log_level)
    listeners = {
        name: socket.socket(fileno=descriptor)
        for name, descriptor in (("inway", chosen.inway), ("outway", chosen.outway))
        if descriptor is not None
    }
    sys.exit(0 if uvloop.run(_run(socket.socket(fileno=chosen.link), listeners)) else 1)


async def _run(link: socket.socket, listeners: dict[str, socket.socket]) -> bool:
    loop = asyncio.get_running_loop()
    worker = Worker(listeners)
    # Ctrl-C reaches a whole group of processes; the house says when its workers are to end.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, worker.drain)
    return await worker.run(link)


if __name__ == "__main__":
    main()
