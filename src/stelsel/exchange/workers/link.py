"""The link between the house and one worker: length-prefixed frames over a pair of unix sockets.

The core is pure: `FrameReader` takes bytes and gives frames, whatever way the bytes were split. `Link` is the shell.
A frame is 4 bytes of length (big-endian, of what follows), one byte that says its kind, and its payload.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections.abc import Callable
from typing import cast

VERSION = 2
"""Of the link. House and worker must speak the same: after an upgrade the whole node is restarted."""
MAXIMUM_FRAME = 8 * 1024 * 1024
"""Bytes in a frame, both ways."""

_LENGTH = struct.Struct("!IB")
_MOST_WAITING = 256 * 1024 * 1024
"""Bytes that may wait for the other side to read; more, and it has stopped reading."""


class Kind(enum.IntEnum):
    """What a frame is."""

    # from the house
    CONFIGURE = 1
    IDENTITY = 2
    AGREEMENTS = 3
    SERVE = 4
    RECORDED = 5
    REFUSED = 6
    TOKEN = 7
    LISTS = 8
    DRAIN = 9
    # from a worker
    READY = 16
    RECORDS = 17
    ASK_TOKEN = 18
    FORGET_TOKEN = 19
    STATUS = 20
    DRAINED = 21


class LinkBroken(Exception):
    """What came over the link is not what the other side can have sent."""


Frame = tuple[Kind, bytes]

_KINDS = {kind.value: kind for kind in Kind}


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    if len(payload) >= MAXIMUM_FRAME:
        raise LinkBroken("a frame is larger than the link carries")
    return _LENGTH.pack(len(payload) + 1, kind) + payload


class FrameReader:
    """Bytes in, frames out."""

    def __init__(self) -> None:
        self._unread = b""

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that are whole now. Raises `LinkBroken`; then nothing that follows means anything."""
        unread = self._unread + data if self._unread else data
        frames: list[Frame] = []
        at, size = 0, len(unread)
        while size - at >= _LENGTH.size:
            length, number = _LENGTH.unpack_from(unread, at)
            kind = _KINDS.get(number)
            if not 1 <= length <= MAXIMUM_FRAME or kind is None:
                raise LinkBroken("a frame of the link is too large, or of no kind that there is")
            end = at + 4 + length
            if end > size:
                break
            frames.append((kind, unread[at + _LENGTH.size : end]))
            at = end
        self._unread = unread[at:] if at else unread
        return frames


class Link(asyncio.Protocol):
    """One end of a link. Frames that are sent in one turn of the loop leave in one write."""

    def __init__(self, on_frame: Callable[[Kind, bytes], None], on_lost: Callable[[], None]) -> None:
        """`on_frame` may raise `LinkBroken`: then the link ends. `on_lost` is called once, when it has ended."""
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.open = True

    async def connect(self, ours: socket.socket) -> None:
        """Begin, over our end of the pair."""
        ours.setblocking(False)
        await self._loop.create_unix_connection(lambda: self, sock=ours)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a frame; when the link has ended, nothing happens."""
        if not self.open:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame(kind, payload))

    def _flush(self) -> None:
        out, self._out = self._out, []
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(b"".join(out))
        if transport.get_write_buffer_size() > _MOST_WAITING:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for kind, payload in self._reader.receive(data):
                if self.open:
                    self._on_frame(kind, payload)
        except LinkBroken:
            self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._lost()

    def close(self) -> None:
        """End the link; what was sent still arrives."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._lost()

    def _lost(self) -> None:
        if self.open:
            self.open = False
            self._on_lost()
