"""SQLAlchemy Core over SQLite (WAL), with one writer.

A room keeps its tables in its `store.py`, on the shared `metadata`. Reads run wherever they are called, in short
transactions; writes are functions of a connection, run one after another in the one writer thread, each in a
transaction of its own: it commits before `write` returns, or raises and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event

metadata = MetaData()

T = TypeVar("T")


class Database:
    """One database file of one node. `path` None keeps it in memory, for tests."""

    def __init__(self, path: Path | None) -> None:
        self._engine = _engine(path)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database-writer")

    def create(self) -> None:
        """Make the tables of all rooms that were imported, where they are not there yet."""
        metadata.create_all(self._engine)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading."""
        with self._engine.connect() as connection:
            yield connection

    async def write(self, function: Callable[[Connection], T]) -> T:
        """Run `function` in one transaction in the writer thread; durable when this returns."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, self.write_now, function)

    def write_now(self, function: Callable[[Connection], T]) -> T:
        """As `write`, in this thread: for the command line and for start-up."""
        with self._engine.begin() as connection:
            return function(connection)

    def close(self) -> None:
        """Finish what is being written and let go of the file."""
        self._writer.shutdown(wait=True)
        self._engine.dispose()


def _engine(path: Path | None) -> Engine:
    # Parameters may be about people: they are in no exception, so in no log.
    if path is None:
        from sqlalchemy.pool import StaticPool

        engine = create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}, hide_parameters=True
        )
    else:
        engine = create_engine(f"sqlite:///{path}", pool_size=4, max_overflow=4, hide_parameters=True)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _begin
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
