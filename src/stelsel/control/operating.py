"""Commands that each go to one room of a node; a node offers those of the rooms that it has."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from stelsel.agreements.service import Agreements
from stelsel.base.certificates import KeyPair
from stelsel.base.clock import Clock
from stelsel.control.api import Command, Json
from stelsel.control.upkeep import Upkeep
from stelsel.exchange.explain import AskVersion, explain
from stelsel.exchange.outway import Outway
from stelsel.identity.service import OpenIdProvider
from stelsel.opendata.schema import read_schema
from stelsel.opendata.service import OpenData
from stelsel.opendata.sources import SqliteSource
from stelsel.steering.service import Steering


@dataclass(frozen=True)
class Operating:
    """What these commands reach of a node; None is a room that it does not have."""

    agreements: Agreements
    upkeep: Upkeep
    keypair: KeyPair
    clock: Clock
    outway: Outway | None
    opendata: OpenData | None
    steering: Steering | None
    provider: OpenIdProvider | None
    ask_version: AskVersion
    restart_process: Callable[[], None] | None
    """Restarts the process that the node runs in; None where nothing else would start it again."""
    started: float
    """When the node was built, seconds since the epoch."""

    def commands(self) -> dict[str, Command]:
        """The commands by name, for the operator's socket."""
        commands: dict[str, Command] = {
            "sign-again": self._sign_again,
            "catch-up": self._catch_up,
            "reload": self._reload,
        }
        if self.restart_process is not None:
            commands["restart"] = partial(self._restart, self.restart_process)
        if self.outway is not None:
            commands["explain"] = partial(self._explain, self.outway)
        if self.opendata is not None:
            commands["publish"] = partial(_publish, self.opendata)
        if self.steering is not None:
            commands["check"] = partial(_check, self.steering)
        if self.provider is not None:
            commands["activate"] = partial(_activate, self.provider)
        return commands

    async def _sign_again(self, body: Json) -> Json:
        del body
        return {"signed": await self.agreements.sign_again()}

    async def _catch_up(self, body: Json) -> list[Json]:
        peer_id = body.get("peer_id")
        found = await self.agreements.catch_up(None if peer_id is None else str(peer_id))
        versions = {version.peer_id: version for version in self.agreements.versions()}
        return [
            asdict(each)
            | {"fsc_version": versions[each.peer_id].fsc_version if each.peer_id in versions else None}
            | {"differs": each.peer_id in versions and versions[each.peer_id].differs}
            for each in found
        ]

    async def _reload(self, body: Json) -> Json:
        return await self.upkeep.reload(keep_workers=body.get("keep_workers") is True)

    async def _restart(self, restart_process: Callable[[], None], body: Json) -> Json:
        del body
        restart_process()
        return {"restarting": os.getpid(), "started": self.started}

    async def _explain(self, outway: Outway, body: Json) -> list[Json]:
        steps = await explain(
            outway=outway,
            agreements=self.agreements,
            certificate=self.keypair.certificate,
            clock=self.clock,
            where=str(body.get("service")),
            fields=tuple(str(field) for field in body.get("fields", ())),
            ask_version=self.ask_version,
        )
        return [step.to_json() for step in steps]


async def _publish(opendata: OpenData, body: Json) -> Json:
    schema = read_schema(Path(str(body.get("schema"))))
    source = SqliteSource(Path(str(body.get("source"))), str(body.get("query")))
    # In a process of its own: what counting needs would stay in this one's memory for good.
    release = await asyncio.to_thread(opendata.publish_apart, schema, source)
    return {
        "dataset": release.dataset,
        "release": release.name,
        "reference": release.reference.isoformat(),
        "rows": release.rows,
        "suppressed": release.suppressed,
        "sha256": release.sha256,
        "audit": release.document["audit"],
    }


async def _check(steering: Steering, body: Json) -> list[Json]:
    peer_id = body.get("peer_id")
    findings = await steering.run_checks(None if peer_id is None else str(peer_id))
    return [
        {
            "id": finding.id,
            "obligation": finding.obligation,
            "peer": finding.peer,
            "outcome": finding.outcome.value,
            "reasons": [reason.nl for reason in finding.reasons],
            "evidence_hash": finding.evidence_hash,
        }
        for finding in findings
    ]


async def _activate(provider: OpenIdProvider, body: Json) -> Json:
    code = await provider.enrol_resident(
        name=str(body.get("name", "")),
        burgerservicenummer=str(body.get("burgerservicenummer")),
        level="substantial",
    )
    return {"code": code}
