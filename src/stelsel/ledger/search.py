"""Searching the index: which records meet a query, in their order, without looking at more than are asked for.

The tables are those of `intake`. What is most exact of a query says where to look: a transaction, trace or resident has
keys of its own; of relations it is known in which blocks they occur; of blocks, when they were made. There every record
is held against the whole query, one after the other, until there are as many as are asked for.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from stelsel.ledger.blocks import BLOCK, ERASED, LOGGED, NAMED, RUN, Block, key_bytes, places_of, steps_of
from stelsel.ledger.columns import subject_key, trace_key, transaction_key
from stelsel.ledger.intake import SUBJECTS, TRACES, load_block
from stelsel.ledger.query import LogQuery, Query

Place = tuple[int, int]
"""Index of a record, and its offset in its segment."""

_TAKES_PART = "(consumer = ? OR provider = ? OR consumer_delegator = ? OR provider_delegator = ?)"
_NAMED = "grant_hash <> '' AND service <> '' AND consumer <> '' AND provider <> ''"
"""Of what else there is a transaction log does not tell, however much it is: it is not gone through."""


def find(connection: sqlite3.Connection, query: Query) -> list[Place]:
    """Where the records are that meet the query, in its order."""
    relations = _Relations()
    if query.peer is not None:
        relations.add(_TAKES_PART, *[query.peer] * 4)
    if query.grant_hash is not None:
        relations.add("grant_hash = ?", query.grant_hash)
    if query.service is not None:
        relations.add("service = ?", query.service)
    wanted = _Wanted(query.after_ms, query.before_ms)
    if query.subject is not None:
        wanted.subject, wanted.or_nobody = subject_key(_bytes(query.subject)), query.or_nobody
    if query.trace_id is not None:
        wanted.trace = trace_key(_bytes(query.trace_id))
    if query.transaction_id is not None:
        wanted.transactions = [transaction_key(_bytes(query.transaction_id))]
    return _search(connection, query, relations, wanted)


def transactions(connection: sqlite3.Connection, query: LogQuery) -> list[Place]:
    """The requests of which a transaction log tells, one for each transaction and direction."""
    relations = _Relations()
    relations.add(_TAKES_PART, *[query.peer] * 4)
    relations.add(_NAMED)
    if query.transaction_ids:
        wanted = _Wanted(logged=True, transactions=[transaction_key(_bytes(one)) for one in query.transaction_ids])
        everything = LogQuery(query.peer, limit=2 * len(query.transaction_ids), descending=query.descending)
        return _search(connection, everything, relations, wanted)
    if query.grant_hashes or query.service_names:
        relations.add(
            "(grant_hash IN (SELECT value FROM json_each(?)) OR service IN (SELECT value FROM json_each(?)))",
            json.dumps(query.grant_hashes),
            json.dumps(query.service_names),
        )
    return _search(connection, query, relations, _Wanted(query.after_ms, query.before_ms, logged=True))


class _Relations:
    """Conditions on relations that must all hold. Only constant texts of this module are conditions."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self._values: list[str] = []

    def add(self, condition: str, *values: str) -> None:
        self._conditions.append(condition)
        self._values.extend(values)

    def found(self, connection: sqlite3.Connection) -> set[int] | None:
        """The relations that meet them; None: all."""
        if not self._conditions:
            return None
        sql = f"SELECT id FROM relations WHERE {' AND '.join(self._conditions)}"  # noqa: S608
        wanted = {row[0] for row in connection.execute(sql, self._values)}
        (every,) = connection.execute("SELECT count(*) FROM relations").fetchone()
        return None if len(wanted) == every else wanted


@dataclass
class _Wanted:
    """What a record must be, beside its relation."""

    after_ms: int | None = None
    before_ms: int | None = None
    subject: int | None = None
    or_nobody: bool = False
    trace: int | None = None
    transactions: list[bytes] = field(default_factory=list)
    logged: bool = False
    relations: set[int] | None = None

    def __call__(self, block: Block, step: int) -> bool:
        flags = block.flags[step]
        if flags == ERASED or (self.logged and not flags & LOGGED):
            return False
        if self.relations is not None and block.relations[step] not in self.relations:
            return False
        time = block.times[step]
        if (self.after_ms is not None and time < self.after_ms) or (
            self.before_ms is not None and time >= self.before_ms
        ):
            return False
        if self.trace is not None and block.traces[step] != self.trace:
            return False
        if self.subject is None:
            return True
        return block.subjects[step] == self.subject if flags & NAMED else self.or_nobody


def _search(
    connection: sqlite3.Connection, query: Query | LogQuery, relations: _Relations, wanted: _Wanted
) -> list[Place]:
    wanted.relations = relations.found(connection)
    bounds = _bounds(connection, query, wanted)
    if bounds is None or wanted.relations == set():
        return []
    view = _View(connection, *bounds, descending=query.descending)
    found = (
        (index, block.places[step])
        for index, block, step in _candidates(view, wanted)
        if wanted(block, step) and not (wanted.logged and view.has_earlier(index, block, step))
    )
    return list(islice(found, query.limit))


def _bounds(connection: sqlite3.Connection, query: Query | LogQuery, wanted: _Wanted) -> tuple[int, int] | None:
    """The first and the last record that time and place leave; None when nothing can meet them."""
    (size,) = connection.execute("SELECT size FROM progress").fetchone() or (0,)
    lowest, highest = 0, size - 1
    if query.after_index is not None:
        if query.descending:
            highest = min(highest, query.after_index - 1)
        else:
            lowest = query.after_index + 1
    if wanted.after_ms is not None:
        (first,) = connection.execute("SELECT min(block) FROM moments WHERE latest >= ?", (wanted.after_ms,)).fetchone()
        if first is None:
            return None
        lowest = max(lowest, first * BLOCK)
    if wanted.before_ms is not None:
        (last,) = connection.execute(
            "SELECT max(block) FROM moments WHERE earliest < ?", (wanted.before_ms,)
        ).fetchone()
        if last is None:
            return None
        highest = min(highest, (last + 1) * BLOCK - 1)
    return (lowest, highest) if lowest <= highest else None


