"""The index: search and Merkle tiles, built behind the journal and rebuilt from it whenever that is needed.

One SQLite file, `<folder>/index.sqlite`, holds what is searched for (never the records themselves) and the tiles of
the tree. Both move in one transaction with the size they cover, so after any crash the index is some moment of the
past and catches up. It may lag behind the journal; whoever asks waits until it has caught up (`wait_for`).

Who asked what of whom under which grant is a *relation*; millions of records have some thousands of them. A search by
peer, grant or service finds its relations first and then goes through their records in order (see `search`). For a
search by time each *block* of records keeps its earliest and latest moment, since clocks can be set back. How rows are
made of records is in `intake`.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stelsel.base.errors import ConfigurationFault
from stelsel.base.log import logger
from stelsel.ledger.blocks import BLOCK, ERASED, Block
from stelsel.ledger.building import RETRY, Builder, Steps, tile_in
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.index_apart import Apart
from stelsel.ledger.intake import load_block
from stelsel.ledger.journal import Journal, Position
from stelsel.ledger.merkle import Tiles
from stelsel.ledger.query import LogQuery, Query
from stelsel.ledger.search import Place, find, transactions

_log = logger("ledger")

_LOOK = 1.0
"""Seconds after which is looked anyhow whether the process is to end."""
_MANY = 1 << 62


@dataclass(frozen=True, slots=True)
class Building:
    """Who builds an index, and how far it is, at one moment."""

    apart: bool
    """Whether a process of its own does; else a thread of the node."""
    pid: int | None
    """The process that does, the node's own when a thread does; None: nobody, until it is started again."""
    size: int
    """How many records the index holds."""
    behind: int
    """How many more there are in the journal."""
    restarts: int
    """How often a process that ended was started again."""
    trouble: str
    """What went wrong the last time; empty when it went well."""


