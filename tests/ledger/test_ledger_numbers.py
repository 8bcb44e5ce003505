"""Records about a resident are numbered without gaps: through refusals, restarts, kill -9, power cuts and growth."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stelsel.ledger import numbers as numbers_module
from stelsel.ledger.batch import Item
from stelsel.ledger.carried import Carried
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.numbers import Numbers, key_of
from stelsel.ledger.record import numbered
from stelsel.ledger.segments import SegmentJournal

NONCE = bytes(16)


def item(subject: str, text: str = "x", time: int = 5) -> Item:
    about = f',"subject":"{subject}"' if subject else ""
    return NONCE, b'{"reason":"%b","span_id":"s"%b,"time":%d}' % (text.encode(), about.encode(), time), subject


def numbers_of(journal: SegmentJournal) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for line in journal.lines(0, journal.size):
        record = json.loads(line.record)
        if "subject" in record:
            found.setdefault(record["subject"], []).append(record["subject_sequence"])
    return found


def without_gaps(found: dict[str, list[int]]) -> bool:
    return all(given == list(range(1, len(given) + 1)) for given in found.values())


def test_the_number_stands_where_canonical_json_wants_it() -> None:
    record = item("one", r"a \",\"time\": b")[1]
    value = json.loads(numbered(record, 7))
    assert value["subject_sequence"] == 7
    assert list(value) == sorted(value)
    with pytest.raises(ValueError, match="not a record"):
        numbered(b"{}", 1)


def test_a_refused_batch_leaves_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SegmentJournal(tmp_path / "segments")
    journal.append([item("a"), item("b"), item(""), item("a")])

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(LedgerUnavailable):
            journal.append([item("a"), item("c")])
    journal.append([item("a"), item("c")])
    assert numbers_of(journal) == {"a": [1, 2, 3], "b": [1], "c": [1]}
    assert (journal.last_number("a"), journal.last_number("nobody")) == (3, 0)
    journal.close()


def test_numbers_go_on_after_every_kind_of_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    file = tmp_path / "segments.numbers"
    for change in ("none", "removed", "spoiled", "copied", "another machine", "an older copy of the journal"):
        journal = SegmentJournal(tmp_path / "segments", segment_bytes=3000)
        if change == "an older copy of the journal":
            journal.close()
            newest = max((tmp_path / "segments").glob("*.segment"))
            newest.write_bytes(newest.read_bytes()[:42])
            journal = SegmentJournal(tmp_path / "segments", segment_bytes=3000)
        for _ in range(40):
            journal.append([item(chance.choice("abcdef")) for _ in range(3)])
        assert without_gaps(numbers_of(journal))
        journal.close()
        if change == "removed":
            file.unlink()
        elif change == "spoiled":
            file.write_bytes(b"\1" * 500)
        elif change == "copied":
            file.rename(tmp_path / "old")
            file.write_bytes((tmp_path / "old").read_bytes())
        elif change == "another machine":
            monkeypatch.setattr(numbers_module, "_boot", lambda: bytes(16))
    journal = SegmentJournal(tmp_path / "segments", segment_bytes=3000)
    assert without_gaps(numbers_of(journal))
    journal.close()


def test_a_table_that_grows_keeps_every_number_also_when_it_is_reopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers_module, "_FIRST_SLOTS", 64)
    chance, told = random.Random(5), Counter[str]()
    table = Numbers(tmp_path / "table")
    for step in range(6000):
        table.give(["somebody"])
        subject = f"resident {chance.randrange(1500)}"
        told[subject] += 1
        table.tell(key_of(subject), told[subject])
        table.tell(key_of(subject), 1)  # a lower one changes nothing
        if step % 500 == 0:
            table.cover(step)
            if step % 1000 == 0:
                table.close()
                table = Numbers(tmp_path / "table")
            assert table.covered == step
            assert all(table.last(key_of(one)) == number for one, number in told.items())
    assert table.last(key_of("nobody")) == 0
    assert all(table.last(key_of(one)) == number for one, number in told.items())
    table.close()


def test_a_batch_of_more_residents_than_the_table_holds_makes_room_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers_module, "_FIRST_SLOTS", 64)
    journal = SegmentJournal(tmp_path / "segments")
    for _ in range(2):
        journal.append([item(f"s{number}") for number in range(40)])
        journal.append([item(f"s{number}") for number in range(1000)])
    journal.append([item(f"s{number}") for number in range(3000)])
    assert without_gaps(numbers_of(journal))
    assert [journal.last_number(f"s{number}") for number in (0, 999, 2999)] == [5, 3, 1]
    journal.close()


@pytest.mark.timeout(30)
def test_a_table_that_is_lost_is_made_anew_however_many_residents_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers_module, "_FIRST_SLOTS", 64)
    journal = SegmentJournal(tmp_path / "segments")
    for start in range(0, 2000, 200):
        journal.append([item(f"s{number}") for number in range(start, start + 200)])
    journal.close()
    (tmp_path / "segments.numbers").unlink()
    again = SegmentJournal(tmp_path / "segments")
    assert all(again.last_number(f"s{number}") == 1 for number in range(2000))
    again.close()


@pytest.mark.timeout(30)
def test_so_is_one_of_residents_of_whom_every_record_was_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers_module, "_FIRST_SLOTS", 64)
    journal = SegmentJournal(tmp_path / "segments")
    journal.append([item("here")])
    journal.close()
    Carried(tmp_path / "segments").keep([(key_of(f"gone{number}"), 7) for number in range(500)])
    (tmp_path / "segments.numbers").unlink()
    again = SegmentJournal(tmp_path / "segments")
    assert all(again.last_number(f"gone{number}") == 7 for number in range(500))
    assert again.last_number("here") == 1
    again.close()


def test_without_room_for_numbers_nothing_is_recorded_and_with_room_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers_module, "_FIRST_SLOTS", 64)
    journal = SegmentJournal(tmp_path / "segments")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        for number in range(60):
            journal.append([item(f"s{number}")])  # a nearly full table will do for a while
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="No space"):
                journal.append([item("another"), item("s1")])
    assert journal.size == 60
    journal.append([item("another"), item("s1")])
    assert without_gaps(numbers_of(journal))
    journal.close()


CHILD = """
import os, sys, random
from pathlib import Path
from stelsel.ledger import numbers
from stelsel.ledger.segments import SegmentJournal
numbers._FIRST_SLOTS = 64
journal = SegmentJournal(Path(sys.argv[1]), segment_bytes=30_000)
chance = random.Random()
print("ready", flush=True)
while True:
    batch = []
    for _ in range(chance.randrange(1, 9)):
        subject = f"s{chance.randrange(300)}"
        text = b'{"span_id":"s","subject":"%b","time":5}' % subject.encode()
        batch.append((bytes(16), text, subject))
    journal.append(batch)
"""


def test_kill_9_leaves_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers_module, "_FIRST_SLOTS", 64)
    chance = random.Random(11)
    for _ in range(6):
        command = [sys.executable, "-c", CHILD, str(tmp_path / "segments")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            try:
                child.wait(chance.uniform(0.05, 0.3))
            except subprocess.TimeoutExpired:
                child.kill()
    journal = SegmentJournal(tmp_path / "segments")
    assert journal.size > 500
    assert without_gaps(numbers_of(journal))
    assert all(journal.last_number(one) == len(given) for one, given in numbers_of(journal).items())
    journal.close()
