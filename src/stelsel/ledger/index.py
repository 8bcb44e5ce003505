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

import sqlite3
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from stelsel.base.errors import ConfigurationFault
from stelsel.base.log import logger
from stelsel.ledger.blocks import BLOCK, ERASED, RUN, Block
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.glance import Glances
from stelsel.ledger.intake import SCHEMA, Intake, complete_run, load_block, take_again
from stelsel.ledger.journal import Journal, Position
from stelsel.ledger.merkle import Tiles
from stelsel.ledger.query import LogQuery, Query
from stelsel.ledger.search import Place, find, transactions

_log = logger("ledger")

_VERSION = 4
_ROUND = 8192
"""Records in one transaction, at most."""
_RETRY, _FORGET_RETRY = 1.0, 60.0
"""Seconds after which is tried again what went wrong: taking records in; forgetting what was erased."""
_MANY = 1 << 62
_CHECKPOINT = 4000
"""Pages of SQLite's log after which it goes to the file: the right edge of every index is then written once."""


class Index:
    """Built by one thread of its own; asked from any."""

    def __init__(self, path: Path, *, pause: float) -> None:
        """Open the index, or make it anew when it cannot be used. `pause` in seconds between two rounds."""
        self._path = path
        self._pause = pause
        self._connection = self._open()
        row = self._connection.execute("SELECT size, segment, place, generation, runs FROM progress").fetchone()
        size, segment, place, generation, runs = row or (0, 0, 0, 0, 0)
        self.size = int(size)
        """How many records the index and the tree hold."""
        self._position = Position(size, segment, place, generation) if row else None
        self._runs = int(runs)
        self._glances = Glances()
        self._tiles = Tiles(self.size, self._load_tile)
        self._intake = Intake(self._connection, self._tiles, self._glances)
        self._erased: list[tuple[int, int]] = [(0, 0)]
        """Ranges in which the journal erased records since they were taken in; at the start nobody knows."""
        self._forget_at = 0.0
        self._journal: Journal | None = None
        self._changed = threading.Condition()
        self._wanted = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="ledger-index", daemon=True)

    def start(self, journal: Journal) -> None:
        """Follow this journal from now on."""
        self._journal = journal
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present round. The rest is caught up with at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        self._connection.close()

    def wait_for(self, size: int, deadline: float) -> None:
        """Return when the index holds the first `size` records. Raises `LedgerUnavailable` after `deadline` s."""
        if self.size >= size:
            return
        with self._changed:
            self._wanted = max(self._wanted, size)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self.size >= size or self._stopping, deadline) or self.size < size:
                raise LedgerUnavailable(
                    "the search index is still being built", next_step="try again in a moment; nothing is lost"
                )

    def erased(self, start: int, stop: int, deadline: float) -> None:
        """The journal erased some of the records start..stop-1: forget them. Raises `LedgerUnavailable` if it lasts."""
        with self._changed:
            self._erased.append((start, stop))
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

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self._path)
        except sqlite3.OperationalError as error:  # a full or unwritable disk: nothing is wrong with the index
            raise ConfigurationFault(
                f"{self._path}: cannot be opened ({error})", next_step="make the folder writable, and give it room"
            ) from error
        except sqlite3.DatabaseError:
            _log.warning("index made anew", file=self._path.name)
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self._path.with_name(self._path.name + suffix).unlink()
            return _connect(self._path)

    def _run(self) -> None:
        while not self._stopping:
            more = failed = False
            try:
                more = self._round()
                self._forget_erased()
            except Exception as error:  # noqa: BLE001 - the journal goes on without us, and we try again
                _log.warning("index lags", reason=type(error).__name__)
                failed = True
            with self._changed:
                self._changed.notify_all()
                if failed:
                    self._changed.wait_for(lambda: self._stopping, _RETRY)
                elif not more:
                    self._changed.wait_for(lambda: self._stopping or self._urgent(), self._pause)

    def _urgent(self) -> bool:
        return self._wanted > self.size or (len(self._erased) > 0 and time.monotonic() >= self._forget_at)

    def _round(self) -> bool:
        """Take in what the journal has more; gives whether there may be more still."""
        if self._journal is None:
            return False
        start, stop = self.size, min(self._journal.size, self.size + _ROUND)
        if start == stop:
            return False
        connection = self._connection
        connection.execute("BEGIN")
        try:
            position = None
            for piece in self._journal.pieces(start, stop, self._position):
                self._intake.take(piece)
                self._breathe()
                position = piece.after
            if position is None:
                raise LedgerUnavailable("the journal gave no records")
            self._intake.save()
            connection.executemany(
                "INSERT OR REPLACE INTO tiles VALUES (?, ?, ?)",
                [(level, number, self._tiles.tile(level, number)) for level, number in sorted(self._tiles.changed)],
            )
            connection.execute(
                "INSERT OR REPLACE INTO progress VALUES (1, ?, ?, ?, ?, ?)",
                (stop, position.segment, position.offset, position.generation, self._runs),
            )
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            self._tiles = Tiles(start, self._load_tile)
            self._intake = Intake(connection, self._tiles, self._glances)
            raise
        self._tiles.saved()
        self._position = position
        self.size = stop
        while (self._runs + 1) * RUN * BLOCK <= self.size:
            with self._rolled_back():
                connection.execute("BEGIN")
                for _ in complete_run(connection, self._runs):
                    self._breathe()
                connection.execute("UPDATE progress SET runs = ?", (self._runs + 1,))
                connection.execute("COMMIT")
            self._runs += 1
        return stop < self._journal.size

    def _forget_erased(self) -> None:
        """Forget what was erased; where the journal cannot be read, again later: the rest goes on meanwhile."""
        if not self._erased or self._journal is None or time.monotonic() < self._forget_at:
            return
        try:
            self._forget(self._journal, *self._erased[0])
        except Exception:
            self._forget_at = time.monotonic() + _FORGET_RETRY
            raise
        with self._changed:
            del self._erased[0]

    def _forget(self, journal: Journal, start: int, stop: int) -> None:
        """Forget the records of start..stop-1 that were erased, and of all segments that were written anew since."""
        connection = self._connection
        known = dict(connection.execute("SELECT segment, generation FROM segments ORDER BY segment"))
        rewritten = {one: now for one, now in journal.generations().items() if known.get(one, now) != now}
        starts = [*known, self.size]
        ranges = [(one, next_one) for one, next_one in pairwise(starts) if one in rewritten]
        if not rewritten and start < stop:
            ranges = [(start, min(stop, self.size))]
        for first, end in ranges:
            for piece in journal.pieces(first, end):
                with self._rolled_back():
                    connection.execute("BEGIN")
                    take_again(connection, piece)
                    connection.execute("COMMIT")
                self._breathe()
            connection.execute("UPDATE segments SET generation = ? WHERE segment = ?", (rewritten.get(first, 0), first))
        if ranges:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # SQLite's log still holds what was forgotten

    @contextmanager
    def _rolled_back(self) -> Iterator[None]:
        """Whatever fails in here leaves no transaction open."""
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _breathe(self) -> None:
        """Let the event loop have the interpreter: building the index is never urgent, answering always is."""
        time.sleep(0 if self._urgent() else 0.0002)

    def _load_tile(self, level: int, number: int) -> bytes:
        return _tile(self._connection, level, number)


class Reader:
    """Questions to one view of the index."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def tree(self) -> Tiles:
        """The Merkle tree as far as this view goes."""
        row = self._connection.execute("SELECT size FROM progress").fetchone()
        return Tiles(int(row[0]) if row else 0, lambda level, number: _tile(self._connection, level, number))

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


def _tile(connection: sqlite3.Connection, level: int, number: int) -> bytes:
    row = connection.execute("SELECT hashes FROM tiles WHERE level = ? AND number = ?", (level, number)).fetchone()
    return bytes(row[0]) if row else b""


def _connect(path: Path) -> sqlite3.Connection:
    """A connection for building; an index of another version counts as one that cannot be used."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
        connection.execute("PRAGMA secure_delete=ON")  # what is forgotten is not left in free pages
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA synchronous=NORMAL")  # it can be rebuilt; the journal cannot
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError("made by another version")
        connection.execute("SELECT count(*) FROM relations, blocks, progress").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
