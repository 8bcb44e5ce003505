"""Questions to a release: filters, sort, pages, facets. Only the safe rows are there to be asked.

A question is read into a `Query` whose column names come from the release itself and whose values are bound
parameters; no text of a caller ever becomes SQL. Pages follow one another by key, not by number, so each costs the
same and none is skipped or shown twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stelsel.base.canonical import b64url, canonical, parse_json, unb64url
from stelsel.base.errors import BadRequest, Conflict
from stelsel.base.text import inert
from stelsel.opendata.release import Release, check, column_names
from stelsel.opendata.schema import COUNT

MAXIMUM_LIMIT = 1000
DEFAULT_LIMIT = 100
_MOST_FILTERS = 20
_LONGEST_VALUE = 200
_MOST_FACET_VALUES = 100
_BATCH = 2000
_LAST = 2**53 - 1  # beyond every count, and still a number that JSON carries safely
OPERATORS = {"": "=", "not": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
CONTROLS = ("sort", "limit", "next", "facet")
"""Lower camel case, as the API Design Rules have it; also understood with an underscore before it."""


@dataclass(frozen=True)
class Filter:
    """One condition; `operator` is a key of `OPERATORS`."""

    column: str
    operator: str
    value: str | int


@dataclass(frozen=True)
class Query:
    """A question that was read and found sound."""

    filters: tuple[Filter, ...] = ()
    sort: str = ""
    descending: bool = False
    limit: int | None = None
    after: tuple[Any, int] | None = None
    facets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A part of the answer. `next` goes into the next question as `next`; None when this was the last."""

    release: Release
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    next: str | None
    facets: dict[str, list[tuple[Any, int]]]


def read_query(release: Release, parameters: Iterable[tuple[str, str]]) -> Query:
    """A question out of the parameters of an address: `column=value`, `column[gte]=value`, `sort=column` or
    `sort=-column`, `limit`, `next`, `facet=column`. Raises `BadRequest` that names what exists."""
    columns = column_names(release.schema)
    filters: list[Filter] = []
    facets: list[str] = []
    controls: dict[str, str] = {}
    for name, value in parameters:
        control = name.removeprefix("_")
        if control == "facet":
            facets.append(_column(value, columns))
        elif control in CONTROLS:
            if control in controls:
                raise BadRequest(f"{control} is given twice")
            controls[control] = value
        else:
            filters.append(_filter(name, value, columns))
    if len(filters) > _MOST_FILTERS or len(facets) > len(columns):
        raise BadRequest(f"at most {_MOST_FILTERS} filters and {len(columns)} facets may be given")
    sort = controls.get("sort", "")
    descending = sort.startswith("-")
    sort = _column(sort.removeprefix("-"), columns) if sort else ""
    limit = _whole(controls["limit"], "limit", 1, MAXIMUM_LIMIT) if "limit" in controls else None
    after = _read_next(release, controls["next"], sort, descending) if "next" in controls else None
    return Query(tuple(filters), sort, descending, limit, after, tuple(dict.fromkeys(facets)))


def _filter(name: str, value: str, columns: Sequence[str]) -> Filter:
    column, bracket, rest = name.partition("[")
    operator = rest.removesuffix("]") if bracket and rest.endswith("]") else rest or ""
    column = _column(column, columns)
    if operator not in OPERATORS or (bracket and not operator):
        known = ", ".join(f"{column}[{operator}]" for operator in OPERATORS if operator)
        raise BadRequest(
            f"{inert(name, 60)} has an operator that does not exist", next_step=f"use {column}=, or one of {known}"
        )
    if column == COUNT:
        return Filter(column, operator, _whole(value, column, 0, _LAST))
    if len(value) > _LONGEST_VALUE or "\0" in value:
        raise BadRequest(f"the value for {column} is longer than {_LONGEST_VALUE} characters, or not text")
    return Filter(column, operator, value)


def _column(name: str, columns: Sequence[str]) -> str:
    if name not in columns:
        raise BadRequest(
            f"there is no column {inert(name, 60)}",
            next_step=f"the columns are {', '.join(columns)}; besides these there are {', '.join(CONTROLS)}",
        )
    return name


def _whole(text: str, name: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):
        raise BadRequest(f"{name} must be a whole number from {least} to {most}")
    return int(text)


