"""`stelsel check fsc` as people run it: against a node of our own, and against one that a file names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stelsel.demo.country import temporary_folder
from stelsel.demo.ports import free_ports
from stelsel.demo.processes import Process
from stelsel.steering.checks.fsc import prepare
from stelsel.steering.checks.fsc.identities import PEERS

pytestmark = pytest.mark.country

_GROUP = """
id = "fsc-check"
name = "Test"
trust_anchors = "certificates/trust-anchors.pem"
directory_peer_id = "{peer_id}"
directory_address = "https://localhost:{manager}"
ports = []
"""
_NODE = """
data = "data"
group = "group.toml"
[peer]
certificate = "certificates/target.pem"
key = "certificates/target.key"
[manager]
listen = "127.0.0.1:{manager}"
address = "https://localhost:{manager}"
[inway]
listen = "127.0.0.1:{door}"
address = "https://localhost:{door}"
[[services]]
name = "fsc-check"
endpoint = "http://localhost:{echo}"
"""
_TARGET = """
group_id = "fsc-check"
trust_anchors = "certificates/trust-anchors.pem"
[target]
peer_id = "{peer_id}"
manager = "https://localhost:{manager}"
inway = "https://localhost:{door}"
[tester]
certificates = "certificates"
first = "https://localhost:{first}"
second = "https://localhost:{second}"
third = "https://localhost:{third}"
inway = "https://localhost:{inway}"
echo = "http://localhost:{echo}"
[approval]
seconds = 20
"""


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stelsel", "check", "fsc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of a running node, with a target's file that lacks how contracts are accepted."""
    parent = temporary_folder()
    folder = parent / "group"
    list(prepare.make(folder))
    names = ("manager", "door", "first", "second", "third", "inway", "echo")
    values: dict[str, Any] = dict(zip(names, free_ports(len(names)), strict=True))
    values["peer_id"] = PEERS["target"][0]
    for name, text in (("group.toml", _GROUP), ("node.toml", _NODE), ("fsc-target.toml", _TARGET)):
        (folder / name).write_text(text.format(**values))
    process = Process("node", ["stelsel", "run", str(folder / "node.toml")], folder / "node.log")
    process.start()
    try:
        process.wait_until(f"unix:{folder / 'data' / 'control.sock'}")
        yield folder
    finally:
        process.stop()
        shutil.rmtree(parent, ignore_errors=True)


def test_a_node_of_our_own_is_started_and_checked_and_the_last_line_counts() -> None:
    done = check("--only", "Manager-GetToken-3", "--only", "Integration-ConsumeService-1", "--only", "Manager-Port-1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "3 of 3 scenarios pass"
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["pass", "Manager-Port-1"],
        ["pass", "Manager-GetToken-3"],
        ["pass", "Integration-ConsumeService-1"],
    ]


_BY_COMMAND = (
    f'mode = "command"\ncommand = ["{sys.executable}", "-m", "stelsel", "agreement", "accept", "{{content_hash}}", '
    '"--node", "NODE"]\n'
)


@pytest.mark.parametrize("approval", ['mode = "node"\nnode = "node.toml"\n', _BY_COMMAND], ids=["node", "command"])
def test_the_implementation_that_a_file_names_is_checked_and_what_cannot_be_run_does_not_pass(
    running: Path, approval: str
) -> None:
    file = running / "fsc-target.toml"
    file.write_text(file.read_text() + approval.replace("NODE", str(running / "node.toml")))
    ids = ["Manager-RevokeContract-1", "Inway-Incoming-Request-1", "Manager-Port-1", "Outway-IncomingRequest-1"]
    done = check("--target", str(file), *(part for one in ids for part in ("--only", one)), "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert {result["id"]: result["outcome"] for result in told["results"]} == {
        "Manager-RevokeContract-1": "passed",
        "Inway-Incoming-Request-1": "passed",
        "Manager-Port-1": "failed",  # it is on a port of its own
        "Outway-IncomingRequest-1": "not run",
    }
    assert (told["passed"], told["failed"], told["not_run"], told["total"]) == (2, 1, 1, 4)


def test_a_target_that_is_not_there_is_one_line_and_a_next_step(tmp_path: Path) -> None:
    done = check("--target", str(tmp_path / "none.toml"))
    assert done.returncode == 1
    assert "there is no such file" in done.stderr
    assert "Traceback" not in done.stderr
