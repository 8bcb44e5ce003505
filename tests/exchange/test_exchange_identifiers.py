"""The identifiers of the hot path are what the standards ask for, and never the same twice."""

from __future__ import annotations

from stelsel.base.ids import is_uuid
from stelsel.exchange.headers import UUID7
from stelsel.exchange.identifiers import new_span_id, new_trace_id, new_transaction_id


def test_identifiers_are_well_formed_and_differ() -> None:
    transactions = {new_transaction_id() for _ in range(2000)}
    assert len(transactions) == 2000
    assert all(is_uuid(one, 7) and UUID7.fullmatch(one.encode()) for one in transactions)
    assert len({new_trace_id() for _ in range(1000)}) == 1000
    assert (len(new_trace_id()), len(new_span_id())) == (32, 16)
