"""What a node and the process that builds its index say to each other: lines of JSON over a pair of sockets.

The node says:

    {"durable": 120}          so many records of the journal are durable: read no further
    {"erased": [0, 100]}      some of these records were erased: forget them

and nothing more to end it. The process says:

    {"size": 120}             so many records the index holds
    {"forgotten": [0, 100]}   what was erased of these is forgotten
    {"lags": "OSError"}       this went wrong, and is tried again; with "detail" when that can be told
"""

from __future__ import annotations

import json
import math
import select
import socket
from typing import Any

_CHUNK = 1 << 16


class Link:
    """One end. One thread hears; who speaks sees to it that it is one thread at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._heard = b""
        self._unsaid = bytearray()
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self.over = False
        """Whether the other end has gone."""

    def say(self, **message: Any) -> None:
        """Say it, however long that takes. Raises `OSError` when nobody listens any more."""
        self._end.sendall(_line(message))

    def offer(self, **message: Any) -> None:
        """Say it as far as that takes no time; the rest goes with what is offered next."""
        self._unsaid += _line(message)
        self.flush()

    def flush(self) -> bool:
        """Go on with what was offered; gives whether all of it is said."""
        try:
            while self._unsaid:
                del self._unsaid[: self._end.send(self._unsaid, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            pass  # it listens later
        except OSError:
            self._unsaid.clear()  # it has gone, which `hear` finds
        return not self._unsaid

    def hear(self, seconds: float | None) -> list[dict[str, Any]]:
        """What was said; waits for it so many seconds at most, or as long as it takes."""
        if self.over or not self._poll.poll(None if seconds is None else math.ceil(seconds * 1000)):
            return []
        try:
            data = self._end.recv(_CHUNK)
        except OSError:
            data = b""
        self.over = not data
        *lines, self._heard = (self._heard + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def finish(self) -> None:
        """Say nothing more, which the other hears."""
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has gone already

    def close(self) -> None:
        """Let go of the socket."""
        self._end.close()


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"
