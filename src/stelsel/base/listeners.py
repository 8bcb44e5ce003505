"""Listening sockets that outlive what listens on them: kept over a restart, shared among workers, given by systemd.

Who was not accepted yet waits in the backlog of the kernel, which belongs to the socket and not to a process. So a node
keeps its sockets open when it restarts, and hands them to itself as systemd does (sd_listen_fds(3)): as descriptors 3
and on, counted in LISTEN_FDS and named in LISTEN_FDNAMES.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Mapping, MutableMapping
from contextlib import suppress

from stelsel.base.web import listen

_FIRST = 3
_MOST = 4096
_NAMES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def inherited(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The listening sockets that this process was started with, by name; they are taken out of the environment."""
    told = {name: environment.pop(name, "") for name in _NAMES}
    if told["LISTEN_PID"] != str(os.getpid()) or not told["LISTEN_FDS"].isdecimal():
        return {}
    names = told["LISTEN_FDNAMES"].split(":")
    found: dict[str, list[socket.socket]] = {}
    for number in range(min(int(told["LISTEN_FDS"]), _MOST)):
        descriptor = _FIRST + number
        with suppress(OSError):
            os.set_inheritable(descriptor, False)
            given = socket.socket(fileno=descriptor)
            given.setblocking(False)
            found.setdefault(names[number] if number < len(names) else "", []).append(_as_tcp(given))
    return found


class Listeners:
    """The listening sockets of a node, by name. What serves gets duplicates, so that these stay open."""

    def __init__(self, given: Mapping[str, list[socket.socket]] | None = None) -> None:
        self._given = {name: list(sockets) for name, sockets in (given or {}).items()}
        self._sockets: dict[str, list[socket.socket]] = {}

    def claim(self, name: str, address: str, count: int = 0) -> None:
        """Listen on `host:port`, or take what was given for it; `count` sockets that share the port, or 0: one alone.

        Fewer than `count` are there when one was given that cannot be shared. Raises `ConfigurationFault`.
        """
        found = self._given.pop(name, None) or self._at(address)
        if not found:
            alone = listen(address)
            if count:
                alone.close()  # nobody else has the port, so now it can be had to share
                alone = listen(address, share=True)
            found = [alone]
        self._sockets[name] = found
        if all(each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for each in found):
            while len(found) < count:
                found.append(listen(address, share=True))
        while len(found) > max(count, 1):
            found.pop().close()

    def all(self, name: str) -> list[socket.socket]:
        """The sockets themselves; do not close them."""
        return self._sockets[name]

    def one(self, name: str) -> socket.socket:
        """A duplicate, to be closed by who serves on it."""
        return self._sockets[name][0].dup()

    def close(self) -> None:
        """Stop listening: who is waiting in a backlog is refused."""
        for sockets in (*self._sockets.values(), *self._given.values()):
            for each in sockets:
                each.close()
        self._sockets, self._given = {}, {}

    def hand_over(self, names: set[str], environment: MutableMapping[str, str]) -> None:
        """Put the sockets of these names where the next program of this process finds them (`inherited`).

        Nothing else may be open at descriptors 3 and on that is still needed: call it just before `exec`.
        """
        handed = [(name, each) for name, sockets in self._sockets.items() if name in names for each in sockets]
        # First out of the way, for one may stand where another is to come.
        aside = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, _FIRST + len(handed)) for _, each in handed]
        for number, descriptor in enumerate(aside):
            os.dup2(descriptor, _FIRST + number, inheritable=True)
            os.close(descriptor)
        environment["LISTEN_PID"] = str(os.getpid())
        environment["LISTEN_FDS"] = str(len(handed))
        environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in handed)

    def _at(self, address: str) -> list[socket.socket]:
        """What was given under no name of ours, at the port of this address."""
        port = address.rpartition(":")[2]
        for name, sockets in self._given.items():
            for each in sockets:
                where = each.getsockname()
                if isinstance(where, tuple) and str(where[1]) == port:
                    del self._given[name]
                    return sockets
        return []


def _as_tcp(given: socket.socket) -> socket.socket:
    """Named as TCP: asyncio turns Nagle's algorithm off only then, which else costs 40 ms an answer."""
    if given.family in {socket.AF_INET, socket.AF_INET6} and given.proto == 0:
        return socket.socket(given.family, given.type, socket.IPPROTO_TCP, fileno=given.detach())
    return given
