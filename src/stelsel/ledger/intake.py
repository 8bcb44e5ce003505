"""What the index takes in: from pieces of the journal to blocks, runs and tiles, in the transaction of whoever calls.

This runs beside the gateway on the same processors, so a record costs some microseconds: no object and, but for its
transaction id, no row a record, and what is the same for many is remembered (`glance`).

Transaction ids come in the order of time, as a tree of SQLite likes it. Trace ids and subject references are as good as
random: in one tree of millions every record would touch a page of its own. So their keys are sorted into buckets when a
run of records is complete (see `blocks`); a search looks once in each run, and goes through the blocks after them.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator
from itertools import compress

from stelsel.ledger.blocks import (
    BLOCK,
    ERASED,
    INCOMING,
    LOGGED,
    NAMED,
    RUN,
    Block,
    bucket,
    buckets,
    pairs_in,
)
from stelsel.ledger.columns import Columns, entry_of
from stelsel.ledger.frames import RECORD
from stelsel.ledger.glance import Glances, Kind
from stelsel.ledger.journal import Piece
from stelsel.ledger.merkle import Tiles

TRACES, SUBJECTS = 0, 1
"""Kinds of keys in runs."""

SCHEMA = """
CREATE TABLE relations (
    id INTEGER PRIMARY KEY, grant_hash TEXT NOT NULL, service TEXT NOT NULL, consumer TEXT NOT NULL,
    provider TEXT NOT NULL, consumer_delegator TEXT NOT NULL, provider_delegator TEXT NOT NULL,
    UNIQUE (grant_hash, service, consumer, provider, consumer_delegator, provider_delegator));
CREATE INDEX relations_consumer ON relations (consumer);
CREATE INDEX relations_provider ON relations (provider);
CREATE TABLE segments (segment INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
CREATE TABLE moments (block INTEGER PRIMARY KEY, earliest INTEGER NOT NULL, latest INTEGER NOT NULL);
CREATE TABLE present (relation INTEGER, block INTEGER, PRIMARY KEY (relation, block)) WITHOUT ROWID;
CREATE TABLE blocks (
    block INTEGER PRIMARY KEY, relations BLOB, flags BLOB, times BLOB, places BLOB, subjects BLOB, traces BLOB,
    transactions BLOB);
CREATE TABLE transactions (key BLOB, entry INTEGER, PRIMARY KEY (key, entry)) WITHOUT ROWID;
CREATE TABLE runs (kind INTEGER, bucket INTEGER, run INTEGER, keys BLOB, PRIMARY KEY (kind, bucket, run))
    WITHOUT ROWID;
CREATE TABLE tiles (level INTEGER NOT NULL, number INTEGER NOT NULL, hashes BLOB NOT NULL,
    PRIMARY KEY (level, number)) WITHOUT ROWID;
CREATE TABLE progress (
    one INTEGER PRIMARY KEY, size INTEGER NOT NULL, segment INTEGER NOT NULL, place INTEGER NOT NULL,
    generation INTEGER NOT NULL, runs INTEGER NOT NULL);
"""

_MAXIMUM_CODES = 10_000
_IS_KEPT = bytes(flag != ERASED for flag in range(256))
_IS_NAMED = bytes(flag & NAMED and 1 for flag in range(256))
_COLUMNS = "relations, flags, times, places, subjects, traces, transactions"


def _insert(rows: int) -> str:
    return f"INSERT INTO transactions VALUES {','.join(['(?,?)'] * rows)}"  # noqa: S608 - question marks only


_ROWS = 64
"""Rows that are put in by one statement: one by one, half of the time goes to asking."""
_INSERT_ROWS = _insert(_ROWS)


class Intake:
    """Takes pieces in. Belongs to one thread and one connection; after a rollback it is of no use any more."""

    def __init__(self, connection: sqlite3.Connection, tiles: Tiles, glances: Glances) -> None:
        """To go on after the `tiles.size` records that were taken in before."""
        self._connection = connection
        self._tiles = tiles
        self._glances = glances
        self._relations: dict[tuple[str, ...], int] = {
            tuple(names): number for number, *names in connection.execute("SELECT * FROM relations")
        }
        self._codes: dict[Kind, tuple[int, int]] = {}
        self._segment = -1
        self._present: set[int] = set()
        """The relations in the block that is being filled that were written down."""
        self._block = load_block(connection, tiles.size // BLOCK) or Block(tiles.size // BLOCK)

    def take(self, piece: Piece) -> None:
        """Take in the records of this piece, which follow those that were taken in before."""
        if piece.segment != self._segment:
            # one that is there keeps its generation: that of the places which are known already
            self._connection.execute("INSERT OR IGNORE INTO segments VALUES (?, ?)", (piece.segment, piece.generation))
            self._segment = piece.segment
        taken = 0
        while taken < len(piece.payloads):
            room = BLOCK - len(self._block)
            self._take(piece.first + taken, piece.offsets[taken : taken + room], piece.payloads[taken : taken + room])
            taken += room
            if len(self._block) == BLOCK:
                self.save()
                self._block, self._present = Block(self._block.number + 1), set()

    def save(self) -> None:
        """Write down the block that is being filled."""
        block = self._block
        if len(block):
            present = {relation for relation in block.relations if relation}
            save_block(self._connection, block, present - self._present)
            self._present = present

    def _take(self, first: int, offsets: list[int], payloads: list[bytes]) -> None:
        columns = Columns(first, payloads, self._glances, self._codes, self._code)
        block = self._block
        block.relations.extend(columns.relations)
        block.flags += bytes(columns.flags)
        block.times.extend(columns.times)
        block.places.extend(offsets)
        block.subjects.extend(columns.subjects)
        block.traces.frombytes(columns.trace_keys())
        keys = columns.transaction_keys()
        block.transactions += keys
        self._tiles.extend(columns.leaves)
        values = columns.transaction_rows(keys)
        for at in range(0, len(values), 2 * _ROWS):
            some = values[at : at + 2 * _ROWS]
            self._connection.execute(_INSERT_ROWS if len(some) == 2 * _ROWS else _insert(len(some) // 2), some)

    def _code(self, kind: Kind) -> tuple[int, int]:
        """The number of the relation, and the flags, of records of this kind."""
        number = self._relations.get(kind.relation)
        if number is None:
            cursor = self._connection.execute("INSERT INTO relations VALUES (NULL,?,?,?,?,?,?)", kind.relation)
            number = self._relations[kind.relation] = int(cursor.lastrowid or 0)
        if len(self._codes) > _MAXIMUM_CODES:
            self._codes.clear()
        code = self._codes[kind] = number, INCOMING * kind.incoming | LOGGED * kind.logged
        return code


def load_block(connection: sqlite3.Connection, number: int) -> Block | None:
    """The block with this number, if there is one."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM blocks WHERE block = ?", (number,)).fetchone()  # noqa: S608
    return Block(number, row) if row else None


