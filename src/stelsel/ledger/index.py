"""The index: search and Merkle tiles, built behind the journal and rebuilt from it whenever that is needed.

One SQLite file, `<folder>/index.sqlite`, holds what is searched for (never the records themselves) and the tiles of
the tree. Both move in one transaction with the size they cover, so after any crash the index is some moment of the
past and catches up. It may lag behind the journal; whoever asks waits until it has caught up (`wait_for`).

Who asked what of whom under which grant is a *relation*; millions of records have some thousands of them. A search by
peer, grant or service finds its relations first and then goes through their records in order (see `search`). For a
search by time each *block* of records keeps its earliest and latest moment, since clocks can be set back.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stelsel.base.errors import ConfigurationFault
from stelsel.base.log import logger
from stelsel.ledger.commitment import commitment, sealed
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.journal import Journal, Line, Position
from stelsel.ledger.merkle import Tiles, leaf_hash
from stelsel.ledger.query import LogQuery, Query
from stelsel.ledger.record import Record
from stelsel.ledger.search import BLOCK, find, transactions

_log = logger("ledger")

_VERSION = 3
_SLICE = 64
"""Records handled before the event loop gets a turn; see `_breathe`."""
_ROUND = 4096
"""Records in one transaction, at most."""
_RETRY = 1.0

_SCHEMA = """
CREATE TABLE relations (
    id INTEGER PRIMARY KEY, grant_hash TEXT NOT NULL, service TEXT NOT NULL, consumer TEXT NOT NULL,
    provider TEXT NOT NULL, consumer_delegator TEXT NOT NULL, provider_delegator TEXT NOT NULL,
    UNIQUE (grant_hash, service, consumer, provider, consumer_delegator, provider_delegator));
CREATE INDEX relations_consumer ON relations (consumer);
CREATE INDEX relations_provider ON relations (provider);
CREATE TABLE entries (
    idx INTEGER PRIMARY KEY, segment INTEGER NOT NULL, place INTEGER NOT NULL, time INTEGER NOT NULL,
    transaction_id TEXT NOT NULL, trace_id TEXT NOT NULL, relation INTEGER NOT NULL, incoming INTEGER NOT NULL,
    logged INTEGER NOT NULL, subject TEXT);
CREATE INDEX entries_relation ON entries (relation);
CREATE INDEX entries_transaction ON entries (transaction_id);
CREATE INDEX entries_trace ON entries (trace_id);
CREATE INDEX entries_subject ON entries (subject) WHERE subject IS NOT NULL;
CREATE TABLE blocks (number INTEGER PRIMARY KEY, earliest INTEGER NOT NULL, latest INTEGER NOT NULL);
CREATE TABLE tiles (level INTEGER NOT NULL, number INTEGER NOT NULL, hashes BLOB NOT NULL,
    PRIMARY KEY (level, number)) WITHOUT ROWID;
CREATE TABLE progress (
    one INTEGER PRIMARY KEY, size INTEGER NOT NULL, segment INTEGER NOT NULL, place INTEGER NOT NULL);
