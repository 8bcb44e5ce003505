"""The trial: load without end, kills at random moments, and checks from time to time.

    python -m crash --kills 1000 --journal segments --seed 7

Ends with one line of figures. Exits with 1, saying which transactions and which seed, when anything was lost, doubled
or contradicted; the folder with all files and logs is kept then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import uvloop

from crash import check
from crash.chain import CONSUMER, NODE, PEERS, PROVIDER, SERVICE, Chain, more_files
from crash.keeper import Keeper
from crash.load import Load, Watcher
from crash.nursery import Nursery
from crash.outcome import MOST_SHOWN, POSTGRES, SEGMENTS, Outcome, write_down
from stelsel.base.errors import Fault, Unavailable
from stelsel.demo.patience import Patience
from stelsel.demo.postgres import ThrowawayPostgres, programs
from stelsel.ledger import index_process
from stelsel.ledger.journal import Journal
from stelsel.ledger.keys import load_key, public_bytes
from stelsel.ledger.receipts import verify as verify_receipt
from stelsel.ledger.segments import SegmentJournal

VICTIMS = {PROVIDER: 8, CONSUMER: 8, "service": 3, "both nodes": 1}
"""What is killed, and how often against the others."""
WORKER = "a worker"
WORKERS_VICTIMS = {WORKER: 12, PROVIDER: 3, CONSUMER: 3, "service": 2, "both nodes": 1}
INDEX = "the provider's index"
INDEX_VICTIMS = {INDEX: 3}
"""Besides, when journals are segments: the provider then builds its index in a process of its own."""
DATABASE_VICTIMS = {"postgres": 4, "a process of postgres": 3}
_NO_DATABASE = "the ledger's database cannot be used"
"""A node that starts while its database is away ends, saying so: whoever supervises it starts it again."""
_WORKERS_TROUBLE = ("cannot listen on", "a worker did not start")
"""So does one that starts while workers of a killed one still have its port, or of which a worker is killed then."""
_NO_RECOVERY = "startup process"
"""So does PostgreSQL itself when the process that recovers its data is killed."""
_STALL = 30.0
"""Seconds without an answer after which the chain counts as broken."""
_SAMPLE = 8
_TRIES = 3


class _Stalled(Exception):
    """Nothing is answered any more."""


class Trial:
    """One trial in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        postgres: ThrowawayPostgres | None = None,
        workers: int = 0,
        between: int = 400,
        prepare: str = "",
        say: Callable[[str], None] = print,
    ) -> None:
        """`postgres`: a started server for the journals, with a database for each node.

        `workers`: how many the nodes have in every fourth round. `between`: answers between two kills, at most,
        mostly. `prepare`: see `Chain`.
        """
        self._chance = random.Random(seed)
        self._postgres = postgres
        self._journals = {name: postgres.url(name) for name in PEERS} if postgres is not None else {}
        self._chain = Chain.make(folder, journals=self._journals, prepare=prepare)
        self._folder = folder
        self._prepare = prepare
        self._say = say
        self._outcome = Outcome(SEGMENTS if postgres is None else POSTGRES, seed)
        self._workers = workers
        self._between = between
        self._victims = VICTIMS
        self._database_again = 0
        self._load = Load(self._chain.ports["outway"], self._chance)
        self._watchers = {
            name: Watcher(self._chain.ports[f"{name}-web"], self._chain.anchors, self._chance) for name in PEERS
        }
        self._names = ("service", *PEERS)

    async def run(self, kills: int, check_every: int) -> Outcome:
        """Kill so often; look at everything after every `check_every` kills, and at the end."""
        roles = (NODE, SERVICE, *filter(None, [self._prepare]))
        self._nursery = await asyncio.to_thread(Nursery, roles)
        self._keeper = Keeper(self._chain, self._nursery)
        self._keeper.faults = self._outcome.faults
        self._turn(0)
        began = time.monotonic()
        try:
            await self._bring_up()
            await asyncio.to_thread(self._chain.agree)
            rounds = 0
            while (done := self._outcome.killed) < kills and self._outcome.good:
                await self._round(min(check_every, kills - done))
                rounds += 1
                self._turn(rounds)
                await self._examine()
            self._outcome.seconds = time.monotonic() - began
            if self._outcome.good:
                await self._question()
        except (Fault, TimeoutError) as error:
            self._outcome.faults.append(f"the trial cannot go on: {error}")
            self._say(self._outcome.line())
        finally:
            await asyncio.to_thread(self._nursery.close)
            self._chain.close()
        return self._outcome

    def _turn(self, rounds: int) -> None:
        """Have workers in the second round, and in every fourth after it."""
        workers = self._workers if rounds % 4 == 1 else 0
        self._chain.write_nodes(workers)
        self._victims = WORKERS_VICTIMS if workers else VICTIMS
        lately = workers or (self._workers if rounds % 4 == 2 else 0)  # those of a killed node may live a moment longer
        self._keeper.excuses = (
            *([_NO_DATABASE] if self._postgres is not None else []),
            *(_WORKERS_TROUBLE if lately else []),
        )

    async def _bring_up(self) -> None:
        for name in self._names:
            self._keeper.start(name)
        for name in PEERS:
            await asyncio.to_thread(self._chain.await_node, name, self._tend)

    def _tend(self) -> None:
        """Start again what ended by itself: the nodes, the service, PostgreSQL."""
        self._keeper.tend()
        postgres = self._postgres
        if postgres is not None and postgres.ended_by_itself:
            said = postgres.said()
            if _NO_RECOVERY not in said:
                self._outcome.faults.append(f"PostgreSQL ended by itself: {said[-300:]}")
            self._database_again += 1
            postgres.start()

    async def _round(self, kills: int) -> None:
        """Load and kills; then everything is dead."""
        watching = [asyncio.create_task(watcher.watch()) for watcher in self._watchers.values()]
        self._load.start()
        try:
            due = self._outcome.killed + kills
            while self._outcome.killed < due and not self._outcome.faults:
                await self._wait_for_traffic()
                await self._strike()
        except _Stalled:
            self._outcome.faults.append(f"no request was answered for {_STALL:.0f} s: the chain does not come back")
            for name in PEERS:
                self._outcome.faults.append(f"{name}: {await asyncio.to_thread(self._state, name)}")
        finally:
            await asyncio.to_thread(self._keeper.kill, *self._names)  # the load goes on until the last moment
            if self._postgres is not None:
                await asyncio.to_thread(self._postgres.kill)
            await self._load.stop()
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _wait_for_traffic(self) -> None:
        """Mostly until requests are being answered again; now and then a process is killed while it starts."""
        if self._chance.random() < 0.15:
            await asyncio.sleep(self._chance.uniform(0, 0.15))
            return
        load, patience, look = self._load, Patience(_STALL), 0.0
        wanted = len(load.answered) + self._chance.randrange(1, self._between)
        while len(load.answered) < wanted:
            await asyncio.sleep(0.002)
            if time.monotonic() > look:
                await asyncio.to_thread(self._tend)
                look = time.monotonic() + 0.05
            if patience.is_over():
                raise _Stalled
        await asyncio.sleep(self._chance.uniform(0, 0.01))

    async def _strike(self) -> None:
        victims = self._victims | (INDEX_VICTIMS if self._postgres is None else DATABASE_VICTIMS)
        victim = self._chance.choices(list(victims), list(victims.values()))[0]
        struck = await asyncio.to_thread(self._kill, victim)
        if struck:  # it may have ended by itself just before
            self._outcome.kills[victim] = self._outcome.kills.get(victim, 0) + 1

    def _kill(self, victim: str) -> bool:
        """Kill it and have it started again; whether it was still alive."""
        if victim == WORKER:
            node = self._keeper.pids.get(self._chance.choice(list(PEERS)), 0)
            return self._strike_child(node, lambda child: not _builds_index(child))
        if victim == INDEX:
            return self._strike_child(self._keeper.pids.get(PROVIDER, 0), _builds_index)
        if victim in DATABASE_VICTIMS and self._postgres is not None:
            return self._strike_database(self._postgres, whole=victim == "postgres")
        names = tuple(PEERS) if victim == "both nodes" else (victim,)
        alive = self._keeper.kill(*names)
        for name in names:
            self._keeper.start(name)
        return alive

    def _strike_database(self, postgres: ThrowawayPostgres, *, whole: bool) -> bool:
        """Kill the whole server and start it again, or one of its processes: then it ends all others itself."""
        if postgres.process is None or postgres.ended_by_itself:
            return False  # `_tend` starts it again
        if not whole:
            return self._strike_child(postgres.process.pid)
        postgres.kill()
        postgres.start()
        return True

    def _strike_child(self, parent: int, meant: Callable[[int], bool] = lambda _: True) -> bool:
        """Kill one of the processes that this one started: it must replace it, or come to terms with it."""
        with suppress(OSError, IndexError):  # it ended meanwhile
            os.kill(self._chance.choice(list(filter(meant, _children(parent)))), signal.SIGKILL)
            return True
        return False

    def _state(self, name: str) -> str:
        """What a node says of itself."""
        try:
            about = self._chain.control(name).get("/about")
        except Fault as fault:
            return fault.detail
        return json.dumps({part: about.get(part) for part in ("process", "workers", "ledger")})

    async def _examine(self) -> None:
        outcome = self._outcome
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.start)
        consumer, provider = [await asyncio.to_thread(self._read, name) for name in (CONSUMER, PROVIDER)]
        seen = check.seen_by_service(self._chain.seen)
        outcome.findings = check.compare(self._load.answered, consumer, provider, seen)
        outcome.answered, outcome.broken = len(self._load.answered), self._load.refused
        outcome.started_again = self._keeper.started_again + self._database_again
        outcome.records = consumer.size + provider.size
        outcome.checkpoints = sum(watcher.fetched for watcher in self._watchers.values())
        if check.MISSING_ID in seen:
            outcome.faults.append("a request reached the service without a transaction id")
        outcome.faults += [f"{transaction} got the answer to another request" for transaction in self._load.wrong]
        for watcher in self._watchers.values():
            outcome.faults += watcher.faults
            watcher.faults = []
        self._say(outcome.line())
        if outcome.good:
            await self._bring_up()

    def _read(self, name: str) -> check.Read:
        return check.read(name, self._lines(name), self._watchers[name].checkpoints)

    def _lines(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        journal = self._journal(name)
        try:
            for line in journal.lines(0, journal.size):
                yield line.nonce, line.record
        finally:
            journal.close()

    def _journal(self, name: str) -> Journal:
        folder = self._chain.ledger(name)
        if name not in self._journals:
            return SegmentJournal(folder / "segments")
        from stelsel.ledger.postgres import PostgresJournal

        key = public_bytes(load_key(folder / "ledger.key"))
        return PostgresJournal(self._journals[name], peer_id=PEERS[name], public_key=key, deadline=60)

    async def _question(self) -> None:
        """Ask the living nodes: what they answer must be what their journals hold."""
        for name in PEERS:
            before = len(self._watchers[name].checkpoints)
            if not any([await self._watchers[name].look() for _ in range(_TRIES)]):
                self._outcome.faults.append(f"{name}: gives no checkpoint after the last start")
            elif len(self._watchers[name].checkpoints) < before:
                self._outcome.faults.append(f"{name}: its checkpoint vanished")
        answered = list(self._load.answered)
        for transaction in self._chance.sample(answered, min(_SAMPLE, len(answered))):
            for name in PEERS:
                fault = await asyncio.to_thread(self._find_patiently, name, transaction.decode())
                if fault:
                    self._outcome.faults.append(f"{name}: {fault}: {transaction.decode()}")
        for name in self._names:
            if not await asyncio.to_thread(self._nursery.stop, name):
                self._outcome.faults.append(f"{name}: does not stop when asked")
        final = [await asyncio.to_thread(self._read, name) for name in PEERS]
        self._outcome.findings.inconsistent += [each for read in final for each in read.inconsistent]

    def _find_patiently(self, name: str, transaction: str) -> str:
        """As `_find`, and again when the machine was halted meanwhile: then nobody answers in time."""
        for _ in range(_TRIES - 1):
            with suppress(Unavailable):
                return self._find(name, transaction)
        return self._find(name, transaction)

    def _find(self, name: str, transaction: str) -> str:
        """What is wrong with how a node answers about a transaction; empty when nothing is."""
        control = self._chain.control(name)
        entries = control.post("/log", {"transaction_id": transaction})
        requests = [entry for entry in entries if entry["event"] == "request" and entry["allowed"]]
        if not requests:
            return "the index does not find it"
        receipt = control.get(f"/receipts/{requests[0]['index']}")
        proven = verify_receipt(receipt, self._chain.anchors, time.time())
        return "" if proven.record.transaction_id == transaction else "its receipt is of another record"


def trial(
    kills: int,
    *,
    seed: int,
    check_every: int,
    journal: str = SEGMENTS,
    workers: int = 0,
    between: int = 400,
    prepare: str = "",
    say: Callable[[str], None] = print,
) -> Outcome:
    """Run one trial in a folder of its own, which stays behind when something was found.

    Raises `ConfigurationFault` when `journal` is `POSTGRES` and there is no PostgreSQL here.
    """
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    more_files()
    with ExitStack() as stack:
        postgres = None
        if journal == POSTGRES:
            postgres = stack.enter_context(ThrowawayPostgres(max_connections="100"))
            _make_databases(postgres)
        run = Trial(
            folder, seed=seed, postgres=postgres, workers=workers, between=between, prepare=prepare, say=say
        ).run(kills, check_every)
        outcome = uvloop.run(run)
    if outcome.good:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"seed {seed}; files and logs are in {folder}")
        found = outcome.findings
        for title in ("lost", "doubled", "unrecorded", "inconsistent", "misnumbered"):
            for text in getattr(found, title)[:MOST_SHOWN]:
                say(f"  {title}: {text}")
        for text in outcome.faults[:MOST_SHOWN]:
            say(f"  {text}")
    return outcome


def _make_databases(postgres: ThrowawayPostgres) -> None:
    import psycopg

    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        for name in PEERS:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))


def _children(parent: int) -> list[int]:
    lists = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


def _builds_index(process: int) -> bool:
    return index_process.__name__.encode() in Path(f"/proc/{process}/cmdline").read_bytes()


def main() -> int:
    """The command; exit code 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="python -m crash", description="kill -9 under load, and look what is lost")
    parser.add_argument("--journal", choices=[SEGMENTS, POSTGRES, "both"], default="both")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--workers", type=int, default=2, help="of each node, in every fourth round")
    parser.add_argument("--check-every", type=int, default=125, metavar="KILLS")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing that was started is left behind
    journals = [SEGMENTS, POSTGRES] if options.journal == "both" else [options.journal]
    if options.journal == "both" and programs() is None:
        _say("There is no PostgreSQL here: only segments are tried. Next step: python tools/provide.py postgresql")
        journals = [SEGMENTS]
    outcomes = [
        trial(
            options.kills,
            seed=options.seed,
            check_every=options.check_every,
            journal=journal,
            workers=options.workers,
            say=_say,
        )
        for journal in journals
    ]
    write_down(outcomes)
    return 0 if all(outcome.good for outcome in outcomes) else 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
