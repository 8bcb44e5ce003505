"""The journal keeps what it acknowledged: through torn tails, kill -9, a full disk and a folder that is taken away."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stelsel.ledger.batch import Item
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable
from stelsel.ledger.group_commit import GroupCommit
from stelsel.ledger.segments import SegmentJournal

NONCE = bytes(range(16))


def _item(number: int) -> Item:
    return NONCE, b'{"number":%d}' % number, ""


def _records(journal: SegmentJournal) -> list[bytes]:
    return [line.record for line in journal.lines(0, journal.size)]


def test_what_was_appended_is_read_back_in_order_over_many_segments(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments", segment_bytes=500)
    for number in range(0, 200, 4):
        assert journal.append([_item(number + step) for step in range(4)]) == number
    journal.close()
    assert len(list((tmp_path / "segments").iterdir())) > 10
    again = SegmentJournal(tmp_path / "segments", segment_bytes=500)
    assert _records(again) == [_item(number)[1] for number in range(200)]
    assert [line.position.index for line in again.lines(37, 121)] == list(range(37, 121))
    middle = next(again.lines(90, 91))
    assert again.line(middle.position) == middle
    assert [line.position.index for line in again.lines(90, 93, middle.position)] == [90, 91, 92]
    again.close()


def test_a_tail_torn_at_any_byte_is_cut_off_and_the_rest_is_kept(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments")
    journal.append([_item(1), _item(2)])
    (file,) = (tmp_path / "segments").iterdir()
    kept = file.stat().st_size
    journal.append([_item(3)])
    journal.close()
    whole = file.read_bytes()
    for end in range(kept, len(whole)):
        for tail in (b"", b"\0" * (len(whole) - end)):  # a file may also have been made longer before it was filled
            file.write_bytes(whole[:end] + tail)
            again = SegmentJournal(tmp_path / "segments")
            assert _records(again) == [_item(1)[1], _item(2)[1]]
            assert again.append([_item(4)]) == 2
            again.close()
            assert file.stat().st_size == len(whole)
    for end in range(len(b"stelsel journal 1 00000000000000000000\n")):
        file.write_bytes(whole[:end])
        again = SegmentJournal(tmp_path / "segments")
        assert again.append([_item(1)]) == 0
        again.close()


def test_damage_before_the_tail_is_reported_and_nothing_is_cut(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments")
    for number in range(3):
        journal.append([_item(number)])
    journal.close()
    (file,) = (tmp_path / "segments").iterdir()
    whole = file.read_bytes()
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0x41
        file.write_bytes(broken)
        with pytest.raises(LedgerCorrupt, match="damaged at byte"):
            SegmentJournal(tmp_path / "segments")
        assert file.read_bytes() == bytes(broken)


def test_damage_in_an_older_segment_is_reported_when_it_is_read(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments", segment_bytes=100)
    for number in range(20):
        journal.append([_item(number)])
    oldest = min((tmp_path / "segments").iterdir())
    data = oldest.read_bytes()
    oldest.write_bytes(data[:-3] + b"x" + data[-2:])
    with pytest.raises(LedgerCorrupt):
        _records(journal)
    oldest.write_bytes(data[:60])
    with pytest.raises(LedgerCorrupt):
        _records(journal)
    journal.close()


def test_a_journal_that_lost_records_is_reported(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments")
    journal.append([_item(0)])
    journal.close()
    with pytest.raises(LedgerCorrupt, match="holds 1 records, but it held 2"):
        SegmentJournal(tmp_path / "segments", known=2)
    (tmp_path / "segments").rename(tmp_path / "away")
    with pytest.raises(LedgerCorrupt, match="holds 0 records"):
        SegmentJournal(tmp_path / "segments", known=1)
    assert not (tmp_path / "segments").exists()


def test_a_folder_taken_away_is_noticed_even_by_root_and_put_back_it_goes_on(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments")
    journal.append([_item(0)])
    (tmp_path / "segments").rename(tmp_path / "away")
    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            journal.append([_item(99)])
    (tmp_path / "segments").write_text("a file where the folder was")
    with pytest.raises(LedgerUnavailable):
        journal.append([_item(99)])
    (tmp_path / "segments").unlink()
    (tmp_path / "away").rename(tmp_path / "segments")
    assert journal.append([_item(1)]) == 1
    assert _records(journal) == [_item(0)[1], _item(1)[1]]
    journal.close()


def test_another_file_in_the_place_of_ours_is_not_written_to(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments")
    journal.append([_item(0), _item(1)])
    (file,) = (tmp_path / "segments").iterdir()
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[:-20])
    with pytest.raises(LedgerUnavailable):
        journal.append([_item(2)])
    with pytest.raises(LedgerCorrupt, match="what was acknowledged last"):
        journal.append([_item(2)])
    file.write_bytes(whole + b"half a fra")  # the backup, with what a refused batch left
    assert journal.append([_item(2)]) == 2
    assert _records(journal) == [_item(number)[1] for number in range(3)]
    journal.close()


def test_a_full_disk_refuses_leaves_nothing_behind_and_recovers(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments")
    journal.append([_item(0)])
    (file,) = (tmp_path / "segments").iterdir()
    size = file.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
    try:
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="too large"):
                journal.append([_item(1)])
            assert file.stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.append([_item(1)]) == 1
    journal.close()
    assert _records(SegmentJournal(tmp_path / "segments")) == [_item(0)[1], _item(1)[1]]


def test_a_failed_sync_is_never_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SegmentJournal(tmp_path / "segments")
    journal.append([_item(0)])

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(LedgerUnavailable):
            journal.append([_item(1)])
    assert journal.append([_item(2)]) == 1
    assert _records(journal) == [_item(0)[1], _item(2)[1]]
    journal.close()


def test_a_slow_disk_refuses_at_the_deadline_and_what_waited_is_never_written(tmp_path: Path) -> None:
    class Slow(SegmentJournal):
        def append(self, batch):  # type: ignore[no-untyped-def]
            time.sleep(0.4)
            return super().append(batch)

    async def run() -> None:
        journal = Slow(tmp_path / "segments")
        commit = GroupCommit(journal, batch_records=1, waiting_records=3, deadline=0.15, io_uring=False)
        commit.start()
        begin = time.monotonic()
        first = commit.append(_item(0))
        await asyncio.sleep(0.02)
        rest = [commit.append(_item(number)) for number in (1, 2, 3)]
        with pytest.raises(LedgerUnavailable, match="too many"):
            commit.append(_item(4))
        outcomes = await asyncio.gather(first, *rest, return_exceptions=True)
        assert all(isinstance(outcome, LedgerUnavailable) for outcome in outcomes)
        assert time.monotonic() - begin < 0.35
        await asyncio.sleep(0.4)
        assert _records(journal) == [_item(0)[1]]  # it was being written: refused, and recorded all the same
        await commit.stop()
        with pytest.raises(LedgerUnavailable):
            commit.append(_item(5))
        journal.close()

    asyncio.run(run())


CHILD = """
import asyncio, sys, os
from pathlib import Path
from stelsel.ledger.group_commit import GroupCommit
from stelsel.ledger.segments import SegmentJournal

