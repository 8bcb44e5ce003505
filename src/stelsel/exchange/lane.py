"""One lane: what the protocol on it takes for a connection of its own (see `carrier`).

It carries bytes both ways, has its own back-pressure and ends by itself. Of how that goes over the connection under it
a lane knows nothing: it tells its carrier what to send, and hears from it what came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from stelsel.base.log import logger

if TYPE_CHECKING:
    from stelsel.exchange.carrier import Carrier

_log = logger("exchange")

WINDOW: Final = 256 * 1024
"""Bytes that may be under way on a lane."""
_HIGH_WATER: Final = 256 * 1024
"""Bytes that wait to be sent, after which the protocol is told to stop, unless it says another number."""
_PIECE: Final = 32 * 1024
"""Bytes of what was held that the protocol is given at once."""


class Lane:
    """One lane: to the protocol on it, the transport of a connection."""

    def __init__(self, carrier: Carrier, number: int, protocol: asyncio.Protocol) -> None:
        self._carrier = carrier
        self.number = number
        self._protocol = protocol
        self._may_send = WINDOW
        self._may_receive = WINDOW
        self._taken = 0
        """Bytes received that the other side was not granted again yet."""
        self._queue: deque[bytes] = deque()
        self._sent = 0
        """Bytes of the first in the queue that were sent."""
        self._queued = 0
        self._high = _HIGH_WATER
        self._full = False
        """Whether the protocol was told to stop writing."""
        self._held = bytearray()
        """Bytes received while reading was paused."""
        self._reading = True
        self._ended = False
        """Whether the other side closed it; what it sent before that may still be held."""
        self._closing = False
        self._lost = False
        self._heard = 0
        """What `Carrier.heard` was when something was last sent."""

    # --- to the protocol on it ---

    def write(self, data: bytes) -> None:
        """Send it, as soon as that may be."""
        if self._closing:
            return
        carrier = self._carrier
        self._heard = carrier.heard
        size = len(data)
        if not self._queue and size <= self._may_send and carrier.writable:
            self._may_send -= size
            carrier.send(self.number, data)
            return
        self._queue.append(data)
        self._queued += size
        self._send_queued()
        if self._queued > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """End it, when all was sent."""
        if not self._closing:
            self._closing = True
            if self._ended:
                self._lose(None)  # nobody takes what is left
            else:
                self._end_when_sent()

    def abort(self) -> None:
        """Break it off at once."""
        if self._lost:
            return
        self._closing = True
        carrier = self._carrier
        carrier.reset(self.number)
        carrier.broken_off(self._heard)
        self._lose(None)

    def is_closing(self) -> bool:
        """Whether it ends by itself. One that the other side closed while reading was paused waits to be read on."""
        return self._closing or (self._carrier.closing and not self._ended)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        """Go on, first with what came before; never from within, so that nobody is called while calling."""
        if not self._reading:
            self._reading = True
            if self._held or self._ended:
                self._carrier.loop.call_soon(self._release)

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del low
        if high is not None:
            self._high = high

    def get_write_buffer_size(self) -> int:
        return self._queued

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the connection under it knows."""
        return self._carrier.get_extra_info(name, default)

    # --- from the carrier ---

    def received(self, data: bytes) -> bool:
        """Bytes came; False when the other side may not have sent so many."""
        size = len(data)
        self._may_receive -= size
        if self._may_receive < 0:
            return False
        if self._lost or self._closing:
            return True
        if self._reading and not self._held:
            self._taken += size
            self._protocol.data_received(data)
            if self._taken >= WINDOW // 2:
                self._grant()
        else:
            self._held += data
        return True

    def granted(self, count: int) -> bool:
        """The other side takes so many bytes more; False when that is more than it can have taken."""
        self._may_send += count
        if self._may_send > WINDOW:
            return False
        if self._queue:
            self._send_queued()
        return True

    def ended(self) -> None:
        """The other side closed it."""
        self._ended = True
        self._may_receive = 0
        if self._closing or (self._reading and not self._held):
            self._lose(None)

    def lost(self, error: Exception | None) -> None:
        """It, or what is under it, broke off."""
        if not self._ended:  # what came whole is still taken
            self._lose(error)

    def go_on(self) -> None:
        """The connection under it takes bytes again."""
        if self._queue:
            self._send_queued()

    # --- inside ---

    def _send_queued(self) -> None:
        carrier, queue = self._carrier, self._queue
        while queue and self._may_send > 0 and carrier.writable:
            data = queue[0]
            if self._sent or len(data) > self._may_send:
                # Never what is left as a whole: who grants byte by byte would have us copy it as often.
                end = self._sent + self._may_send
                whole = end >= len(data)
                data = data[self._sent : end]
                self._sent = end
            else:
                whole = True
            if whole:
                queue.popleft()
                self._sent = 0
            self._may_send -= len(data)
            self._queued -= len(data)
            carrier.send(self.number, data)
        if self._full and self._queued <= self._high // 4:
            self._full = False
            self._protocol.resume_writing()
        self._end_when_sent()

    def _end_when_sent(self) -> None:
        if self._closing and not self._queue and not self._lost:
            self._carrier.end(self.number)
            self._lose(None)

    def _release(self) -> None:
        """Give the protocol what was held, unless it stops again."""
        try:
            while self._held and self._reading and not self._closing:
                data = bytes(self._held[:_PIECE])
                del self._held[:_PIECE]
                self._taken += len(data)
                self._protocol.data_received(data)
        except Exception as error:  # noqa: BLE001  as in `Carrier`
            _log.error("mistake", exc_info=error)
            self.abort()
        if self._taken >= WINDOW // 2:
            self._grant()
        if self._ended and self._reading and not self._held and not self._closing:
            self._lose(None)

    def _grant(self) -> None:
        if self._closing or self._ended:
            return  # nobody sends more
        self._may_receive += self._taken
        self._carrier.grant(self.number, self._taken)
        self._taken = 0

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._closing = True
        self._queue.clear()
        self._queued = 0
        self._held.clear()
        self._carrier.forget(self)
        # Never from within a call of the protocol.
        self._carrier.loop.call_soon(self._protocol.connection_lost, error)