def _candidates(view: _View, wanted: _Wanted) -> Iterator[tuple[int, Block, int]]:
    """Records that may meet the query, in order: (index, its block, its step in the block)."""
    if wanted.transactions:
        yield from view.at(view.of_transactions(wanted.transactions))
    elif wanted.trace is not None:
        yield from view.at(view.of_key(TRACES, wanted.trace))
    elif wanted.subject is not None and not wanted.or_nobody:
        yield from view.at(view.of_key(SUBJECTS, wanted.subject))
    elif wanted.relations is not None:
        for number in view.blocks_of(wanted.relations):
            yield from view.within(number, wanted.relations)
    else:
        for number in view.blocks():
            yield from view.within(number)


class _View:
    """The records lowest..highest in the order asked for."""

    def __init__(self, connection: sqlite3.Connection, lowest: int, highest: int, *, descending: bool) -> None:
        self._connection = connection
        self._lowest, self._highest, self._descending = lowest, highest, descending
        self.block = lru_cache(maxsize=4)(lambda number: load_block(connection, number) or Block(number))

    def _ordered(self, numbers: range) -> range:
        return numbers[::-1] if self._descending else numbers

    def blocks(self) -> Iterator[int]:
        """All blocks."""
        yield from self._ordered(range(self._lowest // BLOCK, self._highest // BLOCK + 1))

    def blocks_of(self, relations: set[int]) -> Iterator[int]:
        """The blocks in which one of these relations occurs."""
        compare, best = ("<=", "max") if self._descending else (">=", "min")
        ids = json.dumps(sorted(relations))
        at = (self._highest if self._descending else self._lowest) // BLOCK
        end = (self._lowest if self._descending else self._highest) // BLOCK
        nearest = (
            f"SELECT {best}(near) FROM (SELECT (SELECT {best}(block) FROM present"  # noqa: S608
            f" WHERE relation = value AND block {compare} ?) AS near FROM json_each(?))"
        )
        step = -1 if self._descending else 1
        while (at - end) * step <= 0:
            (found,) = self._connection.execute(nearest, (at, ids)).fetchone()
            if found is None or (found - end) * step > 0:
                return
            yield found
            at = found + step

    def within(self, number: int, relations: set[int] | None = None) -> Iterator[tuple[int, Block, int]]:
        """The records of this block; those of one of these relations, if they are given."""
        block = self.block(number)
        first = number * BLOCK
        steps: Sequence[int] = range(max(0, self._lowest - first), min(len(block), self._highest + 1 - first))
        if relations is not None:
            column = block.relations
            steps = [step for step in steps if column[step] in relations]
        for step in reversed(steps) if self._descending else steps:
            yield first + step, block, step

    def at(self, indexes: Iterator[int]) -> Iterator[tuple[int, Block, int]]:
        """The records at these places."""
        for index in indexes:
            if self._lowest <= index <= self._highest:
                block = self.block(index // BLOCK)
                yield index, block, index % BLOCK

    def of_transactions(self, keys: list[bytes]) -> Iterator[int]:
        """The records of these transactions."""
        found = {
            entry >> 2
            for key in keys
            for (entry,) in self._connection.execute("SELECT entry FROM transactions WHERE key = ?", (key,))
        }
        yield from sorted(found, reverse=self._descending)

    def of_key(self, kind: int, key: int) -> Iterator[int]:
        """The records with this key."""
        (complete,) = self._connection.execute("SELECT runs FROM progress").fetchone()
        wanted, size = key_bytes(key), RUN * BLOCK
        sorted_runs = range(self._lowest // size, min(self._highest // size + 1, complete))
        latest = self._ordered(range(max(self._lowest // BLOCK, complete * RUN), self._highest // BLOCK + 1))
        if self._descending:
            yield from self._in_blocks(latest, kind, wanted)
        order = "DESC" if self._descending else "ASC"
        sql = f"SELECT run, keys FROM runs WHERE kind = ? AND bucket = ? AND run >= ? AND run < ? ORDER BY run {order}"  # noqa: S608
        rows = self._connection.execute(sql, (kind, key >> 56, sorted_runs.start, sorted_runs.stop))
        for run, data in rows:
            steps = steps_of(wanted, data)
            for step in reversed(steps) if self._descending else steps:
                yield run * size + step
        if not self._descending:
            yield from self._in_blocks(latest, kind, wanted)

    def _in_blocks(self, numbers: range, kind: int, key: bytes) -> Iterator[int]:
        column = ("traces", "subjects")[kind]
        for number in numbers:
            sql = f"SELECT {column} FROM blocks WHERE block = ?"  # noqa: S608
            (keys,) = self._connection.execute(sql, (number,)).fetchone() or (b"",)
            places = places_of(key, keys)
            for place in reversed(places) if self._descending else places:
                yield number * BLOCK + place

    def has_earlier(self, index: int, block: Block, step: int) -> bool:
        """Whether a logged record of the same transaction and direction came earlier: that one is told of."""
        rows = self._connection.execute("SELECT entry FROM transactions WHERE key = ?", (block.transaction(step),))
        mark = block.flags[step] & 3
        return any(entry & 3 == mark and entry >> 2 < index for (entry,) in rows)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
