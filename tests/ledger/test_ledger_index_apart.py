"""The index that a process of its own builds is the one that a thread builds, and that process can always die."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stelsel.ledger.blocks import ERASED
from stelsel.ledger.building import Builder
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable
from stelsel.ledger.index import Building, Index
from stelsel.ledger.intake import load_block
from stelsel.ledger.merkle import root
from stelsel.ledger.query import LogQuery, Query
from stelsel.ledger.record import Record
from stelsel.ledger.segment_reader import SegmentReader
from stelsel.ledger.segments import SegmentJournal
from stelsel.ledger.service import Ledger

NewLedger = Callable[..., Ledger]
NewRecord = Callable[..., Record]
PEER = "00000099000000003000"


def processes(pid: int | str = "self") -> list[int]:
    """Those that this one started for an index, and that run."""
    while True:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        try:
            return [int(child) for task in tasks for child in (task / "children").read_text().split() if _builds(child)]
        except (FileNotFoundError, ProcessLookupError):  # a thread ended meanwhile; its children are another's now
            continue


def _builds(pid: str) -> bool:
    try:
        return b"stelsel.ledger.index_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone meanwhile
        return False


def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return found


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SegmentJournal]:
    journal = SegmentJournal(tmp_path / "segments", segment_bytes=20_000)
    yield journal
    journal.close()


@pytest.fixture
def new_index(tmp_path: Path) -> Iterator[Callable[..., Index]]:
    """Makes the index of `journal`, not started; all are stopped in the end."""
    made = []

    def make(pause: float = 60, apart: bool = True) -> Index:
        segments = tmp_path / "segments" if apart else None
        made.append(Index(tmp_path / "index.sqlite", pause=pause, segments=segments))
        return made[-1]

    yield make
    for index in made:
        index.stop()
    assert processes() == []


def items(record: NewRecord, start: int, stop: int) -> list[tuple[bytes, bytes, str]]:
    return [
        (bytes(16), record(number, subject=f"s{number % 5}").canonical(), f"s{number % 5}")
        for number in range(start, stop)
    ]


def held(path: Path) -> dict[str, list[Any]]:
    """Everything in an index."""
    with sqlite3.connect(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()  # noqa: S608
            for name in tables
        }


def test_it_is_the_same_index_and_answers_the_same(new_ledger: NewLedger, record: NewRecord, tmp_path: Path) -> None:
    chance = random.Random(7)
    records = [
        record(number, subject=f"s{chance.randrange(9)}", trace_id=f"{chance.randrange(50):032x}")
        for number in range(3000)
    ]
    moment = record(1500).time / 1000

    async def run() -> None:
        ledger = new_ledger("apart", index_apart=True, segment_bytes=100_000)
        await ledger.start()
        for start in range(0, len(records), 500):
            await asyncio.gather(*map(ledger.append, records[start : start + 500]))
            await ledger.checkpoint()  # all of it is in the index
        shutil.copytree(tmp_path / "apart", tmp_path / "thread")
        for file in (tmp_path / "thread").glob("index.sqlite*"):
            file.unlink()
        other = new_ledger("thread", segment_bytes=100_000)
        await other.start()
        questions = [
            Query(subject="s3", limit=1000),
            Query(trace_id=f"{7:032x}"),
            Query(peer=PEER, after_ms=records[700].time, descending=False),
        ]
        for erased in (False, True):
            if erased:
                assert await ledger.prune(moment) == await other.prune(moment)
            answers = []
            for each in (ledger, other):
                point = await each.checkpoint()
                found = [await each.find(question) for question in questions]
                answers.append((point.size, point.root, found, await each.transactions(LogQuery(PEER, limit=1000))))
            assert answers[0] == answers[1]
            assert all(answers[0][2])
        await ledger.stop()
        await other.stop()

    asyncio.run(run())
    assert processes() == []
    assert held(tmp_path / "apart" / "index.sqlite") == held(tmp_path / "thread" / "index.sqlite")


def test_a_search_that_waits_is_served_at_once_and_others_wait_for_the_pause(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord
) -> None:
    index = new_index(pause=60)
    index.start(journal)
    index.erased(0, 0, 10)  # it is there
    journal.append(items(record, 0, 100))
    time.sleep(0.05)
    assert index.size == 0
    began = time.monotonic()
    index.wait_for(100, 10)
    assert time.monotonic() - began < 1
    with index.reading() as reader:
        assert reader.tree().size == index.size == 100
    (pid,) = processes()
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)


def test_without_anyone_waiting_it_follows_after_the_pause(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord
) -> None:
    index = new_index(pause=0.02)
    index.start(journal)
    for start in range(0, 100, 10):
        journal.append(items(record, start, start + 10))
        until(lambda start=start: index.size == start + 10)


def test_killed_in_the_middle_it_is_started_again_and_catches_up(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.append(items(record, 0, 20_000))
    index = new_index()
    index.start(journal)
    until(lambda: 0 < index.size < 20_000)
    (pid,) = processes()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(LedgerUnavailable):
        index.wait_for(20_000, 0.1)
    with index.reading() as reader:  # what there is can be searched meanwhile
        assert reader.tree().size < 20_000
    index.wait_for(20_000, 10)
    assert processes() not in ([], [pid])
    assert "the process that builds the index ended" in capsys.readouterr().err
    plain = new_index(apart=False)
    with index.reading() as reader, plain.reading() as same:
        assert root(20_000, reader.tree().node) == root(20_000, same.tree().node)


def test_one_that_hangs_holds_up_nothing_but_searches_and_does_not_outlive_the_node(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stelsel.ledger.index_apart._ENDING", 0.1)
    index = new_index(pause=0.01)
    index.start(journal)
    index.erased(0, 0, 10)
    (pid,) = processes()
    os.kill(pid, signal.SIGSTOP)
    for start in range(0, 100, 10):
        journal.append(items(record, start, start + 10))
        with pytest.raises(LedgerUnavailable):
            index.wait_for(start + 10, 0.01)
    index.stop()
    assert processes() == []
    assert journal.size == 100


def test_who_builds_it_is_seen_and_so_is_that_nobody_does(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = new_index()
    index.start(journal)
    index.erased(0, 0, 10)
    (pid,) = processes()
    assert index.building == Building(apart=True, pid=pid, size=0, behind=0, restarts=0, trouble="")
    journal.append(items(record, 0, 10))
    assert (index.building.size, index.building.behind) == (0, 10)
    with monkeypatch.context() as patch:
        patch.setattr("stelsel.ledger.index.Apart", _no_process)
        os.kill(pid, signal.SIGKILL)
        gone = until(lambda: (now := index.building).trouble and now)
        assert gone == Building(apart=True, pid=None, size=0, behind=10, restarts=1, trouble="BlockingIOError")
    index.wait_for(10, 10)
    back = index.building
    assert [back.pid] == processes()
    assert back == Building(apart=True, pid=back.pid, size=10, behind=0, restarts=1, trouble="")


def _no_process(*_: object) -> None:
    raise BlockingIOError("no process can be started")


def test_a_thread_that_builds_it_is_the_process_of_the_node(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord
) -> None:
    index = new_index(apart=False)
    index.start(journal)
    index.erased(0, 0, 10)
    journal.append(items(record, 0, 10))
    assert index.building == Building(apart=False, pid=os.getpid(), size=0, behind=10, restarts=0, trouble="")
    index.wait_for(10, 10)
    assert index.building == Building(apart=False, pid=os.getpid(), size=10, behind=0, restarts=0, trouble="")
    index.stop()
    assert index.building.pid is None


def test_signals_to_the_whole_group_are_the_concern_of_the_node(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord
) -> None:
    index = new_index()
    index.start(journal)
    (pid,) = until(processes)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)  # at this moment the interpreter hardly runs
    journal.append(items(record, 0, 10))
    index.wait_for(10, 10)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    journal.append(items(record, 10, 20))
    index.wait_for(20, 10)
    assert processes() == [pid]


NODE = """
import sys, time
from pathlib import Path
from stelsel.ledger.index import Index
from stelsel.ledger.segments import SegmentJournal
journal = SegmentJournal(Path(sys.argv[1]) / "segments")
index = Index(Path(sys.argv[1]) / "index.sqlite", pause=0.01, segments=Path(sys.argv[1]) / "segments")
index.start(journal)
index.erased(0, 0, 10)
print("ready", flush=True)
time.sleep(60)
"""


def test_it_ends_with_a_node_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NODE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == b"ready\n"
        (pid,) = processes(node.pid)
        node.kill()
        assert node.communicate()[1] == b""  # nothing holds its standard error any more
    until(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text())


def test_what_was_erased_is_forgotten_in_the_block_that_is_being_filled_too(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord, tmp_path: Path
) -> None:
    for apart in (True, False):
        index = new_index(pause=0.01, apart=apart)
        index.start(journal)
        start = journal.size
        journal.append(items(record, start, start + 100))
        index.wait_for(start + 100, 10)
        journal.prune(record(start + 50).time, 0, start + 50)
        index.erased(start, start + 50, 10)
        journal.append(items(record, start + 100, start + 110))
        index.wait_for(start + 110, 10)
        with sqlite3.connect(tmp_path / "index.sqlite") as connection:
            block = load_block(connection, 0)
        assert block is not None
        gone = [step for step, flags in enumerate(block.flags) if flags == ERASED]
        assert gone == list(range(start + 50))
        assert not any(block.subjects[step] or block.times[step] for step in gone)
        index.stop()


def test_the_reader_never_looks_beyond_what_is_durable(
    journal: SegmentJournal, record: NewRecord, tmp_path: Path
) -> None:
    for start in range(0, 200, 10):
        journal.append(items(record, start, start + 10))
    last = max((tmp_path / "segments").iterdir())
    with last.open("ab") as file:
        file.write(b"half a batch, and nonsense")
    (tmp_path / "segments" / f"{10**6:020d}.segment").write_bytes(b"")  # one that is being begun
    reader = SegmentReader(tmp_path / "segments")
    for size in (0, 1, 10, 55, 200):
        reader.reach(size)
        read = [payload for piece in reader.pieces(0, size) for payload in piece.payloads]
        assert read == [payload for piece in journal.pieces(0, size) for payload in piece.payloads]
        with pytest.raises(ValueError, match="not that long"):
            list(reader.pieces(0, size + 1))
        assert reader.generations() == {}
    reader.reach(201)  # as no node ever says
    with pytest.raises(LedgerCorrupt):
        list(reader.pieces(200, 201))


def test_damage_lags_the_index_and_is_told_until_it_is_mended(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord, tmp_path: Path, capfd: Any
) -> None:
    journal.append(items(record, 0, 100))
    (segment,) = (tmp_path / "segments").iterdir()
    whole = segment.read_bytes()
    with segment.open("r+b") as file:
        file.seek(len(whole) // 2)
        file.write(bytes(1) if whole[len(whole) // 2] else b"x")
    index = new_index(pause=0.01)
    index.start(journal)
    until(lambda: index.building.trouble == "LedgerCorrupt")
    with pytest.raises(LedgerUnavailable):
        index.wait_for(100, 0.8)
    assert (index.building.behind, index.building.trouble) == (100, "LedgerCorrupt")
    with segment.open("r+b") as file:
        file.write(whole)
    index.wait_for(100, 10)
    assert (index.building.behind, index.building.trouble) == (0, "")
    told = capfd.readouterr().err
    assert "index lags" in told
    assert "ledger damaged" in told  # by the process itself, as the node would


def test_an_index_that_cannot_be_used_any_more_is_made_anew(
    journal: SegmentJournal, new_index: Callable[..., Index], record: NewRecord, tmp_path: Path
) -> None:
    journal.append(items(record, 0, 100))
    index = new_index()
    index.start(journal)
    index.wait_for(100, 10)
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.execute("PRAGMA user_version=1")
    os.kill(processes()[0], signal.SIGKILL)
    until(lambda: index.size == 0 or processes() == [])
    journal.append(items(record, 100, 200))
    index.wait_for(200, 10)
    with index.reading() as reader:
        assert reader.tree().size == 200


def test_two_that_build_at_once_leave_a_right_index(journal: SegmentJournal, record: NewRecord, tmp_path: Path) -> None:
    """After a crash the process of the node before may be at its last round, while that of the next begins."""
    journal.append(items(record, 0, 300))
    reader = SegmentReader(tmp_path / "segments")
    reader.reach(100)
    one, other = (Builder(tmp_path / "index.sqlite", []) for _ in range(2))
    list(one.take(reader))
    reader.reach(300)
    with pytest.raises(LedgerUnavailable, match="another process"):
        list(other.take(reader))
    list(other.take(reader))
    assert (one.size, other.size) == (100, 300)
    one.close()
    other.close()
    alone = Builder(tmp_path / "alone.sqlite", [])
    list(alone.take(reader))
    alone.close()
    assert held(tmp_path / "index.sqlite") == held(tmp_path / "alone.sqlite")
