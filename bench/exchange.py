"""The full chain against bare nginx-to-nginx mutual TLS, in one run. Writes bench/out/exchange.json and prints it.

    python bench/exchange.py [--seconds 4] [--rounds 3] [--connections 64] [--size 1024]

Both chains: client -> gateway -> mutual TLS -> gateway -> service, keep-alive everywhere, one process a gateway, the
same service (nginx answering `size` bytes from memory), the same load generator in a process of its own. Ours checks
token, terms and agreement, and makes a record durable in two ledgers, before anything is forwarded; bare nginx only
forwards. In both chains each gateway stays on a processor of its own (`processors`; nginx's `worker_cpu_affinity`);
client, service and the building of indexes go wherever the system puts them. The chains take turns in short rounds,
because the machine has other work; the best round of each counts.

`cpu_us_per_request` is the processor time of both our gateways together, with their ledgers' index and Merkle tree.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import uvloop

REGISTER, MUNICIPALITY = "00000099000000002000", "00000099000000003000"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


# --- the load generator, a process of its own ---


class Client(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it is answered, or when `ask` is called."""

    def __init__(self, request: bytes, waits: list[float], answered: Callable[[Client], None]) -> None:
        self._request = request
        self._waits = waits
        self._answered = answered
        self._buffer = b""
        self._left = 0
        self._began = 0.0
        self.failed = ""
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own has another base

    def ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            data = self._buffer + data if self._buffer else data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            self._buffer = b""
            found = _LENGTH.search(data, 0, end + 2)
            if found is None or not data.startswith(b"HTTP/1.1 200 "):
                self.failed = data[:400].decode("latin-1")
                self._transport.close()
                return
            self._left = end + 4 + int(found[1]) - len(data)
        if self._left == 0:
            self._waits.append(time.perf_counter() - self._began)
            self._answered(self)

    def close(self) -> None:
        self.over = True
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.failed and not self.over:
            self.failed = f"the connection ended early: {error}"


