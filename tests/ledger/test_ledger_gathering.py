"""How records gather before the disk is asked: who waits, for how long, and what stays together."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from stelsel.ledger.batch import Batch, Item, Parcel, checked, parcel_of
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.frames import Broken
from stelsel.ledger.group_commit import GroupCommit
from stelsel.ledger.journal import Piece
from stelsel.ledger.segments import SegmentJournal, Write


class Disk(SegmentJournal):
    """A journal that remembers what was written at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.batches: list[list[Item]] = []
        self.takes = 0.0

    def append(self, batch: Iterable[Item]) -> int:
        self.batches.append(list(batch))
        time.sleep(self.takes)
        return super().append(batch)

    def begin(self, batch: Batch) -> Write | None:
        write = None if self.takes else super().begin(batch)
        if write is not None:
            self.batches.append(list(batch))
        return write


@pytest.fixture(params=[False, True], ids=["thread", "behind"])
def io_uring(request: pytest.FixtureRequest) -> bool:
    """Who writes: a thread, or the kernel, behind the event loop."""
    return bool(request.param)


def item(number: int, subject: str = "") -> Item:
    about = f',"subject":"{subject}"' if subject else ""
    return os.urandom(16), b'{"reason":"%d"%b,"time":5}' % (number, about.encode()), subject


def play(
    folder: Path,
    scenario: Callable[[GroupCommit, Disk], Awaitable[None]],
    records: int = 1000,
    waiting: int = 400,
    io_uring: bool = True,
) -> None:
    async def main() -> None:
        disk = Disk(folder / "segments")
        commit = GroupCommit(disk, batch_records=records, waiting_records=waiting, deadline=5, io_uring=io_uring)
        commit.start()
        await scenario(commit, disk)
        assert await commit.stop()
        disk.close()

    asyncio.run(main())


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_what_comes_alone_is_written_at_once(tmp_path: Path, io_uring: bool) -> None:
    async def scenario(commit: GroupCommit, disk: Disk) -> None:
        for number in range(3):
            waiting = commit.append(item(number))
            await turns(4)
            assert len(disk.batches) == number + 1 or not io_uring  # the thread begins when it gets to it
            assert await waiting == number
        assert [len(batch) for batch in disk.batches] == [1, 1, 1]

    play(tmp_path, scenario, io_uring=io_uring)


def test_while_each_turn_of_the_loop_brings_more_they_share_a_sync(tmp_path: Path, io_uring: bool) -> None:
    async def scenario(commit: GroupCommit, disk: Disk) -> None:
        waiting = []
        for number in range(20):
            waiting.append(commit.append(item(number)))
            await turns(1)
        assert await asyncio.gather(*waiting) == list(range(20))
        assert [len(batch) for batch in disk.batches] == [20]

    play(tmp_path, scenario, io_uring=io_uring)


def test_however_many_come_a_batch_begins_when_they_are_enough(tmp_path: Path, io_uring: bool) -> None:
    async def scenario(commit: GroupCommit, disk: Disk) -> None:
        waiting = [commit.append(item(number)) for number in range(32)]
        assert await asyncio.gather(*waiting) == list(range(32))
        waiting = []
        for number in range(320):
            waiting.append(commit.append(item(number)))
            await turns(1)
        await asyncio.gather(*waiting)
        assert len(disk.batches) > 2
        assert sum(map(len, disk.batches)) == 352

    play(tmp_path, scenario, io_uring=io_uring)


def test_what_comes_while_the_disk_works_is_written_when_it_is_done(tmp_path: Path) -> None:
    async def scenario(commit: GroupCommit, disk: Disk) -> None:
        disk.takes = 0.05
        first = commit.append(item(0))
        await asyncio.sleep(0.02)
        waiting = [commit.append(item(number)) for number in range(1, 11)]
        assert await first == 0
        assert await asyncio.gather(*waiting) == list(range(1, 11))
        assert [len(batch) for batch in disk.batches] == [1, 10]

    play(tmp_path, scenario, io_uring=False)


def test_what_is_offered_together_stands_in_a_row_and_is_numbered(tmp_path: Path, io_uring: bool) -> None:
    async def scenario(commit: GroupCommit, disk: Disk) -> None:
        items = [item(0, "a"), item(1), item(2, "b"), item(3, "a"), item(4)]
        single, parcel = commit.append(item(9, "a")), commit.offer(parcel_of(items))
        last = commit.append(item(8, "a"))
        assert (await single, await parcel, await last) == (0, 1, 6)
        assert [len(batch) for batch in disk.batches] == [7]
        assert disk.batches[0][1:6] == items
        records = [line.record for line in disk.lines(0, 7)]
        assert records[1] == b'{"reason":"0","subject":"a","subject_sequence":2,"time":5}'
        assert records[3] == b'{"reason":"2","subject":"b","subject_sequence":1,"time":5}'
        assert records[4] == b'{"reason":"3","subject":"a","subject_sequence":3,"time":5}'
        assert [records[2], records[5]] == [items[1][1], items[4][1]]
        assert disk.last_number("a") == 4
        assert [line.nonce for line in disk.lines(1, 6)] == [nonce for nonce, _, _ in items]
        pieces.extend(disk.pieces(0, 7))  # from memory

    pieces: list[Piece] = []
    play(tmp_path, scenario, io_uring=io_uring)
    assert list(SegmentJournal(tmp_path / "segments").pieces(0, 7)) == pieces  # from the file


def test_a_parcel_stays_whole_when_it_is_more_than_a_batch_and_counts_as_its_records(tmp_path: Path) -> None:
    async def scenario(commit: GroupCommit, disk: Disk) -> None:
        disk.takes = 0.2
        first = commit.append(item(0))
        await asyncio.sleep(0.05)
        parcels = [commit.offer(parcel_of([item(number) for number in range(30)])) for _ in range(2)]
        with pytest.raises(LedgerUnavailable, match="too many"):
            commit.offer(parcel_of([item(number) for number in range(31)]))
        rest = commit.offer(parcel_of([item(number) for number in range(10)]))
        assert await asyncio.gather(first, *parcels, rest) == [0, 1, 31, 61]
        assert [len(batch) for batch in disk.batches] == [1, 30, 30, 10]

    play(tmp_path, scenario, records=10, waiting=60, io_uring=False)  # beyond what the writer has in hand


def test_a_parcel_whose_caller_went_away_is_not_written(tmp_path: Path, io_uring: bool) -> None:
    async def scenario(commit: GroupCommit, disk: Disk) -> None:
        gone, stays = (commit.offer(parcel_of([item(number), item(number + 1)])) for number in (0, 5))
        gone.cancel()
        assert await stays == 0
        assert disk.size == 2

    play(tmp_path, scenario, io_uring=io_uring)


def test_frames_of_another_process_are_taken_only_when_they_are_whole() -> None:
    parcel = parcel_of([item(0, "a"), item(1)])
    again = checked(parcel.frames, parcel.named, 100)
    assert (again.count, list(Batch([again]))) == (2, list(Batch([parcel])))
    changed = [parcel.frames[:-1], parcel.frames + b"x", parcel.frames[1:], b"\0" * 40, parcel.frames[:20]]
    for at in range(len(parcel.frames)):
        flipped = bytearray(parcel.frames)
        flipped[at] ^= 1
        changed.append(bytes(flipped))
    for frames in changed:
        with pytest.raises(Broken):
            checked(frames, (), 100)
    with pytest.raises(Broken):
        checked(parcel.frames, [(1, "a")], 100)
    with pytest.raises(Broken):
        checked(parcel.frames, (), 10)
    assert len(Batch([Parcel(b"", 0, ())])) == 0
