"""What builds the index: takes in what the journal has more, and forgets what was erased.

A thread of the node drives it, or the loop of a process of its own (`index_process`): `take` and `forget`, one after
the other, again and again, whatever they raise. Both go in steps of some milliseconds: between two, who drives can let
others go first, and any thread may do the next. All that it knows is in the index itself, and a transaction first looks
whether it still knows it: after a crash the process of the node before may be at its last round still.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from stelsel.ledger.blocks import BLOCK, RUN
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.glance import Glances
from stelsel.ledger.intake import SCHEMA, Intake, complete_run, take_again
from stelsel.ledger.journal import Piece, Position
from stelsel.ledger.merkle import Tiles

VERSION = 4
RETRY, _FORGET_RETRY = 1.0, 60.0
"""Seconds after which is tried again what went wrong: taking records in; forgetting what was erased."""
_ROUND = 8192
"""Records in one transaction, at most."""
_CHECKPOINT = 4000
"""Pages of SQLite's log after which it goes to the file: the right edge of every index is then written once."""


Steps = Generator[None, None, None]
"""Work, in steps: `next` does one."""


class Source(Protocol):
    """What is needed of a journal."""

    size: int

    def pieces(self, start: int, stop: int, near: Position | None = None) -> Iterator[Piece]:
        """See `Journal`."""

    def generations(self) -> dict[int, int]:
        """See `Journal`."""


class Builder:
    """Builds the index at `path`. Any thread may look at `size`."""

    def __init__(self, path: Path, erased: list[tuple[int, int]]) -> None:
        """`erased`: ranges in which records were erased since they were taken in; who calls adds to them, and those
        that are forgotten go.

        Raises `sqlite3.DatabaseError` when the index cannot be used.
        """
        self._connection = connect(path)
        self._erased = erased
        self._forget_at = 0.0
        self._glances = Glances()
        self._loaded = False
        self._position: Position | None
        self._runs: int
        self.size: int
        """How many records the index and the tree hold."""
        try:
            self._load()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @property
    def forgets_in(self) -> float | None:
        """Seconds after which there is something to forget; None: nothing."""
        return max(0.0, self._forget_at - time.monotonic()) if self._erased else None

    @property
    def in_transaction(self) -> bool:
        """Whether something is begun and not finished."""
        return self._connection.in_transaction

    def take(self, journal: Source) -> Steps:
        """Take in what the journal has more, a round of it. Yields between two steps."""
        if not self._loaded:
            self._load()
        start, stop = self.size, min(journal.size, self.size + _ROUND)
        if start >= stop:
            return
        with self._transaction() as connection:
            position: Position | None = None
            for piece in journal.pieces(start, stop, self._position):
                self._intake.take(piece)
                position = piece.after
                yield
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
        self._tiles.saved()
        self._position = position
        self.size = stop
        while (self._runs + 1) * RUN * BLOCK <= self.size:
            with self._transaction() as connection:
                yield from complete_run(connection, self._runs)
                connection.execute("UPDATE progress SET runs = ?", (self._runs + 1,))
            self._runs += 1

    def forget(self, journal: Source) -> Steps:
        """Forget what was erased; where the journal cannot be read, again later: the rest goes on meanwhile."""
        if not self._erased or time.monotonic() < self._forget_at:
            return
        if not self._loaded:
            self._load()
        try:
            yield from self._forget(journal, *self._erased[0])
        except Exception:
            self._forget_at = time.monotonic() + _FORGET_RETRY
            raise
        del self._erased[0]

    def _load(self) -> None:
        row = self._connection.execute("SELECT size, segment, place, generation, runs FROM progress").fetchone()
        size, segment, place, generation, runs = row or (0, 0, 0, 0, 0)
        tiles = Tiles(int(size), self._load_tile)
        self._intake = Intake(self._connection, tiles, self._glances)
        self._tiles = tiles
        self._position = Position(int(size), segment, place, generation) if row else None
        self._runs = int(runs)
        self.size = int(size)
        self._loaded = True

    def _forget(self, journal: Source, start: int, stop: int) -> Steps:
        """Forget the records of start..stop-1 that were erased, and of all segments that were written anew since."""
        connection = self._connection
        known = dict(connection.execute("SELECT segment, generation FROM segments ORDER BY segment"))
        rewritten = {one: now for one, now in journal.generations().items() if known.get(one, now) != now}
        starts = [*known, self.size]
        ranges = [(one, next_one) for one, next_one in pairwise(starts) if one in rewritten]
        if not rewritten and start < stop:
            ranges = [(start, min(stop, self.size))]
        if not ranges:
            return
        self._loaded = False  # the block that is being filled may be one of those
        for first, end in ranges:
            for piece in journal.pieces(first, end):
                with self._transaction():
                    take_again(connection, piece)
                yield
            connection.execute("UPDATE segments SET generation = ? WHERE segment = ?", (rewritten.get(first, 0), first))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # SQLite's log still holds what was forgotten

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done in here or nothing, and only while nobody else took in anything."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            row = connection.execute("SELECT size, runs FROM progress").fetchone() or (0, 0)
            if row != (self.size, self._runs):
                raise LedgerUnavailable("another process took records in")
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            self._loaded = False
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _load_tile(self, level: int, number: int) -> bytes:
        return tile_in(self._connection, level, number)


def tile_in(connection: sqlite3.Connection, level: int, number: int) -> bytes:
    """The bytes of a tile of the tree; empty when there is none."""
    row = connection.execute("SELECT hashes FROM tiles WHERE level = ? AND number = ?", (level, number)).fetchone()
    return bytes(row[0]) if row else b""


def connect(path: Path) -> sqlite3.Connection:
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
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError("made by another version")
        connection.execute("SELECT count(*) FROM relations, blocks, progress").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
