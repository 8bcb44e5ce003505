"""An operator erases what is old on a node that runs: it is gone, traffic goes on, and the audit finds all in order."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crash.chain import PROVIDER, Chain
from crash_chain import running, traffic

from stelsel.base.errors import Fault


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """Two nodes and a service that run."""
    with running(tmp_path) as (chain, _):
        yield chain


def _run(chain: Chain, *words: str) -> Any:
    command = [sys.executable, "-m", "stelsel", "log", *words, "--node", str(chain.folder / PROVIDER / "node.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


@pytest.mark.timeout(200)
def test_what_is_old_is_erased_from_a_running_node(chain: Chain) -> None:
    traffic(chain, 100)
    time.sleep(0.1)
    due = _run(chain, "prune", "--before", "0h", "--dry-run", "--json")
    assert due["records"] >= 100
    before = _run(chain, "audit", "--json")
    erased = _run(chain, "prune", "--before", "0h", "--json")
    assert erased["records"] >= due["records"]
    assert erased["segments"] == 1
    assert _run(chain, "--json") == []
    traffic(chain, 20)
    assert len(_run(chain, "--json")) >= 20
    status = _run(chain, "status", "--json")
    assert status["keep_days"] == 7305
    assert [one["records"] for one in status["prunes"] if one["asked"]] == [erased["records"]]
    after = _run(chain, "audit", "--json")
    assert before
    assert after


@pytest.mark.timeout(200)
def test_a_misspelt_word_for_a_dry_run_erases_nothing(chain: Chain) -> None:
    traffic(chain, 20)
    time.sleep(0.1)
    kept = _run(chain, "--json")
    with pytest.raises(Fault, match="only these can be given here: before, dry_run"):
        chain.control(PROVIDER).post("/commands/prune", {"before": time.time(), "dryrun": True})
    assert _run(chain, "--json") == kept
    assert not [one for one in _run(chain, "status", "--json")["prunes"] if one["asked"]]