async def main():
    journal = SegmentJournal(Path(sys.argv[1]), segment_bytes=20_000)
    commit = GroupCommit(journal, batch_records=64, waiting_records=1000, deadline=5)
    commit.start()
    async def appender(name):
        number = 0
        while True:
            text = f"{name}-{number}"
            index = await commit.append((bytes(16), text.encode() + b"}", ""))
            os.write(1, f"{index} {text}\\n".encode())
            number += 1
    await asyncio.gather(*(appender(f"{os.getpid()}.{n}") for n in range(16)))

asyncio.run(main())
"""


def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[int, bytes] = {}
    chance = random.Random(7)
    for _ in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "segments")], stdout=subprocess.PIPE, bufsize=0
        )
        assert child.stdout is not None
        output, end = b"", None
        while end is None or time.monotonic() < end:
            ready, _, _ = select.select([child.stdout], [], [], 0.01)
            if ready:
                chunk = os.read(child.stdout.fileno(), 1 << 16)
                assert chunk, "the child ended by itself"
                output += chunk
                end = end or time.monotonic() + chance.uniform(0, 0.15)
        child.send_signal(signal.SIGKILL)
        child.wait()
        output += child.stdout.read()
        child.stdout.close()
        for line in output.split(b"\n")[:-1]:
            index, text = line.split(b" ")
            assert int(index) not in acknowledged
            acknowledged[int(index)] = text + b"}"
    journal = SegmentJournal(tmp_path / "segments")
    records = _records(journal)
    journal.close()
    assert len(acknowledged) > 200
    assert all(records[index] == text for index, text in acknowledged.items())
    assert len(set(records)) == len(records)


def test_a_caller_that_goes_away_while_waiting_leaves_no_record(tmp_path: Path, record: Callable[..., object]) -> None:
    async def run() -> None:
        journal = SegmentJournal(tmp_path / "segments")
        commit = GroupCommit(journal, batch_records=10, waiting_records=10, deadline=1)
        commit.start()
        gone, stays = commit.append(_item(0)), commit.append(_item(1))
        gone.cancel()
        assert await stays == 0
        assert _records(journal) == [_item(1)[1]]
        await commit.stop()
        journal.close()

    asyncio.run(run())
