"""What a trial runs: two nodes with a ledger each, and a service that writes down every request that reaches it.

The nodes are whole nodes, from files of the kind that operators write. Their journals have small segments, so that
kills also fall where a new one begins.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop

from crash.nursery import Nursery, role
from stelsel.agreements.terms import LegalBasis, ProcessingActivity, Terms
from stelsel.base.certificates import TrustAnchors
from stelsel.base.errors import Fault
from stelsel.base.log import configure
from stelsel.base.settings import read_toml
from stelsel.base.web import listen
from stelsel.control.client import Control
from stelsel.demo.authority import Authority
from stelsel.demo.patience import Patience
from stelsel.demo.ports import hold_ports, port_of
from stelsel.demo.processes import answers
from stelsel.running import run
from stelsel.settings import NodeSettings

PROVIDER, CONSUMER = "provider", "consumer"
PEERS = {PROVIDER: "00000099000000002000", CONSUMER: "00000099000000003000"}
NODE, SERVICE = "crash.chain:node", "crash.chain:service"
TERMS = Terms(
    purpose="Zien of er niets verloren gaat",
    legal_basis=LegalBasis(article="Algemene verordening gegevensbescherming, artikel 32", ground="c"),
    processing_activity=ProcessingActivity(id="https://proef.example/verwerkingen/proef", name="Proef", version="1"),
    fields=("naam",),
    search_parameters=("burgerservicenummer",),
    retention="P1D",
    confidentiality="confidential",
)

_SEGMENT_BYTES = 2 * 1024 * 1024
_PORTS = ("provider", "consumer", "provider-web", "consumer-web", "inway", "outway", "service")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_TRANSACTION = re.compile(rb"\r\nfsc-transaction-id: *([0-9a-f-]{36})\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Chain:
    """The files and addresses of one trial."""

    folder: Path
    ports: dict[str, int]
    anchors: TrustAnchors
    journals: dict[str, str]
    prepare: str = ""
    """`module:function` that each node calls before it starts: how a test puts in a journal that lies."""
    held: tuple[socket.socket, ...] = ()

    @classmethod
    def make(cls, folder: Path, *, journals: dict[str, str] | None = None, prepare: str = "") -> Chain:
        """Write all files. `journals`: addresses of databases, by node; without one it keeps segments."""
        authority, held = Authority(), hold_ports(len(_PORTS))
        ports = {name: port_of(each) for name, each in zip(_PORTS, held, strict=True)}
        (folder / "anchors.pem").write_bytes(authority.root_pem)
        (folder / "group.toml").write_text(
            f'id = "crash"\nname = "Crash"\ntrust_anchors = "anchors.pem"\ndirectory_peer_id = "{PEERS[PROVIDER]}"\n'
            f'directory_address = "https://localhost:{ports[PROVIDER]}"\nports = []\n'
        )
        for name, peer_id in PEERS.items():
            authority.issue(folder / name, peer_id, name)
        chain = cls(folder, ports, TrustAnchors(authority.root_pem), journals or {}, prepare, tuple(held))
        chain.write_nodes(workers=0)
        return chain

    def close(self) -> None:
        """Give the ports back."""
        for each in self.held:
            each.close()

    def write_nodes(self, workers: int, *, behind: bool = True) -> None:
        """Write the nodes' files: from their next start on they have so many workers.

        `behind`: the kernel may write behind the event loop; else a thread does, which strace(1) can see.
        """
        for name in PEERS:
            text = _node(name, self.ports, self.journals.get(name, ""), workers, behind)
            (self.folder / name / "node.toml").write_text(text)

    def start(self, nursery: Nursery, name: str) -> int:
        """Start one of the processes; its id. It may take a moment until it answers."""
        log = self.log(name)
        if name == "service":
            return nursery.start(name, SERVICE, log, port=self.ports["service"], seen=str(self.seen))
        return nursery.start(name, NODE, log, file=str(self.folder / name / "node.toml"), prepare=self.prepare)

    def agree(self) -> None:
        """Have the agreements made under which the load goes."""
        consumer, provider = self.control(CONSUMER), self.control(PROVIDER)
        for service, properties in (("things", None), ("people", TERMS.to_properties())):
            proposal: dict[str, Any] = {"peer_id": PEERS[PROVIDER], "service": service, "days": 30}
            if properties is not None:
                proposal["properties"] = properties
            content_hash = consumer.post("/agreements", proposal)["content_hash"]
            _until(lambda found=content_hash: provider.get(f"/agreements/{found}"))
            provider.post(f"/agreements/{content_hash}/accept")
            _until(lambda found=content_hash: consumer.get(f"/agreements/{found}")["state"] == "valid")

    def await_node(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Return when a node answers its operator; `meanwhile` is called again and again until then."""

        def there() -> bool:
            meanwhile()
            return answers(socket) and bool(self.control(name).get("/about"))

        # Looked at first: a client that finds no socket there leaves its own end open.
        socket = f"unix:{self.folder / name / 'data' / 'control.sock'}"
        _until(there)

    def control(self, name: str) -> Control:
        """The operator's socket of a node."""
        return Control(self.folder / name / "data")

    def log(self, name: str) -> Path:
        """What the processes of this name said, one after another."""
        return self.folder / f"{name}.log"

    def ledger(self, name: str) -> Path:
        """The folder of a node's ledger."""
        return self.folder / name / "data" / "ledger"

    @property
    def seen(self) -> Path:
        """Where the service writes down the transaction id of every request, before it answers."""
        return self.folder / "seen"


