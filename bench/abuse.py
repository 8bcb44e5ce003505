"""Ordinary traffic while others misbehave: its p99 must stay within twice what it was. Writes bench/out/abuse.json.

    python bench/abuse.py [--seconds 4] [--rounds 5] [--rate 300]

The full chain; ordinary requests come at a fixed rate (each is timed from the moment it should have been sent, so that
waiting counts). Per kind of abuse, each round measures without it and then with it; the middle ratio counts, because
the machine has other work, and all are reported.

* `half_heads`: a thousand clients that send their head a byte at a time, and come back when they are cut off.
* `idle_connections`: ten thousand connections that say nothing, or as many as this machine allows.
* `slow_bodies`: a hundred bodies of one byte a second, passed on through both gateways.
* `hanging_service`: 64 calls to a service that never answers.
* `half_handshakes`: a thousand connections to the inway that never finish their TLS handshake.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import uvloop

import exchange
from chain import PATH, Chain, chain

_MOST_SLOWER = 2.0
_OTHER_DESCRIPTORS = 500
_ABUSE = {
    "half_heads": 1000,
    "idle_connections": 10_000,
    "slow_bodies": 100,
    "hanging_service": 64,
    "half_handshakes": 1000,
}
_SERVICE = """
  server {{
    listen 127.0.0.1:{service}; client_body_timeout 300; proxy_read_timeout 300;
    location / {{ default_type text/plain; return 200 "{text}"; }}
    location /hanging {{ proxy_pass http://127.0.0.1:{silent}; }}
  }}
"""


# --- ordinary traffic, a process of its own ---


class Ordinary(asyncio.Protocol):
    """One keep-alive connection, which takes the next waiting request when it is answered."""

    def __init__(self, queue: deque[float], free: list[Ordinary], waits: list[float], request: bytes) -> None:
        self._queue, self._free, self._waits, self._request = queue, free, waits, request
        self._buffer = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._free.append(self)

    def ask(self, due: float) -> None:
        self._due = due
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        found = exchange._LENGTH.search(self._buffer, 0, end + 2) if end >= 0 else None
        if end >= 0 and (found is None or not self._buffer.startswith(b"HTTP/1.1 200 ")):
            raise SystemExit(f"an ordinary request failed: {self._buffer[:300]!r}")
        if found is None or len(self._buffer) < end + 4 + int(found[1]):
            return
        self._buffer = b""
        self._waits.append(time.perf_counter() - self._due)
        if self._queue:
            self.ask(self._queue.popleft())
        else:
            self._free.append(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self in self._free:
            self._free.remove(self)


async def ordinary(port: int, rate: float, seconds: float) -> dict[str, float]:
    """Ask at a fixed rate; gives how long answers took, in milliseconds."""
    queue: deque[float] = deque()
    free: list[Ordinary] = []
    waits: list[float] = []
    request = f"GET {PATH} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    for _ in range(32):
        await loop.create_connection(lambda: Ordinary(queue, free, waits, request), "127.0.0.1", port)
    count, began = int(rate * seconds), time.perf_counter()
    for number in range(count):
        due = began + number / rate
        delay = due - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        if free:
            free.pop().ask(due)
        else:
            queue.append(due)
    while len(waits) < count:
        await asyncio.sleep(0.01)
        if time.perf_counter() - began > seconds + 30:
            raise SystemExit(f"{count - len(waits)} ordinary requests were never answered")
    waits.sort()
    return {"p50_ms": waits[count // 2] * 1000, "p99_ms": waits[int(count * 0.99)] * 1000}


# --- those that misbehave, a process of their own ---


async def _half_head(port: int) -> None:
    """Send a head a byte at a time; come back when cut off."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in b"GET /things/a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1000:
                writer.write(bytes([byte]))
                await asyncio.sleep(1)
        except OSError:
            await asyncio.sleep(0.1)


async def _say_nothing(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.read()
    writer.close()


async def _slow_body(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /things/hanging HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await asyncio.sleep(1)


async def _ask_the_silent(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /things/hanging HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.read()
    writer.close()


_WAYS = {
    "half_heads": _half_head,
    "idle_connections": _say_nothing,
    "slow_bodies": _slow_body,
    "hanging_service": _ask_the_silent,
    "half_handshakes": _say_nothing,
}


async def misbehave(kind: str, port: int, count: int) -> None:
    """Go on until stopped; says `ready` when all are in place."""
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(_WAYS[kind](port)))
        if number % 50 == 49:
            await asyncio.sleep(0.01)  # what arrives at once may find the backlog full
    await asyncio.sleep(2)
    print("ready", flush=True)
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.Event().wait()


# --- putting it together ---


def _ordinary(running: Chain, rate: float, seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--ordinary", str(running.ports["outway"]), str(rate), str(seconds)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def measure(seconds: float, rounds: int, rate: float) -> dict[str, Any]:
    """All kinds of abuse, one after another."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    counts = dict(_ABUSE)
    counts["idle_connections"] = min(counts["idle_connections"], hard - _OTHER_DESCRIPTORS)
    with ExitStack() as stack:
        silent = stack.enter_context(_silent())
        running = stack.enter_context(chain(_SERVICE.replace("{silent}", str(silent))))
        _ordinary(running, rate, 2)
        kinds = {kind: _kind(running, kind, counts[kind], seconds, rounds, rate) for kind in _ABUSE}
    result: dict[str, Any] = {
        "passed": all(kind["passed"] for kind in kinds.values()),
        **kinds,
        "requests_per_s": rate,
        "processors": os.cpu_count(),
    }
    if counts["idle_connections"] < _ABUSE["idle_connections"]:
        result["said"] = f"this machine allows {hard} file descriptors a process, so fewer connections were made"
    return result


@contextmanager
def _silent() -> Iterator[int]:
    """The port of a listener whose connections are never read nor answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        yield listener.getsockname()[1]


def _kind(running: Chain, kind: str, count: int, seconds: float, rounds: int, rate: float) -> dict[str, Any]:
    without, during, ratios = [], [], []
    port = running.ports["inway" if kind == "half_handshakes" else "outway"]
    most: dict[str, int] = {}
    for _ in range(rounds):
        without.append(_ordinary(running, rate, seconds)["p99_ms"])
        command = [sys.executable, __file__, "--misbehave", kind, str(port), str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            during.append(_ordinary(running, rate, seconds)["p99_ms"])
            most = {role: running.descriptors(role) for role in running.gateways}
            process.kill()
        ratios.append(during[-1] / without[-1])
        time.sleep(1)
    ratio = statistics.median(ratios)
    print(f"{kind}: {ratio:.2f}", file=sys.stderr, flush=True)
    return {
        "passed": ratio <= _MOST_SLOWER,
        "ratio": round(ratio, 2),
        "ratios": [round(one, 2) for one in ratios],
        "count": count,
        "p99_ms_without": round(statistics.median(without), 2),
        "p99_ms": round(statistics.median(during), 2),
        "descriptors_consumer": most["consumer"],
        "descriptors_provider": most["provider"],
    }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--ordinary", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--misbehave", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ordinary:
        port, rate, seconds = options.ordinary
        print(json.dumps(uvloop.run(ordinary(int(port), float(rate), float(seconds)))))
    elif options.misbehave:
        kind, port, count = options.misbehave
        uvloop.run(misbehave(kind, int(port), int(count)))
    else:
        result = measure(options.seconds, options.rounds, options.rate)
        out = Path(__file__).parent / "out"
        out.mkdir(exist_ok=True)
        (out / "abuse.json").write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
