"""Whatever is asked, a search finds what going through every record would find, and in the same order."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Callable

import pytest

from stelsel.ledger import blocks, building, index, intake, search
from stelsel.ledger.query import Entry, LogQuery, Query
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger

PEERS = tuple(f"0000009900000000{number}000" for number in range(1, 6))
GRANTS = tuple("$1$3$" + letter * 86 for letter in "ABCDE")
SERVICES = ("personen", "adressen", "parkeren")


def made_up(chance: random.Random, number: int) -> Record:
    """A record like any other, at a clock that is set back now and then."""
    return Record(
        transaction_id=f"transaction-{chance.randrange(40)}",
        trace_id=f"trace-{chance.randrange(40)}",
        span_id=f"span-{number}",
        parent_span_id=None,
        time=number * 1000 + chance.choice((0, 0, 0, -30_000)) + 100_000,
        direction=chance.choice(("incoming", "outgoing")),
        event=chance.choice(("request", "request", "response")),
        grant_hash=chance.choice((*GRANTS, "")),
        consumer=chance.choice(PEERS[1:3]),
        provider=chance.choice(PEERS[:2]),
        service=chance.choice((*SERVICES, "")),
        allowed=True,
        reason="allowed",
        subject=chance.choice(("", "a", "b")),
        consumer_delegator=chance.choice((None, None, PEERS[3])),
        provider_delegator=chance.choice((None, None, PEERS[4])),
    )


def parties(record: Record) -> set[str | None]:
    return {record.consumer, record.provider, record.consumer_delegator, record.provider_delegator}


def page(entries: list[Entry], query: Query | LogQuery) -> list[Entry]:
    after = query.after_index
    return [
        entry
        for entry in (reversed(entries) if query.descending else entries)
        if (after is None or (entry.index < after if query.descending else entry.index > after))
        and (query.after_ms is None or entry.record.time >= query.after_ms)
        and (query.before_ms is None or entry.record.time < query.before_ms)
    ][: query.limit]


def plainly_found(entries: list[Entry], query: Query) -> list[Entry]:
    def meets(record: Record) -> bool:
        return (
            (query.subject is None or record.subject == query.subject or (query.or_nobody and not record.subject))
            and query.transaction_id in (None, record.transaction_id)
            and query.trace_id in (None, record.trace_id)
            and query.grant_hash in (None, record.grant_hash)
            and query.service in (None, record.service)
            and (query.peer is None or query.peer in parties(record))
        )

    return page([entry for entry in entries if meets(entry.record)], query)


def plainly_told(entries: list[Entry], query: LogQuery) -> list[Entry]:
    first: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        record = entry.record
        if record.event == "request" and record.grant_hash and record.service:
            first.setdefault((record.transaction_id, record.direction), entry)
    told = [
        entry for entry in sorted(first.values(), key=lambda entry: entry.index) if query.peer in parties(entry.record)
    ]
    if query.transaction_ids:
        chosen = [entry for entry in told if entry.record.transaction_id in query.transaction_ids]
        return list(reversed(chosen)) if query.descending else chosen
    if query.grant_hashes or query.service_names:
        told = [
            entry
            for entry in told
            if entry.record.grant_hash in query.grant_hashes or entry.record.service in query.service_names
        ]
    return page(told, query)


def some(chance: random.Random, *values: str) -> tuple[str, ...]:
    return tuple(chance.sample(values, chance.choice((0, 0, 1, 2))))


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (blocks, building, index, intake, search):
        monkeypatch.setattr(module, "BLOCK", 8)
        monkeypatch.setattr(module, "RUN", 4, raising=module is not index)


def test_a_search_finds_what_going_through_every_record_finds(
    new_ledger: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    chance = random.Random(2026)

    def moment() -> int | None:
        return chance.choice((None, None, chance.randrange(400_000)))

    async def scenario() -> None:
        ledger = new_ledger()
        await ledger.start()
        entries = []
        counts = Counter[str]()
        for number in range(250):
            record = made_up(chance, number)
            counts[record.subject] += 1
            number = counts[record.subject] if record.subject else 0
            entries.append(Entry(await ledger.append(record), record._replace(subject_sequence=number)))
        for _ in range(300):
            place = {
                "after_ms": moment(),
                "before_ms": moment(),
                "after_index": chance.choice((None, chance.randrange(250))),
                "limit": chance.choice((1, 5, 100)),
                "descending": chance.random() < 0.5,
            }
            query = Query(
                subject=chance.choice((None, None, "a")),
                or_nobody=chance.random() < 0.5,
                transaction_id=chance.choice((None, None, None, "transaction-7")),
                trace_id=chance.choice((None, None, None, "trace-7")),
                grant_hash=chance.choice((None, *GRANTS[:2], "unknown")),
                peer=chance.choice((None, *PEERS, "nobody")),
                service=chance.choice((None, *SERVICES)),
                **place,
            )
            assert await ledger.find(query) == plainly_found(entries, query), query
            log_query = LogQuery(
                peer=chance.choice((*PEERS, "nobody")),
                grant_hashes=some(chance, *GRANTS, "unknown"),
                service_names=some(chance, *SERVICES),
                transaction_ids=chance.choice(((), (), ("transaction-3", "transaction-9"))),
                **place,
            )
            assert await ledger.transactions(log_query) == plainly_told(entries, log_query), log_query
        await ledger.stop()

    asyncio.run(scenario())


def test_a_search_for_what_is_seldom_looks_into_few_blocks(
    new_ledger: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    looked: list[int] = []

    def load(connection: sqlite3.Connection, number: int) -> blocks.Block | None:
        looked.append(number)
        return intake.load_block(connection, number)

    monkeypatch.setattr(search, "load_block", load)
    chance = random.Random(7)

    async def scenario() -> None:
        ledger = new_ledger()
        await ledger.start()
        for number in range(300):
            record = made_up(chance, number)._replace(subject="many", trace_id=f"{number:032x}", consumer=PEERS[1])
            if number in (20, 150, 290):
                record = record._replace(subject="few", consumer=PEERS[4], transaction_id=f"only-{number}")
            await ledger.append(record)
        for query, few in (
            (Query(subject="few"), [290, 150, 20]),
            (Query(subject="few", limit=1), [290]),
            (Query(subject="few", after_index=150, descending=False), [290]),
            (Query(trace_id=f"{77:032x}"), [77]),
            (Query(transaction_id="only-150"), [150]),
            (Query(after_ms=230_000, before_ms=240_000, limit=5, subject="few"), []),
        ):
            looked.clear()
            assert [entry.index for entry in await ledger.find(query)] == few
            assert len(looked) <= len(few) + 1
        looked.clear()
        assert len(await ledger.find(Query(peer=PEERS[4], limit=1))) == 1
        assert len(looked) <= 3
        await ledger.stop()

    asyncio.run(scenario())
