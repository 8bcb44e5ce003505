"""Segments made beforehand: batches go into zeros, and what a loss of power leaves there is told from damage."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from stelsel.ledger import ahead
from stelsel.ledger.batch import Item
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable
from stelsel.ledger.frames import mark
from stelsel.ledger.record import Record
from stelsel.ledger.segments import SegmentJournal

SIZE = 1 << 20
BATCH = 8


@pytest.fixture(autouse=True)
def _soon_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_BATCHES", 1)
    monkeypatch.setattr(ahead, "_PIECE", SIZE // 4)


def _record(number: int) -> bytes:
    names = ("g", "consumer", "provider", "service")
    return Record("t", "a", "s", None, number, "incoming", "request", *names, True, "agreed").canonical()


def _batch(first: int) -> list[Item]:
    return [(os.urandom(16), _record(first + step), "") for step in range(BATCH)]


def _append(journal: SegmentJournal) -> int:
    return journal.append(_batch(journal.size))


def _records(journal: SegmentJournal) -> list[bytes]:
    return [line.record for line in journal.lines(0, journal.size)]


def _expected(count: int) -> list[bytes]:
    return [_record(number) for number in range(count)]


def _in_zeros(folder: Path, batches: int = 5) -> SegmentJournal:
    """A journal that goes on in a segment made beforehand, with `batches` in it after one in an ordinary segment."""
    journal = SegmentJournal(folder, segment_bytes=SIZE, ahead=True)
    _append(journal)
    until = time.monotonic() + 10
    while journal._ahead is None or not journal._ahead.made:
        assert time.monotonic() < until, "it was never made"
        time.sleep(0.01)
    for _ in range(batches):
        _append(journal)
    return journal


def _as_a_crash_leaves_it(folder: Path) -> Path:
    copy = folder.with_name("crashed")
    shutil.copytree(folder, copy)
    return copy


def _last(folder: Path) -> Path:
    return max(folder.glob("*.segment"))


def test_a_busy_journal_goes_on_in_a_file_made_beforehand_and_its_end_is_cut_to_size(tmp_path: Path) -> None:
    journal = _in_zeros(tmp_path / "segments")
    assert len(list((tmp_path / "segments").glob("*.segment"))) == 2
    assert _last(tmp_path / "segments").stat().st_size == SIZE
    assert _records(journal) == _expected(6 * BATCH)
    assert [line.record for line in journal.lines_at([journal_line.position for journal_line in journal.lines(9, 30)])]
    pieces = list(journal.pieces(0, journal.size))
    journal.close()
    assert _last(tmp_path / "segments").stat().st_size < SIZE
    assert not (tmp_path / "segments" / "ahead").exists()
    again = SegmentJournal(tmp_path / "segments", segment_bytes=SIZE)
    assert _records(again) == _expected(6 * BATCH)
    assert [record for piece in again.pieces(0, again.size) for record in piece.payloads] == [
        record for piece in pieces for record in piece.payloads
    ]
    assert _append(again) == 6 * BATCH  # in the same file, which now grows
    again.close()
    assert _records(SegmentJournal(tmp_path / "segments")) == _expected(7 * BATCH)


def test_a_quiet_journal_makes_none(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments", segment_bytes=SIZE, ahead=True)
    for _ in range(50):
        journal.append(_batch(0)[: ahead.BUSY - 1])
    assert not (tmp_path / "segments" / "ahead").exists()
    journal.close()


def test_after_a_crash_nothing_is_missing_and_the_zeros_are_cut_off(tmp_path: Path) -> None:
    journal = _in_zeros(tmp_path / "segments")
    crashed = _as_a_crash_leaves_it(tmp_path / "segments")
    (crashed / "ahead").write_bytes(b"\0" * 100)  # the next one, half made
    again = SegmentJournal(crashed, segment_bytes=SIZE, known=6 * BATCH, ahead=True)
    assert _records(again) == _expected(6 * BATCH)
    assert _last(crashed).stat().st_size < SIZE
    assert not (crashed / "ahead").exists()
    assert _append(again) == 6 * BATCH
    again.close()
    journal.close()


def test_any_part_of_the_last_batch_may_be_missing_after_a_loss_of_power(tmp_path: Path) -> None:
    journal = _in_zeros(tmp_path / "segments")
    before = journal._end
    _append(journal)
    after = journal._end
    crashed = _as_a_crash_leaves_it(tmp_path / "segments")
    journal.close()
    whole = _last(crashed).read_bytes()
    for start in range(before, after, 23):
        for end in (start + 16, after):
            end = min(end, after)
            _last(crashed).write_bytes(whole[:start] + b"\0" * (end - start) + whole[end:])
            again = SegmentJournal(crashed, segment_bytes=SIZE)
            assert 6 * BATCH <= again.size < 7 * BATCH
            assert _records(again) == _expected(again.size)
            assert _append(again) == again.size - BATCH
            again.close()


def test_damage_in_any_batch_but_the_last_is_reported_and_nothing_is_cut(tmp_path: Path) -> None:
    journal = _in_zeros(tmp_path / "segments")
    place = next(journal.lines(20, 21)).position.offset
    crashed = _as_a_crash_leaves_it(tmp_path / "segments")
    journal.close()
    whole = _last(crashed).read_bytes()
    for at in range(place, place + 60, 7):
        damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        _last(crashed).write_bytes(damaged)
        with pytest.raises(LedgerCorrupt, match="damaged at byte"):
            SegmentJournal(crashed, segment_bytes=SIZE)
        assert _last(crashed).read_bytes() == damaged


def test_what_looks_like_a_mark_inside_a_record_is_none(tmp_path: Path) -> None:
    journal = _in_zeros(tmp_path / "segments", batches=1)
    before = journal._end
    journal.append([(mark(2)[:16], _record(0), "") for _ in range(BATCH)])
    crashed = _as_a_crash_leaves_it(tmp_path / "segments")
    journal.close()
    whole = _last(crashed).read_bytes()
    _last(crashed).write_bytes(whole[:before] + b"\0" * 8 + whole[before + 8 :])
    again = SegmentJournal(crashed, segment_bytes=SIZE)
    assert again.size == 2 * BATCH
    again.close()


def test_a_batch_that_failed_leaves_nothing_behind_in_the_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = _in_zeros(tmp_path / "segments")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(LedgerUnavailable):
            _append(journal)
    assert journal.size == 6 * BATCH
    assert _append(journal) == 6 * BATCH
    assert _records(journal) == _expected(7 * BATCH)
    crashed = _as_a_crash_leaves_it(tmp_path / "segments")
    journal.close()
    assert _records(SegmentJournal(crashed)) == _expected(7 * BATCH)


def test_a_disk_without_room_to_spare_gets_no_zeros_and_records_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    journal = SegmentJournal(tmp_path / "segments", segment_bytes=SIZE, ahead=True)
    for _ in range(20):
        _append(journal)
        time.sleep(0.002)
    assert not (tmp_path / "segments" / "ahead").exists()
    assert _records(journal) == _expected(20 * BATCH)
    journal.close()


def test_segments_full_of_zeros_follow_each_other_and_are_complete_when_they_are_left(tmp_path: Path) -> None:
    journal = SegmentJournal(tmp_path / "segments", segment_bytes=8192, ahead=True)
    for _ in range(120):
        _append(journal)
        time.sleep(0.001)
    assert _records(journal) == _expected(120 * BATCH)
    files = sorted((tmp_path / "segments").glob("*.segment"))
    assert any(file.read_bytes().startswith(b"stelsel journal 2 ") for file in files[:-1])
    assert not any(file.read_bytes().endswith(b"\0") for file in files[:-1])
    assert journal.prune(40 * BATCH, 0, journal.size).records == 40 * BATCH
    journal.close()
    again = SegmentJournal(tmp_path / "segments", segment_bytes=8192)
    assert again.size == 120 * BATCH
    assert [line.record for line in again.lines(100 * BATCH, again.size)] == _expected(120 * BATCH)[100 * BATCH :]
    again.close()
