"""The journal in PostgreSQL: what it asks of its database, and one order for all who append to it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ledger_databases import PEER, PUBLIC_KEY, in_schema, schema_of
from psycopg import sql

from stelsel.base.errors import ConfigurationFault
from stelsel.base.settings import read_toml
from stelsel.demo.postgres import ThrowawayPostgres
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable
from stelsel.ledger.journal import Journal
from stelsel.ledger.postgres import PostgresJournal
from stelsel.ledger.postgres_connection import Connections
from stelsel.ledger.postgres_schema import GRANTS, PRUNING_GRANTS, main, migrate
from stelsel.ledger.record import Record
from stelsel.ledger.settings import LedgerSettings

NewRecord = Callable[..., Record]


def item(record: Record) -> tuple[bytes, bytes, str]:
    return os.urandom(16), record.canonical(), record.subject


def run(address: str, *statements: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


@pytest.fixture
def journal_at() -> Iterator[Callable[..., PostgresJournal]]:
    """Opens a journal at an address, and closes it at the end."""
    opened: list[PostgresJournal] = []

    def make(address: str, **options: Any) -> PostgresJournal:
        journal = PostgresJournal(address, **{"peer_id": PEER, "public_key": PUBLIC_KEY, "deadline": 2.0} | options)
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.close()


CHILD = """
import asyncio, os, sys
from stelsel.ledger.group_commit import GroupCommit
from stelsel.ledger.postgres import PostgresJournal

async def main():
    journal = PostgresJournal(sys.argv[1], peer_id=sys.argv[2], public_key=bytes(range(32)), deadline=5)
    commit = GroupCommit(journal, batch_records=32, waiting_records=1000, deadline=5)
    commit.start()
    sys.stdin.readline()
    async def appender(name):
        for number in range(40):
            subject = f"r{number % 3}"
            record = b'{"reason":"%s-%d","subject":"%s","time":1}' % (name.encode(), number, subject.encode())
            index = await commit.append((os.urandom(16), record, subject))
            print(index, f"{name}-{number}")
    await asyncio.gather(*(appender(f"{os.getpid()}.{n}") for n in range(16)))
    await commit.stop()
    journal.close()

