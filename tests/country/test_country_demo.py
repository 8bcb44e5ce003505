"""The demo as people run it: started on a terminal, stopped with Ctrl-C or by a power cut, and taken up again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stelsel.demo.processes import answers


@pytest.fixture
def folder() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="demo-"))  # short: unix sockets have short names
    yield parent / "c"
    shutil.rmtree(parent, ignore_errors=True)


@contextmanager
def _demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "stelsel", "demo", "--people", "300", "--folder", str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as demo:
        try:
            yield demo
        finally:
            demo.terminate()
            try:
                demo.wait(30)
            except subprocess.TimeoutExpired:
                demo.kill()


def _until(demo: subprocess.Popen[str], words: str) -> str:
    assert demo.stdout is not None
    printed = ""
    for line in demo.stdout:
        printed += line
        if words in line:
            return printed
    raise AssertionError(f"the demo ended without {words!r}: {printed}")


def _base(folder: Path) -> int:
    return int(json.loads((folder / "country.json").read_text())["base"])


def _all_gone(base: int, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(answers(f"127.0.0.1:{base + 100 * number + 43}") for number in range(1, 6)):
            return True
        time.sleep(0.1)
    return False


def test_ctrl_c_stops_everything_cleanly_and_the_country_can_be_taken_up_again(folder: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with _demo(folder) as demo:
            assert "/mijn-gegevens" in _until(demo, "first open data was published")
            demo.send_signal(number)
            assert demo.wait(30) == 0
            assert _all_gone(_base(folder), 2)


def test_when_the_demo_is_killed_no_process_stays_behind_and_nothing_is_lost(folder: Path) -> None:
    with _demo(folder) as demo:
        _until(demo, "first open data was published")
        demo.kill()
        demo.wait()
        assert _all_gone(_base(folder))
    with _demo(folder) as demo:
        _until(demo, "first open data was published")
        command = [sys.executable, "-m", "stelsel", "agreement", "list", "--state", "valid", "--json"]
        node = {"STELSEL_NODE": str(folder / "gemeente" / "node.toml")}
        listed = subprocess.run(
            command, env={**os.environ, **node}, capture_output=True, text=True, timeout=60, check=True
        )
        assert any(row["grants"][0]["service"] == "personen" for row in json.loads(listed.stdout))


def test_a_folder_that_holds_something_else_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with _demo(folder) as demo:
        assert demo.wait(30) == 1
        assert demo.stdout is not None
        assert "is not empty" in demo.stdout.read()
    assert [file.name for file in folder.iterdir()] == ["mine.txt"]
