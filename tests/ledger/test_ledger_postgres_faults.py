"""The database dies, hangs or loses an answer at the worst moment: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ledger_databases import PEER, PUBLIC_KEY
from ledger_faulty_wire import FaultyWire
from structlog.testing import capture_logs

from stelsel.demo.postgres import ThrowawayPostgres
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.group_commit import GroupCommit
from stelsel.ledger.journal import Journal
from stelsel.ledger.postgres import PostgresJournal
from stelsel.ledger.record import Record

NewRecord = Callable[..., Record]
DEADLINE = 1.0
SLACK = 1.0  # for a machine that has more to do


def item(record: Record) -> tuple[bytes, bytes, str]:
    return os.urandom(16), record.canonical(), record.subject


def run(address: str, *statements: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def nonces(journal: Journal) -> list[bytes]:
    return [line.nonce for line in journal.lines(0, journal.size)]


@pytest.fixture
def address(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def journal_at() -> Iterator[Callable[..., PostgresJournal]]:
    """Opens a journal at an address, and closes it at the end."""
    opened: list[PostgresJournal] = []

    def make(address: str, deadline: float = DEADLINE) -> PostgresJournal:
        journal = PostgresJournal(address, peer_id=PEER, public_key=PUBLIC_KEY, deadline=deadline)
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(address: str, journal_at: Callable[..., PostgresJournal], record: NewRecord) -> PostgresJournal:
    made = journal_at(address)
    made.append([item(record(0, subject="r"))])
    return made


@pytest.fixture
def wire(server: ThrowawayPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyWire]:
    made = FaultyWire(server.folder, tmp_path_factory.mktemp("wire"))
    yield made
    made.close()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


@pytest.mark.parametrize("used", [0, 20], ids=["new connection", "prepared statements"])
@pytest.mark.parametrize("lost", ["answer", "request", "beginning"])
def test_a_connection_that_breaks_in_a_commit_is_looked_up_and_the_batch_is_there_once(
    address: str,
    server: ThrowawayPostgres,
    wire: FaultyWire,
    journal_at: Callable[..., PostgresJournal],
    record: NewRecord,
    lost: str,
    used: int,
) -> None:
    journal = journal_at(address.replace(str(server.folder), str(wire.folder)))
    for number in range(used):
        journal.append([item(record(number, subject="r"))])
    batch = [item(record(number, subject="r")) for number in range(50)]
    if lost == "answer":
        wire.lose_answer(b"COMMIT\0")  # the tag of CommandComplete: it was committed
    else:
        wire.lose_request(batch[7][0] if lost == "request" else b"\x00\x00\x00\x01r")
    with within(DEADLINE + SLACK):
        assert journal.append(batch) == used
    assert wire.broken == 1
    assert nonces(journal)[used:] == [nonce for nonce, _, _ in batch]
    assert journal.append([item(record(99, subject="r"))]) == used + 50
    assert journal.last_number("r") == used + 51


def test_while_another_session_holds_the_lock_it_refuses_in_time_and_then_goes_on(
    address: str, journal: PostgresJournal, record: NewRecord
) -> None:
    with psycopg.connect(address) as other:
        other.execute("SELECT * FROM stelsel_ledger_head FOR UPDATE")
        with within(DEADLINE + SLACK), pytest.raises(LedgerUnavailable, match="another session holds its lock"):
            journal.append([item(record(1, subject="r"))])
    assert journal.append([item(record(2, subject="r"))]) == 1
    assert (journal.size, journal.last_number("r")) == (2, 2)  # no gap from what was refused


def test_a_host_that_stops_in_the_middle_of_an_append_holds_up_others_for_a_moment_only(
    address: str, journal: PostgresJournal, journal_at: Callable[..., PostgresJournal], record: NewRecord
) -> None:
    stopped = journal_at(address)._writing(time.monotonic() + 10)  # its session, as far as its lock
    stopped.execute("BEGIN")
    stopped.execute("SELECT size FROM stelsel_ledger_head FOR UPDATE")
    with within(DEADLINE + SLACK):
        assert journal.append([item(record(1))]) == 1


def test_a_session_that_is_ended_between_two_batches_is_not_noticed(
    address: str, journal: PostgresJournal, record: NewRecord
) -> None:
    run(address, "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE application_name LIKE 'stelsel%'")
    assert journal.append([item(record(1))]) == 1
    assert len(nonces(journal)) == 2


def test_a_restart_within_the_deadline_makes_the_batch_wait_not_fail(
    server: ThrowawayPostgres, address: str, journal_at: Callable[..., PostgresJournal], record: NewRecord
) -> None:
    journal = journal_at(address, deadline=10.0)
    journal.append([item(record(0))])
    server.stop()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(journal.append, [item(record(1))])
        time.sleep(0.2)
        assert not waiting.done()
        server.start()
        assert waiting.result(10) == 1
    assert len(nonces(journal)) == 2


def test_while_it_is_down_only_the_first_batch_waits_and_reading_says_so(
    server: ThrowawayPostgres, journal: PostgresJournal, record: NewRecord
) -> None:
    server.kill()
    with within(DEADLINE + SLACK), pytest.raises(LedgerUnavailable, match="cannot be reached"):
        journal.append([item(record(1))])
    with within(4 * DEADLINE):
        for _ in range(20):
            with pytest.raises(LedgerUnavailable):
                journal.append([item(record(1))])
    for ask in (journal.refresh, lambda: nonces(journal), lambda: journal.last_number("r")):
        with within(DEADLINE + SLACK), pytest.raises(LedgerUnavailable, match="cannot be reached") as refusal:
            ask()
        assert refusal.value.next_step
    server.start()
    assert journal.append([item(record(2))]) == 1
    assert len(nonces(journal)) == 2


def test_a_server_that_hangs_is_given_up_in_time_and_when_it_goes_on_so_do_we(
    server: ThrowawayPostgres, journal: PostgresJournal, record: NewRecord
) -> None:
    batch = [item(record(1))]
    server.freeze()
    try:
        with within(DEADLINE + SLACK), pytest.raises(LedgerUnavailable, match="cannot be reached"):
            journal.append(batch)
    finally:
        server.thaw()
    last = item(record(2))
    journal.append([last])
    assert Counter(nonces(journal))[last[0]] == 1
    assert Counter(nonces(journal))[batch[0][0]] <= 1  # a refused request may have a record


def test_a_standby_that_does_not_confirm_means_refused_also_when_a_person_ends_the_wait(
    address: str, journal: PostgresJournal, record: NewRecord
) -> None:
    run(
        address,
        "ALTER SYSTEM SET synchronous_standby_names = 'nowhere'",
        "SELECT pg_reload_conf()",
        "SELECT pg_sleep(0.1)",
    )
    end = "SELECT {}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'stelsel ledger'"
    refused = []
    try:
        for how in ("pg_cancel_backend", "pg_terminate_backend", ""):
            refused.append(item(record(len(refused))))
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(journal.append, [refused[-1]])
                for _ in range(5 if how else 0):
                    time.sleep(0.1)
                    run(address, "SET synchronous_commit = local", end.format(how))
                with within(2 * DEADLINE + SLACK), pytest.raises(LedgerUnavailable):
                    waiting.result(10)
    finally:
        run(
            address,
            "SET synchronous_commit = local",
            "ALTER SYSTEM RESET synchronous_standby_names",
            "SELECT pg_reload_conf()",
            "SELECT pg_sleep(0.1)",
        )
    last = item(record(9))
    journal.append([last])
    counts = Counter(nonces(journal))
    assert counts[last[0]] == 1
    assert max(counts.values()) == 1
    records = [json.loads(line.record) for line in journal.lines(0, journal.size)]
    assert len(records) <= 5


def test_kill_9_of_the_server_under_load_loses_and_doubles_nothing(
    server: ThrowawayPostgres, address: str, journal_at: Callable[..., PostgresJournal], record: NewRecord
) -> None:
    """Two hosts append while the server is killed and started again; each alarm is given once, and taken back."""
    acknowledged: dict[bytes, int] = {}
    refused: set[bytes] = set()
    late: list[float] = []
    chance = random.Random(11)
    rounds = 4

    async def appender(commit: GroupCommit, number: int, stop: threading.Event) -> None:
        while not stop.is_set():
            one = item(record(number, subject=f"r{number % 5}"))
            begin = time.monotonic()
            try:
                acknowledged[one[0]] = await commit.append(one)
            except LedgerUnavailable:
                refused.add(one[0])
                late.append(time.monotonic() - begin)
                await asyncio.sleep(0.01)

    def trouble(stop: threading.Event) -> None:
        for _ in range(rounds):
            time.sleep(chance.uniform(0.05, 0.3))
            server.kill()
            time.sleep(chance.choice([0.0, 2 * DEADLINE if not late else 0.2]))
            server.start()
        time.sleep(0.5)
        stop.set()

    async def host(commit: GroupCommit, stop: threading.Event) -> None:
        commit.start()
        await asyncio.gather(*(appender(commit, number, stop) for number in range(24)))
        assert await commit.append(item(record(0))) >= 0  # it goes on by itself
        assert not commit.refusing
        assert await commit.stop()

    async def both() -> None:
        stop = threading.Event()
        commits = [
            GroupCommit(journal_at(address), batch_records=64, waiting_records=1000, deadline=DEADLINE)
            for _ in range(2)
        ]
        await asyncio.gather(asyncio.to_thread(trouble, stop), *(host(commit, stop) for commit in commits))

    with capture_logs() as logs:
        asyncio.run(both())
    journal = journal_at(address)
    found = nonces(journal)
    assert len(acknowledged) > 100
    assert refused
    assert max(late) < DEADLINE + SLACK
    assert len(set(found)) == len(found)
    assert all(found[index] == nonce for nonce, index in acknowledged.items())
    told = Counter(entry["event"] for entry in logs)
    assert 1 <= told["ledger refuses"] == told["ledger records again"] <= 2 * rounds
    check_numbers(journal)


def test_sessions_that_are_ended_under_load_lose_and_double_nothing_and_refuse_nobody(
    address: str, journal_at: Callable[..., PostgresJournal], record: NewRecord
) -> None:
    journal = journal_at(address, deadline=10.0)

    acknowledged: dict[bytes, int] = {}

    async def scenario() -> None:
        commit = GroupCommit(journal, batch_records=16, waiting_records=1000, deadline=10.0)
        commit.start()
        ending = asyncio.create_task(asyncio.to_thread(end_sessions))

        async def appender(number: int) -> None:
            while not ending.done():
                one = item(record(number, subject=f"r{number % 5}"))
                acknowledged[one[0]] = await commit.append(one)

        await asyncio.gather(*(appender(number) for number in range(32)))
        await ending
        assert await commit.stop()

    def end_sessions() -> None:
        chance = random.Random(3)
        with psycopg.connect(address, autocommit=True) as connection:
            for _ in range(20):
                recorded, due = len(acknowledged), time.monotonic() + 10
                while len(acknowledged) < recorded + 32 and time.monotonic() < due:
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.01))
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'stelsel ledger' AND datname = current_database()"
                )

    asyncio.run(scenario())
    found = nonces(journal)
    assert len(acknowledged) > 500
    assert sorted(acknowledged.values()) == list(range(len(found)))
    assert all(found[index] == nonce for nonce, index in acknowledged.items())
    check_numbers(journal)


CHILD = """
import asyncio, os, sys
from stelsel.ledger.group_commit import GroupCommit
from stelsel.ledger.postgres import PostgresJournal

