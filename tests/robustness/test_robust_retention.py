"""An operator erases what is old on a node that runs: it is gone, traffic goes on, and the audit finds all in order."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from crash.chain import NODE, PEERS, PROVIDER, SERVICE, Chain
from crash.load import Load
from crash.nursery import Nursery


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """Two nodes and a service that run."""
    chain = Chain.make(tmp_path)
    nursery = Nursery((NODE, SERVICE))
    try:
        for name in ("service", *PEERS):
            chain.start(nursery, name)
        for name in PEERS:
            chain.await_node(name)
        chain.agree()
        yield chain
    finally:
        nursery.close()
        chain.close()


def _traffic(chain: Chain, wanted: int) -> None:
    load = Load(chain.ports["outway"], random.Random(5))

    async def run() -> None:
        load.start()
        while len(load.answered) < wanted:
            await asyncio.sleep(0.01)
        await load.stop()

    asyncio.run(run())


def _run(chain: Chain, *words: str) -> Any:
    command = [sys.executable, "-m", "stelsel", "log", *words, "--node", str(chain.folder / PROVIDER / "node.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


@pytest.mark.timeout(200)
def test_what_is_old_is_erased_from_a_running_node(chain: Chain) -> None:
    _traffic(chain, 100)
    time.sleep(0.1)
    due = _run(chain, "prune", "--before", "0h", "--dry-run", "--json")
    assert due["records"] >= 100
    before = _run(chain, "audit", "--json")
    erased = _run(chain, "prune", "--before", "0h", "--json")
    assert erased["records"] >= due["records"]
    assert erased["segments"] == 1
    assert _run(chain, "--json") == []
    _traffic(chain, 20)
    assert len(_run(chain, "--json")) >= 20
    status = _run(chain, "status", "--json")
    assert status["keep_days"] == 7305
    assert [one["records"] for one in status["prunes"] if one["asked"]] == [erased["records"]]
    after = _run(chain, "audit", "--json")
    assert before
    assert after