"""


class Index:
    """Built by one thread of its own; asked from any."""

    def __init__(self, path: Path, *, pause: float) -> None:
        """Open the index, or make it anew when it cannot be used. `pause` in seconds between two rounds."""
        self._path = path
        self._pause = pause
        self._connection = self._open()
        self._relations: dict[tuple[str, ...], int] = {
            tuple(names): number for number, *names in self._connection.execute("SELECT * FROM relations")
        }
        row = self._connection.execute("SELECT size, segment, place FROM progress").fetchone()
        self.size = 0
        """How many records the index and the tree hold."""
        self._position: Position | None = None
        if row is not None:
            self.size = int(row[0])
            self._position = Position(*row)
        self._tiles = Tiles(self.size, self._load_tile)
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
        return self._wanted > self.size

    def _round(self) -> bool:
        """Take in what the journal has more; gives whether there may be more still."""
        if self._journal is None:
            return False
        start, stop = self.size, min(self._journal.size, self.size + _ROUND)
        if start == stop:
            return False
        relations_before = dict(self._relations)
        connection = self._connection
        connection.execute("BEGIN")
        try:
            position = None
            lines: list[Line] = []
            for line in self._journal.lines(start, stop, self._position):
                lines.append(line)
                if len(lines) == _SLICE:
                    self._take(lines)
                    lines = []
                    self._breathe()
                position = line.after
            self._take(lines)
            if position is None:
                raise LedgerUnavailable("the journal gave no records")
            connection.executemany(
                "INSERT OR REPLACE INTO tiles VALUES (?, ?, ?)",
                [(level, number, self._tiles.tile(level, number)) for level, number in sorted(self._tiles.changed)],
            )
            connection.execute(
                "INSERT OR REPLACE INTO progress VALUES (1, ?, ?, ?)", (stop, position.segment, position.offset)
            )
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            self._tiles = Tiles(start, self._load_tile)
            self._relations = relations_before
            raise
        self._tiles.saved()
        self._position = position
        self.size = stop
        return stop < self._journal.size

    def _breathe(self) -> None:
        """Let the event loop have the interpreter: building the index is never urgent, answering always is."""
        time.sleep(0 if self._urgent() else 0.0002)

    def _take(self, lines: list[Line]) -> None:
        entries: list[tuple[Any, ...]] = []
        blocks: dict[int, tuple[int, int]] = {}
        for line in lines:
            record = Record.from_json(json.loads(line.record))
            self._tiles.append(leaf_hash(commitment(record.canonical_counted(), sealed(line.nonce, line.record))))
            entries.append(
                (
                    line.position.index,
                    line.position.segment,
                    line.position.offset,
                    record.time,
                    record.transaction_id,
                    record.trace_id,
                    self._relation(record),
                    record.direction == "incoming",
                    _is_logged(record),
                    record.subject or None,
                )
            )
            number = line.position.index // BLOCK
            earliest, latest = blocks.get(number, (record.time, record.time))
            blocks[number] = (min(earliest, record.time), max(latest, record.time))
        self._connection.executemany("INSERT INTO entries VALUES (?,?,?,?,?,?,?,?,?,?)", entries)
        self._connection.executemany(
            "INSERT INTO blocks VALUES (?, ?, ?) ON CONFLICT (number) DO UPDATE"
            " SET earliest = min(earliest, excluded.earliest), latest = max(latest, excluded.latest)",
            [(number, *moments) for number, moments in blocks.items()],
        )

    def _relation(self, record: Record) -> int:
        names = (
            record.grant_hash,
            record.service,
            record.consumer,
            record.provider,
            record.consumer_delegator or "",
            record.provider_delegator or "",
        )
        number = self._relations.get(names)
        if number is None:
            cursor = self._connection.execute("INSERT INTO relations VALUES (NULL,?,?,?,?,?,?)", names)
            number = self._relations[names] = int(cursor.lastrowid or 0)
        return number

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
        row = self._connection.execute("SELECT idx, segment, place FROM entries WHERE idx = ?", (index,)).fetchone()
        return Position(*row) if row else None

    def find(self, query: Query) -> list[Position]:
        """Where the records are that meet the query, in its order."""
        return find(self._connection, query)

    def transactions(self, query: LogQuery) -> list[Position]:
        """The requests of which a transaction log tells, one for each transaction and direction."""
        return transactions(self._connection, query)


def _is_logged(record: Record) -> bool:
    """Whether a transaction log tells of it: a request under an agreement, of which all names are known.

    What was refused without any agreement has no grant hash, which every log record must have (FSC Logging 1.1.0).
    """
    names = (record.grant_hash, record.service, record.consumer, record.provider)
    return record.event == "request" and all(names)


def _tile(connection: sqlite3.Connection, level: int, number: int) -> bytes:
    row = connection.execute("SELECT hashes FROM tiles WHERE level = ? AND number = ?", (level, number)).fetchone()
    return bytes(row[0]) if row else b""


def _connect(path: Path) -> sqlite3.Connection:
    """A connection for building; an index of another version counts as one that cannot be used."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # it can be rebuilt; the journal cannot
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError("made by another version")
        connection.execute("SELECT count(*) FROM relations, blocks, progress").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
