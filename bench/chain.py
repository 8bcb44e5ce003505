"""The full chain as other measurements use it: a service, two gateways with their ledgers, and looks at them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import exchange

PATH = "/things/a"
SERVICE = 'server {{ listen 127.0.0.1:{service}; location / {{ default_type text/plain; return 200 "{text}"; }} }}'


@dataclass
class Chain:
    """A running chain. `gateways`: the process ids of provider and consumer."""

    folder: Path
    ports: dict[str, int]
    gateways: dict[str, int]

    def resident_kilobytes(self, role: str) -> int:
        """Memory that the gateway has in use."""
        for line in Path(f"/proc/{self.gateways[role]}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise SystemExit(f"the gateway of the {role} is gone")

    def descriptors(self, role: str) -> int:
        """Open file descriptors of the gateway."""
        return len(list(Path(f"/proc/{self.gateways[role]}/fd").iterdir()))

    def processor_seconds(self) -> float:
        """Processor time of both gateways so far."""
        return sum(exchange.processor_seconds(pid) for pid in self.gateways.values())

    def disk_bytes(self) -> int:
        """What both ledgers take on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*/ledger/**/*") if path.is_file())


@contextmanager
def chain(service: str = SERVICE, *, size: int = 1024, more_ports: tuple[str, ...] = ()) -> Iterator[Chain]:
    """Start it, with `service` as the body of the configuration of nginx, and stop it afterwards."""
    from stelsel.demo.authority import Authority

    with tempfile.TemporaryDirectory(prefix="stelsel-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        authority = Authority()
        (folder / "anchors.pem").write_bytes(authority.root_pem)
        authority.issue(folder / "provider", exchange.REGISTER, "Bevolkingsregister")
        authority.issue(folder / "consumer", exchange.MUNICIPALITY, "Gemeente")
        ports = exchange.free_ports(("provider", "consumer", "inway", "outway", "service", *more_ports))

        def start(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            return process

        start(exchange.nginx(folder, "service", service, {**ports, "text": "x" * size}))
        processes = {}
        for role in ("provider", "consumer"):
            command = [sys.executable, exchange.__file__, "--gateway", role, name, json.dumps(ports)]
            processes[role] = start(subprocess.Popen(command, stdout=subprocess.PIPE))
            _expect(processes[role], b"ready\n")
        for process in processes.values():
            _expect(process, b"agreed\n")
        yield Chain(folder, ports, {role: process.pid for role, process in processes.items()})


def _expect(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != line:
        raise SystemExit("a gateway did not start")
