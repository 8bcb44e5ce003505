"""A process that settles leaves what lasts alone."""

from __future__ import annotations

import subprocess
import sys

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