async def load(port: int, path: str, connections: int, seconds: float, rate: float = 0) -> dict[str, float]:
    """As fast as it goes, or at `rate` requests a second whatever the answers do."""
    loop = asyncio.get_running_loop()
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n".encode()
    waits: list[float] = []
    free: list[Client] = []
    until = time.perf_counter() + seconds

    def again(client: Client) -> None:
        if time.perf_counter() < until:
            client.ask()
        else:
            client.close()

    clients = [
        (
            await loop.create_connection(
                lambda: Client(request, waits, free.append if rate else again), "127.0.0.1", port
            )
        )[1]
        for _ in range(connections)
    ]
    began = time.perf_counter()
    until = began + seconds
    if rate:
        free.extend(clients)
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            if free:
                free.pop().ask()
        await asyncio.sleep(0.5)
        for client in clients:
            client.close()
    else:
        for client in clients:
            client.ask()
        while not all(client.over or client.failed for client in clients):
            await asyncio.sleep(0.02)
    took = min(time.perf_counter() - began, seconds) if rate else time.perf_counter() - began
    failed = [client.failed for client in clients if client.failed]
    if failed:
        raise SystemExit(f"{len(failed)} connections failed, the first: {failed[0]}")
    waits.sort()
    return {
        "requests": len(waits),
        "requests_per_s": len(waits) / took,
        "p50_ms": waits[len(waits) // 2] * 1000,
        "p99_ms": waits[int(len(waits) * 0.99)] * 1000,
    }


async def handshakes(port: int, folder: Path, seconds: float) -> dict[str, float]:
    """New connections with mutual TLS, eight at a time, each closed when its handshake is done."""
    context = ssl.create_default_context(cafile=str(folder / "anchors.pem"))
    context.load_cert_chain(folder / "consumer" / "certificate.pem", folder / "consumer" / "key.pem")
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds

    async def one_after_another() -> int:
        count = 0
        while time.perf_counter() < until:
            transport, _ = await loop.create_connection(
                asyncio.Protocol, "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
            transport.abort()
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(one_after_another() for _ in range(8)))
    return {"connections_per_s": sum(counts) / (time.perf_counter() - began)}


# --- our gateways, each a process of its own ---


def processor(role: str) -> int | None:
    """On which the gateway of this role stays; None where there is but one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return (others[0] if role == "provider" else first) if others else None


async def gateway(role: str, folder: Path, ports: dict[str, int]) -> None:
    from stelsel.agreements.agreement import State
    from stelsel.agreements.api import routes
    from stelsel.agreements.group import Group
    from stelsel.agreements.proposals import ConnectionProposal
    from stelsel.agreements.service import Agreements
    from stelsel.agreements.services import Service
    from stelsel.base.certificates import KeyPair, TrustAnchors
    from stelsel.base.clock import SystemClock
    from stelsel.base.database import Database
    from stelsel.base.log import configure
    from stelsel.base.process import settle
    from stelsel.base.web import application, listen, serving
    from stelsel.exchange.inway import Inway
    from stelsel.exchange.outway import Outway
    from stelsel.exchange.settings import InwaySettings, OutwaySettings
    from stelsel.ledger.service import Ledger
    from stelsel.ledger.settings import LedgerSettings
    from stelsel.privacy.subjects import SubjectReferences

    configure(level="warning")

    provider = role == "provider"
    keypair = KeyPair.load(folder / role / "certificate.pem", folder / role / "key.pem")
    anchors = TrustAnchors.load(folder / "anchors.pem")
    group = Group(
        id="bench",
        name="Bench",
        trust_anchors=folder / "anchors.pem",
        directory_peer_id=REGISTER,
        directory_address=f"https://localhost:{ports['provider']}",
        ports=(),
    )
    clock, inway_address = SystemClock(), f"https://localhost:{ports['inway']}"
    services = (Service(name="things", endpoint=f"http://127.0.0.1:{ports['service']}"),) if provider else ()
    database = Database(folder / role / "node.sqlite")
    database.create()
    agreements = Agreements(
        database=database,
        keypair=keypair,
        anchors=anchors,
        group=group,
        clock=clock,
        manager_address=f"https://localhost:{ports[role]}",
        inway_address=inway_address if provider else None,
        services=services,
    )
    ledger_settings = LedgerSettings(index_apart=True)
    ledger = Ledger(folder=folder / role / "ledger", keypair=keypair, clock=clock, settings=ledger_settings)
    references = SubjectReferences(os.urandom(32))
    await ledger.start()
    await agreements.start()
    common: dict[str, Any] = {
        "agreements": agreements,
        "ledger": ledger,
        "references": references,
        "keypair": keypair,
        "anchors": anchors,
        "group": group,
        "clock": clock,
    }
    door: Inway | Outway
    if provider:
        inway_settings = InwaySettings(
            listen=f"127.0.0.1:{ports['inway']}",
            address=inway_address,
            upstream_idle_seconds=30,
            maximum_connections=12_000,  # for bench/abuse.py
        )
        door = Inway(services=services, settings=inway_settings, **common)
        await door.start(listen(inway_settings.listen))
    else:
        outway_settings = OutwaySettings(
            listen=f"127.0.0.1:{ports['outway']}",
            aliases={"things": f"{REGISTER}/things"},
            maximum_connections=12_000,
        )
        door = Outway(settings=outway_settings, **common)
        await door.start(listen(outway_settings.listen))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    context = keypair.server_context(anchors)
    async with serving(application(routes(agreements)), listen(f"127.0.0.1:{ports[role]}"), context):
        print("ready", flush=True)
        if not provider:
            await agreements.announce()
            await agreements.propose(ConnectionProposal(provider=REGISTER, service="things"))
        while not any(agreement.holds(clock.now()) for agreement in agreements.agreements()):
            for contract in agreements.contracts(state=State.PROPOSED) if provider else ():
                await agreements.accept(contract.content_hash)
            await asyncio.sleep(0.05)
        settle(processor(role))
        print("agreed", flush=True)
        await stopped.wait()
    await door.stop(1)
    await agreements.stop()
    await ledger.stop()
    database.close()


# --- bare nginx ---

_NGINX = """
worker_processes 1; {affinity} daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log crit;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300; client_body_temp_path {folder}/{name}-b;
  proxy_temp_path {folder}/{name}-p; fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u;
  scgi_temp_path {folder}/{name}-s;
  {body}
}}
"""
_SERVICE = """
  server {{
    listen 127.0.0.1:{service}; sendfile on;
    location / {{ default_type text/plain; return 200 "{text}"; }}
    location /files/ {{ alias {folder}/files/; default_type text/plain; }}
  }}