def save_block(connection: sqlite3.Connection, block: Block, present: set[int] | None = None) -> None:
    """Write down a block, and what is said of it elsewhere; of relations only those `present`, if that is given."""
    connection.execute("INSERT OR REPLACE INTO blocks VALUES (?,?,?,?,?,?,?,?)", (block.number, *block.columns()))
    moments = block.moments()
    if moments is None:
        connection.execute("DELETE FROM moments WHERE block = ?", (block.number,))
    else:
        connection.execute("INSERT OR REPLACE INTO moments VALUES (?, ?, ?)", (block.number, *moments))
    connection.executemany(
        "INSERT OR IGNORE INTO present VALUES (?, ?)",
        [(relation, block.number) for relation in (set(block.relations) - {0} if present is None else present)],
    )


def complete_run(connection: sqlite3.Connection, run: int) -> Iterator[None]:
    """Sort the keys of this run, whose blocks are complete, into buckets. Yields now and then, to let others work."""
    columns = (array("Q"), array("Q"))
    flags = bytearray()
    for number in range(run * RUN, (run + 1) * RUN):
        block = load_block(connection, number)
        if block is None:
            raise ValueError("a run is complete when all its blocks are")
        columns[TRACES].extend(block.traces)
        columns[SUBJECTS].extend(block.subjects)
        flags += block.flags
    steps = range(len(flags))
    kept = (bytes(flags).translate(_IS_KEPT), bytes(flags).translate(_IS_NAMED))
    for kind in (TRACES, SUBJECTS):
        yield
        for number, data in buckets(columns[kind], compress(steps, kept[kind])):
            connection.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", (kind, number, run, data))
            if number % 32 == 0:
                yield


def take_again(connection: sqlite3.Connection, piece: Piece) -> None:
    """Records of this piece were erased, or have other places now: forget the ones, correct the others."""
    erased: set[int] = set()
    last = piece.first + len(piece.payloads) - 1
    for number in range(piece.first // BLOCK, last // BLOCK + 1):
        block = load_block(connection, number)
        if block is None:
            continue
        first = number * BLOCK
        for index in range(max(first, piece.first), min(first + len(block), last + 1)):
            step, at = index - first, index - piece.first
            block.places[step] = piece.offsets[at]
            if block.flags[step] != ERASED and piece.payloads[at][:1] != RECORD:
                erased.add(index)
                entry = entry_of(index, block.flags[step])
                connection.execute(
                    "DELETE FROM transactions WHERE key = ? AND entry = ?", (block.transaction(step), entry)
                )
                block.erase(step)
        connection.execute("DELETE FROM present WHERE relation IN (SELECT id FROM relations) AND block = ?", (number,))
        save_block(connection, block)
    for run in {index // (RUN * BLOCK) for index in erased}:
        steps = {index - run * RUN * BLOCK for index in erased}
        rows = connection.execute(
            "SELECT kind, bucket, keys FROM runs WHERE kind IN (0, 1) AND bucket BETWEEN 0 AND 255 AND run = ?", (run,)
        ).fetchall()
        for kind, number, data in rows:
            pairs = pairs_in(data)
            kept = [pair for pair in pairs if pair[1] not in steps]
            if len(kept) < len(pairs):
                connection.execute(
                    "UPDATE runs SET keys = ? WHERE kind = ? AND bucket = ? AND run = ?",
                    (bucket(kept), kind, number, run),
                )
