"""Two nodes as real processes, one with an inway and one with an outway, and a service that says what it saw."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import socketserver
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from exchange_world import MUNICIPALITY, REGISTER

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.control.client import Control
from stelsel.demo.authority import Authority
from stelsel.demo.ports import free_ports
from stelsel.demo.processes import Process
from stelsel.exchange.identifiers import new_transaction_id

_GROUP = """
id = "stelsel.test"
name = "Test"
trust_anchors = "anchors.pem"
revocation_lists = "lists"
directory_peer_id = "{register}"
directory_address = "https://localhost:{manager}"
ports = []
"""
_NODE = """
data = "data"
group = "../group.toml"
workers = {workers}
[peer]
certificate = "certificate.pem"
key = "key.pem"
[manager]
listen = "127.0.0.1:{manager}"
address = "https://localhost:{manager}"
"""
_INWAY = """
[inway]
listen = "127.0.0.1:{inway}"
address = "https://localhost:{inway}"
[[services]]
name = "echo"
endpoint = "http://127.0.0.1:{service}"
"""
_OUTWAY = """
[outway]
listen = "127.0.0.1:{outway}"
connect_seconds = 20
aliases = {{ echo = "{register}/echo" }}
"""


class _Service(socketserver.ThreadingTCPServer):
    """Answers every request; slowly when its path says so."""

    daemon_threads = True
    allow_reuse_address = True
    seen = 0


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while line := self.rfile.readline():
                length = 0
                while (header := self.rfile.readline().strip().lower()) != b"":
                    if header.startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                self.rfile.read(length)
                self.server.seen += 1  # type: ignore[attr-defined]
                if b"/slow" in line:
                    time.sleep(1.0)
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def until(condition: Callable[[], Any], seconds: float = 15) -> float:
    """Wait until it holds; how long that took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + seconds, "it took too long"
        time.sleep(0.01)
    return time.monotonic() - begin


class Pair:
    """A register with an inway and a municipality with an outway."""

    def __init__(self, folder: Path, *, register_workers: int = 0, municipality_workers: int = 0) -> None:
        self.folder = folder
        self.authority = Authority()
        self.lists = folder / "lists"
        self.lists.mkdir()
        self.write_list()
        (folder / "anchors.pem").write_bytes(self.authority.root_pem)
        self.anchors = TrustAnchors(self.authority.root_pem)
        self.service = _Service(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.service.serve_forever, daemon=True).start()
        manager, other, self.inway, self.outway = free_ports(4)
        self.managers = {"register": manager, "municipality": other}
        (folder / "group.toml").write_text(_GROUP.format(register=REGISTER, manager=manager))
        values = {"register": REGISTER, "inway": self.inway, "outway": self.outway}
        values |= {"service": self.service.server_address[1]}
        self.nodes: dict[str, Process] = {}
        for name, peer_id, port, workers, section in (
            ("register", REGISTER, manager, register_workers, _INWAY),
            ("municipality", MUNICIPALITY, other, municipality_workers, _OUTWAY),
        ):
            home = folder / name
            self.authority.issue(home, peer_id, name)
            text = _NODE.format(manager=port, workers=workers) + section.format(**values)
            (home / "node.toml").write_text(text)
            self.nodes[name] = Process(name, ["stelsel", "run", str(home / "node.toml")], home / "node.log")

    def start(self) -> None:
        for node in self.nodes.values():
            node.start()
        for name, node in self.nodes.items():
            node.wait_until(f"unix:{self.folder / name / 'data' / 'control.sock'}")

    def stop(self) -> None:
        for node in self.nodes.values():
            node.ask_to_stop()
        for node in self.nodes.values():
            node.await_end()
        self.service.shutdown()
        self.service.server_close()

    def control(self, name: str) -> Control:
        return Control(self.folder / name / "data")

    def started(self, name: str) -> float | None:
        """When the node that answers now was started; None while there is none. Leaves no socket behind."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(20)
            try:
                control.connect(str(self.folder / name / "data" / "control.sock"))
                control.sendall(b"GET /about HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: control.recv(65536), b""))
                return float(json.loads(answer.partition(b"\r\n\r\n")[2])["process"]["started"])
            except (OSError, ValueError):
                return None

    def restart(self, name: str) -> None:
        """Restart it in place, and wait until it is back."""
        before = self.started(name)
        self.control(name).post("/commands/restart")
        until(lambda: self.started(name) not in {None, before}, 60)

    def write_list(self, *revoked: bytes) -> None:
        (self.lists / "list.new").write_bytes(self.authority.revocation_list(revoked))
        (self.lists / "list.new").rename(self.lists / "list.crl")

    def agree(self) -> str:
        """A contract that is in force at both; its content hash."""
        register, municipality = self.control("register"), self.control("municipality")
        proposed = municipality.post("/agreements", {"peer_id": REGISTER, "service": "echo"})
        content_hash = str(proposed["content_hash"])
        chosen = content_hash.replace("/", "%2F")
        until(lambda: any(each["content_hash"] == content_hash for each in register.get("/agreements")))
        register.post(f"/agreements/{chosen}/accept")
        until(lambda: municipality.get(f"/agreements/{chosen}")["state"] == "valid")
        return content_hash

    def revoke(self, content_hash: str, at: str = "register") -> None:
        self.control(at).post(f"/agreements/{content_hash.replace('/', '%2F')}/revoke")

    def ask(self, path: str = "/echo/x", method: str = "GET") -> int:
        """The status of one request to the outway, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.outway, timeout=20)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def keypair(self, name: str) -> KeyPair:
        return KeyPair.load(self.folder / name / "certificate.pem", self.folder / name / "key.pem")

    def handshake(self, port: int, keypair: KeyPair | None = None) -> ssl.SSLSocket:
        """A TLS connection to a listener of the register."""
        context = (keypair or self.keypair("municipality")).client_context(self.anchors)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5), server_hostname="localhost")

    def shown_at(self, port: int) -> bytes:
        """The certificate that a listener of the register shows."""
        with self.handshake(port) as connection:
            return connection.getpeercert(True) or b""

    def workers(self, name: str) -> list[dict[str, Any]]:
        return list(self.control(name).get("/about")["workers"])


