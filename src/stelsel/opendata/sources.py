"""Where people come from: a query on a SQLite file, streamed; or rows at hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from stelsel.base.errors import ConfigurationFault

_BATCH = 20_000


class SqliteSource:
    """The rows of a query (the operator's own, from configuration) on a SQLite file, opened read-only.

    Every column of the query's result must be classified by the dataset; name them, or `SELECT *` to be sure that a
    new column stops the publication.
    """

    def __init__(self, path: Path, query: str) -> None:
        self._path = path
        self._query = query.strip().rstrip(";")

    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the query. Raises `ConfigurationFault`."""
        with closing(self._open()) as connection:
            try:
                cursor = connection.execute(f"SELECT * FROM ({self._query}) LIMIT 0")  # noqa: S608  the operator's
            except sqlite3.Error as error:
                raise ConfigurationFault(f"{self._path}: the query of the source fails: {error}") from error
            return tuple(column[0] for column in cursor.description)

    def rows(self, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """The rows with these columns only, never all in memory."""
        known = self.columns()
        if not set(columns) <= set(known):
            raise ConfigurationFault(f"{self._path}: the query of the source lacks a column that is counted by")
        names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
        with closing(self._open()) as connection:
            cursor = connection.execute(f"SELECT {names} FROM ({self._query})")  # noqa: S608  names were just checked
            while batch := cursor.fetchmany(_BATCH):
                yield from batch

    def _open(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise ConfigurationFault(
                f"{self._path}: cannot be opened as a source of people", next_step="check the path of the database"
            ) from error


class RowsSource:
    """Rows at hand, each with all columns."""

    def __init__(self, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
        self._columns = columns
        self._rows = rows

    def columns(self) -> tuple[str, ...]:
        return self._columns

    def rows(self, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """The rows with these columns only."""
        places = [self._columns.index(name) for name in columns]
        return (tuple(row[place] for place in places) for row in self._rows)
