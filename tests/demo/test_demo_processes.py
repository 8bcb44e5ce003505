"""The register and the application as processes: they start, answer, stop when told, and leave nothing behind."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from stelsel.demo.population_register.store import build, notable_people

pytestmark = pytest.mark.country


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", module, *arguments], stderr=subprocess.PIPE, text=True)


def _wait(port: int, process: subprocess.Popen[str]) -> None:
    for _ in range(200):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("it did not start")


def _stop(process: subprocess.Popen[str], number: signal.Signals) -> str:
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    return errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_register_answers_and_stops_cleanly_without_a_word_about_people(tmp_path: Path, number: signal.Signals):
    path, port = tmp_path / "people.sqlite", _free_port()
    build(path, count=1000)
    resident = notable_people(path, 1)[0]
    process = _start("stelsel.demo.population_register", "--database", str(path), "--listen", f"127.0.0.1:{port}")
    try:
        _wait(port, process)
        question = {
            "type": "RaadpleegMetBurgerservicenummer",
            "burgerservicenummer": [resident.burgerservicenummer],
            "fields": ["naam.volledigeNaam"],
        }
        response = httpx.post(f"http://127.0.0.1:{port}/personen", json=question, trust_env=False)
        assert response.json()["personen"] == [{"naam": {"volledigeNaam": resident.name}}]
        assert _stop(process, number) == ""
    finally:
        process.kill()
        process.communicate()


def test_a_mistake_is_logged_without_a_word_about_people(tmp_path: Path):
    path, port = tmp_path / "people.sqlite", _free_port()
    build(path, count=1000)
    resident = notable_people(path, 1)[0]
    process = _start("stelsel.demo.population_register", "--database", str(path), "--listen", f"127.0.0.1:{port}")
    try:
        _wait(port, process)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE persons")
        question = {
            "type": "RaadpleegMetBurgerservicenummer",
            "burgerservicenummer": [resident.burgerservicenummer],
            "fields": ["naam.volledigeNaam"],
        }
        response = httpx.post(f"http://127.0.0.1:{port}/personen", json=question, trust_env=False)
        assert response.status_code == 500
        assert resident.burgerservicenummer not in response.text
        errors = _stop(process, signal.SIGTERM)
        assert response.json()["incident"] in errors
        assert resident.burgerservicenummer not in errors
    finally:
        process.kill()
        process.communicate()


def test_the_application_starts_and_stops(tmp_path: Path):
    port = _free_port()
    process = _start("stelsel.demo.parking", "--listen", f"127.0.0.1:{port}", "--outway", "http://127.0.0.1:1")
    try:
        _wait(port, process)
        page = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
        assert (page.status_code, "Parkeervergunning" in page.text) == (200, True)
        form = {"burgerservicenummer": "999993653"}
        assert "geen antwoord" in httpx.post(f"http://127.0.0.1:{port}/", data=form, trust_env=False).text
        assert _stop(process, signal.SIGTERM) == ""
    finally:
        process.kill()
        process.communicate()


def test_what_cannot_start_says_why_in_one_line(tmp_path: Path):
    path = tmp_path / "people.sqlite"
    build(path, count=10)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for listen, database, words in (
            (f"127.0.0.1:{taken.getsockname()[1]}", path, "cannot listen"),
            ("0.0.0.0:0", path, "loopback only"),
            ("127.0.0.1:0", tmp_path / "absent", "no register here"),
        ):
            process = _start("stelsel.demo.population_register", "--database", str(database), "--listen", listen)
            _, errors = process.communicate(timeout=10)
            assert process.returncode == 2
            assert words in errors
            assert errors.count("\n") == 1
