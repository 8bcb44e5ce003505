"""Both journals, one behaviour: what holds for the files of one node holds for a database that hosts share."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.ledger import receipts
from stelsel.ledger.commitment import commitment, sealed
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable
from stelsel.ledger.group_commit import GroupCommit
from stelsel.ledger.journal import Journal, Line
from stelsel.ledger.query import Query
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger

Open = Callable[..., Journal]
NewRecord = Callable[..., Record]


def item(record: Record) -> tuple[bytes, bytes, str]:
    return os.urandom(16), record.canonical(), record.subject


def sequences(journal: Journal) -> list[tuple[str, int]]:
    records = [Record.from_json(json.loads(line.record)) for line in journal.lines(0, journal.size) if line.record]
    return [(record.subject, record.subject_sequence) for record in records]


def test_what_was_appended_is_read_back_in_order_also_by_who_opens_it_again(
    open_journal: Open, record: NewRecord
) -> None:
    journal = open_journal()
    items = [item(record(number, reason="x" * (number % 50))) for number in range(600)]
    sizes = iter([1, 2, 3, 94, 257, 243])
    at = 0
    for size in sizes:
        assert journal.append(items[at : at + size]) == at
        at += size
        assert journal.size == journal.refresh() == at
    journal.close()
    again = open_journal(known=600)
    assert again.size == 600
    lines = list(again.lines(0, 600))
    assert [(line.nonce, line.record) for line in lines] == [(nonce, data) for nonce, data, _ in items]
    assert [line.position.index for line in again.lines(250, 261, lines[240].position)] == list(range(250, 261))
    assert [again.line(lines[index].position) for index in (0, 299, 599)] == [lines[0], lines[299], lines[599]]
    here_and_there = [599, 0, 7, 300, 7, *range(100, 180)]
    assert list(again.lines_at(lines[index].position for index in here_and_there)) == [
        lines[index] for index in here_and_there
    ]
    pieces = list(again.pieces(3, 590))
    assert [payload for piece in pieces for payload in piece.payloads] == [
        b"R" + nonce + data for nonce, data, _ in items[3:590]
    ]
    assert pieces[0].first == 3
    assert list(again.lines(5, 5)) == []
    with pytest.raises(ValueError, match="not that long"):
        list(again.lines(0, 601))


def test_records_about_a_resident_are_numbered_without_gaps(open_journal: Open, record: NewRecord) -> None:
    journal = open_journal()
    journal.append([item(record(number, subject=name)) for number, name in enumerate(["a", "", "b", "a", "a"])])
    journal.append([item(record(9, subject="b"))])
    journal.close()
    again = open_journal(known=6)
    again.append([item(record(number, subject=name)) for number, name in enumerate(["b", "c", "a"])])
    assert sequences(again) == [("a", 1), ("", 0), ("b", 1), ("a", 2), ("a", 3), ("b", 2), ("b", 3), ("c", 1), ("a", 4)]
    assert [again.last_number(name) for name in ("a", "b", "c", "d")] == [4, 3, 1, 0]
    line = next(again.lines(8, 9))
    assert line.record == Record.from_json(json.loads(line.record)).canonical()  # the number stands in its place


def test_a_journal_that_lost_records_is_not_opened(open_journal: Open, record: NewRecord) -> None:
    open_journal().append([item(record(0))])
    with pytest.raises(LedgerCorrupt, match="holds 1 records, but it held 2"):
        open_journal(known=2)


def leaf(line: Line) -> bytes:
    if line.record:
        counted = Record.from_json(json.loads(line.record)).canonical_counted()
        return commitment(counted, sealed(line.nonce, line.record))
    return commitment(line.counted, line.seal)


def test_of_what_is_pruned_only_the_leaf_stays_and_the_numbers_go_on(open_journal: Open, record: NewRecord) -> None:
    journal = open_journal()
    moments = [record(number).time for number in range(300)]
    for start in range(0, 300, 50):
        journal.append(
            [item(record(number, subject="r" if number % 3 else "s")) for number in range(start, start + 50)]
        )
    before = [leaf(line) for line in journal.lines(0, 300)]
    done = journal.prune(moments[40], 0, 200)
    assert done.records == 40
    lines = list(journal.lines(0, 300))
    assert [leaf(line) for line in lines] == before
    assert [line.position.index for line in lines if not line.record] == list(range(40))
    assert all(not line.nonce and len(line.seal) == 32 for line in lines[:40])
    assert journal.prune(moments[40], 0, 200).records == 0
    journal.append([item(record(300, subject="r"))])
    assert journal.last_number("r") == 201
    journal.close()
    again = open_journal(known=301)
    again.append([item(record(301, subject="r"))])
    assert (again.last_number("r"), again.size) == (202, 302)
    assert [leaf(line) for line in again.lines(0, 300)] == before


def test_many_appenders_share_batches_and_each_gets_its_own_index(open_journal: Open, record: NewRecord) -> None:
    async def run() -> None:
        journal = open_journal()
        commit = GroupCommit(journal, batch_records=64, waiting_records=1000, deadline=2)
        commit.start()
        items = [item(record(number)) for number in range(200)]
        indexes = await asyncio.gather(*(commit.append(one) for one in items))
        assert sorted(indexes) == list(range(200))
        lines = list(journal.lines(0, 200))
        assert all(lines[index].record == one[1] for index, one in zip(indexes, items, strict=True))
        assert await commit.stop()

    asyncio.run(run())


def test_a_ledger_finds_proves_and_starts_again(
    journal_setting: str,
    new_ledger: Callable[..., Ledger],
    record: NewRecord,
    anchors: TrustAnchors,
    tmp_path: Path,
) -> None:
    async def run() -> None:
        ledger = new_ledger(journal=journal_setting)
        await ledger.start()
        try:
            indexes = await asyncio.gather(*(ledger.append(record(number, subject="r")) for number in range(40)))
            assert sorted(indexes) == list(range(40))
            found = await ledger.find(Query(subject="r", limit=100, descending=False))
            assert [entry.record.subject_sequence for entry in found] == list(range(1, 41))
            head = await ledger.checkpoint()
            proof = await ledger.receipt(17)
            receipts.verify(proof, anchors, head.time or 0)
        finally:
            await ledger.stop()
        (tmp_path / "ledger" / "index.sqlite").unlink()  # it can be made anew out of the journal, of either kind
        again = new_ledger(journal=journal_setting)
        await again.start()
        try:
            assert (await again.checkpoint()).root == head.root
            assert await again.append(record(40)) == 40
        finally:
            await again.stop()

    asyncio.run(run())


def hosts(new_ledger: Callable[..., Ledger], tmp_path: Path, address: str) -> tuple[Ledger, Ledger]:
    """Two hosts of one ledger: a folder each, the same key."""
    first, second = (new_ledger(name, journal=address, index_pause=0.05) for name in ("first", "second"))

    async def make_key() -> None:
        await first.start()
        await first.stop()

    asyncio.run(make_key())
    (tmp_path / "second").mkdir()
    shutil.copy(tmp_path / "first" / "ledger.key", tmp_path / "second" / "ledger.key")
    return first, second


def test_hosts_of_one_ledger_see_each_other_and_sign_the_same_tree(
    new_database: Callable[[], str], new_ledger: Callable[..., Ledger], record: NewRecord, tmp_path: Path
) -> None:
    first, second = hosts(new_ledger, tmp_path, new_database())

    async def run() -> None:
        await first.start()
        await second.start()
        try:
            appends = [(first, second)[number % 2].append(record(number, subject="r")) for number in range(100)]
            assert sorted(await asyncio.gather(*appends)) == list(range(100))
            for ledger in (first, second):
                found = await ledger.find(Query(subject="r", limit=100, descending=False))
                assert [entry.record.subject_sequence for entry in found] == list(range(1, 101))
            one, other = await first.checkpoint(), await second.checkpoint()
            assert (one.size, one.root, one.origin) == (other.size, other.root, other.origin)
            index = await first.append(record(100, trace_id="f" * 32))  # at once to be found at the other
            assert [entry.index for entry in await second.find(Query(trace_id="f" * 32))] == [index]
            await first.append(record(101))
            for _ in range(100):  # and without being asked the other follows
                if second.indexed == 102:
                    break
                await asyncio.sleep(0.05)
            assert second.indexed == second.size == 102
        finally:
            await first.stop()
            await second.stop()

    asyncio.run(run())


def test_a_host_with_another_key_or_of_another_peer_is_not_let_in(
    new_database: Callable[[], str],
    new_ledger: Callable[..., Ledger],
    new_keypair: Callable[..., KeyPair],
    tmp_path: Path,
) -> None:
    from stelsel.base.clock import SystemClock
    from stelsel.base.errors import ConfigurationFault
    from stelsel.ledger.settings import LedgerSettings

    address = new_database()
    hosts(new_ledger, tmp_path, address)
    stranger = new_keypair("00000099000000003000", "Gemeente")
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "first" / "ledger.key", tmp_path / "other" / "ledger.key")
    settings = LedgerSettings(journal=address)
    for ledger, reason in (
        (new_ledger("third", journal=address), "another key signs"),
        (Ledger(folder=tmp_path / "other", keypair=stranger, clock=SystemClock(), settings=settings), "another peer"),
    ):
        with pytest.raises(ConfigurationFault, match=reason) as refusal:
            asyncio.run(ledger.start())
        assert refusal.value.next_step


def test_an_index_of_another_history_stops_the_start(
    new_database: Callable[[], str], new_ledger: Callable[..., Ledger], record: NewRecord, tmp_path: Path
) -> None:
    async def fill(ledger: Ledger, start: int) -> None:
        await ledger.start()
        try:
            for number in range(start, start + 3):
                await ledger.append(record(number))
            await ledger.checkpoint()
        finally:
            await ledger.stop()

    address = new_database()
    asyncio.run(fill(new_ledger("mine", journal=address), 0))
    asyncio.run(fill(new_ledger("other"), 0))  # as many records, in files, with other nonces
    shutil.copy(tmp_path / "mine" / "ledger.key", tmp_path / "other" / "ledger.key")
    with pytest.raises(LedgerCorrupt, match="is not the one that this host knows") as refusal:
        asyncio.run(new_ledger("other", journal=address).start())
    assert isinstance(refusal.value, LedgerUnavailable)
    assert "ledger.key" in refusal.value.next_step


def test_the_numbers_that_postgresql_gives_are_those_of_the_record(open_journal: Open, record: NewRecord) -> None:
    """Whatever stands in a record, with its number it is the canonical form of the record with that number."""
    journal = open_journal()
    odd: list[Any] = ['"time":1,', "é\u2028\\", '","subject_sequence":9,"time":', "\N{GRINNING FACE}", "x" * 5000]
    records = [record(number, reason=text, subject=hashlib.sha256(b"x").hexdigest()) for number, text in enumerate(odd)]
    journal.append([item(one) for one in records])
    stored = [line.record for line in journal.lines(0, len(odd))]
    assert stored == [one._replace(subject_sequence=number).canonical() for number, one in enumerate(records, 1)]
