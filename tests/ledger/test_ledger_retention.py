"""Records are erased by policy: they are nowhere any more, and whatever was proved stays proved."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stelsel.base.clock import SetClock
from stelsel.base.errors import BadRequest, NotFound
from stelsel.ledger import receipts
from stelsel.ledger.blocks import ERASED
from stelsel.ledger.carried import Carried
from stelsel.ledger.evidence import verify_counted
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.intake import load_block
from stelsel.ledger.journal import Pruned
from stelsel.ledger.merkle import verify_consistency
from stelsel.ledger.pruning import prune_segment
from stelsel.ledger.published import commitment_of
from stelsel.ledger.query import LogQuery, Query
from stelsel.ledger.record import Record
from stelsel.ledger.retention import DAY, Retention
from stelsel.ledger.segments import SegmentJournal
from stelsel.ledger.service import Ledger

NewLedger = Callable[..., Ledger]
NewRecord = Callable[..., Record]
PEER = "00000099000000003000"


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_erased_records_are_nowhere_and_every_proof_holds(
    new_ledger: NewLedger, record: NewRecord, tmp_path: Path
) -> None:
    cuts = sorted(random.Random(4).sample(range(1, 150), 6))

    async def run() -> None:
        ledger = new_ledger(segment_bytes=12_000)
        await ledger.start()
        for number in range(150):
            members = {"subject": f"s{number % 7}", "reason": f"secret{number:03d}", "trace_id": f"{number:032x}"}
            await ledger.append(record(number, **members))
        before = await ledger.checkpoint()
        handed_out = [await ledger.receipt(index) for index in (0, 30, 149)]
        evidence = b"".join([piece async for piece in ledger.counted(150)])
        for earlier, cut in zip([0, *cuts], cuts, strict=False):
            moment = record(cut).time / 1000
            assert await ledger.due(moment) == cut - earlier
            assert (await ledger.prune(moment))[0] == cut - earlier
            assert await ledger.prune(moment) == (0, 0)
            if cut % 2:  # with the index made anew from what is left, too
                await ledger.stop()
                (tmp_path / "ledger" / "index.sqlite").unlink()
                await ledger.start()
            every = list(range(cut, 150))
            found = await ledger.find(Query(limit=1000, descending=False))
            assert [entry.index for entry in found] == every
            told = await ledger.transactions(LogQuery(PEER, limit=1000, descending=False))
            assert [entry.index for entry in told] == every
            gone = record(cut - 1, trace_id=f"{cut - 1:032x}")
            assert await ledger.find(Query(trace_id=gone.trace_id)) == []
            assert await ledger.find(Query(transaction_id=gone.transaction_id)) == []
            assert await ledger.find(Query(before_ms=gone.time + 1)) == []
            assert [one.index for one in await ledger.find(Query(trace_id=f"{cut:032x}"))] == [cut]
            assert len(await ledger.find(Query(subject=f"s{cut % 7}"))) == (149 - cut) // 7 + 1
            for ask in (ledger.entry, ledger.receipt):
                with pytest.raises(NotFound):
                    await ask(cut - 1)
            kept = await ledger.receipt(cut)
            assert receipts.verify(kept, None, time.time()).record.reason == f"secret{cut:03d}"
            for receipt in handed_out:
                receipts.verify(receipt, None, time.time())
            after = await ledger.checkpoint()
            assert (after.size, after.root) == (before.size, before.root)
            assert b"".join([piece async for piece in ledger.counted(150)]) == evidence
            files = everything_in(tmp_path / "ledger")
            assert f"secret{cut - 1:03d}".encode() not in files
            assert b"secret149" in files
        await ledger.append(record(150))
        grown = await ledger.checkpoint()
        proof = await ledger.consistency(150, 151)
        verify_consistency(150, 151, before.root, grown.root, proof)
        evidence = b"".join([piece async for piece in ledger.counted(151)])
        counted = verify_counted(evidence.splitlines(), grown.text, ledger.endorsement, None, time.time())
        assert len(list(counted)) == 151
        await ledger.stop()

    asyncio.run(run())


def test_numbers_go_on_after_every_record_about_a_resident_was_erased(
    new_ledger: NewLedger, record: NewRecord, tmp_path: Path
) -> None:
    async def number_of_next(ledger: Ledger, subject: str, at: int) -> int:
        index = await ledger.append(record(at, subject=subject))
        return (await ledger.entry(index)).record.subject_sequence

    async def run() -> None:
        ledger = new_ledger(segment_bytes=8000)
        await ledger.start()
        for number in range(60):
            await ledger.append(record(number, subject="gone" if number < 20 else "stays"))
        await ledger.prune(record(40).time / 1000)
        assert len(list(Carried(tmp_path / "ledger" / "segments"))) == 1  # of the other, a later record says it
        for removed in ((), ("index.sqlite", "segments.numbers")):
            await ledger.stop()
            for name in removed:
                (tmp_path / "ledger" / name).unlink()
            await ledger.start()
            assert await ledger.last_number("stays") == 40
            assert await ledger.last_number("gone") == 20
        assert await number_of_next(ledger, "gone", 61) == 21
        assert await number_of_next(ledger, "stays", 62) == 41
        await ledger.prune(record(41).time / 1000)
        assert list(Carried(tmp_path / "ledger" / "segments")) == []  # a later record says it now
        await ledger.prune(record(100).time / 1000)
        assert len(list(Carried(tmp_path / "ledger" / "segments"))) == 2
        assert await number_of_next(ledger, "gone", 101) == 22
        await ledger.stop()

    asyncio.run(run())


def test_the_own_time_of_each_record_decides_whatever_the_clock_did(new_ledger: NewLedger, record: NewRecord) -> None:
    async def run() -> None:
        ledger = new_ledger(segment_bytes=5000)
        await ledger.start()
        times = [500, 7_000, 900, 3_000, 99_000_000, 400, 8_000] * 5
        for number, moment in enumerate(times):
            await ledger.append(record(number, time=moment))
        assert (await ledger.prune(1.0))[0] == 15
        left = await ledger.find(Query(limit=100, descending=False))
        assert [entry.index for entry in left] == [at for at, moment in enumerate(times) if moment >= 1000]
        assert (await ledger.find(Query(after_ms=98_000_000, limit=1)))[0].record.time == 99_000_000
        await ledger.stop()

    asyncio.run(run())


def test_search_and_receipts_hold_while_records_are_erased_and_pour_in(
    new_ledger: NewLedger, record: NewRecord
) -> None:
    async def run() -> None:
        ledger = new_ledger(segment_bytes=6000)
        await ledger.start()
        for number in range(200):
            await ledger.append(record(number, subject=f"s{number % 5}"))
        done = False

        async def look() -> None:
            chance = random.Random(1)
            while not done:
                found = await ledger.find(Query(subject=f"s{chance.randrange(5)}", limit=10))
                one = chance.choice(found)
                try:
                    receipts.verify(await ledger.receipt(one.index), None, time.time())
                except NotFound:
                    assert one.index < 180
                assert all(entry.record.subject_sequence for entry in found)

        async def write() -> None:
            number = 200
            while not done:
                await ledger.append(record(number, subject=f"s{number % 5}"))
                number += 1
                await asyncio.sleep(0.001)

        others = [asyncio.create_task(look()), asyncio.create_task(look()), asyncio.create_task(write())]
        for cut in range(20, 200, 20):
            await ledger.prune(record(cut).time / 1000)
        done = True
        await asyncio.gather(*others)
        await ledger.stop()

    asyncio.run(run())


CHILD = """
import os, signal, sys
from pathlib import Path
from stelsel.ledger import pruning
from stelsel.ledger.segments import SegmentJournal
countdown = int(sys.argv[2])
real = {name: getattr(os, name) for name in ("fsync", "open", "fstat", "pread")}
def counted(name):
    def call(*args, **options):
        global countdown
        countdown -= 1
        if countdown <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real[name](*args, **options)
    return call