"""
_PROVIDER = """
  upstream service {{ server 127.0.0.1:{service}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{nginx_in} ssl; ssl_certificate {folder}/provider/certificate.pem;
    ssl_certificate_key {folder}/provider/key.pem; ssl_client_certificate {folder}/anchors.pem;
    ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{ proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
"""
_CONSUMER = """
  upstream inway {{ server 127.0.0.1:{nginx_in}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{nginx_out};
    location / {{
      proxy_pass https://inway; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_ssl_certificate {folder}/consumer/certificate.pem; proxy_ssl_certificate_key {folder}/consumer/key.pem;
      proxy_ssl_trusted_certificate {folder}/anchors.pem; proxy_ssl_verify on; proxy_ssl_name localhost;
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
    }}
  }}
"""


def nginx(folder: Path, name: str, body: str, values: dict[str, Any]) -> subprocess.Popen[bytes]:
    stays = None if name == "service" else processor(name)
    affinity = "" if stays is None else f"worker_cpu_affinity {1 << stays:b};"
    text = _NGINX.format(folder=folder, name=name, affinity=affinity, body=body.format(folder=folder, **values))
    (folder / f"{name}.conf").write_text(text)
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return subprocess.Popen([program, "-e", str(folder / f"{name}.log"), "-c", str(folder / f"{name}.conf")])


# --- putting it together ---


def free_ports(names: tuple[str, ...]) -> dict[str, int]:
    with ExitStack() as stack:
        probes = {name: stack.enter_context(socket.socket()) for name in names}
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {name: probe.getsockname()[1] for name, probe in probes.items()}


def processor_seconds(pid: int) -> float:
    """Of this process and all that it started: its ledger's index may be built by a process of its own."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    seconds = sum(map(int, values[11:15])) / os.sysconf("SC_CLK_TCK")
    for task in Path(f"/proc/{pid}/task").iterdir():
        seconds += sum(processor_seconds(int(child)) for child in (task / "children").read_text().split())
    return seconds


def run_load(port: int, path: str, connections: int, seconds: float, rate: float = 0) -> dict[str, float]:
    return _run("--load", port, path, connections, seconds, rate)


def _run(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, *map(str, arguments)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def measure(seconds: float, rounds: int, connections: int, size: int) -> dict[str, Any]:
    from stelsel.demo.authority import Authority

    with tempfile.TemporaryDirectory(prefix="stelsel-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        authority = Authority()
        (folder / "anchors.pem").write_bytes(authority.root_pem)
        authority.issue(folder / "provider", REGISTER, "Bevolkingsregister")
        authority.issue(folder / "consumer", MUNICIPALITY, "Gemeente")
        ports = free_ports(("provider", "consumer", "inway", "outway", "service", "nginx_in", "nginx_out"))
        values = {**ports, "text": "x" * size}
        (folder / "files").mkdir()
        for title, length in (("100KB", 100_000), ("10MB", 10_000_000)):
            (folder / "files" / title).write_bytes(b"x" * length)
        gateways: list[subprocess.Popen[bytes]] = []

        def start(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            return process

        for title, body in (("service", _SERVICE), ("provider", _PROVIDER), ("consumer", _CONSUMER)):
            start(nginx(folder, title, body, values))
        for role in ("provider", "consumer"):
            command = [sys.executable, __file__, "--gateway", role, name, json.dumps(ports)]
            gateways.append(start(subprocess.Popen(command, stdout=subprocess.PIPE)))
            assert gateways[-1].stdout is not None
            assert gateways[-1].stdout.readline() == b"ready\n", "a gateway did not start"
        for process in gateways:
            assert process.stdout is not None
            assert process.stdout.readline() == b"agreed\n", "the agreement did not come about"
        through = {"ours": (ports["outway"], "/things"), "bare": (ports["nginx_out"], "")}

        def turns(path: str, connections: int) -> dict[str, list[dict[str, float]]]:
            """The two take turns; with our processor time."""
            found: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
            for port, prefix in through.values():
                run_load(port, prefix + path, connections, 0.5)
            for _ in range(rounds):
                for name, (port, prefix) in through.items():
                    before = sum(processor_seconds(process.pid) for process in gateways)
                    result = run_load(port, prefix + path, connections, seconds)
                    used = sum(processor_seconds(process.pid) for process in gateways) - before
                    found[name].append(result | {"cpu_us_per_request": used / result["requests"] * 1e6})
            return found

        small = turns("/a", connections)
        bodies = {name: turns(f"/files/{name}", count) for name, count in (("100KB", 64), ("10MB", 8))}
        paced = {name: run_load(port, prefix + "/a", 64, seconds, 500) for name, (port, prefix) in through.items()}
        paced["service"] = run_load(ports["service"], "/a", 64, seconds, 500)
        tls = {name: _run("--handshakes", ports[port], folder, seconds) for name, port in _DOORS.items()}
    best, best_bare = max(small["ours"], key=_rate), max(small["bare"], key=_rate)
    return {
        "ratio_to_bare": round(_rate(best) / _rate(best_bare), 3),
        "requests_per_s": round(_rate(best)),
        "bare_requests_per_s": round(_rate(best_bare)),
        "p50_ms": round(best["p50_ms"], 2),
        "p99_ms": round(best["p99_ms"], 2),
        "bare_p99_ms": round(best_bare["p99_ms"], 2),
        "cpu_us_per_request": round(min(result["cpu_us_per_request"] for result in small["ours"]), 1),
        "bodies": {name: _compared(found) for name, found in bodies.items()},
        "at_500_a_second": {
            "p99_added_ms": round(paced["ours"]["p99_ms"] - paced["service"]["p99_ms"], 2),
            "bare_p99_added_ms": round(paced["bare"]["p99_ms"] - paced["service"]["p99_ms"], 2),
        },
        "new_tls_connections": {
            "ratio_to_bare": round(tls["ours"]["connections_per_s"] / tls["bare"]["connections_per_s"], 3),
            "connections_per_s": round(tls["ours"]["connections_per_s"]),
        },
        "compiled": _compiled(),
        "rounds": [
            [round(_rate(one)), round(_rate(other))] for one, other in zip(small["ours"], small["bare"], strict=True)
        ],
        "connections": connections,
        "answer_bytes": size,
        "processors": os.cpu_count(),
    }


_DOORS = {"ours": "inway", "bare": "nginx_in"}


def _compared(found: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    ours, bare = max(map(_rate, found["ours"])), max(map(_rate, found["bare"]))
    return {"ratio_to_bare": round(ours / bare, 3), "requests_per_s": round(ours, 1)}


def _compiled() -> bool:
    from stelsel.exchange import call

    return not call.__file__.endswith(".py")


def _rate(result: dict[str, float]) -> float:
    return result["requests_per_s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--load", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--handshakes", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--gateway", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        port, path, connections, seconds, rate = options.load
        print(json.dumps(uvloop.run(load(int(port), path, int(connections), float(seconds), float(rate)))))
    elif options.handshakes:
        port, folder, seconds = options.handshakes
        print(json.dumps(uvloop.run(handshakes(int(port), Path(folder), float(seconds)))))
    elif options.gateway:
        role, folder, ports = options.gateway
        uvloop.run(gateway(role, Path(folder), json.loads(ports)))
    else:
        result = measure(options.seconds, options.rounds, options.connections, options.size)
        out = Path(__file__).parent / "out"
        out.mkdir(exist_ok=True)
        (out / "exchange.json").write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
