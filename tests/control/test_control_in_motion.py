"""What a running node says of its surroundings follows from what was answered, and hostile answers stay inert."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelsel.agreements.agreement import State
from stelsel.agreements.contract import Contract
from stelsel.agreements.stored import Delivery, StoredContract
from stelsel.base.errors import BadRequest, Conflict, NotFound
from stelsel.control.in_motion import (
    Answer,
    _version,
    judge_clock,
    judge_directory,
    judge_ledger,
    judge_outbox,
    judge_own,
    judge_peers,
    skew,
)
from stelsel.control.managing import _event
from stelsel.control.selectors import find

NOW = 1_800_000_000.0
PEER = "00000099000000002000"
FINE = Answer(PEER, "2.0.0", 0.2)


def test_a_clock_that_differs_from_the_directory_is_told_with_which_way() -> None:
    assert judge_clock(FINE, [], 5).ok is True
    ahead = judge_clock(replace(FINE, skew=-90.0), [], 5)
    assert ahead.ok is False
    assert "90 seconds ahead" in ahead.detail
    assert "90 seconds behind" in judge_clock(replace(FINE, skew=90.0), [], 5).detail


def test_without_the_directory_the_middle_one_of_the_peers_counts() -> None:
    silent = Answer(PEER, trouble="no answer")
    peers = [replace(FINE, skew=each) for each in (3600.0, 0.0, 0.5)]
    assert judge_clock(silent, peers, 5).ok is True  # one peer with a wrong clock does not make ours wrong
    assert judge_clock(silent, [], 5).ok is None


@pytest.mark.parametrize("date", ["", "nonsense", "Mon, 99 Foo 2026 10:00:00 GMT", "\x00"])
def test_a_date_that_cannot_be_read_tells_no_time(date: str) -> None:
    assert skew(date, NOW) is None


def test_a_date_is_read_as_the_middle_of_its_second() -> None:
    assert skew("Fri, 15 Jan 2027 08:00:10 GMT", NOW) == 10.5


@pytest.mark.parametrize("body", [b"", b"[]", b'{"fsc_version": 2}', b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_not_what_it_should_be_has_no_version(body: bytes) -> None:
    assert _version(body) == ""


def test_peers_that_are_silent_or_speak_another_version_are_told() -> None:
    hostile = {PEER: "Register\n\x1b[2J\u202e"}
    answers = [FINE, Answer(PEER, trouble="no connection"), Answer(PEER, "1.1.2", 0.0), Answer(PEER, "", 0.0)]
    seen = list(judge_peers(answers, hostile))
    assert [each.ok for each in seen] == [True, False, False, False]
    assert all((each.name + each.detail).isprintable() for each in seen)
    assert all(each.next_step for each in seen[1:])
    assert judge_directory(Answer(PEER, trouble="no connection"), "https://d:8443").ok is False
    assert judge_own(Answer(PEER, trouble="at that address answers another"), "https://d:8443").ok is False


def stored(*deliveries: Delivery, content_hash: str = "$1$1$abc") -> StoredContract:
    contract: Any = Contract({}, content_hash, "iv", "g", 0, 2**40, 0, ())
    return StoredContract(contract, State.VALID, PEER, 0, (), (PEER,), tuple(deliveries), ())


def delivery(**changes: Any) -> Delivery:
    return replace(Delivery(PEER, "accept", "$1$1$abc", "pending", 1, NOW, "no answer"), **changes)


def test_what_only_just_waits_is_not_stuck_and_what_was_refused_is_told() -> None:
    assert [each.ok for each in judge_outbox([stored(delivery())], {}, NOW)] == [True]
    (stuck,) = judge_outbox([stored(delivery(attempts=9))], {PEER: "Register"}, NOW)
    assert stuck.ok is False
    assert "Register: no answer" in stuck.detail
    (refused,) = judge_outbox([stored(delivery(status="refused", reason="not\u202e so"))], {}, NOW)
    assert refused.ok is False
    assert refused.detail.isprintable()
    assert "resend" in refused.next_step


def test_an_index_that_lags_is_no_fault_while_it_moves() -> None:
    assert judge_ledger(10, 10, "").ok is True
    assert judge_ledger(10, 7, "", moves=True).ok is None
    assert judge_ledger(10, 7, "", moves=False).ok is False
    assert judge_ledger(10, 10, "the disk is full").ok is False
    still = judge_ledger(10, 7, "", moves=False, why="nobody builds it")
    assert still.detail == "the index is 3 records behind and does not move: nobody builds it"


def test_a_contract_is_found_by_the_start_of_its_hash_alone() -> None:
    one, other = stored(content_hash="$1$1$abcdef"), stored(content_hash="$1$1$abxyz")
    assert find([one, other], "abc") is one
    assert find([one, other], "$1$1$abx") is other
    with pytest.raises(Conflict):
        find([one, other], "ab")
    with pytest.raises(NotFound):
        find([one, other], "q")


@pytest.mark.parametrize(
    "body", [{}, {"revoke": True, "certificate_expires": True}, {"revoke": False, "without_field": ""}]
)
def test_one_thing_at_a_time_is_simulated(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        _event(stored(), [], body, NOW)