def node(file: str, prepare: str) -> None:
    """The role of a node's process."""
    configure(level="warning")
    if prepare:
        role(prepare)()
    run(read_toml(Path(file), NodeSettings))


def service(port: int, seen: str) -> None:
    """The role of the service's process."""
    uvloop.run(_serve(port, seen))


def more_files() -> None:
    """Allow this process as many open files as it may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _node(name: str, ports: dict[str, int], journal: str, workers: int, behind: bool) -> str:
    ledger = f'journal = "{journal}"'
    if not journal:
        apart = name == PROVIDER  # one node of each kind
        ledger = (
            f"segment_bytes = {_SEGMENT_BYTES}\nio_uring = {str(behind).lower()}\nindex_apart = {str(apart).lower()}"
        )
    lines = [
        f'data = "data"\ngroup = "../group.toml"\nworkers = {workers}',
        '[peer]\ncertificate = "certificate.pem"\nkey = "key.pem"',
        f'[manager]\nlisten = "127.0.0.1:{ports[name]}"\naddress = "https://localhost:{ports[name]}"',
        f'[web]\nlisten = "127.0.0.1:{ports[f"{name}-web"]}"\naddress = "http://localhost:{ports[f"{name}-web"]}"',
        f"[ledger]\n{ledger}",
    ]
    if name == PROVIDER:
        inway, endpoint = ports["inway"], f"http://127.0.0.1:{ports['service']}"
        lines.append(f'[inway]\nlisten = "127.0.0.1:{inway}"\naddress = "https://localhost:{inway}"')
        lines.append(f'[[services]]\nname = "things"\nendpoint = "{endpoint}"')
        lines.append(f'[[services]]\nname = "people"\nendpoint = "{endpoint}"\npersonal = true')
    else:
        lines.append(f'[outway]\nlisten = "127.0.0.1:{ports["outway"]}"')
        lines.append(f'[outway.aliases]\nthings = "{PEERS[PROVIDER]}/things"\npeople = "{PEERS[PROVIDER]}/people"')
    return "\n".join((*lines, ""))


def _until(holds: Any, seconds: float = 60.0) -> None:
    patience = Patience(seconds)
    while True:
        try:
            if holds():
                return
        except Fault:
            pass
        if patience.is_over():
            raise TimeoutError("a node did not get there in time; see its log")
        time.sleep(0.02)


class _Service(asyncio.Protocol):
    """Answers `{"naam":"<transaction id>"}`, after it has written the id down."""

    def __init__(self, seen: int) -> None:
        self._seen = seen
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own has another base

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            found = _TRANSACTION.search(self._buffer, 0, end + 2)
            transaction = found[1] if found else b"-" * 36
            self._buffer = self._buffer[whole:]
            os.write(self._seen, transaction + b"\n")
            self._transport.write(
                b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n{"naam":"%b"}'
                % transaction
            )


async def _serve(port: int, seen: str) -> None:
    file = os.open(seen, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    server = await asyncio.get_running_loop().create_server(lambda: _Service(file), sock=listen(f"127.0.0.1:{port}"))
    await server.serve_forever()
