"""The ledger as other rooms use it: record, search, prove, refuse, recover, start again."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.base.canonical import canonical
from stelsel.base.errors import BadRequest, ConfigurationFault, NotFound
from stelsel.ledger import receipts
from stelsel.ledger.faults import LedgerCorrupt, LedgerUnavailable, ProofInvalid
from stelsel.ledger.merkle import verify_consistency
from stelsel.ledger.query import Query
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger

NewLedger = Callable[..., Ledger]
NewRecord = Callable[..., Record]


async def _fill(ledger: Ledger, record: NewRecord, count: int, **members: Any) -> None:
    indexes = await asyncio.gather(*(ledger.append(record(number, **members)) for number in range(count)))
    assert len(set(indexes)) == count


def test_what_was_just_appended_is_found_by_every_member(new_ledger: NewLedger, record: NewRecord) -> None:
    async def run() -> None:
        ledger = new_ledger(index_pause=60)
        await ledger.start()
        await _fill(ledger, record, 300)
        special = record(
            1000,
            subject="one",
            service="bijzonder",
            grant_hash="$1$3$other",
            consumer="00000099000000004000",
            consumer_delegator="00000099000000005000",
        )
        index = await ledger.append(special)
        special = special._replace(subject_sequence=1)
        for query in (
            Query(subject="one"),
            Query(subject="one", peer="00000099000000004000"),
            Query(transaction_id=special.transaction_id),
            Query(trace_id=special.trace_id),
            Query(grant_hash="$1$3$other"),
            Query(peer="00000099000000005000"),
            Query(service="bijzonder"),
            Query(after_ms=special.time),
            Query(limit=1),
            Query(after_index=index - 1, descending=False),
        ):
            entries = await ledger.find(query)
            assert [(entry.index, entry.record) for entry in entries] == [(index, special)]
        assert await ledger.find(Query(subject="nobody")) == []
        assert await ledger.find(Query(subject="one", service="personen")) == []
        assert len(await ledger.find(Query(before_ms=special.time, limit=500))) == 300
        page = await ledger.find(Query(limit=10, after_index=index))
        assert [entry.index for entry in page] == list(range(index - 1, index - 11, -1))
        assert (await ledger.entry(index)).record == special
        with pytest.raises(NotFound):
            await ledger.entry(5000)
        with pytest.raises(BadRequest):
            await ledger.find(Query(limit=0))
        await ledger.stop()

    asyncio.run(run())


def test_an_exchange_can_be_seen_without_the_others_in_it(new_ledger: NewLedger, record: NewRecord) -> None:
    async def run() -> None:
        ledger = new_ledger()
        await ledger.start()
        await ledger.append(record())
        for subject in ("one", "two", "three"):
            await ledger.append(record(event="response", subject=subject))
        await ledger.append(record(event="response", allowed=False))
        await ledger.append(record(1))
        own = Query(subject="two", or_nobody=True, transaction_id=record().transaction_id, descending=False)
        assert [entry.index for entry in await ledger.find(own)] == [0, 2, 4]
        assert [entry.index for entry in await ledger.find(Query(subject="two"))] == [2]
        assert await ledger.find(Query(subject="")) == []
        await ledger.stop()

    asyncio.run(run())


def test_a_record_that_cannot_be_written_down_is_refused_alone(new_ledger: NewLedger, record: NewRecord) -> None:
    async def run() -> None:
        ledger = new_ledger()
        with pytest.raises(LedgerUnavailable):
            await ledger.append(record())
        await ledger.start()
        with pytest.raises(BadRequest):
            await ledger.append(record(reason="\ud800"))
        with pytest.raises(BadRequest):
            await ledger.append(record(fields=("x" * 70_000,)))
        assert await ledger.append(record()) == 0
        await ledger.stop()

    asyncio.run(run())


def test_with_the_folder_taken_away_calls_are_refused_and_put_back_they_go_on(
    new_ledger: NewLedger, record: NewRecord, tmp_path: Path
) -> None:
    async def run() -> None:
        ledger = new_ledger()
        await ledger.start()
        await _fill(ledger, record, 20)
        (tmp_path / "ledger" / "segments").rename(tmp_path / "away")
        for _ in range(3):
            with pytest.raises(LedgerUnavailable) as refusal:
                await ledger.append(record(500))
            assert refusal.value.status == 503
            assert refusal.value.next_step
        (tmp_path / "away").rename(tmp_path / "ledger" / "segments")
        assert await ledger.append(record(501)) == 20
        assert [entry.record for entry in await ledger.find(Query(limit=1))] == [record(501)]
        assert (await ledger.checkpoint()).size == 21
        await ledger.stop()

    asyncio.run(run())


def test_after_a_restart_the_tree_is_the_same_with_or_without_its_index(
    new_ledger: NewLedger, record: NewRecord, tmp_path: Path
) -> None:
    async def run() -> None:
        ledger = new_ledger(segment_bytes=20_000)
        await ledger.start()
        await _fill(ledger, record, 700)
        before = await ledger.checkpoint()
        key = ledger.public_key
        await ledger.stop()
        for change in ("none", "remove", "spoil"):
            index = tmp_path / "ledger" / "index.sqlite"
            if change == "remove":
                index.unlink()
            elif change == "spoil":
                index.write_bytes(b"not a database" * 1000)
            ledger = new_ledger(segment_bytes=20_000)
            await ledger.start()
            after = await ledger.checkpoint()
            assert (after.size, after.root, ledger.public_key) == (before.size, before.root, key)
            assert len(await ledger.find(Query(service="personen", limit=1000))) == 700
            await ledger.stop()
        assert (tmp_path / "ledger" / "ledger.key").stat().st_mode & 0o777 == 0o600

    asyncio.run(run())


def test_one_folder_serves_one_node_and_lost_records_stop_the_start(
    new_ledger: NewLedger, record: NewRecord, tmp_path: Path
) -> None:
    async def run() -> None:
        ledger = new_ledger()
        await ledger.start()
        with pytest.raises(ConfigurationFault, match="another node"):
            await new_ledger().start()
        await _fill(ledger, record, 5)
        await ledger.checkpoint()
        await ledger.stop()
        (tmp_path / "ledger" / "segments").rename(tmp_path / "away")
        with pytest.raises(LedgerCorrupt, match="it held 5"):
            await new_ledger().start()
        (tmp_path / "away").rename(tmp_path / "ledger" / "segments")
        ledger = new_ledger()
        await ledger.start()
        assert ledger.size == 5
        await ledger.stop()
        (tmp_path / "ledger" / "ledger.key").write_text("no key")
        with pytest.raises(ConfigurationFault, match=r"ledger\.key"):
            await new_ledger().start()
        (tmp_path / "file").write_text("a file")
        with pytest.raises(ConfigurationFault, match="cannot be used"):
            await new_ledger("file").start()

    asyncio.run(run())


def test_a_ledger_grows_consistently_and_two_histories_do_not(new_ledger: NewLedger, record: NewRecord) -> None:
    async def run() -> None:
        ledger, other = new_ledger(), new_ledger("other")
        await ledger.start()
        await other.start()
        await _fill(ledger, record, 30)
        await _fill(other, record, 40, allowed=False)
        first = await ledger.checkpoint()
        await _fill(ledger, record, 10)
        second, strange = await ledger.checkpoint(), await other.checkpoint()
        proof = await ledger.consistency(30, 40)
        verify_consistency(first.size, second.size, first.root, second.root, proof)
        with pytest.raises(ProofInvalid, match="two histories"):
            verify_consistency(30, 40, first.root, strange.root, await other.consistency(30, 40))
        with pytest.raises(NotFound):
            await ledger.consistency(30, 41)
        await ledger.stop()
        await other.stop()

    asyncio.run(run())


def test_search_and_proofs_hold_while_records_pour_in(new_ledger: NewLedger, record: NewRecord) -> None:
    async def run() -> None:
        ledger = new_ledger(segment_bytes=10_000)
        await ledger.start()
        done = False

        async def appender(name: int) -> None:
            for number in range(60):
                index = await ledger.append(record(number * 100 + name, subject=f"s{name}"))
                if number % 15 == 0:
                    found = await ledger.find(Query(subject=f"s{name}", limit=1))
                    assert [entry.index for entry in found] == [index]

        async def prover() -> None:
            seen = []
            while not done:
                seen.append(await ledger.checkpoint())
                if seen[-1].size:
                    receipt = await ledger.receipt(seen[-1].size - 1)
                    assert receipts.verify(receipt, None, time.time()).index == seen[-1].size - 1
            first, last = next(item for item in seen if item.size), seen[-1]
            proof = await ledger.consistency(first.size, last.size)
            verify_consistency(first.size, last.size, first.root, last.root, proof)

        proving = asyncio.create_task(prover())
        await asyncio.gather(*(appender(name) for name in range(20)))
        done = True
        await proving
        assert ledger.size == 1200
        await ledger.stop()

    asyncio.run(run())


def test_the_index_tells_nothing_but_what_is_searched_for(
    new_ledger: NewLedger, record: NewRecord, tmp_path: Path
) -> None:
    async def run() -> None:
        ledger = new_ledger()
        await ledger.start()
        await ledger.append(record(fields=("naam.geheim",)))
        await ledger.checkpoint()
        await ledger.stop()

    asyncio.run(run())
    with sqlite3.connect(tmp_path / "ledger" / "index.sqlite") as connection:
        assert "naam.geheim" not in "\n".join(connection.iterdump())
    connection.close()


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(
    st.builds(
        Record,
        transaction_id=TEXT,
        trace_id=TEXT,
        span_id=TEXT,
        parent_span_id=st.none() | TEXT.filter(bool),
        time=st.integers(0, 2**53 - 1),
        direction=st.sampled_from(["incoming", "outgoing"]),
        event=st.sampled_from(["request", "response"]),
        grant_hash=TEXT,
        consumer=TEXT,
        provider=TEXT,
        service=TEXT,
        allowed=st.booleans(),
        reason=TEXT,
        fields=st.lists(TEXT, max_size=3).map(tuple),
        subject=TEXT,
        subject_sequence=st.integers(0, 2**53 - 1),
        search_parameters=st.lists(TEXT, max_size=1).map(tuple),
        refused=st.lists(TEXT, max_size=1).map(tuple),
        processing_activity=TEXT,
        consumer_delegator=st.none() | TEXT,
        provider_delegator=st.none() | TEXT,
    )
)
def test_the_fast_canonical_form_is_that_of_rfc_8785(value: Record) -> None:
    assert value.canonical() == canonical(value.to_json())
    assert value.canonical_counted() == canonical(value.counted())
    value = value._replace(transaction_id="t", trace_id="t", span_id="s")
    assert Record.read(json.loads(value.canonical())).to_json() == value.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"time": 1.5},
        {"time": True},
        {"time": -1},
        {"allowed": "yes"},
        {"direction": "sideways"},
        {"event": ["request"]},
        {"fields": "naam"},
        {"fields": [1]},
        {"fields": []},
        {"subject": ["one", "two"]},
        {"subject": ""},
        {"subjects": ["one"]},
        {"service": ""},
        {"unknown": 1},
        {"trace_id": None},
    ],
)
def test_a_record_that_is_not_exactly_one_is_refused(change: dict[str, Any], record: NewRecord) -> None:
    with pytest.raises(BadRequest):
        Record.read(record().to_json() | change)
    lacking = record().to_json()
    del lacking["trace_id"]
    with pytest.raises(BadRequest):
        Record.read(lacking)
    with pytest.raises(BadRequest):
        Record.read([])
