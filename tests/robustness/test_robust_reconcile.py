"""Two real nodes compare their logs: what one of them struck out of its ledger is found, whichever it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crash.chain import CONSUMER, PEERS, PROVIDER, Chain
from crash.nursery import Nursery
from crash_chain import running, traffic

from stelsel.ledger.segments import SegmentJournal

KINDS = ("missing-there", "missing-here", "different", "not-arrived-there", "not-arrived-here")
SETTINGS = "[reconciliation]\nsettle = 0\ninterval = 0\n"


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tuple[Chain, Nursery]]:
    """Two nodes and a service that run, with some traffic behind them."""
    with running(tmp_path, _compare_when_told) as found:
        yield found


def _compare_when_told(chain: Chain) -> None:
    for name in PEERS:
        with (chain.folder / name / "node.toml").open("a") as file:
            file.write(SETTINGS)


def _strike_out(chain: Chain, nursery: Nursery, name: str, transactions: set[str]) -> None:
    """Stop a node, make its ledger anew without these transactions, and start it again."""
    assert nursery.stop(name)
    folder = chain.ledger(name)
    whole = SegmentJournal(folder / "segments")
    kept = [
        (line.nonce, line.record, "")
        for line in whole.lines(0, whole.size)
        if json.loads(line.record)["transaction_id"] not in transactions
    ]
    whole.close()
    assert len(kept) < whole.size
    shutil.rmtree(folder / "segments")
    for file in folder.glob("*.sqlite*"):
        file.unlink()
    journal = SegmentJournal(folder / "segments")
    journal.append(kept)
    journal.close()
    chain.start(nursery, name)
    chain.await_node(name)


def _reconcile(chain: Chain, name: str) -> tuple[int, dict[str, Any]]:
    time.sleep(1.1)  # a log tells whole seconds, and the present one is not over
    command = [sys.executable, "-m", "stelsel", "log", "reconcile", "--json", "--since", "1d"]
    node = str(chain.folder / name / "node.toml")
    done = subprocess.run([*command, "--node", node], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_records_that_one_side_struck_out_are_found_by_the_other(chain: tuple[Chain, Nursery]) -> None:
    country, nursery = chain
    answered = traffic(country, 300)
    time.sleep(0.5)
    for name in PEERS:
        code, found = _reconcile(country, name)
        assert (code, found["found"]) == (0, []) or all(not each["certain"] for each in found["found"])
        assert found["peers"][0]["ours"] >= 300
        assert found["peers"][0]["trouble"] == ""

    of_consumer, of_provider = set(answered[10:15]), set(answered[200:203])
    _strike_out(country, nursery, CONSUMER, of_consumer)
    _strike_out(country, nursery, PROVIDER, of_provider)

    code, found = _reconcile(country, PROVIDER)
    assert code == 1, "the provider was asked, so the consumer must know of it"
    by_kind = {kind: {each["transaction_id"] for each in found["found"] if each["kind"] == kind} for kind in KINDS}
    assert by_kind["missing-there"] == of_consumer
    assert by_kind["not-arrived-here"] >= of_provider

    code, found = _reconcile(country, CONSUMER)
    assert code == 1
    by_kind = {kind: {each["transaction_id"] for each in found["found"] if each["kind"] == kind} for kind in KINDS}
    assert by_kind["missing-here"] == of_consumer
    assert by_kind["not-arrived-there"] >= of_provider

    (seen,) = [each for each in country.control(PROVIDER).post("/commands/doctor") if each["name"] == "reconciliation"]
    assert seen["ok"] is False
    assert seen["detail"].startswith("5 transaction(s) are told by one side only")
