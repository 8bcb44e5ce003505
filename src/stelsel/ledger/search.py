"""Searching the index: which records meet a query, in their order, without looking at more than are asked for.

The tables are those of `index`. Records of one relation are found in order; a search over several relations merges
them, beginning with those that have the nearest record, so that a page costs as much as it has records, however many
others lie between them.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterator
from itertools import islice

from stelsel.ledger.journal import Position
from stelsel.ledger.query import LogQuery, Query

BLOCK = 1024
"""Records of which the earliest and latest moment are kept together."""

_TAKES_PART = "(consumer = ? OR provider = ? OR consumer_delegator = ? OR provider_delegator = ?)"
_NAMED = "grant_hash <> '' AND service <> '' AND consumer <> '' AND provider <> ''"
"""Of what else there is a transaction log does not tell, however much it is: it is not gone through."""
_FIRST_LOGGED = (
    "logged AND NOT EXISTS (SELECT 1 FROM entries AS earlier"
    " WHERE earlier.transaction_id = entries.transaction_id AND earlier.incoming = entries.incoming"
    " AND earlier.logged AND earlier.idx < entries.idx)"
)


def find(connection: sqlite3.Connection, query: Query) -> list[Position]:
    """Where the records are that meet the query, in its order."""
    relations = _Where()
    if query.peer is not None:
        relations.add(_TAKES_PART, *[query.peer] * 4)
    if query.grant_hash is not None:
        relations.add("grant_hash = ?", query.grant_hash)
    if query.service is not None:
        relations.add("service = ?", query.service)
    where = _Where()
    if query.subject is not None:
        where.add("(subject = ? OR subject IS NULL)" if query.or_nobody else "subject = ?", query.subject)
    if query.transaction_id is not None:
        where.add("transaction_id = ?", query.transaction_id)
    if query.trace_id is not None:
        where.add("trace_id = ?", query.trace_id)
    few = bool(where.conditions)  # what names a resident, a transaction or a trace has an index of its own
    if not _within(connection, where, query.after_ms, query.before_ms, query.after_index, descending=query.descending):
        return []
    return _search(connection, relations, where, query.limit, few=few, descending=query.descending)


def transactions(connection: sqlite3.Connection, query: LogQuery) -> list[Position]:
    """The requests of which a transaction log tells, one for each transaction and direction."""
    relations, where = _Where(), _Where()
    relations.add(_TAKES_PART, *[query.peer] * 4)
    relations.add(_NAMED)
    where.add(_FIRST_LOGGED)
    if query.transaction_ids:
        where.add("transaction_id IN (SELECT value FROM json_each(?))", json.dumps(query.transaction_ids))
        limit = 2 * len(query.transaction_ids)
        return _search(connection, relations, where, limit, few=True, descending=query.descending)
    if query.grant_hashes or query.service_names:
        relations.add(
            "(grant_hash IN (SELECT value FROM json_each(?)) OR service IN (SELECT value FROM json_each(?)))",
            json.dumps(query.grant_hashes),
            json.dumps(query.service_names),
        )
    if not _within(connection, where, query.after_ms, query.before_ms, query.after_index, descending=query.descending):
        return []
    return _search(connection, relations, where, query.limit, few=False, descending=query.descending)


class _Where:
    """Conditions that must all hold. Only constant texts of this module are conditions; values are parameters."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.values: list[str | int] = []
        self.lowest: int | None = None
        self.highest: int | None = None

    def add(self, condition: str, *values: str | int) -> None:
        self.conditions.append(condition)
        self.values.extend(values)

    def from_index(self, lowest: int) -> None:
        self.lowest = lowest if self.lowest is None else max(self.lowest, lowest)

    def to_index(self, highest: int) -> None:
        self.highest = highest if self.highest is None else min(self.highest, highest)

    def text(self, *more: str) -> str:
        return " AND ".join((*more, *self.conditions)) or "1"


def _within(
    connection: sqlite3.Connection,
    where: _Where,
    after_ms: int | None,
    before_ms: int | None,
    after_index: int | None,
    *,
    descending: bool,
) -> bool:
    """Add what the time and the place say; False when nothing can meet it."""
    if after_index is not None:
        if descending:
            where.to_index(after_index - 1)
        else:
            where.from_index(after_index + 1)
    if after_ms is not None:
        (first,) = connection.execute("SELECT min(number) FROM blocks WHERE latest >= ?", (after_ms,)).fetchone()
        if first is None:
            return False
        where.from_index(first * BLOCK)
        where.add("time >= ?", after_ms)
    if before_ms is not None:
        (last,) = connection.execute("SELECT max(number) FROM blocks WHERE earliest < ?", (before_ms,)).fetchone()
        if last is None:
            return False
        where.to_index((last + 1) * BLOCK - 1)
        where.add("time < ?", before_ms)
    return True


def _search(
    connection: sqlite3.Connection, relations: _Where, where: _Where, limit: int, *, few: bool, descending: bool
) -> list[Position]:
    wanted: list[int] | None = None
    if relations.conditions:
        found = connection.execute(f"SELECT id FROM relations WHERE {relations.text()}", relations.values)  # noqa: S608
        wanted = [row[0] for row in found]
        if not wanted:
            return []
        (every,) = connection.execute("SELECT count(*) FROM relations").fetchone()
        if len(wanted) == every:
            wanted = None
    if where.lowest is not None:
        where.add("idx >= ?", where.lowest)
    if where.highest is not None:
        where.add("idx <= ?", where.highest)
    if wanted is not None and not few:
        return list(islice(_merged(connection, wanted, where, descending=descending), limit))
    if wanted is not None:
        # the plus keeps SQLite from going through the relations' records, which may be many
        where.add("+relation IN (SELECT value FROM json_each(?))", json.dumps(wanted))
    order = "DESC" if descending else "ASC"
    sql = f"SELECT idx, segment, place FROM entries WHERE {where.text()} ORDER BY idx {order} LIMIT ?"  # noqa: S608
    return [Position(*row) for row in connection.execute(sql, (*where.values, limit))]


def _merged(
    connection: sqlite3.Connection, wanted: list[int], where: _Where, *, descending: bool
) -> Iterator[Position]:
    """The records of these relations in order. A relation is not looked into before its nearest record is due."""
    order, sign = ("DESC", -1) if descending else ("ASC", 1)
    bounds = " AND idx >= ?" * (where.lowest is not None) + " AND idx <= ?" * (where.highest is not None)
    limits = [bound for bound in (where.lowest, where.highest) if bound is not None]
    nearest = connection.execute(
        f"SELECT value, (SELECT idx FROM entries WHERE relation = value{bounds} ORDER BY idx {order} LIMIT 1)"  # noqa: S608
        " FROM json_each(?)",
        (*limits, json.dumps(wanted)),
    )
    waiting: list[tuple[int, int, Position | None]] = [
        (sign * head, relation, None) for relation, head in nearest if head is not None
    ]
    heapq.heapify(waiting)
    sql = f"SELECT idx, segment, place FROM entries WHERE {where.text('relation = ?')} ORDER BY idx {order}"  # noqa: S608
    opened: dict[int, sqlite3.Cursor] = {}
    while waiting:
        _, relation, position = heapq.heappop(waiting)
        if position is not None:
            yield position
        if relation not in opened:
            opened[relation] = connection.execute(sql, (relation, *where.values))
        row = opened[relation].fetchone()
        if row is not None:
            heapq.heappush(waiting, (sign * row[0], relation, Position(*row)))
