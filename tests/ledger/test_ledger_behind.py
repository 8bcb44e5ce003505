"""Batches made durable behind the event loop: nobody is told before they are, whatever the kernel says or not."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelsel.base.moment import Moment
from stelsel.ledger import ring as ring_module
from stelsel.ledger.batch import Item, parcel_of
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.group_commit import GroupCommit
from stelsel.ledger.ring import Ring, open_ring
from stelsel.ledger.segments import SegmentJournal

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="io_uring is a thing of Linux")

BEHIND = "stelsel.ledger.behind.open_ring"


class HeldRing:
    """A ring that does nothing until it is told what the kernel does."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.writing = self.refuses = self.closed = False
        self.writes = 0
        self._given: int | None = None
        self._asked: tuple[int, bytes, int] = (0, b"", 0)

    def write(self, file: int, data: bytes, place: int) -> None:
        if self.refuses:
            raise OSError(errno.EAGAIN, "not now")
        self._asked = (file, data, place)
        self.writing = True
        self.writes += 1

    def answer(self, given: int | None = None, part: float = 1.0) -> None:
        """The kernel wrote this part of it; and gives that, or an error."""
        file, data, place = self._asked
        written = data[: int(len(data) * part)]
        os.pwrite(file, written, place)
        self._given = len(written) if given is None else given
        os.eventfd_write(self.event, 1)

    def done(self) -> int | None:
        os.eventfd_read(self.event)
        given, self._given = self._given, None
        self.writing = self.writing and given is None
        return given

    def close(self) -> None:
        os.close(self.event)
        self.closed = True


def item(number: int, subject: str = "") -> Item:
    about = f',"subject":"{subject}"' if subject else ""
    return os.urandom(16), b'{"reason":"%d"%b,"time":5}' % (number, about.encode()), subject


def play(
    folder: Path,
    patch: pytest.MonkeyPatch,
    scenario: Callable[[GroupCommit, HeldRing, SegmentJournal], Awaitable[None]],
    deadline: float = 5.0,
    ends: bool = True,
) -> HeldRing:
    async def main() -> HeldRing:
        made: list[HeldRing] = []

        def make(room: int) -> HeldRing:
            made.append(HeldRing(room))
            return made[0]

        patch.setattr(BEHIND, make)
        journal = SegmentJournal(folder / "segments")
        commit = GroupCommit(journal, batch_records=1000, waiting_records=400, deadline=deadline)
        commit.start()
        await scenario(commit, made[0], journal)
        assert await commit.stop() is ends
        if ends:
            journal.close()
        return made[0]

    return asyncio.run(main())


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0.002)


def records(folder: Path) -> list[bytes]:
    journal = SegmentJournal(folder / "segments")
    try:
        return [line.record for line in journal.lines(0, journal.size)] if journal.size else []
    finally:
        journal.close()


async def first_by_thread(commit: GroupCommit, ring: HeldRing) -> None:
    """The first batch of a journal that was just opened may go either way; it is answered when it is behind."""
    future = commit.append(item(0))
    await turns()
    if ring.writing:
        ring.answer()
    assert await future == 0


def test_nobody_is_told_before_the_kernel_says_that_it_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(commit: GroupCommit, ring: HeldRing, journal: SegmentJournal) -> None:
        await first_by_thread(commit, ring)
        futures = [commit.append(item(number)) for number in range(1, 4)]
        await turns()
        assert ring.writing
        later = commit.append(item(4))
        os.eventfd_write(ring.event, 1)  # a wakeup without an answer
        await turns()
        assert not any(future.done() for future in (*futures, later))
        assert journal.size == 1
        ring.answer()
        assert await asyncio.gather(*futures) == [1, 2, 3]
        await turns()
        assert not later.done()
        ring.answer()
        assert await later == 4

    play(tmp_path, monkeypatch, scenario)
    assert len(records(tmp_path)) == 5


@pytest.mark.parametrize(("given", "part"), [(-errno.EIO, 0.0), (-errno.ENOSPC, 0.5), (None, 0.5), (-errno.EIO, 1.0)])
def test_what_the_kernel_did_not_do_whole_the_thread_does_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: int | None, part: float
) -> None:
    async def scenario(commit: GroupCommit, ring: HeldRing, journal: SegmentJournal) -> None:
        await first_by_thread(commit, ring)
        futures = [commit.append(item(number, "s")) for number in range(1, 4)]
        await turns()
        ring.answer(given, part)
        assert await asyncio.gather(*futures) == [1, 2, 3]
        assert journal.last_number("s") == 3
        last = commit.append(item(4, "s"))
        await turns()
        ring.answer()
        assert await last == 4

    play(tmp_path, monkeypatch, scenario)
    found = records(tmp_path)
    assert len(found) == 5
    assert [b'"subject_sequence":%d,' % number in found[number] for number in range(1, 5)] == [True] * 4


