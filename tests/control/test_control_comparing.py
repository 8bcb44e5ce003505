"""How reconciliation is told: contradictions are trouble, what may not have arrived is not; the public gets counts."""

from __future__ import annotations

import pytest

from stelsel.control.comparing import count, judge
from stelsel.ledger.reconcile_store import Standing

NOW = 1_764_000_000.0
PEER, OTHER = "00000099000000002000", "00000099000000003000"


@pytest.mark.parametrize(
    ("standings", "ok", "words"),
    [
        ([], None, "no counterparties"),
        ([Standing(PEER)], None, "0 of 1 logs were compared"),
        ([Standing(PEER, int(NOW), NOW)], True, "1 log(s) tell what ours tells"),
        ([Standing(PEER, int(NOW), NOW, uncertain=3)], True, "3 request(s) may not have arrived"),
        ([Standing(PEER, int(NOW), NOW, certain=2), Standing(OTHER)], False, "2 transaction(s)"),
        ([Standing(PEER, int(NOW), NOW, "no answer", NOW - 60)], None, "1 of 1 logs"),
        ([Standing(PEER, int(NOW), NOW, "no answer\x1b", NOW - 100_000)], False, "no answer\\u{1b}"),
        ([Standing(PEER, int(NOW), NOW, "gone", NOW - 100_000, current=False)], None, "no counterparties"),
        ([Standing(PEER, int(NOW), NOW, certain=1, current=False)], False, "1 transaction(s)"),
    ],
)
def test_what_the_doctor_says(standings: list[Standing], ok: bool | None, words: str) -> None:
    seen = judge(standings, NOW)
    assert seen.ok is ok
    assert words in seen.detail
    assert bool(seen.next_step) or ok is not False


def test_what_anyone_may_see_names_nobody() -> None:
    told = count([Standing(PEER, 1_764_000_000, NOW, certain=2, uncertain=1, not_kept=4), Standing(OTHER)])
    assert told == {
        "counterparties": 2,
        "compared": 1,
        "compared_until": "2025-11-24T16:00:00Z",
        "contradictions": 2,
        "possibly_not_arrived": 1,
        "beyond_these": 4,
        "cannot_be_compared": 0,
    }
