"""A real PostgreSQL server for the ledger's tests, and journals of both kinds that can be opened again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from stelsel.demo.postgres import ThrowawayPostgres, programs
from stelsel.ledger.journal import Journal
from stelsel.ledger.segments import SegmentJournal

PEER = "00000099000000002000"
PUBLIC_KEY = bytes(range(32))
_names = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[ThrowawayPostgres]:
    if programs() is None:
        pytest.skip("there is no PostgreSQL server here; provide it with: python tools/provide.py postgresql")
    with ThrowawayPostgres() as server:
        yield server


@pytest.fixture
def server(postgres_server: ThrowawayPostgres) -> Iterator[ThrowawayPostgres]:
    """The server, which a test may kill: it runs again for the next."""
    yield postgres_server
    postgres_server.thaw()
    if postgres_server.process is None:
        postgres_server.start()


@pytest.fixture
def new_database(server: ThrowawayPostgres) -> Callable[[], str]:
    """Makes an empty schema, which is as good as a database and made sooner, and gives its address."""

    def make() -> str:
        name = f"ledger_{next(_names)}"
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        return in_schema(server.url(), name)

    return make


def in_schema(address: str, name: str) -> str:
    """The address, with the tables in this schema."""
    return f"{address}&options=-csearch_path%3D{name}"


def schema_of(address: str) -> str:
    """The schema in an address that `new_database` gave."""
    return address.rpartition("%3D")[2]


@pytest.fixture
def new_journal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Journal]]:
    """Opens the journal of this test, again each time: `new_journal("postgresql", known=3)`. Closes all at the end."""
    opened: list[Journal] = []
    addresses: list[str] = []

    def make(kind: str, *, known: int = 0, deadline: float = 2.0, **options: Any) -> Journal:
        journal: Journal
        if kind == "segments":
            options.setdefault("segment_bytes", 8192)
            journal = SegmentJournal(tmp_path / "segments", known=known, **options)
        else:
            from stelsel.ledger.postgres import PostgresJournal

            if not addresses:
                addresses.append(request.getfixturevalue("new_database")())
            options = {"peer_id": PEER, "public_key": PUBLIC_KEY} | options
            journal = PostgresJournal(addresses[0], known=known, deadline=deadline, **options)
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        with suppress(ValueError):  # the test closed it
            journal.close()


@pytest.fixture(params=["segments", "postgresql"])
def open_journal(request: pytest.FixtureRequest, new_journal: Callable[..., Journal]) -> Callable[..., Journal]:
    """Opens the journal of this test, in files the one time and in PostgreSQL the other."""

    def make(**options: Any) -> Journal:
        return new_journal(request.param, **options)

    return make


@pytest.fixture(params=["segments", "postgresql"])
def journal_setting(request: pytest.FixtureRequest) -> str:
    """The setting `journal` of a ledger: of both kinds, one after the other."""
    if request.param == "segments":
        return "segments"
    return str(request.getfixturevalue("new_database")())
