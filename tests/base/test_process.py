"""A process that settles leaves what lasts alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stelsel.base.errors import ConfigurationFault
from stelsel.base.process import check_processors

_SCRIPT = """
import gc, os
from stelsel.base.process import settle
kept = [[] for _ in range(1000)]
settle()
settle()
assert gc.get_freeze_count() >= 1000
assert gc.isenabled()
print(os.sched_getscheduler(0) == os.SCHED_BATCH)
"""


def test_a_settled_process_collects_no_more_what_lasts_and_asks_for_longer_turns() -> None:
    run = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "True", "")


_STAYS = """
import os
from stelsel.base.process import check_processors, settle, unsettle
allowed = os.sched_getaffinity(0)
chosen = max(allowed)
check_processors([chosen])
settle(chosen)
assert os.sched_getaffinity(0) == {chosen}
check_processors(sorted(allowed))
unsettle()
print(os.sched_getaffinity(0) == allowed)
"""


def test_a_settled_process_stays_on_its_processor_until_another_program_takes_its_place() -> None:
    run = subprocess.run([sys.executable, "-c", _STAYS], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "True", "")


_TAKEN_AWAY = """
import os
from stelsel.base.process import settle
settle(100_000)
print(len(os.sched_getaffinity(0)))
"""


def test_a_processor_that_was_taken_away_since_leaves_the_process_where_it_may_run() -> None:
    run = subprocess.run([sys.executable, "-c", _TAKEN_AWAY], capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert str(len(os.sched_getaffinity(0))) in run.stdout
    assert "not on its processor" in run.stdout + run.stderr


def test_a_processor_that_a_node_may_not_use_is_refused_with_those_that_it_may() -> None:
    allowed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
    with pytest.raises(ConfigurationFault) as refused:
        check_processors([min(os.sched_getaffinity(0)), 100_000])
    assert "100000" in refused.value.detail
    assert allowed in (refused.value.next_step or "")


def test_where_the_system_does_not_let_a_process_choose_its_processor_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    check_processors([])
    with pytest.raises(ConfigurationFault, match="does not let"):
        check_processors([0])
