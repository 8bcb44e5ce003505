"""Numbers that outlive their records: of each resident of whom the last record was erased, how many there were.

So the next record about that resident gets the next number, and the resident can still see that none was left out
since. It is kept as little as can be: twelve bytes of a hash of the pseudonym and the number; no time, no party, and
only as long as there is no later record that says it. On disk, in the folder of the segments and to be kept with
them, before the record is erased. One SQLite file, made when it is first needed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

_SCHEMA = "CREATE TABLE IF NOT EXISTS carried (key BLOB PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID"
Key = tuple[int, int]


class Carried:
    """The file `carried.sqlite` in this folder. Every method is whole on disk when it returns. Raises `OSError`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "carried.sqlite"

    def keep(self, numbers: Iterable[tuple[Key, int]]) -> None:
        """Keep these last numbers."""
        rows = [(_bytes(key), last) for key, last in numbers]
        if rows:
            self._change(
                "INSERT INTO carried VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET last = max(last, excluded.last)",
                rows,
            )

    def drop(self, last: Callable[[Key], int]) -> None:
        """Drop those that a later record says: of whom the last number, as `last` tells it, is higher."""
        if self._path.exists():
            spent = [(_bytes(key),) for key, number in list(self) if last(key) > number]
            if spent:
                self._change("DELETE FROM carried WHERE key = ?", spent)

    def __iter__(self) -> Iterator[tuple[Key, int]]:
        """Everything that is kept."""
        if self._path.exists():
            try:
                with closing(_connect(self._path)) as connection:
                    for key, last in connection.execute("SELECT key, last FROM carried"):
                        yield (int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")), int(last)
            except sqlite3.Error as error:
                raise OSError(f"{self._path.name} cannot be read") from error

    def _change(self, sql: str, rows: list[tuple[bytes, int]] | list[tuple[bytes]]) -> None:
        try:
            with closing(_connect(self._path)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(sql, rows)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise OSError(f"{self._path.name} cannot be written") from error


def _bytes(key: Key) -> bytes:
    return key[0].to_bytes(8, "big") + key[1].to_bytes(4, "big")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA synchronous=EXTRA")  # its folder is synced too
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute(_SCHEMA)
    return connection
