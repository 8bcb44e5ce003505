"""The supervisor, in the house: starts the workers, pushes them every change, watches them, replaces them."""

from __future__ import annotations

import asyncio
import base64
import socket
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stelsel.agreements.agreement import Agreement
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.errors import ConfigurationFault
from stelsel.base.log import arguments, logger
from stelsel.exchange.workers.desk import Desk, HouseAgreements, HouseLedger
from stelsel.exchange.workers.link import VERSION, Kind
from stelsel.exchange.workers.messages import to_json

_log = logger("exchange")

_START_SECONDS = 30.0
_AT_ONCE = 10.0
"""A worker that lived shorter than this many seconds died at once; the next waits."""
_LONGEST_WAIT = 5.0
_MOST_DEATHS = 10
_DEATHS_AT_START = 3
_HOUR = 3600.0
_REMEMBERED = 100
_SILENCE = 30.0
"""Seconds without a word, when it had the time to load, after which a worker hangs, and is replaced."""
_TICK = 1.0
_END_SECONDS = 3.0


@dataclass(frozen=True)
class Configuration:
    """What a worker is to know once; values as JSON has them. What changes is pushed apart."""

    group: dict[str, Any]
    services: list[dict[str, Any]]
    inway: dict[str, Any] | None
    outway: dict[str, Any] | None
    dialect: dict[str, Any]
    subject_key: Path
    token_lifetime: int
    deadline: float
    """Seconds that the ledger may take."""
    waiting_records: int
    record_bytes: int
    drain_seconds: float
    processors: tuple[int, ...] = ()
    """On which the workers stay, in turn."""

    def to_json(self, worker: int) -> dict[str, Any]:
        """As it is told to the worker of this number."""
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        processors = said.pop("processors")
        said["processor"] = processors[worker % len(processors)] if processors else None
        # The house refuses in time itself; the worker waits a little longer, for that answer to arrive.
        return said | {"link": VERSION, "subject_key": str(self.subject_key), "deadline": self.deadline + 0.5}


@dataclass(eq=False)
class _Slot:
    """The place of one worker: its listening sockets stay, whoever accepts from them."""

    number: int
    listeners: dict[str, socket.socket]
    current: _Running | None = None
    restarts: int = 0
    replaced_at: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    deaths: int = 0
    """In a row, each soon after the start."""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def serving(self) -> bool:
        return self.current is not None and self.current.desk.serving