class Index:
    """Built by one thread of its own, or by a process that this thread looks after; asked from any."""

    def __init__(self, path: Path, *, pause: float, segments: Path | None = None) -> None:
        """Open the index, or make it anew when it cannot be used. `pause` in seconds between two rounds.

        `segments`: it is built in a process of its own, which reads the files of the journal in this folder.
        """
        self._path = path
        self._pause = pause
        self._segments = segments
        self._erased: list[tuple[int, int]] = [(0, 0)]
        """Ranges in which the journal erased records since they were taken in; at the start nobody knows."""
        self._builder: Builder | None = self._open()
        self.size = self._builder.size
        """How many records the index and the tree hold."""
        self._journal: Journal
        self._apart: Apart | None = None
        self._changed = threading.Condition()
        self._wanted = 0
        self._stopping = False
        self._restarts = 0
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="ledger-index", daemon=True)

    def start(self, journal: Journal) -> None:
        """Follow this journal from now on."""
        self._journal = journal
        self._thread.start()

    def stop(self) -> None:
        """End the building after its present round. The rest is caught up with at the next start."""
        with self._changed:
            self._stopping = True
            if self._apart is not None:
                self._apart.finish()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        if self._builder is not None:
            self._builder.close()

    @property
    def building(self) -> Building:
        """How the building stands."""
        with self._changed:
            apart, size = self._apart, self.size
            if self._segments is None:
                pid = os.getpid() if self._thread.is_alive() else None
            else:
                pid = apart.pid if apart is not None and not apart.over else None
            behind = max(0, self._journal.size - size)
            return Building(self._segments is not None, pid, size, behind, self._restarts, self._trouble)

    def wait_for(self, size: int, deadline: float) -> None:
        """Return when the index holds the first `size` records. Raises `LedgerUnavailable` after `deadline` s."""
        if self.size >= size:
            return
        with self._changed:
            self._wanted = max(self._wanted, size)
            if self._apart is not None:
                self._apart.durable(self._journal.size)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self.size >= size or self._stopping, deadline) or self.size < size:
                raise LedgerUnavailable(
                    "the search index is still being built", next_step="try again in a moment; nothing is lost"
                )

    def erased(self, start: int, stop: int, deadline: float) -> None:
        """The journal erased some of the records start..stop-1: forget them. Raises `LedgerUnavailable` if it lasts."""
        with self._changed:
            self._erased.append((start, stop))
            if self._apart is not None:
                self._apart.durable(self._journal.size)
                self._apart.erased(start, stop)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self._erased or self._stopping, deadline):
                raise LedgerUnavailable(
                    "the search index still forgets what was erased", next_step="it goes on by itself; nothing to do"
                )

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A consistent view, for one thread, for a short time."""
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA busy_timeout=5000")
            connection.execute("BEGIN")
            yield Reader(connection)
        except sqlite3.Error as error:
            raise LedgerUnavailable(
                "the search index cannot be read", next_step="stop the node, remove index.sqlite, start it again"
            ) from error
        finally:
            connection.close()

    # Building

    def _open(self) -> Builder:
        try:
            return Builder(self._path, self._erased)
        except sqlite3.OperationalError as error:  # a full or unwritable disk: nothing is wrong with the index
            raise ConfigurationFault(
                f"{self._path}: cannot be opened ({error})", next_step="make the folder writable, and give it room"
            ) from error
        except sqlite3.DatabaseError:
            _log.warning("index made anew", file=self._path.name)
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self._path.with_name(self._path.name + suffix).unlink()
            return Builder(self._path, self._erased)

    def _run(self) -> None:
        if self._segments is None:
            self._build()
            return
        # signals to the whole group are for the node: the process has them blocked as this thread has
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        while not self._stopping:
            try:
                self._look_after(self._segments)
            except Exception as error:  # noqa: BLE001 - the journal goes on without us, and we try again
                self._lags(type(error).__name__)
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, RETRY)

    # in this process

    def _build(self) -> None:
        builder = self._builder
        while not self._stopping and builder is not None:
            more = failed = False
            try:
                self._go(builder.take(self._journal))
                more = builder.size < self._journal.size
                self._hold(builder.size)
                self._go(builder.forget(self._journal))
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - the journal goes on without us, and we try again
                self._lags(type(error).__name__)
                failed = True
            with self._changed:
                self._changed.notify_all()
                if failed:
                    self._changed.wait_for(lambda: self._stopping, RETRY)
                elif not more:
                    self._changed.wait_for(lambda: self._stopping or self._urgent(), self._pause)

    def _hold(self, size: int) -> None:
        with self._changed:
            self.size = size
            self._changed.notify_all()

    def _lags(self, reason: str, **more: str) -> None:
        self._trouble = reason
        _log.warning("index lags", reason=reason, **more)

    def _urgent(self) -> bool:
        return self._wanted > self.size or (self._builder is not None and self._builder.forgets_in == 0)

    def _go(self, steps: Steps) -> None:
        """Between two, let the event loop have the interpreter: building the index is hardly urgent, answering is."""
        for _ in steps:
            time.sleep(0 if self._urgent() else 0.0002)

    # in a process of its own

    def _look_after(self, segments: Path) -> None:
        """Have it built by a process, until that ends."""
        builder, self._builder = self._builder or self._open(), None
        builder.close()
        apart = Apart(self._path, segments)
        try:
            with self._changed:
                self._apart, self.size = apart, builder.size
                apart.durable(self._journal.size)
                for start, stop in self._erased:
                    apart.erased(start, stop)
            tell_at = time.monotonic() + self._pause
            while not apart.over and not self._stopping:
                heard = apart.hear(min(max(tell_at - time.monotonic(), 0), _LOOK))
                with self._changed:
                    for message in heard:
                        self._heard(message)
                    if time.monotonic() >= tell_at:
                        apart.durable(self._journal.size)
                        tell_at = time.monotonic() + self._pause
        finally:
            with self._changed:
                self._apart = None
            code = apart.end()
        if not self._stopping:
            self._restarts += 1
            _log.warning("the process that builds the index ended and is started again", code=code)

    def _heard(self, message: dict[str, Any]) -> None:
        if "size" in message:
            self.size = message["size"]
            self._trouble = ""
        if "forgotten" in message:
            self._erased.remove(tuple(message["forgotten"]))
            self._trouble = ""
        if "lags" in message:
            self._lags(message["lags"], detail=message.get("detail", ""))
        self._changed.notify_all()


class Reader:
    """Questions to one view of the index."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def tree(self) -> Tiles:
        """The Merkle tree as far as this view goes."""
        row = self._connection.execute("SELECT size FROM progress").fetchone()
        return Tiles(int(row[0]) if row else 0, lambda level, number: tile_in(self._connection, level, number))

    def position(self, index: int) -> Position | None:
        """Where this record is in the journal."""
        block = load_block(self._connection, index // BLOCK)
        if block is None or index % BLOCK >= len(block) or block.flags[index % BLOCK] == ERASED:
            return None
        return self._positions([(index, block.places[index % BLOCK])])[0]

    def due(self, before_ms: int) -> tuple[int, int, int]:
        """(how many records were made before this moment, the first of them, the last plus one)."""
        count, start, stop = 0, 0, 0
        rows = self._connection.execute("SELECT block FROM moments WHERE earliest < ? ORDER BY block", (before_ms,))
        for (number,) in rows.fetchall():
            block = load_block(self._connection, number) or Block(number)
            due = [
                number * BLOCK + step
                for step, (time, flags) in enumerate(zip(block.times, block.flags, strict=True))
                if time < before_ms and flags != ERASED
            ]
            if due:
                count, start, stop = count + len(due), start if count else due[0], due[-1] + 1
        return count, start, stop

    def find(self, query: Query) -> list[Position]:
        """Where the records are that meet the query, in its order."""
        return self._positions(find(self._connection, query))

    def transactions(self, query: LogQuery) -> list[Position]:
        """The requests of which a transaction log tells, one for each transaction and direction."""
        return self._positions(transactions(self._connection, query))

    def _positions(self, found: list[Place]) -> list[Position]:
        segments = self._connection.execute("SELECT segment, generation FROM segments ORDER BY segment").fetchall()
        result = []
        for index, place in found:
            segment, generation = segments[bisect_right(segments, (index, _MANY)) - 1]
            result.append(Position(index, segment, place, generation))
        return result
