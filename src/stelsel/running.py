"""A process that is a node: signals, and restarting in place without losing a request.

A restart finishes what is under way, keeps the listening sockets, and replaces the program of this very process
(execve(2)); who connects meanwhile waits in the backlog until the new program accepts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import uvloop

from stelsel.agreements.group import Group
from stelsel.base.certificates import KeyPair
from stelsel.base.errors import Fault
from stelsel.base.listeners import Listeners, inherited
from stelsel.base.log import logger
from stelsel.base.process import check_processors, settle, unsettle
from stelsel.base.renewal import check
from stelsel.base.settings import read_toml
from stelsel.node import Node
from stelsel.settings import NodeSettings

_log = logger("node")

Again = Callable[[], NodeSettings]
"""Reads the node's file again."""


def run(settings: NodeSettings, again: Again | None = None) -> None:
    """Run a node in this process until SIGINT or SIGTERM. Raises `Fault` when it cannot start.

    SIGHUP: see `Upkeep.reload`. SIGUSR2, or `stelsel restart`: restart in place; without `again` it cannot.
    """
    check_processors(settings.processors)
    listeners = Listeners(inherited(os.environ))
    kept = uvloop.run(_run(settings, listeners, again))
    if kept is not None:
        _replace_program(listeners, kept)


class _Wishes:
    """What is asked of the process: to end, or to end and begin anew with these sockets."""

    def __init__(self, again: Again | None) -> None:
        self._again = again
        self.come = asyncio.Event()
        self.kept: set[str] | None = None
        self._settings: NodeSettings | None = None

    def stop(self) -> None:
        self.kept = None
        self.come.set()

    def restart(self, settings: NodeSettings) -> None:
        """Restart, once it is sure that the new program can run. Raises `Fault` when it could not."""
        if self._again is None:
            raise Fault("this node was not started by a file that can be read again")
        new = self._again()
        before, after = _addresses(settings), _addresses(new)
        _check(new)
        self.kept = {name for name, address in after.items() if before.get(name) == address}
        self.come.set()

    def restart_or_say_why(self, settings: NodeSettings) -> None:
        try:
            self.restart(settings)
        except Fault as fault:
            _log.error("not restarted", reason=fault.detail, next_step=fault.next_step)


async def _run(settings: NodeSettings, listeners: Listeners, again: Again | None) -> set[str] | None:
    """Run it; the names of the listening sockets to keep when it is to begin anew."""
    loop = asyncio.get_running_loop()
    wishes = _Wishes(again)
    tasks: set[asyncio.Task[None]] = set()
    node = Node(settings, listeners=listeners, restart=lambda: wishes.restart(settings))

    def reload() -> None:
        task = loop.create_task(node.upkeep.reload_or_say_why())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, wishes.stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR2, wishes.restart_or_say_why, settings)
    try:
        await node.start()
        settle(None if settings.workers else next(iter(settings.processors), None))
        await wishes.come.wait()
    except BaseException:
        wishes.kept = None
        raise
    finally:
        await node.stop(keep_listening=wishes.kept is not None)
    return wishes.kept


def _check(settings: NodeSettings) -> None:
    """Raises `Fault` when a node of these settings would not start for a reason that can be seen beforehand."""
    check_processors(settings.processors)
    group = read_toml(settings.group, Group)
    anchors = group.trust()
    keypair = KeyPair.load(settings.peer.certificate, settings.peer.key, group.elements)
    check(keypair.current, anchors, keypair.certificate.peer_id, time.time(), group.signature_algorithms)


def _addresses(settings: NodeSettings) -> dict[str, str]:
    sections = {
        "manager": settings.manager,
        "inway": settings.inway,
        "outway": settings.outway,
        "web": settings.web,
    }
    return {name: section.listen for name, section in sections.items() if section is not None}


def _replace_program(listeners: Listeners, kept: set[str]) -> NoReturn:
    # Until the new program has its handlers, these would end it; that they are ignored survives the exec.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    unsettle()
    listeners.hand_over(kept, os.environ)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the very command that started us