asyncio.run(main())
"""


def test_processes_that_append_at_once_get_one_order_without_gaps(
    new_database: Callable[[], str], journal_at: Callable[..., PostgresJournal]
) -> None:
    address = new_database()
    command = [sys.executable, "-c", CHILD, address, PEER]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        outputs.append(child.communicate(timeout=60)[0])
        assert child.returncode == 0
    told = dict(line.split() for output in outputs for line in output.splitlines())
    journal = journal_at(address)
    assert journal.size == 3 * 16 * 40
    records = [json.loads(line.record) for line in journal.lines(0, journal.size)]
    assert {str(index): record["reason"] for index, record in enumerate(records)} == told
    for subject in ("r0", "r1", "r2"):
        numbers = [record["subject_sequence"] for record in records if record["subject"] == subject]
        assert numbers == list(range(1, len(numbers) + 1))
    changes = sum(
        one["reason"].split(".")[0] != other["reason"].split(".")[0] for one, other in itertools.pairwise(records)
    )
    assert changes > 10  # they really took turns


def test_hosts_that_start_at_once_on_an_empty_database_make_its_tables_once(
    new_database: Callable[[], str], record: NewRecord
) -> None:
    address = new_database()
    opened: list[PostgresJournal] = []
    faults: list[Exception] = []

    def start() -> None:
        try:
            opened.append(PostgresJournal(address, peer_id=PEER, public_key=PUBLIC_KEY, deadline=10))
        except Exception as error:  # noqa: BLE001 - shown below
            faults.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert sorted(journal.append([item(record(0))]) for journal in opened) == [0, 1, 2, 3]
    for journal in opened:
        journal.close()


@pytest.mark.parametrize(
    ("statement", "undo", "reason"),
    [
        ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync", "fsync = off"),
        ("ALTER SYSTEM SET full_page_writes = off", "ALTER SYSTEM RESET full_page_writes", "full_page_writes = off"),
        ("ALTER ROLE stelsel SET synchronous_commit = off", "ALTER ROLE stelsel RESET ALL", "synchronous_commit = off"),
        ("ALTER ROLE stelsel SET synchronous_commit = local", "ALTER ROLE stelsel RESET ALL", "_commit = local"),
    ],
)
def test_a_server_that_may_forget_is_refused_at_the_start_and_ever_after(
    new_database: Callable[[], str],
    journal_at: Callable[..., PostgresJournal],
    record: NewRecord,
    statement: str,
    undo: str,
    reason: str,
) -> None:
    address = new_database()
    running = journal_at(address)
    running.append([item(record(0))])
    run(address, statement, "SELECT pg_reload_conf()", "SELECT pg_sleep(0.1)")
    try:
        with pytest.raises(ConfigurationFault, match=reason) as refusal:
            journal_at(address)
        assert "= on" in refusal.value.next_step
        run(
            address,
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE application_name = 'stelsel ledger' AND datname = current_database()",
        )
        with pytest.raises(LedgerUnavailable, match=reason):
            running.append([item(record(1))])
    finally:
        run(address, undo, "SELECT pg_reload_conf()", "SELECT pg_sleep(0.1)")
    assert running.append([item(record(1))]) == 1


def test_a_table_that_is_not_logged_is_refused(
    new_database: Callable[[], str], journal_at: Callable[..., PostgresJournal]
) -> None:
    address = new_database()
    journal_at(address).close()
    run(address, "ALTER TABLE stelsel_ledger_lines SET UNLOGGED")
    with pytest.raises(ConfigurationFault, match="UNLOGGED"):
        journal_at(address)


def test_tables_of_a_newer_version_are_left_alone(
    new_database: Callable[[], str], journal_at: Callable[..., PostgresJournal]
) -> None:
    address = new_database()
    journal_at(address).close()
    run(address, "INSERT INTO stelsel_ledger_schema (version) VALUES (99)")
    with pytest.raises(ConfigurationFault, match="newer version"):
        journal_at(address)


def test_a_role_with_only_the_grants_records_and_can_change_nothing(
    server: ThrowawayPostgres,
    new_database: Callable[[], str],
    journal_at: Callable[..., PostgresJournal],
    record: NewRecord,
    capsys: pytest.CaptureFixture[str],
) -> None:
    owner = new_database()
    writer = f"writer_{schema_of(owner)}"
    run(owner, f"CREATE ROLE {writer} LOGIN", f"GRANT USAGE ON SCHEMA {schema_of(owner)} TO {writer}")
    address = in_schema(server.url(user=writer), schema_of(owner))
    with pytest.raises(ConfigurationFault, match="lacks tables, or rights") as refusal:
        journal_at(address)
    assert "postgres_schema" in refusal.value.next_step
    assert main([owner]) == 0
    assert main([owner]) == 0
    assert main([]) == 2
    assert main([server.url("nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
    with pytest.raises((ConfigurationFault, LedgerUnavailable), match="right"):
        journal_at(address)
    run(owner, *GRANTS.format(writer=writer).strip().splitlines())
    journal = journal_at(address)
    assert journal.append([item(record(number, subject="r")) for number in range(3)]) == 0
    assert journal.last_number("r") == 3
    for statement in (
        "UPDATE stelsel_ledger_lines SET payload = ''",
        "DELETE FROM stelsel_ledger_lines",
        "TRUNCATE stelsel_ledger_lines",
        "DELETE FROM stelsel_ledger_head",
        "DROP TABLE stelsel_ledger_subjects",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(address, statement)
    with pytest.raises(LedgerUnavailable, match="lacks a right"):
        journal.prune(record(9).time, 0, 3)
    run(owner, *PRUNING_GRANTS.format(writer=writer).strip().splitlines())
    assert journal.prune(record(2).time, 0, 3).records == 2
    assert journal.append([item(record(3, subject="r"))]) == 3


def test_a_database_that_was_put_back_from_before_stops_recording(
    new_database: Callable[[], str], journal_at: Callable[..., PostgresJournal], record: NewRecord
) -> None:
    address = new_database()
    journal = journal_at(address)
    journal.append([item(record(number)) for number in range(5)])
    run(
        address,
        "DELETE FROM stelsel_ledger_lines WHERE idx = 4",
        "UPDATE stelsel_ledger_head SET size = 4",
    )
    with pytest.raises(LedgerCorrupt, match="holds 4 records, but it held 5"):
        journal.append([item(record(5))])
    other = journal_at(address)  # who never knew better goes on: another history
    assert other.append([item(record(6)), item(record(7))]) == 4
    with pytest.raises(LedgerCorrupt, match="another record 4"):
        journal.append([item(record(5))])
    assert other.size == 6


def test_a_record_that_is_missing_or_stands_where_none_may_is_reported(
    new_database: Callable[[], str], journal_at: Callable[..., PostgresJournal], record: NewRecord
) -> None:
    address = new_database()
    journal = journal_at(address)
    journal.append([item(record(number)) for number in range(5)])
    run(address, "INSERT INTO stelsel_ledger_lines VALUES (5, 'R')")
    with pytest.raises(LedgerCorrupt, match="does not know of"):
        journal.append([item(record(5))])
    run(address, "DELETE FROM stelsel_ledger_lines WHERE idx IN (2, 5)")
    with pytest.raises(LedgerCorrupt, match="lacks record 2"):
        list(journal.lines(0, 5))
    with pytest.raises(LedgerCorrupt, match="lacks record 2"):
        journal.line(next(journal.lines(3, 4)).position.__class__(2, 0, 0))
    assert journal.append([item(record(5))]) == 5


def test_a_record_that_is_none_is_refused_and_leaves_no_lock(
    new_database: Callable[[], str], journal_at: Callable[..., PostgresJournal], record: NewRecord
) -> None:
    journal = journal_at(new_database())
    with pytest.raises(ValueError, match="not a record"):
        journal.append([(bytes(16), b"{}", "r")])
    assert journal.append([item(record(0, subject="r"))]) == 0
    assert journal.last_number("r") == 1


def test_the_rights_that_operators_are_told_to_give_are_these() -> None:
    page = (Path(__file__).parents[2] / "docs" / "run" / "postgres.md").read_text("utf-8")
    assert GRANTS.format(writer="writer").strip() in page
    assert PRUNING_GRANTS.format(writer="writer").strip() in page


def test_large_records_are_fetched_a_few_at_a_time(
    new_database: Callable[[], str], journal_at: Callable[..., PostgresJournal], record: NewRecord
) -> None:
    journal = journal_at(new_database())
    large = [item(record(number, reason=os.urandom(500_000).hex())) for number in range(12)]
    for one in large:
        journal.append([one])
    pieces = list(journal.pieces(0, 12))
    assert [len(piece.payloads) for piece in pieces] == [5, 5, 2]
    assert [piece.first for piece in pieces] == [0, 5, 10]
    assert [line.record for line in journal.lines(3, 12)] == [data for _, data, _ in large[3:]]


SECRET = "correct-horse-battery"


@pytest.fixture
def guarded(server: ThrowawayPostgres, new_database: Callable[[], str]) -> Iterator[str]:
    """The address of a database for a role that needs a password."""
    owner = new_database()
    role = f"guarded_{schema_of(owner)}"
    rules = server.folder / "data" / "pg_hba.conf"
    text = rules.read_text()
    statement = sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(sql.Identifier(role), sql.Literal(SECRET))
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(statement)
    rules.write_text(f"local all {role} scram-sha-256\n{text}")
    run(owner, "SELECT pg_reload_conf()", "SELECT pg_sleep(0.1)")
    yield in_schema(server.url(user=role), schema_of(owner))
    rules.write_text(text)
    run(owner, "SELECT pg_reload_conf()", "SELECT pg_sleep(0.1)")


def test_the_password_comes_from_a_file_and_is_shown_nowhere(
    guarded: str,
    journal_at: Callable[..., PostgresJournal],
    record: NewRecord,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET + "\n")
    journal = journal_at(guarded, password_file=file)
    assert journal.append([item(record(0))]) == 0
    connections = Connections(guarded, file, 2.0)
    assert SECRET not in repr(connections) + repr(vars(journal)) + repr(journal)
    with connections.reading(1.0) as session:
        assert SECRET not in repr(session)
    connections.close()
    file.write_text("wrong-" + SECRET)
    with pytest.raises(LedgerUnavailable, match="does not let this node in") as refusal:
        journal_at(guarded, password_file=file)
    file.unlink()
    with pytest.raises(ConfigurationFault, match="cannot be read"):
        journal_at(guarded, password_file=file)
    run_out = capsys.readouterr()
    assert SECRET not in str(refusal.value) + repr(refusal.value.__cause__) + run_out.out + run_out.err


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (f"postgresql://me:{SECRET}@host/ledger", "journal_password_file"),
        (f"postgresql://host/ledger?user=me&password={SECRET}", "journal_password_file"),
        (f"postgresql://host/ledger?pass%77ord={SECRET}", "journal_password_file"),
        (f"postgresql://host/ledger?sslpassword={SECRET}", "journal_password_file"),
        (f"mysql://{SECRET}@host", "postgresql://"),
        ("files", "segments"),
        (f"postgresql://[{SECRET}/ledger", "cannot be read"),
    ],
)
def test_an_address_with_a_password_or_of_something_else_is_refused_and_not_repeated(
    tmp_path: Path, address: str, reason: str
) -> None:
    file = tmp_path / "ledger.toml"
    file.write_text(f'journal = "{address}"\n')
    with pytest.raises(ConfigurationFault, match=reason) as refusal:
        read_toml(file, LedgerSettings)
    assert SECRET not in refusal.value.detail + refusal.value.next_step


def test_an_address_that_the_driver_cannot_read_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationFault, match="cannot be read") as refusal:
        Connections(f"postgresql://host/ledger?{SECRET}=1", None, 1.0)
    assert SECRET not in refusal.value.detail
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("address", "mode"),
    [
        ("postgresql://me@database.example.nl/ledger", "verify-full"),
        ("postgresql://me@127.0.0.1,database.example.nl/ledger", "verify-full"),
        ("postgresql://me@database.example.nl/ledger?sslmode=require", "require"),
        ("postgresql://me@127.0.0.1/ledger", None),
        ("postgresql://me@/ledger?host=/run/postgresql", None),
    ],
)
def test_another_machine_must_prove_who_it_is_unless_the_address_says_otherwise(address: str, mode: str | None) -> None:
    parameters = Connections(address, None, 1.0)._parameters
    assert parameters.get("sslmode") == mode
    assert parameters["target_session_attrs"] == "read-write"


def test_without_the_driver_the_next_step_is_to_install_it(
    new_ledger: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stelsel.ledger.postgres", None)
    with pytest.raises(ConfigurationFault, match="driver") as refusal:
        asyncio.run(new_ledger(journal="postgresql://me@/ledger").start())
    assert "stelsel[postgres]" in refusal.value.next_step


def test_a_migration_that_is_done_is_not_done_again(new_database: Callable[[], str]) -> None:
    with psycopg.connect(new_database(), autocommit=True) as connection:
        migrate(connection)
        migrate(connection)
        assert connection.execute("SELECT version FROM stelsel_ledger_schema").fetchall() == [(1,)]


def test_it_is_a_journal(journal_at: Callable[..., PostgresJournal], new_database: Callable[[], str]) -> None:
    journal: Journal = journal_at(new_database())
    assert journal.generations() == {}
