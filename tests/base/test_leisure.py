"""Work in leisure is done where all others go first, and nowhere else."""

from __future__ import annotations

import os
import threading
import time

import pytest

from stelsel.base.leisure import Leisure


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system has no such policy")
def test_work_in_leisure_lets_others_go_first_and_who_asks_for_it_stays_as_it_is() -> None:
    before = os.sched_getscheduler(0)
    assert Leisure().spend(lambda: os.sched_getscheduler(0)) == os.SCHED_IDLE
    assert os.sched_getscheduler(0) == before


def test_what_goes_wrong_in_leisure_is_told_to_who_asked_and_the_next_work_is_done() -> None:
    leisure = Leisure()
    with pytest.raises(ZeroDivisionError):
        leisure.spend(lambda: 1 // 0)
    assert leisure.spend(lambda: 1) == 1


def test_after_a_piece_that_others_kept_waiting_the_next_is_done_by_who_asks_for_it_until_a_while_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stelsel.base.leisure._HURRY", 0.2)
    leisure, asking = Leisure(), threading.current_thread()
    assert leisure.spend(threading.current_thread) is not asking
    leisure.spend(lambda: time.sleep(0.15))
    assert leisure.spend(threading.current_thread) is asking
    time.sleep(0.25)
    assert leisure.spend(threading.current_thread) is not asking
