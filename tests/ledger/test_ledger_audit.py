"""An audit names what was changed: a byte of a tile, a record, a root, a checkpoint; and lets pass what is whole."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelsel.base.certificates import TrustAnchors
from stelsel.ledger import kept as kept_module
from stelsel.ledger import receipts
from stelsel.ledger.audit import Progress, Report, examine, report_of
from stelsel.ledger.checkpoint import LedgerKey, read_checkpoint
from stelsel.ledger.commitment import commitment, sealed
from stelsel.ledger.cosignature import Cosigned
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable
from stelsel.ledger.journal import Line, Position
from stelsel.ledger.kept import Checkpoints
from stelsel.ledger.merkle import Tiles, leaf_hash, root
from stelsel.ledger.note import ED25519, VerifierKey
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger

NewLedger = Callable[..., Ledger]
NewRecord = Callable[..., Record]
COUNT = 600


async def _audit(ledger: Ledger) -> tuple[list[Progress], Report]:
    steps = [step async for step in ledger.audit()]
    report = steps.pop()
    assert isinstance(report, Report)
    return [step for step in steps if isinstance(step, Progress)], report


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, provider: Any, record: NewRecord) -> Path:
    """The folder of a ledger of 600 records, of which checkpoints were shown at 1, 256, 300 and 600."""
    from stelsel.base.clock import SystemClock
    from stelsel.ledger.settings import LedgerSettings

    folder = tmp_path_factory.mktemp("whole") / "ledger"

    async def run() -> None:
        ledger = Ledger(folder=folder, keypair=provider, clock=SystemClock(), settings=LedgerSettings(index_pause=0.02))
        await ledger.start()
        for start, stop in ((0, 1), (1, 256), (256, 300), (300, COUNT)):
            await asyncio.gather(*(ledger.append(record(number)) for number in range(start, stop)))
            await ledger.checkpoint()
        await ledger.stop()

    asyncio.run(run())
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "ledger")
    return tmp_path / "ledger"


def _audited(new_ledger: NewLedger) -> Report:
    async def run() -> Report:
        ledger = new_ledger()
        await ledger.start()
        try:
            return (await _audit(ledger))[1]
        finally:
            await ledger.stop()

    return asyncio.run(run())


def _change_record(folder: Path, number: int, old: bytes, new: bytes) -> None:
    """Change a record in the journal as one would who knows the format: lengths and checks fit again."""
    (segment,) = (folder / "segments").glob("*.segment")
    data = bytearray(segment.read_bytes())
    offset = data.index(b"\n") + 1
    for _ in range(number):
        offset += 12 + struct.unpack_from("<I", data, offset)[0]
    length = struct.unpack_from("<I", data, offset)[0]
    payload = bytes(data[offset + 12 : offset + 12 + length])
    changed = payload.replace(old, new)
    assert changed != payload
    assert len(changed) == length
    lengths = struct.pack("<II", length, crc32(changed))
    data[offset : offset + 12 + length] = lengths + struct.pack("<I", crc32(lengths)) + changed
    segment.write_bytes(data)


def test_a_whole_ledger_is_found_whole(folder: Path, new_ledger: NewLedger) -> None:
    async def run() -> None:
        ledger = new_ledger()
        await ledger.start()
        progress, report = await _audit(ledger)
        assert progress[0] == Progress(0, COUNT)
        assert progress[-1] == Progress(COUNT, COUNT)
        assert report.sound, report.differences
        assert (report.size, report.tiles, report.checkpoints) == (COUNT, 4, 4)
        assert report.root == (await ledger.checkpoint()).root.hex()
        assert "is whole: 600 records" in report.verdict
        assert report_of(json.loads(json.dumps(report.to_json()))) == report
        await ledger.stop()

    asyncio.run(run())


def test_an_empty_ledger_is_whole(new_ledger: NewLedger) -> None:
    report = _audited(new_ledger)
    assert report.sound
    assert report.size == 0


@pytest.mark.parametrize(
    ("level", "number", "column", "index"), [(0, 0, 17, 17), (0, 2, 5, 517), (1, 0, 1, 256), (0, 1, 0, 256)]
)
def test_a_changed_byte_of_a_tile_is_named(
    folder: Path, new_ledger: NewLedger, level: int, number: int, column: int, index: int
) -> None:
    with sqlite3.connect(folder / "index.sqlite") as connection:
        query = "SELECT hashes FROM tiles WHERE level = ? AND number = ?"
        (hashes,) = connection.execute(query, (level, number)).fetchone()
        changed = bytearray(hashes)
        changed[column * 32 + 3] ^= 1
        connection.execute(
            "UPDATE tiles SET hashes = ? WHERE level = ? AND number = ?", (bytes(changed), level, number)
        )
    connection.close()
    report = _audited(new_ledger)
    assert not report.sound
    tile = next(each for each in report.differences if each.what == "tile")
    assert tile.index == index
    assert f"tile {level}/{number} differs at hash {column}" in tile.detail
    assert "index.sqlite" in tile.next_step
    assert all(each.what in ("tile", "root") for each in report.differences)  # the checkpoints clear the journal


def test_a_changed_record_is_named_though_the_journal_can_be_read(folder: Path, new_ledger: NewLedger) -> None:
    _change_record(folder, 300, b'"reason":"allowed"', b'"reason":"allosed"')
    report = _audited(new_ledger)
    found = {each.what: each for each in reversed(report.differences)}
    assert found["tile"].index == 300
    assert "over record 300" in found["tile"].detail
    assert "600 records" in found["checkpoint"].detail  # those of 1, 256 and 300 records still hold
    assert sum(each.what == "checkpoint" for each in report.differences) == 1
    assert "backup" in found["checkpoint"].next_step


def test_a_changed_record_is_found_also_when_the_tree_was_built_anew(folder: Path, new_ledger: NewLedger) -> None:
    """Who rewrites the journal and lets the index be rebuilt is betrayed by what was signed before."""
    _change_record(folder, 100, b'"allowed":true', b'"allowed":!!!!'.replace(b"!!!!", b"null"))
    report_null = _audited(new_ledger)
    assert not report_null.sound
    (folder / "index.sqlite").unlink()
    _change_record(folder, 100, b'"allowed":null', b'"allowed":true')
    _change_record(folder, 100, b'"reason":"allowed"', b'"reason":"allosed"')

    async def run() -> None:
        ledger = new_ledger()
        await ledger.start()
        _, report = await _audit(ledger)
        found = [each for each in report.differences if each.what == "checkpoint"]
        assert [int(re.search(r"(\d+) records", each.detail)[1]) for each in found] == [256, 300, 600]  # type: ignore[index]
        assert len(report.differences) == 3
        with pytest.raises(LedgerCorrupt, match="does not continue"):  # nor is anything signed that contradicts
            await ledger.checkpoint()
        await ledger.stop()

    asyncio.run(run())


def test_a_damaged_record_is_named_by_its_number_and_place(folder: Path, new_ledger: NewLedger) -> None:
    (segment,) = (folder / "segments").glob("*.segment")
    data = segment.read_bytes()
    place = data.index(f"8000-{400:012x}".encode())

    async def run() -> Report:
        ledger = new_ledger()
        await ledger.start()
        segment.write_bytes(data[:place] + b"X" + data[place + 1 :])
        try:
            return (await _audit(ledger))[1]
        finally:
            await ledger.stop()

    report = asyncio.run(run())
    (damaged,) = (each for each in report.differences if each.what == "record")
    assert damaged.index == 400
    assert "damaged at byte" in damaged.detail
    assert damaged.next_step
    assert any(each.what == "checkpoint" and "could not be compared" in each.detail for each in report.differences)
    assert report.root == ""


def test_a_swapped_root_is_named(folder: Path, new_ledger: NewLedger) -> None:
    file = folder / "checkpoints.jsonl"
    lines = file.read_text().splitlines()
    one, other = (read_checkpoint(json.loads(line)["checkpoint"]) for line in (lines[1], lines[2]))
    altered = one.text.replace(one.text.split("\n")[2], other.text.split("\n")[2])
    lines[1] = json.dumps({"kind": "signed", "checkpoint": altered})
    file.write_text("\n".join(lines) + "\n")
    report = _audited(new_ledger)
    (difference,) = report.differences
    assert "checkpoint 2" in difference.detail
    assert "not signed by this ledger's key" in difference.detail


def test_a_root_that_was_signed_anew_is_named_too(folder: Path, new_ledger: NewLedger) -> None:
    file, key = folder / "checkpoints.jsonl", LedgerKey.load(folder / "ledger.key")
    lines = file.read_text().splitlines()
    one = read_checkpoint(json.loads(lines[1])["checkpoint"])
    forged = key.sign(one.origin, one.size, bytes(32), one.time)
    lines[1] = json.dumps({"kind": "signed", "checkpoint": forged.text})
    lines.append("half a line")
    file.write_text("\n".join(lines) + "\n")
    report = _audited(new_ledger)
    unreadable, difference = report.differences
    assert "cannot be read" in unreadable.detail
    assert "has another root" in difference.detail
    assert difference.index == 255


def test_a_ledger_shorter_than_it_signed_for_does_not_start(folder: Path, new_ledger: NewLedger) -> None:
    (segment,) = (folder / "segments").glob("*.segment")
    data = segment.read_bytes()
    offset = data.index(b"\n") + 1
    for _ in range(500):
        offset += 12 + struct.unpack_from("<I", data, offset)[0]
    segment.write_bytes(data[:offset])
    (folder / "index.sqlite").unlink()
    with pytest.raises(LedgerCorrupt, match="it signed a checkpoint of 600"):
        asyncio.run(new_ledger().start())


def _memory(count: int, changed: set[int] = frozenset()) -> tuple[list[Line], Tiles]:  # type: ignore[assignment]
    lines, tree = [], Tiles()
    for number in range(count):
        record = Record("t", "r", "s", None, number, "incoming", "request", "g", "c", "p", "s", True, "allowed")
        data, nonce = record.canonical(), bytes(16)
        seal = sealed(nonce, data)
        tree.append(leaf_hash(commitment(record.canonical_counted(), bytes(32) if number in changed else seal)))
        at = Position(number, 0, 0)
        erased = number % 7 == 3
        left = (b"", b"", seal, record.canonical_counted()) if erased else (nonce, data, b"", b"")
        lines.append(Line(at, at, *left))
    return lines, tree


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 1100), data=st.data())
def test_any_changed_leaf_is_found_and_the_first_is_named(count: int, data: st.DataObject) -> None:
    changed = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    lines, tree = _memory(count, changed)
    steps = list(
        examine(
            size=count,
            stored_root=root(count, tree.node),
            lines=lambda start, stop: iter(lines[start:stop]),
            stored=lambda tiles: [tree.tile(*tile) for tile in tiles],
            kept=(),
            key=VerifierKey("x", ED25519, bytes(32)),
        )
    )
    report = steps[-1]
    assert isinstance(report, Report)
    assert report.sound == (not changed)
    assert report.erased == sum(number % 7 == 3 for number in range(count))
    if changed:
        first = min(each.index for each in report.differences if each.what == "tile" and "tile 0/" in each.detail)  # type: ignore[type-var]
        assert first == min(changed)


def test_checkpoints_are_kept_once_a_size_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "MOST_KEPT", 20)
    key, tree = LedgerKey.load(tmp_path / "key"), Tiles()
    checkpoints = Checkpoints(tmp_path, key, "o")
    for number in range(200):
        tree.append(leaf_hash(b"%d" % number))
        first = checkpoints.sign(tree.size, tree.node, 1000 + number)
        again = checkpoints.sign(tree.size, tree.node, 5000)
        assert (first.root, first.size) == (again.root, again.size)
    sizes = [kept.checkpoint.size for kept in checkpoints.kept() if kept.checkpoint is not None]
    assert len(sizes) <= 20
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 200
    older = checkpoints.sign(150, tree.node, 9999)  # a view that lags is not dated after a larger one
    assert older.time <= 1200
    other = Tiles()
    for number in range(201):
        other.append(leaf_hash(b"x%d" % number))
    again_opened = Checkpoints(tmp_path, key, "o")
    for size in (200, 201):
        with pytest.raises(LedgerCorrupt):
            again_opened.sign(size, other.node, 9999)
    with pytest.raises(LedgerCorrupt):
        again_opened.check(199)
    (tmp_path / "checkpoints.jsonl").write_bytes((tmp_path / "checkpoints.jsonl").read_bytes()[:-10])  # a crash
    mended = Checkpoints(tmp_path, key, "o")
    tree.append(leaf_hash(b"200"))
    mended.sign(201, tree.node, 9999)
    assert [kept.checkpoint is None for kept in mended.kept()][-2:] == [True, False]


def test_a_disk_that_takes_half_a_checkpoint_before_it_is_full_has_none_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, tree = LedgerKey.load(tmp_path / "key"), Tiles()
    tree.append(leaf_hash(b"1"))
    checkpoints = Checkpoints(tmp_path, key, "o")
    room = [40]

    def write(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken, room[0] = os.pwrite(file, data[: room[0]], 0), 0
        return taken

    with monkeypatch.context() as patch:
        patch.setattr("stelsel.ledger.kept.os.write", write)
        with pytest.raises(LedgerUnavailable, match="cannot be kept"):
            checkpoints.sign(1, tree.node, 1000)
    assert checkpoints.sign(1, tree.node, 1000).size == 1
    assert [kept.checkpoint is None for kept in checkpoints.kept()] == [True, False]


def test_a_ledger_of_which_records_were_erased_is_whole(new_ledger: NewLedger, record: NewRecord) -> None:
    async def run() -> None:
        ledger = new_ledger(segment_bytes=12_000)
        await ledger.start()
        for start in (0, 200, 400):
            await asyncio.gather(*(ledger.append(record(number)) for number in range(start, start + 200)))
            await ledger.checkpoint()
        erased = 0
        for cut in (100, 250, 500):  # while it is audited, too
            (_, report), (pruned, _) = await asyncio.gather(_audit(ledger), ledger.prune(record(cut).time / 1000))
            assert report.sound, report.differences
            erased += pruned
            _, report = await _audit(ledger)
            assert (report.sound, report.erased, report.checkpoints) == (True, erased, 3)
        assert erased > 400
        await ledger.stop()

    asyncio.run(run())


def test_a_cosigned_checkpoint_of_another_history_makes_no_receipt(
    folder: Path, new_ledger: NewLedger, anchors: TrustAnchors
) -> None:
    """It is left when only the journal was put back; a receipt with it would prove nothing."""

    async def run() -> None:
        ledger = new_ledger()
        await ledger.start()
        now = await ledger.checkpoint()
        other = LedgerKey.load(folder / "ledger.key").sign(now.origin, 5, bytes(32), now.time)
        await ledger.keep_cosigned(Cosigned(other, ledger.endorsement, ()))
        proven = receipts.verify(await ledger.receipt(1), anchors, now.time)
        assert (proven.index, proven.size) == (1, COUNT)
        await ledger.stop()

    asyncio.run(run())
