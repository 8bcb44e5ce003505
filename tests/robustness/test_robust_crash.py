"""`make crash` in short: kills under load lose nothing; and a ledger that lies about its records is caught by it."""

from __future__ import annotations

from collections import Counter

import pytest
from crash import check
from crash.run import POSTGRES, SEGMENTS, trial

from stelsel.demo.postgres import programs
from stelsel.ledger.commitment import commitment, sealed
from stelsel.ledger.merkle import leaf_hash
from stelsel.ledger.record import Record

SEED = 20261123


@pytest.mark.timeout(300)
@pytest.mark.parametrize("journal", [SEGMENTS, POSTGRES])
def test_what_was_answered_while_processes_were_killed_is_at_both_sides_once(
    journal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if journal == POSTGRES and programs() is None:
        pytest.skip("there is no PostgreSQL server here: python tools/provide.py postgresql")
    outcome = trial(20, seed=SEED, check_every=20, journal=journal, between=100)
    assert outcome.good, capsys.readouterr().out
    assert sum(outcome.kills.values()) == 20
    assert outcome.answered > 300
    assert outcome.checkpoints > 4
    assert " 0 lost, 0 doubled, 0 unrecorded" in outcome.line()


def test_a_ledger_that_acknowledges_before_it_writes_is_caught() -> None:
    told: list[str] = []
    outcome = trial(20, seed=SEED, check_every=5, prepare="crash_liars:acknowledges_before_writing", say=told.append)
    assert not outcome.good
    assert outcome.findings.lost
    assert any(f"seed {SEED}" in line for line in told)
    assert any(outcome.findings.lost[0] in line for line in told), "the transactions are named"


def test_a_ledger_that_writes_a_record_twice_is_caught() -> None:
    outcome = trial(5, seed=SEED, check_every=5, prepare="crash_liars:writes_some_twice", say=lambda _: None)
    assert not outcome.good
    assert outcome.findings.doubled


def _record(transaction_id: str, time: int = 1) -> tuple[bytes, bytes]:
    record = Record(
        transaction_id=transaction_id,
        trace_id="t",
        span_id="s",
        parent_span_id=None,
        time=time,
        direction="outgoing",
        event="request",
        grant_hash="$1$4$g",
        consumer="c",
        provider="p",
        service="things",
        allowed=True,
        reason="agreed",
    )
    return b"n" * 16, record.canonical()


def _leaf(line: tuple[bytes, bytes]) -> bytes:
    import json

    record = Record.from_json(json.loads(line[1]))
    return leaf_hash(commitment(record.canonical_counted(), sealed(*line)))


def test_a_checkpoint_of_another_history_and_one_of_more_than_there_is_are_found() -> None:
    lines = [_record("a"), _record("b")]
    assert check.read("x", lines, {1: _leaf(lines[0])}).inconsistent == []
    altered = [_record("a", time=2), lines[1]]
    assert len(check.read("x", altered, {1: _leaf(lines[0])}).inconsistent) == 1
    assert len(check.read("x", lines, {3: b"r" * 32}).inconsistent) == 1


def test_each_way_in_which_a_request_can_go_astray_is_told_apart() -> None:
    both = check.read("x", [_record("a"), _record("twice"), _record("twice")], {})
    nothing = check.Read()
    once = Counter({b"a": 1})
    assert not check.compare({b"a": True}, both, both, once).any
    assert check.compare({b"a": True}, both, nothing, once).lost
    assert check.compare({b"a": True}, nothing, both, once).lost
    assert check.compare({b"a": True}, both, both, Counter()).lost
    assert check.compare({b"twice": True}, both, both, Counter({b"twice": 1})).doubled
    assert check.compare({b"a": True}, both, both, Counter({b"a": 2})).doubled
    assert check.compare({b"a": False}, both, both, Counter({b"a": 2})).repeated_looks == 1
    assert check.compare({}, both, both, Counter({b"unheard": 1})).unrecorded == ["unheard"]
