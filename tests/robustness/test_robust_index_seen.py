"""An operator sees who builds the search index of a running node, how far it is, and that it died or hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash.chain import CONSUMER, PROVIDER, Chain
from crash_chain import running, traffic


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """Two nodes that run: at the provider a process of its own builds the index, at the consumer a thread."""
    with running(tmp_path) as (chain, _):
        yield chain


def _says(chain: Chain, name: str) -> str:
    """What `stelsel status` says of the index."""
    command = [sys.executable, "-m", "stelsel", "status", "--node", str(chain.folder / name / "node.toml")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Search index: ")]
    return line.removeprefix("Search index: ")


def _told(chain: Chain, name: str) -> dict[str, Any]:
    """The same, for a program."""
    told: dict[str, Any] = chain.control(name).get("/about")["ledger"]
    return told


def _until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def _whole(chain: Chain, name: str) -> dict[str, Any]:
    return _until(lambda: (told := _told(chain, name)["index"])["pid"] and not told["behind"] and told)  # type: ignore[no-any-return]


@pytest.mark.timeout(200)
def test_the_process_that_builds_an_index_is_seen_dead_hanging_and_back(chain: Chain) -> None:
    traffic(chain, 100)
    first = _whole(chain, PROVIDER)
    assert first["apart"] is True
    assert first["size"] >= 100
    assert b"stelsel.ledger.index_process" in Path(f"/proc/{first['pid']}/cmdline").read_bytes()
    assert _says(chain, PROVIDER) == f"process {first['pid']} builds it; it holds all records"

    os.kill(first["pid"], signal.SIGKILL)
    assert _until(lambda: _told(chain, PROVIDER)["index"]["pid"] is None)
    back = _whole(chain, PROVIDER)
    assert back["pid"] != first["pid"]
    assert back["restarts"] == 1
    assert _says(chain, PROVIDER) == f"process {back['pid']} builds it; it holds all records; started again 1 time"

    os.kill(back["pid"], signal.SIGSTOP)
    traffic(chain, 100)
    hangs = _told(chain, PROVIDER)
    assert hangs["root"] is None
    assert hangs["index"]["behind"] == hangs["size"] - hangs["index"]["size"] >= 100
    assert f"process {back['pid']} builds it; {hangs['index']['behind']} records behind" in _says(chain, PROVIDER)

    os.kill(back["pid"], signal.SIGKILL)

    def nobody() -> bool:
        said = _says(chain, PROVIDER)
        if "NOBODY" not in said and (pid := _told(chain, PROVIDER)["index"]["pid"]) is not None:
            os.kill(pid, signal.SIGKILL)  # it was back too soon
        return said.startswith("NOBODY builds it at this moment; ")

    _until(nobody)
    assert _whole(chain, PROVIDER)["restarts"] >= 2
    assert len(_told(chain, PROVIDER)["root"]) == 64


@pytest.mark.timeout(200)
def test_an_index_that_a_thread_builds_is_seen_too(chain: Chain) -> None:
    traffic(chain, 20)
    told = _whole(chain, CONSUMER)
    process = chain.control(CONSUMER).get("/about")["process"]["pid"]
    assert told == {
        "apart": False,
        "pid": process,
        "size": told["size"],
        "behind": 0,
        "restarts": 0,
        "trouble": "",
    }
    assert _says(chain, CONSUMER) == "the node's own process builds it; it holds all records"
