"""Two real nodes, one a witness of the other: what operators see when all is well, and when history is changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash.chain import CONSUMER, PEERS, PROVIDER, Chain
from crash.nursery import Nursery
from crash_chain import running, traffic


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tuple[Chain, Nursery]]:
    """Two nodes and a service; the provider witnesses the consumer's ledger."""
    with running(tmp_path, _have_a_witness) as found:
        yield found


def _have_a_witness(chain: Chain) -> None:
    file = chain.folder / CONSUMER / "node.toml"
    wanted = f'[ledger]\nwitnesses = ["{PEERS[PROVIDER]}"]\nwitness_interval = 0.1\n'
    file.write_text(file.read_text().replace("[ledger]\n", wanted))


def _until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come so far in time"
        time.sleep(0.05)
    return found


def _stelsel(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stelsel", *(str(each) for each in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _cosigned(chain: Chain) -> bool:
    """Whether all that the consumer's ledger holds is cosigned."""
    control = chain.control(CONSUMER)
    cosigned = control.get("/witnesses")["cosigned"]
    return bool(cosigned and cosigned["size"] == control.get("/about")["ledger"]["size"])


def _findings(chain: Chain) -> Any:
    """What the witness found; with more traffic, for only a ledger that grows asks its witnesses anew."""
    found = chain.control(PROVIDER).get("/witnesses")["findings"]
    if not found:
        traffic(chain, 5)
    return found


def test_operators_prove_audit_and_catch(chain: tuple[Chain, Nursery]) -> None:
    country, nursery = chain
    node = {name: country.folder / name / "node.toml" for name in PEERS}
    anchors = country.folder / "anchors.pem"
    web = f"http://localhost:{country.ports['consumer-web']}"
    traffic(country, 30)
    _until(lambda: _cosigned(country))

    audited = _stelsel("log", "audit", "--node", node[CONSUMER], "--json")
    told = json.loads(audited.stdout)
    assert (audited.returncode, told["sound"], told["findings"]) == (0, True, [])
    assert told["checkpoints"] >= 2
    assert told["witnesses"][0]["trouble"] == ""
    assert "The ledger is whole" in _stelsel("log", "audit", "--node", node[PROVIDER]).stdout

    for form, name in (((), "receipt.json"), (("--tlog-proof",), "receipt.tlog-proof")):
        printed = _stelsel("log", "--receipt", 3, *form, "--node", node[CONSUMER])
        file = country.folder / name
        file.write_text(printed.stdout)
        proven = _stelsel("verify", file, "--trust-anchors", anchors, "--witness-quorum", 1)
        assert (proven.returncode, "This receipt holds" in proven.stdout) == (0, True), proven.stderr
        assert "Witness      provider" in proven.stdout
        named = ("--witness", PEERS[PROVIDER], "--json")
        assert json.loads(_stelsel("verify", file, "--trust-anchors", anchors, *named).stdout)["proven"]
        for demand in (("--witness-quorum", 2), ("--witness", PEERS[CONSUMER])):
            refused = _stelsel("verify", file, "--trust-anchors", anchors, *demand)
            assert (refused.returncode, "are demanded" in refused.stderr) == (1, True)

    other = _stelsel("log", "audit", "--url", web, "--trust-anchors", anchors, "--witness-quorum", 1)
    assert (other.returncode, "The ledger is whole" in other.stdout) == (0, True), other.stderr
    assert "Cosigned by  provider" in other.stdout

    ledger, copy = country.ledger(CONSUMER), country.folder / "copy"
    assert nursery.stop(CONSUMER)
    shutil.copytree(ledger, copy)
    country.start(nursery, CONSUMER)
    country.await_node(CONSUMER)
    traffic(country, 20)
    _until(lambda: _cosigned(country))
    assert nursery.stop(CONSUMER)
    stopped = _stelsel("log", "audit", "--node", node[CONSUMER])
    assert (stopped.returncode, "The ledger is whole" in stopped.stdout) == (0, True), stopped.stderr
    shutil.rmtree(ledger)
    copy.rename(ledger)
    country.start(nursery, CONSUMER)
    country.await_node(CONSUMER)
    traffic(country, 60)
    caught = _until(lambda: _findings(country))
    assert {each["peer_id"] for each in caught} == {PEERS[CONSUMER]}

    (seen,) = [each for each in country.control(CONSUMER).post("/commands/doctor") if each["name"] == "witnesses"]
    assert (seen["ok"], "another history" in seen["detail"]) == (False, True)
    (seen,) = [
        each for each in country.control(PROVIDER).post("/commands/doctor") if each["name"] == "ledgers of others"
    ]
    assert seen["ok"] is False
    for _ in range(2):  # a running node, then a stopped one
        audited = _stelsel("log", "audit", "--node", node[CONSUMER])
        assert audited.returncode == 1
        assert "differs from what it should be" in audited.stdout
        assert "checkpoint" in audited.stdout
        nursery.stop(CONSUMER)
    saved = country.folder / "evidence"
    witness = _stelsel("log", "audit", "--node", node[PROVIDER], "--evidence", saved)
    assert (witness.returncode, PEERS[CONSUMER] in witness.stdout) == (0, True), witness.stderr
    for file in saved.iterdir():
        proven = _stelsel("verify", file, "--trust-anchors", anchors)
        assert (proven.returncode, "a ledger told two histories" in proven.stdout) == (0, True), proven.stderr
