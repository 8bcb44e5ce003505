"""A carrier: one connection with many lanes on it, between an outway and an inway that both know them.

Between two gateways many exchanges are under way at once. Were each to have a TLS connection of its own, each message
would cost a TLS record and the system calls around it; over lanes, all that is sent in one turn of the event loop goes
together. A lane carries HTTP/1.1, byte for byte what a connection of its own would carry, and behaves as one: it has
its own back-pressure, and ends by itself. So nothing above knows of lanes, and nothing is allowed over them that would
not be allowed without.

Both sides agree on lanes in the TLS handshake, by the name `PROTOCOL` (ALPN, RFC 7301); with a peer that does not know
that name, HTTP/1.1 runs over the connection itself, as everywhere. The bytes are frames:

    kind     u8    DATA, END, RESET, GRANT or LAST
    lane     u32   big-endian; each new lane has a higher number than all before it
    length   u16   big-endian, bytes of payload that follow

The side that connected opens a lane by sending on it; a frame without bytes, if it has nothing to send yet. On each
lane a side may have `lane.WINDOW` bytes under way that the other did not grant (`GRANT`, u32) again after taking them:
one that reads slowly holds up its own lane alone. A side that sends what it may not loses the connection.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, cast

from stelsel.base.log import logger
from stelsel.exchange.lane import Lane

_log = logger("exchange")

PROTOCOL = "stelsel-lanes/1"
"""What this is called in a TLS handshake."""
PROTOCOLS = (PROTOCOL, "http/1.1")
"""What is spoken between gateways, the best first."""

DATA: Final = 0
"""Bytes of the lane."""
END: Final = 1
"""The sender closed the lane: all it had was sent, and it takes nothing any more."""
RESET: Final = 2
"""The sender broke the lane off."""
GRANT: Final = 3
"""So many bytes more may be sent on this lane (u32)."""
LAST: Final = 4
"""Of lane 0: open no more lanes here, for this side is stopping. Those that are open go on."""

_HEADER = struct.Struct("!BIH")
_HEADER_SIZE: Final = 7
_COUNT = struct.Struct("!I")
_LARGEST: Final = 32 * 1024
"""Bytes of payload in a frame that we send."""
_TOGETHER: Final = 8 * 1024
"""Bytes that are sent at once: enough to share what sending costs, and few enough that the other side, which shares
the processors at times, need not wait for all of what we do in a turn."""
_HIGH_WATER: Final = 256 * 1024
_MOST_ENDED: Final = 1000
"""Lanes that the other side may end, or open in vain, before it has to make a new connection, which costs it a
handshake. Else it could begin requests without end, at no cost, and take the answer of none."""
_LINGER: Final = 10.0
"""Seconds in which the other side may still take what was sent, when nobody here waits for anything any more."""
_LAST_LANE: Final = (1 << 32) - 1


class Carrier(asyncio.Protocol):
    """A connection with lanes on it; its transport is the `TlsConnection` that agreed to them."""

    def __init__(self, on_lane: Callable[[], asyncio.Protocol] | None, on_lost: Callable[[Carrier], None]) -> None:
        """`on_lane` makes the protocol on a lane that the other side opens; None: it may open none."""
        self._on_lane = on_lane
        self._on_lost = on_lost
        self._lanes: dict[int, Lane] = {}
        self._highest = 0
        """The highest number of a lane so far."""
        self._ended = 0
        """Lanes that the other side ended, or opened in vain."""
        self._out: list[bytes] = []
        self._unsent = 0
        """Bytes of payload in it."""
        self._rest = b""
        """Part of a frame's header, or of a payload that is needed whole."""
        self._left = 0
        """Bytes of the present DATA frame that have not come yet."""
        self._lane = 0
        """Whose they are."""
        self._transport: asyncio.Transport | None = None
        self.loop = asyncio.get_running_loop()
        self.writable = True
        self.closing = False
        self.full = False
        """Whether no more lanes may be opened here."""
        self.heard = 0
        """How often something came."""
        self.unused_since = self.loop.time()
        """Since when there is no lane on it; of no meaning while there is one."""

    @property
    def size(self) -> int:
        """Lanes on it now."""
        return len(self._lanes)

    def open(self, protocol: asyncio.Protocol) -> Lane:
        """A new lane, on the side that connected; the protocol hears of it at once."""
        self._highest += 1
        lane = self._lanes[self._highest] = Lane(self, self._highest, protocol)
        if self._highest == _LAST_LANE:
            self.full = True
        # In the order of their numbers, and before anything else of it, whenever it is used and if it ever is.
        self._frame(DATA, self._highest, b"")
        protocol.connection_made(cast("asyncio.Transport", lane))
        return lane

    def no_more(self) -> None:
        """Ask the other side to open no more lanes here."""
        if not self.full:
            self.full = True
            self._frame(LAST, 0, b"")

    def broken_off(self, heard: int) -> None:
        """We broke a lane off, whose last bytes went out when `heard` was so much.

        Nothing came for as long as someone waited, so what is asked next goes over another connection.
        """
        if self._on_lane is None and heard == self.heard:
            self.full = True

    def close(self) -> None:
        """End it, after what was sent."""
        self._flush()
        self.closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Break it off, with all lanes on it."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    # --- from its lanes, to the connection under it ---

    def send(self, number: int, data: bytes) -> None:
        """Send bytes of a lane, in this turn of the loop."""
        if len(data) <= _LARGEST:
            self._frame(DATA, number, data)
            return
        if self.closing:
            return
        for at in range(0, len(data), _LARGEST):
            self._add(DATA, number, data[at : at + _LARGEST])
        self._flush()  # all of it as one

    def end(self, number: int) -> None:
        """Say that we closed the lane."""
        self._frame(END, number, b"")

    def reset(self, number: int) -> None:
        """Say that we broke the lane off."""
        self._frame(RESET, number, b"")

    def grant(self, number: int, count: int) -> None:
        """Say that we take so many bytes more on the lane."""
        self._frame(GRANT, number, _COUNT.pack(count))

    def _frame(self, kind: int, number: int, payload: bytes) -> None:
        """Send a frame, in this turn of the loop."""
        if self.closing:
            return
        if not self._out:
            self.loop.call_soon(self._flush)
        self._add(kind, number, payload)
        if self._unsent >= _TOGETHER:
            self._flush()

    def _add(self, kind: int, number: int, payload: bytes) -> None:
        out = self._out
        out.append(_HEADER.pack(kind, number, len(payload)))
        out.append(payload)
        self._unsent += len(payload)

    def forget(self, lane: Lane) -> None:
        """The lane is over."""
        self._lanes.pop(lane.number, None)
        if self._lanes:
            return
        self.unused_since = self.loop.time()
        if self._on_lane is None and not self.closing:
            self.loop.call_soon(self._close_unused)

    def _close_unused(self) -> None:
        if not self._lanes and not self.closing:
            self.close()
            self.loop.call_later(_LINGER, self.abort)

    def _flush(self) -> None:
        out = self._out
        if out and self._transport is not None and not self.closing:
            self._out = []
            self._unsent = 0
            self._transport.write(b"".join(out))

    # --- from the connection under it ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self.heard += 1
        at, size = 0, len(data)
        if self._rest:
            data = self._rest + data
            size = len(data)
            self._rest = b""
        while at < size and not self.closing:
            left = self._left
            if left:
                content = data[at : at + left]
                at += len(content)
                self._left = left - len(content)
                self._take_data(content)
                continue
            if size - at < _HEADER_SIZE:
                break
            kind, number, length = _HEADER.unpack_from(data, at)
            if kind == DATA:
                at += _HEADER_SIZE
                self._left, self._lane = length, number
                if not 0 < number <= self._highest:
                    self._open_theirs(number)
                continue
            end = at + _HEADER_SIZE + length
            if length > _COUNT.size:
                self.abort()
                return
            if end > size:
                break
            self._take_frame(kind, number, data[at + _HEADER_SIZE : end])
            at = end
        self._rest = data[at:]

    def _take_data(self, content: bytes) -> None:
        lane = self._lanes.get(self._lane)
        if lane is None:
            return  # what comes for a lane that is over concerns nobody
        try:
            if not lane.received(content):
                self.abort()
        except Exception as error:  # noqa: BLE001  a mistake of ours must not end the other lanes
            _log.error("mistake", exc_info=error)
            lane.abort()

    def _take_frame(self, kind: int, number: int, payload: bytes) -> None:
        lane = self._lanes.get(number)
        if kind == LAST and number == 0 and not payload and self._on_lane is None:
            self.full = True
        elif not 0 < number <= self._highest:
            self.abort()
        elif kind == GRANT and len(payload) == _COUNT.size:
            if lane is not None and not lane.granted(_COUNT.unpack(payload)[0]):
                self.abort()
        elif kind == END and not payload:
            if lane is not None:
                self._count_ended()
                lane.ended()
        elif kind == RESET and not payload:
            self._count_ended()
            if lane is not None:
                lane.lost(ConnectionResetError("the other side broke the lane off"))
        else:
            self.abort()

    def _open_theirs(self, number: int) -> None:
        make = self._on_lane
        if make is None or number == 0:
            self.abort()  # only the side that connected opens lanes, and 0 is none
            return
        self._highest = number
        if self._ended > _MOST_ENDED:
            self._frame(RESET, number, b"")
            self._count_ended()
            return
        protocol = make()
        lane = self._lanes[number] = Lane(self, number, protocol)
        protocol.connection_made(cast("asyncio.Transport", lane))
        if lane.is_closing():
            self._count_ended()  # it was refused

    def _count_ended(self) -> None:
        if self._on_lane is None:
            return
        self._ended += 1
        if self._ended > 2 * _MOST_ENDED:
            self.abort()
        elif self._ended > _MOST_ENDED:
            self.no_more()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        lanes = list(self._lanes.values())
        if lanes:  # not always the same one first
            start = self.heard % len(lanes)
            for lane in lanes[start:] + lanes[:start]:
                if not self.writable:
                    break
                lane.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self.closing = True
        lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            lane.lost(error if error is not None else ConnectionResetError("the connection under the lane ended"))
        self._on_lost(self)
