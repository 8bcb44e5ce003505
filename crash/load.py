"""The load: clients that remember what they were answered, and whoever keeps every checkpoint that was ever signed.

A client gives every request a transaction id of its own (FSC Logging 3.4.1.1 lets it), and asks again as soon as it
is answered. Only an answer that is whole, has status 200 and repeats the id counts as answered.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from dataclasses import dataclass, field
from typing import cast

from stelsel.base.certificates import TrustAnchors
from stelsel.exchange.identifiers import new_transaction_id
from stelsel.ledger.checkpoint import verify_checkpoint
from stelsel.ledger.faults import ProofInvalid

CLIENTS = 32
PATIENCE = 20.0
"""Seconds after which a client gives a silent connection up."""
_PAUSE = 0.01
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_KINDS = ("things", "people", "look")
_WEIGHTS = (6, 3, 1)


@dataclass
class Load:
    """What clients asked of an outway on `port`, and what they were answered."""

    port: int
    chance: random.Random
    answered: dict[bytes, bool] = field(default_factory=dict)
    """Transaction id to whether sending it twice would have been wrong: not so for a GET (RFC 9110, section 9.2.2)."""
    refused: int = 0
    """Other answers than 200, and broken connections."""
    silent: int = 0
    """Requests on which nothing came for `PATIENCE` seconds."""
    wrong: list[str] = field(default_factory=list)
    """Transactions that got the answer to another one."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._tasks = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]

    async def stop(self) -> None:
        """Cut all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                transport, connection = await loop.create_connection(_Connection, "127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(_PAUSE)
                continue
            try:
                while await self._ask(connection):
                    pass
            finally:
                transport.abort()
            self.refused += 1
            await asyncio.sleep(_PAUSE * self.chance.uniform(0.5, 2))

    async def _ask(self, connection: _Connection) -> bool:
        """One request; whether it was answered as it should."""
        transaction = new_transaction_id().encode()
        kind = self.chance.choices(_KINDS, _WEIGHTS)[0]
        begun = time.monotonic()
        status, body = await connection.ask(_request(kind, transaction, self.chance))
        if status != b"200":
            if time.monotonic() - begun > PATIENCE:
                self.silent += 1
            return False
        if body != b'{"naam":"%b"}' % transaction:
            self.wrong.append(transaction.decode())
            return False
        self.answered[transaction] = kind != "look"
        return True


def _request(kind: str, transaction: bytes, chance: random.Random) -> bytes:
    if kind == "look":
        return b"GET /things/a HTTP/1.1\r\nHost: localhost\r\nFsc-Transaction-Id: %b\r\n\r\n" % transaction
    if kind == "things":
        target, body = b"/things/a", b'{"what":"%b"}' % (b"x" * chance.randrange(600))
    else:
        number = chance.choice(RESIDENTS)
        target, body = b"/people/a", b'{"fields":["naam"],"burgerservicenummer":"%b"}' % number
    head = (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nFsc-Transaction-Id: %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n"
    )
    return head % (target, transaction, len(body)) + body


def _residents(count: int) -> tuple[bytes, ...]:
    """Test numbers of residents: 9 digits that begin with 9999, valid by the check of eleven."""
    found: list[bytes] = []
    for number in range(999_900_000, 999_999_999):
        digits = [int(digit) for digit in str(number)]
        weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
        if sum(digit * weight for digit, weight in zip(digits, weights, strict=True)) % 11 == 0:
            found.append(str(number).encode())
            if len(found) == count:
                break
    return tuple(found)


RESIDENTS = _residents(50)


class _Connection(asyncio.Protocol):
    """A keep-alive connection with one request at a time. An answer without a length counts as none."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._buffer = b""
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own has another base

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Status and body; an empty status when the connection ended, or nothing came in time."""
        if self._closed:
            return b"", b""
        loop = asyncio.get_running_loop()
        self._answer, self._buffer = loop.create_future(), b""
        late = loop.call_later(PATIENCE, self._transport.abort)
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            late.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        found = _LENGTH.search(self._buffer, 0, end + 2)
        if found is None:
            self._transport.abort()
        elif len(self._buffer) == end + 4 + int(found[1]):
            self._answer.set_result((self._buffer[9:12], self._buffer[end + 4 :]))

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((b"", b""))


@dataclass
class Watcher:
    """Fetches the signed checkpoints of one ledger, all the time, and keeps every one."""

    port: int
    anchors: TrustAnchors
    chance: random.Random
    checkpoints: dict[int, bytes] = field(default_factory=dict)
    """Size to root."""
    fetched: int = 0
    faults: list[str] = field(default_factory=list)
    """What a ledger signed that cannot both be true, and checkpoints that do not verify."""
    _latest: int = 0

    async def watch(self) -> None:
        """For ever."""
        while True:
            await self.look()
            await asyncio.sleep(self.chance.uniform(0.05, 0.4))

    async def look(self) -> bool:
        """Fetch one; whether the node answered."""
        try:
            async with asyncio.timeout(PATIENCE):  # not `wait_for`: of Python 3.11 it may swallow being cancelled
                document = json.loads(await _get(self.port, "/stelsel/v1/ledger/checkpoint"))
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            return False
        if "checkpoint" not in document:
            return False
        self.fetched += 1
        try:
            # Checked now, and against all before in `check`: what was signed must be true for ever.
            seen = verify_checkpoint(document["checkpoint"], document["endorsement"], self.anchors, time.time())
        except ProofInvalid as fault:
            self.faults.append(f"a checkpoint does not verify: {fault.detail}")
            return True
        if self.checkpoints.setdefault(seen.size, seen.root) != seen.root:
            self.faults.append(f"two roots were signed for the size {seen.size}")
        if seen.size < self._latest:
            self.faults.append(f"a checkpoint of {self._latest} records was followed by one of {seen.size}")
        self._latest = max(self._latest, seen.size)
        return True


async def _get(port: int, target: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None or not head.startswith(b"HTTP/1.1 200 "):
            return b"{}"
        return await reader.readexactly(int(length[1]))
    finally:
        writer.close()