def test_a_write_that_the_kernel_does_not_take_on_goes_by_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(commit: GroupCommit, ring: HeldRing, journal: SegmentJournal) -> None:
        ring.refuses = True
        assert await asyncio.gather(*(commit.append(item(number)) for number in range(3))) == [0, 1, 2]
        large = parcel_of([(os.urandom(16), b'{"reason":"%b"}' % (b"x" * 60_000), "") for _ in range(8)])
        ring.refuses = False
        assert await commit.offer(large) == 3
        assert ring.writes == 0

    play(tmp_path, monkeypatch, scenario)
    assert len(records(tmp_path)) == 11


def test_a_file_that_was_replaced_during_the_write_is_noticed_and_recording_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(commit: GroupCommit, ring: HeldRing, journal: SegmentJournal) -> None:
        await first_by_thread(commit, ring)
        (path,) = (tmp_path / "segments").glob("*.segment")
        future = commit.append(item(1))
        await turns()
        aside = path.with_suffix(".aside")
        path.rename(aside)
        path.write_bytes(b"something else")
        ring.answer()
        with pytest.raises(LedgerUnavailable, match="cannot be used"):
            await future
        assert commit.refusing
        aside.replace(path)
        assert await commit.append(item(2)) == 1
        assert not commit.refusing

    play(tmp_path, monkeypatch, scenario)
    assert [b'"2"' in record for record in records(tmp_path)] == [False, True]


def test_a_disk_that_holds_the_write_refuses_at_the_deadline_and_keeps_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(commit: GroupCommit, ring: HeldRing, journal: SegmentJournal) -> None:
        await first_by_thread(commit, ring)
        held = commit.append(item(1))
        await turns()
        waiting = commit.append(item(2))
        for future in (held, waiting):
            with pytest.raises(LedgerUnavailable, match="in time"):
                await future
        assert commit.refusing
        locked = threading.Thread(target=lambda: journal.append([item(9)]), daemon=True)
        locked.start()
        locked.join(0.1)
        assert locked.is_alive()  # who else writes waits for what is being written

    ring = play(tmp_path, monkeypatch, scenario, deadline=0.1, ends=False)
    assert not ring.closed


def test_what_was_held_too_long_may_be_there_and_what_comes_after_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(commit: GroupCommit, ring: HeldRing, journal: SegmentJournal) -> None:
        await first_by_thread(commit, ring)
        held = commit.append(item(1))
        with pytest.raises(LedgerUnavailable):
            await held
        after = commit.append(item(2))
        await turns()
        ring.answer()
        await turns()
        ring.answer()
        assert await after == 2

    play(tmp_path, monkeypatch, scenario, deadline=0.2)
    assert len(records(tmp_path)) == 3


class Walk:
    """Steps that append again as soon as they are told, so many times; or make a mistake."""

    def __init__(self, commit: GroupCommit, times: int, mistake: bool = False) -> None:
        self._commit = commit
        self._times = times
        self._mistake = mistake
        self.told: list[int] = []
        self._steps: Any = self._go()

    async def _go(self) -> None:
        for number in range(self._times):
            moment = Moment()
            self._commit.append_then(item(number), moment)
            self.told.append(await moment)
            if self._mistake:
                raise ValueError("a mistake")

    def go_on(self) -> None:
        try:
            self._steps.send(None).steps = self
        except StopIteration:
            pass

    def go_on_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.go_on)


def test_steps_that_append_again_or_fail_when_they_are_told_keep_nobody_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(commit: GroupCommit, ring: HeldRing, journal: SegmentJournal) -> None:
        mistakes: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: mistakes.append(told))
        walks = [Walk(commit, 40, mistake=number == 1) for number in range(5)]
        for walk in walks:
            walk.go_on()
        while any(len(walk.told) < 40 for number, walk in enumerate(walks) if number != 1):
            await turns(1)
            if ring.writing:
                ring.answer()
        assert len(mistakes) == 1
        assert len(walks[1].told) == 1
        assert sorted(index for walk in walks for index in walk.told) == list(range(161))

    play(tmp_path, monkeypatch, scenario)
    assert len(records(tmp_path)) == 161


