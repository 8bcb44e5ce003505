"""Ports of this machine that nobody else takes while a server is down. For tests, measurements and trials.

A port that was free a moment ago need not be free when a server comes to listen there, and less so when the server is
killed and started again: the kernel may have given it to whoever connects to somewhere. So a port is held.
"""

from __future__ import annotations

import atexit
import random
import socket

_FIRST, _LAST = 18_000, 30_000
"""Below those that Linux gives to clients (net.ipv4.ip_local_port_range), above those that programs are known by."""


def hold_ports(count: int) -> list[socket.socket]:
    """Sockets that are bound and do not listen: who sets SO_REUSEADDR can listen there, again and again.

    Close them to give the ports back.
    """
    chance = random.SystemRandom()
    held: list[socket.socket] = []
    while len(held) < count:
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", chance.randrange(_FIRST, _LAST)))
        except OSError:
            probe.close()
            continue
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # only now: what has it already is not ours
        held.append(probe)
    return held


def free_ports(count: int) -> list[int]:
    """Ports to listen on, now or later, held until this process ends: nobody else who asks here is given them."""
    held = hold_ports(count)
    for each in held:
        atexit.register(each.close)
    return [port_of(each) for each in held]


def port_of(held: socket.socket) -> int:
    """The number of a held port."""
    return int(held.getsockname()[1])