journal = SegmentJournal(Path(sys.argv[1]))
for name in real:
    setattr(os, name, counted(name))
replace = Path.replace
Path.replace = lambda *args: (counted("fstat")(1), replace(*args), counted("fstat")(1))[1]
journal.prune(60, 0, journal.size)
"""


def test_kill_9_at_any_step_of_a_prune_leaves_each_record_whole_or_erased(tmp_path: Path) -> None:
    start = SegmentJournal(tmp_path / "start", segment_bytes=2000)
    for number in range(90):
        text = b'{"allowed":true,"direction":"incoming","event":"request","span_id":"s","subject":"s%d","time":%d}'
        start.append([(bytes(16), text % (number % 40, number), f"s{number % 40}")])
    leaves = [commitment_of(line) for line in start.lines(0, 90)]
    start.close()
    countdown, ended = 1, False
    while not ended:
        folder = tmp_path / f"copy{countdown}"
        shutil.copytree(tmp_path / "start", folder)
        command = [sys.executable, "-c", CHILD, str(folder), str(countdown)]
        ended = subprocess.run(command, check=False).returncode == 0
        journal = SegmentJournal(folder, segment_bytes=2000)
        lines = list(journal.lines(0, 90))
        assert [commitment_of(line) for line in lines] == leaves
        assert all(line.record for line in lines[60:])
        assert [journal.last_number(f"s{number}") for number in range(40)] == [3] * 10 + [2] * 30
        left = sum(1 for line in lines[:60] if line.record)
        assert journal.prune(60, 0, journal.size).records == left
        assert not ended or left == 0
        journal.append([(bytes(16), b'{"span_id":"s","subject":"s20","time":99}', "s20")])
        (last,) = journal.lines(90, 91)
        assert json.loads(last.record)["subject_sequence"] == 3
        journal.close()
        again = SegmentJournal(folder, segment_bytes=2000)
        assert not any(line.record for line in again.lines(0, 60))
        assert [commitment_of(line) for line in again.lines(0, 90)] == leaves
        again.close()
        countdown += 11
    assert countdown > 60


def test_a_full_disk_erases_nothing_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SegmentJournal(tmp_path / "segments")
    text = b'{"allowed":true,"direction":"incoming","event":"request","span_id":"s","time":%d}'
    journal.append([(bytes(16), text % number, "") for number in range(10)])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Exception, match="No space"):
            journal.prune(5, 0, 10)
    assert all(line.record for line in journal.lines(0, 10))
    assert journal.prune(5, 0, 10) == Pruned(5, 1)
    assert [bool(line.record) for line in journal.lines(0, 10)] == [False] * 5 + [True] * 5
    journal.close()


def test_the_policy_prunes_once_a_day_and_remembers_counts(tmp_path: Path) -> None:
    asked: list[float] = []

    class Some:
        async def due(self, before: float) -> int:
            return int(before) % 100

        async def prune(self, before: float) -> tuple[int, int]:
            asked.append(before)
            return 3, 1

    async def run() -> Any:
        clock = SetClock(10 * DAY)
        retention = Retention(ledger=Some(), file=tmp_path / "retention.json", clock=clock, keep_days=4)
        await retention.start()
        await asyncio.sleep(0.05)
        await retention.stop()
        assert asked == [6 * DAY]
        assert (await retention.prune(5 * DAY + 7, dry_run=True)).records == 7
        await retention.prune(2 * DAY)
        for wrong in (0, -1, 11 * DAY):
            with pytest.raises(BadRequest):
                await retention.prune(wrong)
        return Retention(ledger=Some(), file=tmp_path / "retention.json", clock=clock, keep_days=0).status()

    status = asyncio.run(run())
    assert [(one["before"], one["records"], one["asked"]) for one in status["prunes"]] == [
        (6 * DAY, 3, False),
        (2 * DAY, 3, True),
    ]
    assert status["erased_before"] == 6 * DAY
    assert "secret" not in (tmp_path / "retention.json").read_text()


def test_what_was_recorded_a_moment_ago_in_a_file_that_is_full_already_is_forgotten_too(
    new_ledger: NewLedger, record: NewRecord, tmp_path: Path
) -> None:
    async def run() -> None:
        ledger = new_ledger(segment_bytes=4096)
        await ledger.start()
        for number in range(40):
            await ledger.append(record(number, subject=f"subject-{number % 4}"))
        await ledger.checkpoint()  # all of it is in the index
        segments = sorted(int(file.stem) for file in tmp_path.rglob("*.segment"))
        assert len(segments) > 3
        moment = record(segments[2] - 2).time / 1000  # the last record of a file is kept, and its file written anew
        erased, _ = await ledger.prune(moment)
        assert erased == segments[2] - 2
        for subject in range(4):
            found = await ledger.find(Query(subject=f"subject-{subject}", limit=100, descending=False))
            assert [entry.index for entry in found] == [n for n in range(erased, 40) if n % 4 == subject]
        await ledger.stop()
        with sqlite3.connect(next(tmp_path.rglob("index.sqlite"))) as connection:
            block = load_block(connection, 0)
        assert block is not None
        assert [step for step, flags in enumerate(block.flags) if flags == ERASED] == list(range(erased))

    asyncio.run(run())


def test_a_journal_that_was_closed_erases_nothing_any_more(record: NewRecord, tmp_path: Path) -> None:
    """Another process may have it by then; what waits for a thread while a node stops comes that late."""
    journal = SegmentJournal(tmp_path / "segments")
    journal.append([(bytes(16), record(number).canonical(), "") for number in range(10)])
    journal.close()
    before = {file.name: file.read_bytes() for file in (tmp_path / "segments").iterdir()}
    with pytest.raises(LedgerUnavailable, match="closing"):
        journal.prune(record(5).time, 0, 5)
    assert {file.name: file.read_bytes() for file in (tmp_path / "segments").iterdir()} == before


def test_closing_a_journal_waits_for_the_file_that_is_being_written_anew(
    record: NewRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SegmentJournal(tmp_path / "segments", segment_bytes=2000)
    for number in range(40):
        journal.append([(bytes(16), record(number).canonical(), "")])
    begun, go_on, rewritten = threading.Event(), threading.Event(), []

    def slowly(path: Path, *rest: Any) -> int:
        begun.set()
        assert go_on.wait(10)
        rewritten.append(path.name)
        return prune_segment(path, *rest)

    monkeypatch.setattr("stelsel.ledger.segments.prune_segment", slowly)
    told: list[Exception] = []

    def prune() -> None:
        try:
            journal.prune(record(30).time, 0, 30)
        except LedgerUnavailable as error:
            told.append(error)

    pruning, closing = threading.Thread(target=prune), threading.Thread(target=journal.close)
    pruning.start()
    assert begun.wait(10)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    go_on.set()
    closing.join(10)
    pruning.join(10)
    assert len(rewritten) == 1  # and no other is begun
    assert told


def test_that_records_are_being_erased_is_remembered_before_the_first_one_goes(tmp_path: Path) -> None:
    """Else a resident, after a crash, misses records and is not told that they were erased by policy."""
    file = tmp_path / "retention.json"
    broken = True

    class Some:
        async def due(self, before: float) -> int:
            return 7

        async def prune(self, before: float) -> tuple[int, int]:
            began = json.loads(file.read_bytes())[-1]
            assert (began["before"], began["records"], began["finished"]) == (before, 7, False)
            if broken:
                raise OSError("the process dies here")
            return 5, 2

    async def run() -> None:
        nonlocal broken
        retention = Retention(ledger=Some(), file=file, clock=SetClock(10 * DAY), keep_days=0)
        for _ in range(2):
            with pytest.raises(OSError, match="dies here"):
                await retention.prune(4 * DAY)
            assert retention.horizon() == 4 * DAY
        broken = False
        await retention.prune(5 * DAY)
        assert retention.horizon() == 5 * DAY
        assert [(one["records"], one["segments"], one["finished"]) for one in retention.status()["prunes"]] == [
            (5, 2, True)  # it did the rest of the one that was begun
        ]

    asyncio.run(run())


def test_what_another_host_of_the_ledger_erased_counts_as_erased_here(tmp_path: Path) -> None:
    """Its own index still had them: this host's residents are told as well why they are gone."""

    class Some:
        async def due(self, before: float) -> int:
            return 7

        async def prune(self, before: float) -> tuple[int, int]:
            return 0, 0

    async def run() -> None:
        retention = Retention(ledger=Some(), file=tmp_path / "r.json", clock=SetClock(10 * DAY), keep_days=0)
        await retention.prune(4 * DAY, asked=False)
        assert retention.horizon() == 4 * DAY

    asyncio.run(run())
