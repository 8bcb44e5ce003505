"""The server side that inway and outway share: connections of clients, one request at a time on each, limits, drain."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from abc import ABC, abstractmethod
from http import HTTPStatus
from itertools import islice
from typing import Any, cast

from stelsel.agreements.fsc_errors import FscFault
from stelsel.base.errors import Fault
from stelsel.base.ids import new_span_id
from stelsel.base.log import logger
from stelsel.exchange.call import Call
from stelsel.exchange.carrier import PROTOCOL, Carrier
from stelsel.exchange.faults import Busy, OversuppliedAnswer, TooSlow
from stelsel.exchange.headers import lines
from stelsel.exchange.heads import RequestHead
from stelsel.exchange.settings import ExchangeLimits
from stelsel.exchange.tls import TlsConnection
from stelsel.exchange.wire import END, RequestReader, WireLimits, response_head

_log = logger("exchange")

_TICK = 0.1  # seconds between two looks at the time limits
_PARTS = 4  # each look is at one part of the connections, so that ten thousand idle ones hold nobody up
_LINGER = 2.0  # seconds in which a client may still finish sending after an answer that came early
_HIGH_WATER = 256 * 1024
_OLDEST = 64  # connections among which an unused one is looked for, when there are as many as may be
_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def reason_phrase(status: int) -> bytes:
    """The usual words for a status."""
    return _REASONS.get(status, b"")


class ClientConnection(asyncio.Protocol):
    """One connection of a client. Requests are carried in order, one at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.reader = RequestReader(gateway.wire_limits)
        self.transport: asyncio.Transport | None = None
        self.call: Call | None = None
        self.writable = True
        self.paused = False
        self.since = gateway.tick
        """When the present state (unused, or a head half come) began."""
        self.closing = 0.0
        """When closing began; what still comes is dropped."""
        self._unsent = 0
        """Bytes that waited to be sent when closing was last looked at."""
        self.identity: Any = None
        """What `Gateway.admit` found out about the client."""
        self._pumping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        gateway = self.gateway
        if not gateway.has_room() or not gateway.admit(self, self.transport):
            self.transport.abort()
            return
        gateway.connections[self] = None
        self.since = gateway.tick
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        gateway = self.gateway
        if self in gateway.connections:
            del gateway.connections[self]
            gateway.gone(self)
        call = self.call
        if call is not None and not call.answered:
            call.give_up()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        begins = self.call is None and not self.reader.unread
        self.reader.receive(data)
        self.pump()
        if begins and self.reader.begun:
            self.since = self.gateway.tick

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.writable = False
        if self.call is not None:
            self.call.client_writable(False)

    def resume_writing(self) -> None:
        self.writable = True
        if self.call is not None:
            self.call.client_writable(True)

    def pump(self) -> None:
        """Take what was read so far, as far as it can be used now."""
        if self._pumping or self.closing:
            return
        self._pumping = True
        try:
            self._take()
        except Fault as fault:
            self._refuse_bytes(fault)
        finally:
            self._pumping = False

    def _take(self) -> None:
        while not self.closing:
            call = self.call
            if call is None:
                head = self.reader.next_event()
                if not isinstance(head, RequestHead):
                    break
                self._begin(head)
                continue
            if not (call.body_ended or call.upstream_full or not call.wants_body):
                event = self.reader.next_event()
                if event is END:
                    call.body_end()
                elif isinstance(event, bytes):
                    call.body_data(event, self.gateway.tick)
                    continue
            if call.begun:
                break
            call.start(self._run(call))  # what of the body came with the head is known by then
        # Back-pressure: a client that sends faster than we can use is not read from.
        call = self.call
        held = call is not None and (
            call.upstream_full or not call.wants_body or (call.body_ended and self.reader.unread > 0)
        )
        if held != self.paused:
            self.read(not held)

    def _begin(self, head: RequestHead) -> None:
        gateway = self.gateway
        call = self.call = Call(self, head, gateway.tick)
        if gateway.in_flight >= gateway.limits.maximum_in_flight:
            gateway.refuse(call, Busy("too many requests are being carried", next_step="try again in a moment"))
            self.call = None
            self._close(linger=head.length != 0)
            return
        gateway.in_flight += 1

    async def _run(self, call: Call) -> None:
        gateway = self.gateway
        try:
            if call.given_up:
                raise asyncio.CancelledError  # its body could not be read
            await gateway.carry(call)
        except Fault as fault:
            gateway.refuse(call, fault)
        except asyncio.CancelledError:
            if call.failure is None:
                self.abort()  # the client is gone, or the gateway stops
            else:
                gateway.refuse(call, call.failure)
        except Exception as error:  # noqa: BLE001  a mistake of ours must not end the server, nor be told to a client
            incident = new_span_id()
            _log.error("mistake", incident=incident, gateway=gateway.name, exc_info=error)
            gateway.refuse(call, Fault("We made a mistake; the operator can find it by its number.", incident=incident))
        finally:
            gateway.in_flight -= 1
            self._ended(call)

    def _ended(self, call: Call) -> None:
        self.call = None
        self.since = self.gateway.tick
        if not call.answered:
            self.abort()
        elif not call.keep:
            self._close(linger=not call.body_ended)
        else:
            if self.paused:
                self.read(True)
            self.pump()

    def _refuse_bytes(self, fault: Fault) -> None:
        """What came is no HTTP that we accept. Nothing after it can be trusted, so the connection ends."""
        call = self.call
        if call is not None:
            call.fail(fault)
            if not call.begun:
                call.start(self._run(call))
            return
        status, head_lines, body = self.gateway.refusal(fault, "")
        head_lines += b"Content-Length: %d\r\nConnection: close\r\n" % len(body)
        self.write(response_head(status, reason_phrase(status), head_lines) + body)
        self._close(linger=True)

    def _close(self, *, linger: bool = False) -> None:
        """End the connection; `linger` while the client still sends, so that it can read the answer first."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        begins = not self.closing
        if begins:
            self.closing = self.gateway.tick or 1.0
        if linger and begins:
            self.read(True)
            if transport.can_write_eof():
                transport.write_eof()
            return
        transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def read(self, wanted: bool) -> None:
        """Go on reading from the client, or stop for a while."""
        self.paused = not wanted
        if self.transport is None or self.transport.is_closing():
            return
        if wanted:
            self.transport.resume_reading()
            if self.reader.unread:
                self.gateway.loop.call_soon(self.pump)
        else:
            self.transport.pause_reading()

    def check(self, now: float) -> None:
        """Look at the time limits."""
        limits = self.gateway.limits
        if self.closing:
            self._check_closing(now)
        elif self.call is not None:
            self.call.check(now, limits.silence_seconds, limits.total_seconds)
        elif self.reader.begun:
            if now - self.since > limits.head_seconds:
                self._refuse_bytes(TooSlow("the head of the request did not arrive in time"))
        elif now - self.since > limits.idle_seconds:
            self._close()

    def _check_closing(self, now: float) -> None:
        """End what closes: a little after all was sent, or when the client takes no more of it for too long."""
        unsent = 0 if self.transport is None else self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:
            self._unsent = unsent
            self.closing = now
        elif now - self.closing > (self.gateway.limits.silence_seconds if unsent else _LINGER):
            self.abort()

    @property
    def unused(self) -> bool:
        """Whether nothing is being carried, or about to be."""
        return self.call is None and not self.closing and not self.reader.begun

    def drain(self) -> None:
        """Close if it is unused."""
        if self.unused:
            self._close()

    def make_way(self) -> None:
        """End at once, for another."""
        self.closing = self.gateway.tick or 1.0
        self.abort()


class _TurnedAway(asyncio.Protocol):
    """A connection for which there is no room: it gets no handshake either."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


