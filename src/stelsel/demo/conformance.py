"""Our own node under `stelsel check fsc`: a node in a process of its own, with test certificates, all on loopback."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stelsel.base.errors import ConfigurationFault, Unavailable
from stelsel.control.client import Control
from stelsel.demo.country import temporary_folder
from stelsel.demo.processes import Process, answers
from stelsel.steering.checks.fsc.hooks import ConfiguredHooks, Hooks
from stelsel.steering.checks.fsc.identities import PEERS, make_group
from stelsel.steering.checks.fsc.settings import ApprovalSettings, CheckTarget, TargetSettings, TesterSettings

GROUP_ID = "fsc-check"
_MANAGEMENT, _PLAIN = 8443, 8080  # FSC Core 4.1.1 allows 443 and 8443; only the second needs no privileges
_GROUP = """\
id = "{group_id}"
name = "FSC check"
trust_anchors = "certificates/trust-anchors.pem"
directory_peer_id = "{peer_id}"
directory_address = "{manager}"
ports = []
"""
_NODE = """\
data = "data"
group = "group.toml"

[peer]
certificate = "certificates/target.pem"
key = "certificates/target.key"

[manager]
listen = "{manager_listen}"
address = "{manager}"

[inway]
listen = "{inway_listen}"
address = "{inway}"

[outway]
listen = "{outway_listen}"

[[services]]
name = "fsc-check"
endpoint = "{echo}"

[[services]]
name = "fsc-check-delegated"
endpoint = "{echo}"
"""


class NodeHooks:
    """A Stelsel node that is tested: contracts are accepted over its operator's socket, its journal moved away."""

    asked = True

    def __init__(self, data: Path, *, may_break_log: bool) -> None:
        self._control = Control(data)
        self._segments = data / "ledger" / "segments"
        self._away = data / "ledger" / "segments-moved-away"
        self.can_break_log = may_break_log

    async def approve(self, content_hash: str) -> None:
        await asyncio.to_thread(self._control.post, f"/agreements/{content_hash}/accept")

    async def break_log(self) -> None:
        self._segments.rename(self._away)

    async def mend_log(self) -> None:
        self._away.rename(self._segments)


def hooks_of(target: CheckTarget, data: Path | None) -> Hooks:
    """As the target's file says; `data` is the data folder of the Stelsel node that it names, if it does."""
    return ConfiguredHooks(target) if data is None else _NodeAndCommands(target, data)


class _NodeAndCommands(ConfiguredHooks):
    """Contracts are accepted over the node's socket, the rest is by commands."""

    def __init__(self, target: CheckTarget, data: Path) -> None:
        super().__init__(target)
        self._node = NodeHooks(data, may_break_log=False)

    async def approve(self, content_hash: str) -> None:
        await self._node.approve(content_hash)


@contextmanager
def own_node() -> Iterator[tuple[CheckTarget, Hooks]]:
    """A fresh node in its own process, its target's file, and its hooks, for as long as the context lasts."""
    if sys.platform != "linux":
        raise ConfigurationFault(
            "checking a node of our own needs the many loopback addresses that Linux has",
            next_step="start a node yourself and use: stelsel check fsc --target fsc-target.toml",
        )
    folder = temporary_folder()
    try:
        target = _write(folder, _free_network())
        process = Process("The node that is tested", ["stelsel", "run", str(folder / "node.toml")], folder / "node.log")
        process.start()
        try:
            _await(process, folder / "data")
            yield target, NodeHooks(folder / "data", may_break_log=True)
        finally:
            process.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_network() -> str:
    """The beginning of loopback addresses on which nobody listens; each address has its own ports 443 and 8443."""
    for _ in range(50):
        network = f"127.{random.randint(64, 254)}.{random.randint(1, 254)}"  # noqa: S311 - no secret
        if not any(answers(f"{network}.{host}:{_MANAGEMENT}") for host in (1, 2, 11, 12, 13, 14)):
            return network
    raise ConfigurationFault("no free loopback addresses were found")


def _write(folder: Path, network: str) -> CheckTarget:
    """The group's and the node's file, the certificates, and what the tester must know of them."""
    listens = {"manager": f"{network}.1:{_MANAGEMENT}", "inway": f"{network}.2:{_MANAGEMENT}"}
    make_group(
        folder / "certificates",
        target_hosts=(f"{network}.1", f"{network}.2"),
        tester_hosts=tuple(f"{network}.{host}" for host in (11, 12, 13, 14)),
    )
    peer_id, name = PEERS["target"]
    outway, echo = f"{network}.1:{_PLAIN}", f"http://{network}.15:{_PLAIN}"
    values = {part: f"https://{address}" for part, address in listens.items()}
    values |= {f"{part}_listen": address for part, address in listens.items()}
    (folder / "group.toml").write_text(_GROUP.format(group_id=GROUP_ID, peer_id=peer_id, **values))
    (folder / "node.toml").write_text(_NODE.format(outway_listen=outway, echo=echo, **values))
    return CheckTarget(
        group_id=GROUP_ID,
        trust_anchors=folder / "certificates" / "trust-anchors.pem",
        target=TargetSettings(
            peer_id=peer_id,
            peer_name=name,
            manager=values["manager"],
            inway=values["inway"],
            outway=f"http://{outway}",
            signing="target",
        ),
        tester=TesterSettings(
            certificates=folder / "certificates",
            first=f"https://{network}.11:{_MANAGEMENT}",
            second=f"https://{network}.12:{_MANAGEMENT}",
            third=f"https://{network}.13:{_MANAGEMENT}",
            inway=f"https://{network}.14:{_MANAGEMENT}",
            echo=echo,
        ),
        approval=ApprovalSettings(mode="automatic"),
    )


def _await(process: Process, data: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            Control(data).get("/about")
            return
        except Unavailable:
            if not process.running() or time.monotonic() > deadline:
                raise ConfigurationFault(
                    f"the node that is tested did not start: {process.last_words()}",
                    next_step="see: stelsel run --help",
                ) from None
            time.sleep(0.02)