@dataclass(eq=False)
class _Running:
    """One process."""

    slot: _Slot
    process: asyncio.subprocess.Process
    desk: Desk
    began: float
    briefed: bool = False
    silent: float = 0.0
    """Seconds without a word."""
    retired: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """The workers of one node."""

    def __init__(
        self,
        *,
        agreements: HouseAgreements,
        ledger: HouseLedger,
        keypair: KeyPair,
        anchors: TrustAnchors,
        configuration: Configuration,
    ) -> None:
        self._agreements = agreements
        self._ledger = ledger
        self._keypair = keypair
        self._anchors = anchors
        self._configuration = configuration
        self._slots: list[_Slot] = []
        self._running: set[_Running] = set()
        self._known: dict[str, Agreement] = {}
        self._listed: tuple[Agreement, ...] | None = None
        self._changed = False
        self._begun = False
        self._stopping = asyncio.Event()
        self._rolling = asyncio.Lock()
        self._ticker: asyncio.Task[None] | None = None
        self._draining: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        agreements.on_change(self._change)
        keypair.on_renewal(self._renewed)

    # --- life -------------------------------------------------------------------------------------------------------

    async def prepare(self, count: int, listeners: dict[str, Sequence[socket.socket]]) -> None:
        """Begin the processes of `count` workers; they load while the house opens its rooms, and serve from `start` on.

        Worker i accepts from the i-th socket of each gateway, in turn when there are fewer. The sockets stay the
        caller's.
        """
        self._loop = asyncio.get_running_loop()
        self._slots = [
            _Slot(number, {name: sockets[number % len(sockets)] for name, sockets in listeners.items() if sockets})
            for number in range(count)
        ]
        for slot in self._slots:
            await self._spawn(slot)

    async def start(self) -> None:
        """Let the workers serve. Raises `ConfigurationFault` when one does not, nor those in its place."""
        self._begun = True
        for slot in self._slots:
            if slot.current is not None and not slot.current.briefed:
                self._brief(slot.current)
        end = self._loop.time() + _START_SECONDS
        while not all(slot.serving for slot in self._slots):
            if self._loop.time() > end or any(slot.deaths >= _DEATHS_AT_START for slot in self._slots):
                raise _did_not_start()
            await asyncio.sleep(0.02)
        self._ticker = asyncio.create_task(self._tick())

    async def stop(self, drain_seconds: float) -> None:
        """Drain all workers and end them: first every outway, for its requests may still need our own inway."""
        self._stopping.set()
        if self._ticker is not None:
            self._ticker.cancel()
        for slot in self._slots:
            async with slot.changing:  # whoever is being put in its place is there now; nobody follows
                pass
        await asyncio.gather(*self._draining)
        running = list(self._running)
        for gateway in ("outway", "inway"):
            await asyncio.gather(*(worker.desk.drain(gateway, drain_seconds) for worker in running))
        await asyncio.gather(*(self._end(worker) for worker in running))
        await asyncio.gather(*self._watches)

    async def roll(self) -> int:
        """Replace every worker by a new one: that one takes connections before the old one stops to; how many.

        Raises `ConfigurationFault` when a new one does not start; then the old one goes on. Fewer when the node stops.
        """
        replaced = 0
        async with self._rolling:
            for slot in self._slots:
                async with slot.changing:
                    if self._stopping.is_set():
                        break
                    await self._roll(slot)
                replaced += 1
        return replaced

    async def _roll(self, slot: _Slot) -> None:
        old = slot.current
        new = await self._start(slot)
        try:
            await self._await_ready(new)
        except ConfigurationFault:
            new.retired = True
            slot.current = old
            await self._end(new)
            raise
        if old is not None and not old.ended.is_set():
            old.retired = True
            task = asyncio.create_task(self._drain(old))
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)

    def read_lists(self) -> None:
        """Revocation lists changed: the workers read them too."""
        for worker in self._briefed():
            worker.desk.link.send(Kind.LISTS)

    def status(self) -> list[dict[str, Any]]:
        """What there is to see of each worker."""
        return [self._status(slot) for slot in self._slots]

    # --- one worker -------------------------------------------------------------------------------------------------

    async def _start(self, slot: _Slot) -> _Running:
        worker = await self._spawn(slot)
        self._brief(worker)
        return worker

    async def _spawn(self, slot: _Slot) -> _Running:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "stelsel.exchange.workers.worker", "--link", str(theirs.fileno())]
        for name, listener in slot.listeners.items():
            command += [f"--{name}", str(listener.fileno())]
        inherited = (theirs.fileno(), *(listener.fileno() for listener in slot.listeners.values()))
        try:
            process = await asyncio.create_subprocess_exec(
                *command, *arguments(), pass_fds=inherited, stdin=asyncio.subprocess.DEVNULL
            )
            desk = Desk(self._agreements, self._ledger, lambda: self._lost(worker))
            worker = _Running(slot, process, desk, self._loop.time())
            await desk.link.connect(ours)
        except BaseException:
            ours.close()  # then a process that was begun ends by itself
            raise
        finally:
            theirs.close()
        slot.current = worker
        self._running.add(worker)
        watch = asyncio.create_task(self._watch(worker))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return worker

    def _brief(self, worker: _Running) -> None:
        """Give a worker all that it must know, and let it serve. What changes from now on is pushed to it."""
        link = worker.desk.link
        link.send(Kind.CONFIGURE, to_json(self._configuration.to_json(worker.slot.number)))
        link.send(Kind.IDENTITY, self._identity())
        self._compare()
        worker.desk.push(self._known.values())
        link.send(Kind.SERVE)
        worker.briefed = True

    async def _await_ready(self, worker: _Running) -> None:
        try:
            await asyncio.wait_for(worker.desk.settled.wait(), _START_SECONDS)
        except TimeoutError:
            pass
        if not worker.desk.serving:
            raise _did_not_start()

    async def _watch(self, worker: _Running) -> None:
        """Wait until the process ends, and put another in its place unless that was asked."""
        code = await worker.process.wait()
        worker.desk.close()
        self._running.discard(worker)
        worker.ended.set()
        if not worker.retired:
            await self._replace(worker, code)

    async def _replace(self, dead: _Running, code: int) -> None:
        slot = dead.slot
        soon = self._loop.time() - dead.began < _AT_ONCE
        slot.deaths = min(slot.deaths + 1, _MOST_DEATHS) if soon else 0
        wait = min(0.05 * 2**slot.deaths, _LONGEST_WAIT) if soon else 0.0
        if not self._stopping.is_set():
            _log.error("a worker ended and is replaced", worker=slot.number, pid=dead.process.pid, code=code, wait=wait)
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
            async with slot.changing:
                if self._stopping.is_set() or slot.current is not dead:
                    return
                slot.restarts += 1
                slot.replaced_at.append(self._loop.time())
                try:
                    await (self._start(slot) if self._begun else self._spawn(slot))
                except OSError as error:
                    _log.error("a worker cannot be started", worker=slot.number, error=error.strerror)
                    wait = _LONGEST_WAIT

    def _lost(self, worker: _Running) -> None:
        """A worker whose link has ended can record nothing: it ends by itself, or is made to."""
        if worker.process.returncode is None and not worker.retired and not self._stopping.is_set():
            self._loop.call_later(_END_SECONDS, _kill, worker.process)

    async def _drain(self, worker: _Running) -> None:
        for gateway in ("outway", "inway"):
            await worker.desk.drain(gateway, self._configuration.drain_seconds)
        await self._end(worker)

    async def _end(self, worker: _Running) -> None:
        worker.desk.link.close()
        try:
            await asyncio.wait_for(worker.ended.wait(), _END_SECONDS)
        except TimeoutError:
            _kill(worker.process)
            await worker.ended.wait()

    async def _tick(self) -> None:
        while True:
            before = self._loop.time()
            await asyncio.sleep(_TICK)
            self._change()  # time changes agreements too
            # When the whole machine was halted, no worker is to blame.
            passed = min(self._loop.time() - before, 2 * _TICK)
            for worker in list(self._running):
                loads = not worker.desk.serving and self._loop.time() - worker.began < _START_SECONDS
                worker.silent = 0.0 if worker.desk.heard or loads else worker.silent + passed
                worker.desk.heard = False
                if worker.silent > _SILENCE:
                    _log.error("a worker is silent and is killed", worker=worker.slot.number)
                    _kill(worker.process)

    def _status(self, slot: _Slot) -> dict[str, Any]:
        worker = slot.current
        alive = worker is not None and not worker.ended.is_set()
        load = worker.desk.load if worker is not None and alive else None
        return {
            "worker": slot.number,
            "pid": worker.process.pid if worker is not None and alive else None,
            "serving": slot.serving,
            "in_flight": load.in_flight if load else 0,
            "connections": load.connections if load else 0,
            "recorded": load.recorded if load else 0,
            "seconds": round(self._loop.time() - worker.began) if worker is not None and alive else 0,
            "restarts": slot.restarts,
            "restarts_last_hour": sum(at > self._loop.time() - _HOUR for at in slot.replaced_at),
        }

    def _briefed(self) -> list[_Running]:
        return [worker for worker in self._running if worker.briefed]

    # --- pushing ----------------------------------------------------------------------------------------------------

    def _identity(self) -> bytes:
        pair = self._keypair.current
        earlier = self._agreements.earlier_certificates()
        return to_json(
            {
                "pair": pair.pem.decode("ascii"),
                "anchors": self._anchors.pem.decode("ascii"),
                "certificate_file": str(self._keypair.certificate_file),
                "key_file": str(self._keypair.key_file),
                "earlier": [
                    [base64.b64encode(certificate.der).decode("ascii"), until] for certificate, until in earlier
                ],
            }
        )

    def _renewed(self) -> None:
        briefed = self._briefed()
        if not briefed:
            return
        identity = self._identity()
        for worker in briefed:
            worker.desk.link.send(Kind.IDENTITY, identity)

    def _change(self) -> None:
        """Push once for all that changed in this turn of the loop."""
        if self._slots and not self._changed:
            self._changed = True
            self._loop.call_soon(self._push)

    def _push(self) -> None:
        self._changed = False
        changed = self._compare()
        if changed:
            for worker in self._briefed():
                worker.desk.push(changed)

    def _compare(self) -> list[Agreement]:
        """What is new or different since the last look; contracts are never taken away."""
        listed = self._agreements.agreements()
        if listed is self._listed:
            return []
        self._listed, known = listed, self._known
        changed = []
        for agreement in listed:
            before = known.get(agreement.grant_hash)
            if before is not agreement:
                known[agreement.grant_hash] = agreement
                if before != agreement:
                    changed.append(agreement)
        return changed


def _did_not_start() -> ConfigurationFault:
    return ConfigurationFault("a worker did not start", next_step="the lines of the log before this say why")


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