@contextlib.contextmanager
def a_pair(folder: Path, **options: Any) -> Iterator[Pair]:
    pair = Pair(folder, **options)
    try:
        pair.start()
        yield pair
    finally:
        pair.stop()


class Load:
    """Clients that ask all the time over connections that they keep; counts what they are answered, and what not."""

    def __init__(self, port: int, clients: int = 4, path: str = "/echo/x", method: str = "GET") -> None:
        self._port = port
        self._path = path
        self._method = method
        self._going = True
        self.statuses: dict[int, int] = {}
        self.lost: list[str] = []
        self.reconnected = 0
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: self.statuses)
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        for thread in self._threads:
            thread.join(20)

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        body = b"x" * 100 if self._method == "POST" else None
        while self._going:
            try:
                connection.request(self._method, self._path, body=body)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                connection.close()
                continue
            self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
            self.reconnected += connection.sock is None
        connection.close()


class Door:
    """Connections to the inway that are kept open, many enough to be with every worker."""

    def __init__(self, pair: Pair, count: int = 12) -> None:
        self._pair = pair
        self._open = []
        for _ in range(count):
            connection = http.client.HTTPSConnection("localhost", pair.inway, timeout=10)
            connection.sock = pair.handshake(pair.inway)
            connection.auto_open = 0
            self._open.append(connection)
        self.token = ""

    def get_token(self, grant_hash: str) -> None:
        """A token from the register's manager, asked with the municipality's certificate."""
        form = {"grant_type": "client_credentials", "scope": grant_hash, "client_id": MUNICIPALITY}
        connection = http.client.HTTPSConnection("localhost", self._pair.managers["register"], timeout=10)
        connection.sock = self._pair.handshake(self._pair.managers["register"])
        body = urllib.parse.urlencode(form)
        connection.request("POST", "/v1/token", body, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        self.token = json.loads(answer.read())["access_token"]
        connection.close()

    def statuses(self) -> list[int]:
        """What each connection is answered now; 0 where it was closed."""
        return [self._status(connection) for connection in self._open]

    def _status(self, connection: http.client.HTTPSConnection) -> int:
        headers = {"Fsc-Authorization": self.token, "Fsc-Transaction-Id": new_transaction_id()}
        try:
            connection.request("GET", "/x", headers=headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        return answer.status

    def close(self) -> None:
        for connection in self._open:
            connection.close()