class Gateway(ABC):
    """A listening gateway. Inway and outway say whom they admit and how they carry a call."""

    name = "gateway"

    def __init__(self, limits: ExchangeLimits) -> None:
        self.limits = limits
        self.wire_limits = WireLimits(
            head=limits.maximum_head, headers=limits.maximum_headers, body=limits.maximum_body
        )
        self.connections: dict[ClientConnection, None] = {}
        self._carriers: dict[Carrier, None] = {}
        """Connections with lanes on them; each lane is one of `connections`."""
        self._handshakes: dict[TlsConnection, float] = {}
        """TLS handshakes in progress, and since when."""
        self.in_flight = 0
        self.draining = False
        self.tick = 0.0
        """The loop's time, as of the last look: good enough for limits, and free to read."""
        self.loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None

    @abstractmethod
    def admit(self, connection: ClientConnection, transport: asyncio.Transport) -> bool:
        """Whether a new connection may stay."""

    @abstractmethod
    def gone(self, connection: ClientConnection) -> None:
        """A connection that was admitted has ended."""

    @abstractmethod
    async def carry(self, call: Call) -> None:
        """Carry one request: answer it, or raise a `Fault`."""

    def refusal(self, fault: Fault, transaction_id: str) -> tuple[int, bytes, bytes]:
        """(status, header lines, body) of an answer of our own."""
        headers: dict[str, str] = {}
        if isinstance(fault, FscFault):
            document = fault.body()
            if fault.next_step:
                document["next_step"] = fault.next_step
            headers |= fault.headers()
            headers["Content-Type"] = "application/json"
        else:
            document = fault.problem()
            headers["Content-Type"] = "application/problem+json"
        if isinstance(fault, OversuppliedAnswer):
            headers["Stelsel-Answer"] = f"held-back; reason={fault.extra.get('reason', 'unreadable-answer')}"
        if transaction_id:
            headers["Fsc-Transaction-Id"] = transaction_id
        if fault.status == 405:
            headers["Allow"] = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        elif fault.status == 503:
            headers["Retry-After"] = "1"
        return fault.status, lines(headers), json.dumps(document, ensure_ascii=False).encode()

    def refuse(self, call: Call, fault: Fault) -> None:
        """Answer a call with a fault; when its answer has begun there is only breaking off."""
        if call.answer_begun:
            call.answered = False
            call.connection.abort()
            return
        status, head_lines, body = self.refusal(fault, call.transaction_id)
        call.answer(status, reason_phrase(status), head_lines, body)

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Take connections on a listening socket."""
        self.loop = asyncio.get_running_loop()
        self.tick = self.loop.time()
        self._server = await self.loop.create_server(lambda: self._accept(tls), sock=listener, backlog=1024)
        self._ticker = self.loop.create_task(self._watch())

    def _accept(self, tls: ssl.SSLContext | None) -> asyncio.Protocol:
        if tls is not None and not self.has_room():
            return _TurnedAway()
        if tls is None:
            return ClientConnection(self)
        handshake = TlsConnection(self._inside, tls, on_handshake=self._shook_hands)
        self._handshakes[handshake] = self.tick
        return handshake

    def _end_unused(self, now: float) -> None:
        for connection in list(self.connections):
            connection.drain()
        for handshake in list(self._handshakes):
            handshake.abort()
        for carrier in list(self._carriers):
            if not carrier.size and now - carrier.unused_since >= self.limits.grace_seconds:
                carrier.close()

    def _inside(self, agreed: str | None) -> asyncio.Protocol:
        """What is spoken inside TLS: HTTP/1.1, or lanes with that on each."""
        if agreed != PROTOCOL:
            return ClientConnection(self)
        carrier = Carrier(lambda: ClientConnection(self), self._carrier_ended)
        self._carriers[carrier] = None
        if self.draining:
            carrier.no_more()
        return carrier

    def _carrier_ended(self, carrier: Carrier) -> None:
        self._carriers.pop(carrier, None)

    def _shook_hands(self, handshake: TlsConnection, error: OSError | None) -> None:
        del error  # a client that failed to show who it is, is none
        self._handshakes.pop(handshake, None)

    def has_room(self) -> bool:
        """Whether one more connection may come. When there are as many as may be, an old one that is unused makes way.

        Else whoever holds enough idle connections would keep everybody else out.
        """
        room = self.limits.maximum_connections - len(self.connections) - len(self._handshakes)
        if room > len(self._carriers):
            return True
        without_lanes = [carrier for carrier in self._carriers if not carrier.size and not carrier.closing]
        if room > len(without_lanes):
            return True
        if without_lanes:
            without_lanes[0].abort()
            return True
        unused = next((each for each in islice(self.connections, _OLDEST) if each.unused), None)
        if unused is None:
            return False
        unused.make_way()
        return True

    async def _watch(self) -> None:
        part = 0
        while True:
            await asyncio.sleep(_TICK)
            self.tick = now = self.loop.time()
            part = (part + 1) % _PARTS
            for connection in list(islice(self.connections, part, None, _PARTS)):
                connection.check(now)
            for handshake, since in list(self._handshakes.items()):
                if now - since > self.limits.head_seconds:
                    handshake.abort()
            for carrier in list(islice(self._carriers, part, None, _PARTS)):
                self._check_carrier(carrier, now)
            self.tidy(now)

    def _check_carrier(self, carrier: Carrier, now: float) -> None:
        """End it when it has been without lanes for too long; at once, when it does not end by itself."""
        if not carrier.size and now - carrier.unused_since > self.limits.idle_seconds:
            if carrier.closing:
                carrier.abort()
            else:
                carrier.close()

    @abstractmethod
    def tidy(self, now: float) -> None:
        """Once a tick: whatever else has to be looked after."""

    async def stop(self, drain_seconds: float = 5.0) -> None:
        """Take no more connections, finish what is being carried, at most `drain_seconds`; then break off.

        Unused connections stay for the grace: a request that is on its way is carried, and its answer says that the
        connection ends. The socket that was listened on is closed here; who kept a duplicate of it keeps its backlog.
        """
        if self._server is None:
            return
        self.draining = True
        self._server.close()
        for carrier in self._carriers:
            carrier.no_more()
        now = self.loop.time()
        end, unused_until = now + drain_seconds, now + min(drain_seconds, self.limits.grace_seconds)
        # Who connected ends a connection with lanes when there are none left on it: it has had all answers by then.
        while (self.connections or self._handshakes or self._carriers) and now < end:
            if now >= unused_until:
                self._end_unused(now)
            await asyncio.sleep(0.02)
            now = self.loop.time()
        for connection in list(self.connections):
            connection.abort()
        for handshake in list(self._handshakes):
            handshake.abort()
        for carrier in list(self._carriers):
            carrier.close()
        await asyncio.sleep(0)
        if self._ticker is not None:
            self._ticker.cancel()
        self._server = None