def _read_next(release: Release, token: str, sort: str, descending: bool) -> tuple[Any, int]:
    if len(token) > 1000:
        raise BadRequest("next is not one that was given out")
    value = parse_json(unb64url(token))
    if not isinstance(value, list) or len(value) != 5:
        raise BadRequest("next is not one that was given out")
    name, by, down, key, number = value
    if name != release.name:
        raise Conflict("a new release came out between two pages", next_step="begin again with the first page")
    kind = int if sort == COUNT else str
    sound = isinstance(number, int) and (isinstance(key, kind) if sort else key is None) and not isinstance(key, bool)
    if [by, down] != [sort, descending] or not sound or isinstance(number, bool):
        raise BadRequest("next belongs to a question with another sort", next_step="begin again with the first page")
    return key, number


class Engine:
    """DuckDB over one release, in memory, with every way out of the database shut. Loaded at the first question."""

    def __init__(self, release: Release, *, memory_limit: str = "512MB", threads: int = 2) -> None:
        self.release = release
        self._options: dict[str, str | bool | int | float | list[str]] = {
            "threads": threads,
            "memory_limit": memory_limit,
        }
        self._lock = threading.Lock()
        self._connection: Any = None

    def ask(self, query: Query) -> Page:
        """One page of rows, and the facets asked for."""
        columns = column_names(self.release.schema)
        limit = query.limit or DEFAULT_LIMIT
        sql, values = self._select(query, columns, limit + 1)  # one more than asked tells whether there is a next page
        cursor = self._cursor()
        found = cursor.execute(sql, values).fetchall()
        following = None
        if len(found) > limit:
            found = found[:limit]
            key, number = found[-1][:2]
            document = [self.release.name, query.sort, query.descending, key, number]
            following = b64url(canonical(document))
        facets = {column: self._facet(cursor, query, column) for column in query.facets}
        return Page(self.release, columns, [row[2:] for row in found], following, facets)

    def stream(self, query: Query) -> Iterator[tuple[Any, ...]]:
        """All rows of the answer (or `limit` of them), a batch at a time."""
        sql, values = self._select(query, column_names(self.release.schema), query.limit)
        cursor = self._cursor().execute(sql, values)
        while batch := cursor.fetchmany(_BATCH):
            for row in batch:
                yield row[2:]

    def close(self) -> None:
        """Let go of the memory."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _select(self, query: Query, columns: Sequence[str], limit: int | None) -> tuple[str, list[Any]]:
        where, values = _where(query.filters)
        key, direction = "NULL", ">"
        if query.sort == COUNT:  # suppressed cells come last, whichever way is sorted
            key = f"coalesce({COUNT}, {-1 if query.descending else _LAST})"
        elif query.sort:
            key = f'"{query.sort}"'
        if query.descending:
            direction = "<"
        if query.after is not None:
            after, number = query.after
            if query.sort:
                where.append(f"({key} {direction} ? OR ({key} = ? AND nr > ?))")
                values += [after, after, number]
            else:
                where.append("nr > ?")
                values.append(number)
        order = f"{key} {'DESC' if query.descending else 'ASC'}, nr" if query.sort else "nr"
        names = ", ".join(f'"{column}"' for column in columns)
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        sql = f"SELECT {key}, nr, {names} FROM release {condition} ORDER BY {order}"  # noqa: S608  names of ours only
        if limit is not None:
            sql += " LIMIT ?"
            values.append(limit)
        return sql, values

    def _facet(self, cursor: Any, query: Query, column: str) -> list[tuple[Any, int]]:
        """How many published rows of the answer have each value: rows of the table, never people."""
        where, values = _where(query.filters)
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        sql = f'SELECT "{column}", count(*) FROM release {condition} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?'  # noqa: S608
        found: list[tuple[Any, int]] = cursor.execute(sql, [*values, _MOST_FACET_VALUES]).fetchall()
        return found

    def _cursor(self) -> Any:
        with self._lock:
            if self._connection is None:
                self._connection = self._load()
            return self._connection.cursor()

    def _load(self) -> Any:
        import duckdb

        check(self.release)
        connection = duckdb.connect(":memory:", config=self._options)
        connection.execute(
            "CREATE TABLE release AS SELECT * FROM read_parquet(?) ORDER BY nr", [str(self.release.parquet)]
        )
        for setting in ("enable_external_access = false", "lock_configuration = true"):
            connection.execute(f"SET {setting}")
        return connection


def _where(filters: tuple[Filter, ...]) -> tuple[list[str], list[Any]]:
    conditions = [f'"{one.column}" {OPERATORS[one.operator]} ?' for one in filters]
    return conditions, [one.value for one in filters]
