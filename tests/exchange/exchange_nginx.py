"""A real nginx as the service behind an inway, with a recorder behind it that keeps every request nginx passed on."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from exchange_world import Seen, read_chunked

from stelsel.demo.ports import free_ports

_CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log error;
events {{ worker_connections 512; }}
http {{
  log_format seen escape=none '$request_method\t$request_uri\t$status\t$http_host';
  access_log {folder}/access.log seen;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_max_body_size 0; large_client_header_buffers 8 128k; keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host;
    }}
  }}
  server {{
    listen 127.0.0.1:{port}; server_name other.example;
    location / {{ return 418; }}
  }}
}}
"""


@dataclass
class Nginx:
    """Made before the port of the service behind it is known; `start` says where it listens."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    numbers: list[Seen] = field(default_factory=list)
    """Every request that nginx passed on; its answer told the number."""

    async def start(self, behind: int) -> str:
        """Start before the service at port `behind`; gives the endpoint."""
        self.port = free_ports(1)[0]
        configuration = self.folder / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(folder=self.folder, port=self.port, behind=behind))
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen([program, "-e", str(self.folder / "error.log"), "-c", str(configuration)])
        for _ in range(200):
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return f"http://127.0.0.1:{self.port}"
            await asyncio.sleep(0.02)
        raise AssertionError((self.folder / "error.log").read_text())

    async def record(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        """A handler of the service: keeps the request, and answers with its number."""
        if "transfer-encoding" in seen.headers:
            seen.body = await read_chunked(reader)
        elif "content-length" in seen.headers:
            seen.body = await reader.readexactly(int(seen.headers["content-length"]))
        body = b"" if seen.method == "HEAD" else b"seen"
        writer.write(b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: 4\r\n\r\n%b" % (len(self.numbers), body))
        self.numbers.append(seen)

    def log(self) -> list[list[str]]:
        """What nginx itself saw, whole or not: method, target, status, host."""
        path = self.folder / "access.log"
        return [line.split("\t") for line in path.read_text("latin-1").splitlines()] if path.exists() else []

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    """An nginx that is not started yet; skips the test where there is none."""
    if shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists():
        pytest.skip("nginx is not here: python tools/provide.py nginx")
    service = Nginx(folder)
    try:
        yield service
    finally:
        service.stop()


Front = Callable[[int], Awaitable[str]]


async def quiet(reader: asyncio.StreamReader, seconds: float) -> bytes:
    """What still comes within so much time; nothing, if all is well."""
    try:
        return await asyncio.wait_for(reader.read(65536), seconds)
    except (TimeoutError, ConnectionError):
        return b""


def scenario_options(service: Nginx) -> dict[str, Any]:
    """For `play`: a world with this nginx as the service."""
    return {"front": service.start}
