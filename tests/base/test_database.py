"""The database: a write is whole or not at all, and there when it is said to be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from stelsel.base.database import Database


def test_a_failed_write_changes_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    database = Database(tmp_path / "node.sqlite")
    database.write_now(lambda connection: connection.execute(text("CREATE TABLE t (x INTEGER PRIMARY KEY)")))

    def broken(connection: Connection) -> None:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))

    async def run() -> None:
        with pytest.raises(Exception, match="UNIQUE"):
            await database.write(broken)
        await database.write(lambda connection: connection.execute(text("INSERT INTO t VALUES (2)")))

    asyncio.run(run())
    with database.read() as connection:
        assert connection.execute(text("SELECT x FROM t")).scalars().all() == [2]
    database.close()
