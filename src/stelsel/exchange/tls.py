"""TLS between a plain connection and the protocol that speaks over it, made for many small messages.

The standard library's `ssl` does all of TLS, in memory; this moves bytes between that and the socket: once a message
and direction, and never asks for bytes that it knows are not there. On the path of every request that saves a third of
the processor time of a hop (see docs/decisions/0018-the-path-of-a-request.md).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

_RECORD = 16 * 1024
"""Bytes of content in one TLS record, at most (RFC 8446, section 5.1)."""


class TlsConnection(asyncio.Protocol):
    """One side of one TLS connection: a protocol to the socket, a transport to the protocol inside.

    The protocol inside hears of the connection when the handshake is done; never of one that failed.
    """

    def __init__(
        self,
        inside: Callable[[str | None], asyncio.Protocol],
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        on_handshake: Callable[[TlsConnection, OSError | None], None],
    ) -> None:
        """A server's side without `server_hostname`, else the side of a client, which checks that name.

        `inside` makes the protocol inside when the handshake is done, by the name that was agreed on (ALPN, RFC 7301).
        `on_handshake` hears once that the handshake is over, and with a fault that it failed.
        """
        self._choose = inside
        self._inside: asyncio.Protocol
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._on_handshake: Callable[[TlsConnection, OSError | None], None] | None = on_handshake
        self._transport: asyncio.Transport | None = None
        self._established = False
        self._reading = True
        self._closing = False
        self._said_goodbye = False
        """Whether the other side said that it sends no more: without that, what came may be cut off."""

    # --- to the socket ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._handshake()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if not self._established:
            self._handshake()
        if self._established:
            self._read()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        if self._established:
            if error is None and not self._said_goodbye:
                error = ConnectionResetError("the TLS connection was cut off")
            self._inside.connection_lost(error)
        else:
            self._handshake_over(ConnectionResetError("the connection ended during the TLS handshake"))

    def pause_writing(self) -> None:
        if self._established:
            self._inside.pause_writing()

    def resume_writing(self) -> None:
        if self._established:
            self._inside.resume_writing()

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._handshake_over(error)
            if self._transport is not None:
                self._transport.close()
            return
        self._flush()
        self._inside = self._choose(self._tls.selected_alpn_protocol())
        self._established = True
        self._handshake_over(None)
        self._inside.connection_made(self)  # type: ignore[arg-type]  # it has what our protocols use of a transport

    def _handshake_over(self, error: OSError | None) -> None:
        listener, self._on_handshake = self._on_handshake, None
        if listener is not None:
            listener(self, error)

    def _read(self) -> None:
        read, incoming, pending = self._tls.read, self._incoming, self._tls.pending
        try:
            while self._reading and not self._closing:
                content = read(_RECORD)
                if not content:
                    raise ssl.SSLZeroReturnError
                self._inside.data_received(content)
                if not incoming.pending and not pending():
                    break
        except ssl.SSLWantReadError:
            pass  # part of a record, or something between the two TLS sides alone
        except ssl.SSLZeroReturnError:
            self._said_goodbye = True
            self.close()
        except ssl.SSLError:
            self.abort()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    # --- to the protocol inside ---

    def write(self, data: bytes) -> None:
        """Send it; before the close, or nothing happens."""
        if not self._closing and self._transport is not None:
            self._tls.write(data)
            self._transport.write(self._outgoing.read())

    def close(self) -> None:
        """Say goodbye and end, when all was sent."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the other side's goodbye is not waited for
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """End at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def is_closing(self) -> bool:
        return self._closing or self._transport is None or self._transport.is_closing()

    def pause_reading(self) -> None:
        self._reading = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on, first with what came before; never from within, so that nobody is called while calling."""
        self._reading = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._read)

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object` for who is at the other side; else what the socket knows."""
        if name == "ssl_object":
            return self._tls
        return default if self._transport is None else self._transport.get_extra_info(name, default)