async def all_done(ring: HeldRing, futures: list[asyncio.Future[int]]) -> None:
    while ring.writing or not all(future.done() for future in futures):
        if ring.writing:
            ring.answer()
        await turns(1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("offer"), st.integers(1, 4), st.sampled_from(["", "a", "b"])),
            st.tuples(st.just("cancel"), st.integers(0, 30), st.just("")),
            st.tuples(st.just("answer"), st.sampled_from([0, 0, 0, -errno.EIO, -1]), st.just("")),
            st.tuples(st.just("refuse"), st.integers(0, 1), st.just("")),
        ),
        max_size=25,
    )
)
def test_after_anything_the_journal_holds_what_was_acknowledged_where_it_was_said(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int, str]]
) -> None:
    folder = tmp_path_factory.mktemp("behind")
    promised: dict[int, bytes] = {}

    async def scenario(commit: GroupCommit, ring: HeldRing, journal: SegmentJournal) -> None:
        offers: list[tuple[asyncio.Future[int], list[Item]]] = []
        number = 0
        for act, value, subject in acts:
            if act == "offer":
                items = [item(number + step, subject) for step in range(value)]
                number += value
                offers.append((commit.offer(parcel_of(items)), items))
            elif act == "cancel" and offers:
                offers[value % len(offers)][0].cancel()
            elif act == "refuse":
                ring.refuses = bool(value)
            elif ring.writing:
                ring.answer(value if value < -1 else None, 0.4 if value else 1.0)
            await turns(1)
        ring.refuses = False
        await all_done(ring, [future for future, _ in offers])
        for future, items in offers:
            if not future.cancelled():
                promised.update({future.result() + step: one[0] for step, one in enumerate(items)})

    with pytest.MonkeyPatch.context() as patch:
        play(folder, patch, scenario)
    journal = SegmentJournal(folder / "segments")
    lines = list(journal.lines(0, journal.size)) if journal.size else []
    journal.close()
    assert all(lines[index].nonce == nonce for index, nonce in promised.items())
    assert len({line.nonce for line in lines}) == len(lines)
    for subject in (b"a", b"b"):
        about = [line.record for line in lines if b'"subject":"%b"' % subject in line.record]
        assert [b'"subject_sequence":%d,' % (at + 1) in record for at, record in enumerate(about)] == [True] * len(
            about
        )


@pytest.fixture
def ring() -> Ring:
    found = open_ring(1 << 16)
    if found is None:
        pytest.skip("this system has no io_uring, or does not allow it")
    return found


def outcome(ring: Ring) -> int:
    for _ in range(10):
        assert select.select([ring.event], [], [], 5)[0]
        given = ring.done()
        if given is not None:
            return given
    raise AssertionError("no word came")


def test_the_kernel_writes_and_says_what_became_of_it(tmp_path: Path, ring: Ring) -> None:
    path = tmp_path / "file"
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    reading = os.open(path, os.O_RDONLY)
    expected = b""
    for number in range(50):  # round the ring more than once
        data = b"%d" % number * (number + 1)
        ring.write(file, data, len(expected))
        expected += data
        assert outcome(ring) == len(data)
        assert not ring.writing
    assert path.read_bytes() == expected
    ring.write(reading, b"x", 0)
    assert outcome(ring) == -errno.EBADF
    ring.write(file, b"again", 0)
    assert outcome(ring) == 5
    ring.close()
    os.close(file)
    os.close(reading)


def test_the_kernel_is_asked_for_durability_where_it_looks_for_it(
    tmp_path: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    # strace does not see these calls. But the kernel refuses what it does not know, where it looks for this flag.
    assert os.RWF_DSYNC == ring_module._DURABLE
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr(ring_module, "_DURABLE", 1 << 30)
    ring.write(file, b"x", 0)
    assert outcome(ring) in (-errno.EOPNOTSUPP, -errno.EINVAL)
    ring.close()
    os.close(file)


def test_a_write_that_was_refused_does_not_go_along_with_the_next(
    tmp_path: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)

    def refuse(*_: Any) -> int:
        raise OSError(errno.EAGAIN, "not now")

    with monkeypatch.context() as patch:
        patch.setattr(ring, "_system", refuse)
        with pytest.raises(OSError, match="not now"):
            ring.write(file, b"first", 100)
    ring.write(file, b"second", 0)
    assert outcome(ring) == 6
    assert os.pread(file, 200, 0) == b"second"
    ring.close()
    os.close(file)


def test_records_are_durable_by_the_real_kernel_over_many_segments(tmp_path: Path, ring: Ring) -> None:
    ring.close()

    async def main() -> None:
        journal = SegmentJournal(tmp_path / "segments", segment_bytes=4096)
        commit = GroupCommit(journal, batch_records=64, waiting_records=1000, deadline=5)
        commit.start()

        async def caller(name: int) -> list[int]:
            return [await commit.append(item(name * 100 + number, f"s{name}")) for number in range(30)]

        indexes = await asyncio.gather(*(caller(name) for name in range(12)))
        assert sorted(index for some in indexes for index in some) == list(range(360))
        assert await commit.stop()
        journal.close()

    asyncio.run(main())
    found = records(tmp_path)
    assert len(found) == 360
    assert len(list((tmp_path / "segments").glob("*.segment"))) > 3


def test_starting_and_stopping_many_times_leaves_no_descriptors(tmp_path: Path, ring: Ring) -> None:
    ring.close()

    async def once() -> None:
        journal = SegmentJournal(tmp_path / "segments")
        commit = GroupCommit(journal, batch_records=64, waiting_records=1000, deadline=5)
        commit.start()
        await commit.append(item(0))
        assert await commit.stop()
        journal.close()

    asyncio.run(once())
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(10):
        asyncio.run(once())
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
