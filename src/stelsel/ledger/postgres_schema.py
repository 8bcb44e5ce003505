"""The tables of a journal in PostgreSQL, and how they come to be.

    stelsel_ledger_schema     which migrations were applied
    stelsel_ledger_head       one row: how many records there are, whose they are, and the key that signs for them
    stelsel_ledger_lines      a row a record, in the order in which they were committed, from 0, without gaps;
                              the payload is that of a frame in a segment file (see `journal`)
    stelsel_ledger_subjects   the last sequence number per subject reference

`python -m stelsel.ledger.postgres_schema postgresql://owner@host/database` applies what is missing; a node does the
same at its start where its role may. A node that records needs no more than `GRANTS`; what it wrote it cannot change.
"""

from __future__ import annotations

import sys
from typing import Any

import psycopg
from psycopg import sql

from stelsel.base.errors import ConfigurationFault, Fault
from stelsel.ledger.faults import LedgerCorrupt

_LOCK = 0x5354454C53454C  # of `pg_advisory_xact_lock`: one host at a time makes tables

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE stelsel_ledger_head (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        size bigint NOT NULL CHECK (size >= 0),
        peer_id text NOT NULL,
        public_key bytea NOT NULL
    ) WITH (fillfactor = 10);
    CREATE TABLE stelsel_ledger_lines (
        idx bigint PRIMARY KEY,
        payload bytea NOT NULL
    );
    CREATE TABLE stelsel_ledger_subjects (
        subject bytea PRIMARY KEY,
        last bigint NOT NULL
    ) WITH (fillfactor = 70);
    """,
)
"""Each brings the tables from version n to n + 1; what was released is never changed, only added to."""

TABLES = ("stelsel_ledger_schema", "stelsel_ledger_head", "stelsel_ledger_lines", "stelsel_ledger_subjects")

GRANTS = """
GRANT SELECT ON stelsel_ledger_schema TO {writer};
GRANT SELECT, INSERT ON stelsel_ledger_lines TO {writer};
GRANT SELECT, INSERT, UPDATE ON stelsel_ledger_head, stelsel_ledger_subjects TO {writer};
"""
"""All that a node needs to record and to search."""

PRUNING_GRANTS = """
GRANT UPDATE (payload) ON stelsel_ledger_lines TO {writer};
"""
"""What a node needs besides to erase records whose time is over (`prune`)."""


def migrate(connection: psycopg.Connection[Any]) -> None:
    """Bring the tables to this version, by whoever comes first; the others wait for it.

    Raises `ConfigurationFault` when the role may not make tables, or when they are of a newer version.
    """
    try:
        if _version(connection) == len(MIGRATIONS):
            return
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            connection.execute(  # what another host just made is seen by this, not by asking whether it is there
                "CREATE TABLE IF NOT EXISTS stelsel_ledger_schema"
                " (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())"
            )
            version = _version(connection)
            if version > len(MIGRATIONS):
                raise ConfigurationFault(
                    "the ledger's database was made by a newer version", next_step="upgrade this node"
                )
            for number, migration in enumerate(MIGRATIONS[version:], version + 1):
                connection.execute(sql.SQL(migration))
                connection.execute("INSERT INTO stelsel_ledger_schema (version) VALUES (%s)", (number,))
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationFault(
            "the ledger's database lacks tables, or rights to them, that this node needs",
            next_step="as their owner: python -m stelsel.ledger.postgres_schema ADDRESS; then grant the rights, "
            "see docs/run/postgres.md",
        ) from error


def claim(connection: psycopg.Connection[Any], peer_id: str, public_key: bytes) -> int:
    """The size of the journal, when it is this peer's and this key signs for it; who comes first makes it so."""
    connection.execute(
        "INSERT INTO stelsel_ledger_head (size, peer_id, public_key) VALUES (0, %s, %b) ON CONFLICT DO NOTHING",
        (peer_id, public_key),
    )
    row = connection.execute("SELECT size, peer_id, public_key FROM stelsel_ledger_head", binary=True).fetchone()
    if row is None:
        raise LedgerCorrupt(
            "the head of the ledger's database is gone", next_step="put back the backup of the database"
        )
    if row[1] != peer_id:
        raise ConfigurationFault(
            "the ledger's database holds the ledger of another peer",
            next_step="give every peer a database, or a schema, of its own",
        )
    if bytes(row[2]) != public_key:
        raise ConfigurationFault(
            "another key signs for the ledger in this database than ledger.key of this host",
            next_step="copy ledger.key from a host that uses this database already; all hosts sign with the same key",
        )
    return int(row[0])


def _version(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT to_regclass('stelsel_ledger_schema') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return 0
    row = connection.execute("SELECT max(version) FROM stelsel_ledger_schema").fetchone()
    return int(row[0] or 0) if row else 0


def main(arguments: list[str]) -> int:
    """Apply what is missing to the database at this address."""
    if len(arguments) != 1:
        print("Usage: python -m stelsel.ledger.postgres_schema postgresql://owner@host/database", file=sys.stderr)  # noqa: T201
        return 2
    try:
        with psycopg.connect(arguments[0], autocommit=True) as connection:
            migrate(connection)
    except psycopg.Error as error:
        print(f"The database cannot be used: {error}".strip(), file=sys.stderr)  # noqa: T201
        return 1
    except Fault as fault:
        print(f"{fault.detail}. Next step: {fault.next_step}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
