"""Connections to the party behind a gateway: a service, or another peer's inway. Kept alive, counted, checked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, cast

from stelsel.base.errors import BadGateway, Fault
from stelsel.exchange.faults import GatewayTimeout, UpstreamBroke
from stelsel.exchange.heads import ResponseHead
from stelsel.exchange.wire import END, ResponseReader, WireLimits

_HIGH_WATER = 256 * 1024
FORGOTTEN = 600.0
"""Seconds after which an address that is not used may be forgotten; longer than getting a connection takes."""


class Sink(Protocol):
    """Takes an answer as it comes in."""

    def answer_head(self, head: ResponseHead) -> None: ...

    def answer_data(self, data: bytes) -> None: ...

    def answer_end(self) -> None:
        """The whole answer has come."""

    def answer_over(self) -> None:
        """After `answer_end`, when the connection may be used again: who waits for the answer goes on, at once."""

    def answer_failed(self, fault: Fault) -> None: ...

    def answer_flush(self) -> None:
        """No more comes for now: write what was taken."""

    def upstream_writable(self, writable: bool) -> None:
        """Whether the party behind takes more of the request's body."""


class UpstreamConnection(asyncio.Protocol):
    """One connection; carries one request at a time."""

    def __init__(self, pool: Pool, limits: WireLimits) -> None:
        self._pool = pool
        self._reader = ResponseReader(limits)
        self._sink: Sink | None = None
        self._reusable = False
        self._request_ended = False
        self._reading = True
        self.transport: asyncio.Transport | None = None
        self.uses = 0
        """Requests that it, or the connection under it, was used for."""
        self.idle_since = 0.0
        self.untouched = True
        """Whether no byte of the present answer has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)

    @property
    def alive(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def begin(self, sink: Sink, method: bytes, data: bytes, *, ended: bool) -> None:
        """Send a request: `data` is its head and what there is of its body; `ended` when that is all."""
        self._sink = sink
        self._reader.expect(method)
        self._reusable = False
        self._request_ended = ended
        self.untouched = True
        self.uses += 1
        self._write(data)

    def send(self, data: bytes, *, ended: bool = False) -> None:
        """Send more of the request's body."""
        if ended:
            self._request_ended = True
        if data:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def read(self, wanted: bool) -> None:
        """Go on reading, or stop for a while."""
        if self.transport is None or wanted == self._reading or self.transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def detach(self, sink: Sink) -> None:
        """`sink` waits no longer. If its answer was not complete, the connection is of no use to anyone else.

        If it was, the connection may serve another exchange already, which must not notice.
        """
        if self._sink is sink:
            self._sink = None
            self.abort()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:
            self.abort()  # nobody asked; such a connection can never be trusted again
            return
        self.untouched = False
        self._reader.receive(data)
        try:
            self._take(sink)
        except Fault as fault:
            self._sink = None
            self.abort()
            sink.answer_failed(fault)

    def _take(self, sink: Sink) -> None:
        next_event = self._reader.next_event
        while True:
            event = next_event()
            if event is None:
                break
            if isinstance(event, bytes):
                sink.answer_data(event)
            elif event is END:
                self._finish(sink)
                break
            else:
                self._reusable = event.keep_alive
                sink.answer_head(event)
            if self._sink is None:
                return  # the sink gave up
        sink.answer_flush()

    def _finish(self, sink: Sink) -> None:
        self._sink = None
        sink.answer_end()
        self.read(True)  # what was just written may have filled the client's buffer, which concerns the next one not
        transport = self.transport
        sent = self._request_ended and transport is not None and not transport.get_write_buffer_size()
        if sent and self._reusable and not self._reader.unread and self.alive:
            self._pool.give_back(self)
        elif not sent:
            self.abort()  # what is left of the request nobody may ever read
        elif self.transport is not None:
            self.transport.close()
        sink.answer_over()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.forget(self)
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if error is None and self._reader.closed():
            sink.answer_end()
            sink.answer_over()
            return
        sink.answer_failed(
            UpstreamBroke("the connection ended before the whole answer had come", untouched=self.untouched)
        )

    def pause_writing(self) -> None:
        if self._sink is not None:
            self._sink.upstream_writable(False)

    def resume_writing(self) -> None:
        if self._sink is not None:
            self._sink.upstream_writable(True)


Connect = Callable[["Pool", bool], Awaitable[UpstreamConnection]]
"""Makes a connection for a pool; when the other is true, on nothing that was there before."""


class Pool:
    """The connections to one address."""

    def __init__(self, connect: Connect, *, maximum: int, idle_seconds: float, connect_seconds: float) -> None:
        self._connect = connect
        self._maximum = maximum
        self._idle_seconds = idle_seconds
        self._connect_seconds = connect_seconds
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._connecting = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._used = self._loop.time()

    @property
    def size(self) -> int:
        """Connections open or being made."""
        return len(self._open) + self._connecting

    def unused(self, now: float) -> bool:
        """Whether nobody asked for a connection for long, and there is none."""
        return not self.size and now - self._used > FORGOTTEN

    async def acquire(self, *, fresh: bool = False) -> UpstreamConnection:
        """A connection for one request. Raises `BadGateway` when there is none to be had, `GatewayTimeout` in time."""
        self._used = self._loop.time()
        return await self._loop.create_task(self._wait_in_time(fresh))  # a timeout needs a task

    async def _wait_in_time(self, fresh: bool) -> UpstreamConnection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await self._wait(fresh)
        except TimeoutError:
            raise GatewayTimeout("there was no connection in time to the party behind us") from None

    async def _wait(self, fresh: bool) -> UpstreamConnection:
        while True:
            connection = None if fresh else self.take()
            if connection is not None:
                return connection
            if self.size < self._maximum:
                return await self._make(fresh)
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(future)
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self._wake()  # the turn was ours, let it go on to the next
                else:
                    with suppress(ValueError):
                        self._waiting.remove(future)
                raise

    def take(self) -> UpstreamConnection | None:
        """An unused connection, if there is one."""
        oldest = self._loop.time() - self._idle_seconds
        while self._idle:
            connection = self._idle.pop()
            if connection.alive and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _make(self, fresh: bool) -> UpstreamConnection:
        self._connecting += 1
        try:
            connection = await self._connect(self, fresh)
            if not connection.alive:
                raise UpstreamBroke("the party behind us closed the connection at once")
            self._open.add(connection)
            return connection
        except (OSError, UnicodeError) as error:  # the latter of a name that can be that of no host
            raise BadGateway(
                "no connection could be made to the party behind us",
                next_step="see whether it runs, and whether it can be reached from here: stelsel explain",
            ) from error
        finally:
            self._connecting -= 1
            if self.size < self._maximum:
                self._wake()

    def give_back(self, connection: UpstreamConnection) -> None:
        """The answer is complete and the connection can be used again."""
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._waiting:
            self._wake()

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is gone."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    def tidy(self, now: float) -> None:
        """Close what has been unused for too long; `now` as the loop tells it."""
        oldest = now - self._idle_seconds
        for connection in [connection for connection in self._idle if connection.idle_since <= oldest]:
            self._idle.remove(connection)
            connection.abort()

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            connection.abort()