async def main():
    journal = PostgresJournal(sys.argv[1], peer_id=sys.argv[2], public_key=bytes(range(32)), deadline=10)
    commit = GroupCommit(journal, batch_records=32, waiting_records=1000, deadline=10)
    commit.start()
    async def appender(name):
        number = 0
        while True:
            record = b'{"reason":"%s-%d","subject":"r","time":1}' % (name.encode(), number)
            index = await commit.append((os.urandom(16), record, "r"))
            os.write(1, f"{index} {name}-{number}\\n".encode())
            number += 1
    await asyncio.gather(*(appender(f"{os.getpid()}.{n}") for n in range(8)))

asyncio.run(main())
"""


def test_kill_9_of_hosts_loses_and_doubles_nothing_and_leaves_the_others_free(
    address: str, journal_at: Callable[..., PostgresJournal]
) -> None:
    command = [sys.executable, "-c", CHILD, address, PEER]
    chance = random.Random(5)
    outputs: list[bytes] = []
    with ExitStack() as stack:
        hosts = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
        for host in hosts:
            stack.callback(host.wait)
            stack.callback(host.kill)
        pool = stack.enter_context(ThreadPoolExecutor(8))

        def read(host: subprocess.Popen[bytes]) -> bytes:
            assert host.stdout is not None
            with host.stdout:
                return host.stdout.read()

        reading = [pool.submit(read, host) for host in hosts]
        watching = journal_at(address, deadline=10)
        due = time.monotonic() + 30
        while watching.refresh() < 200 and time.monotonic() < due:  # all of them, more or less, are at it
            time.sleep(0.02)
        for host in hosts[:2]:
            time.sleep(chance.uniform(0.05, 0.3))
            host.kill()
            size = watching.refresh()
            while watching.refresh() < size + 50 and time.monotonic() < due:  # who is left goes on
                time.sleep(0.02)
            assert watching.size >= size + 50
        hosts[2].kill()
        outputs = [future.result() for future in reading]
    told = {}
    for output in outputs:
        for line in output.decode().split("\n")[:-1]:
            index, text = line.split(" ")
            assert int(index) not in told
            told[int(index)] = text
    journal = journal_at(address)
    found = [json.loads(line.record)["reason"] for line in journal.lines(0, journal.size)]
    assert len(told) > 100
    assert all(found[index] == text for index, text in told.items())
    assert len(set(found)) == len(found)
    check_numbers(journal)


def check_numbers(journal: Journal) -> None:
    """Every subject's numbers are 1, 2, 3... in the order of the journal."""
    numbers: dict[str, list[int]] = {}
    for line in journal.lines(0, journal.size):
        value: dict[str, Any] = json.loads(line.record)
        if "subject" in value:
            numbers.setdefault(value["subject"], []).append(value["subject_sequence"])
    assert numbers
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())


def test_what_it_leaves_behind_is_closed(
    address: str, journal_at: Callable[..., PostgresJournal], tmp_path: Path
) -> None:
    journal = journal_at(address)
    journal.refresh()
    journal.close()
    assert not journal._follower.is_alive()
    with psycopg.connect(address) as connection:
        for _ in range(50):
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'stelsel ledger' AND datname = current_database()"
            ).fetchone()
            connection.rollback()
            if row == (0,):
                return
            time.sleep(0.02)
    pytest.fail("a session is still open")
