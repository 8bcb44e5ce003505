"""A glance at a record sees what reading it whole sees, whatever is in it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelsel.ledger.glance import Glances, counted_of, subject_of, time_of
from stelsel.ledger.record import Record, numbered

NASTY = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ['","time":5,"', '","subject":"x', '\\"', '","parent_span_id":"', '","span_id":"s', "é", '","transaction_id":"']
)
HEX = "0123456789abcdef"


def usual(size: int) -> st.SearchStrategy[str]:
    return st.text(HEX, min_size=size, max_size=size)


RECORDS = st.builds(
    Record,
    transaction_id=usual(32).map(lambda text: f"{text[:8]}-{text[8:12]}-7{text[13:16]}-{text[16:20]}-{text[20:]}")
    | NASTY,
    trace_id=usual(32) | NASTY,
    span_id=usual(16) | NASTY,
    parent_span_id=st.none() | usual(16) | NASTY,
    time=st.integers(10**12, 10**13 - 1) | st.integers(0, 2**53 - 1),
    direction=st.sampled_from(["incoming", "outgoing"]),
    event=st.sampled_from(["request", "response"]),
    grant_hash=NASTY,
    consumer=st.sampled_from(["00000099000000003000", ""]) | NASTY,
    provider=NASTY,
    service=NASTY,
    allowed=st.booleans(),
    reason=NASTY,
    fields=st.lists(NASTY, max_size=2).map(tuple),
    refused=st.lists(NASTY, max_size=1).map(tuple),
    processing_activity=NASTY,
    subject=st.just("") | usual(32) | NASTY,
    subject_sequence=st.just(0),
    search_parameters=st.lists(NASTY, max_size=1).map(tuple),
    consumer_delegator=st.none() | NASTY,
    provider_delegator=st.none() | NASTY,
)


@settings(max_examples=150)
@given(st.lists(RECORDS, min_size=1, max_size=4), st.integers(1, 10**6))
def test_a_glance_sees_what_the_whole_record_says(records: list[Record], number: int) -> None:
    glances = Glances()
    for record in [*records, *records]:  # the second time from memory
        data = record.canonical()
        if record.subject:
            data = numbered(data, number)
            assert subject_of(data) == (record.subject, number)
        kind, time, trace, transaction, subject = glances.at(data)
        assert kind.relation == (
            record.grant_hash,
            record.service,
            record.consumer,
            record.provider,
            record.consumer_delegator or "",
            record.provider_delegator or "",
        )
        assert (kind.incoming, time) == (record.direction == "incoming", record.time)
        assert (trace.decode(), transaction.decode()) == (record.trace_id, record.transaction_id)
        assert subject.decode() == record.subject
        assert kind.counted_at(time) == counted_of(data) == record.canonical_counted()
        assert kind.logged == (record.event == "request" and all(kind.relation[:4]))
        assert time_of(data) == record.time


@pytest.mark.parametrize("members", [{"parent_span_id": None}, {"parent_span_id": "a" * 16}, {"subject": "b" * 32}])
def test_records_of_one_kind_are_told_apart_by_what_differs(
    record: Callable[..., Record], members: dict[str, Any]
) -> None:
    glances = Glances()
    seen = [glances.at(record(number, **members).canonical()) for number in range(20)]
    assert len({id(one[0]) for one in seen}) == 1
    assert len({one[2] for one in seen}) == len({one[3] for one in seen}) == 20


def test_what_is_remembered_of_records_is_bounded_in_bytes_too(record: Callable[..., Record]) -> None:
    """Whoever may ask a service chooses which fields it asks, and how many: it must not fill our memory."""
    glances = Glances()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(400):
            asked = record(number, fields=tuple(f"veld-{number}-{each}" for each in range(2000)))
            kind, *_ = glances.at(asked.canonical())
            assert kind.relation[1] == asked.service
        assert tracemalloc.get_traced_memory()[0] - before < 4_000_000
    finally:
        tracemalloc.stop()
