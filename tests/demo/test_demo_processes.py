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

from stelsel.base.web import listen
from stelsel.demo.patience import Patience
from stelsel.demo.population_register.store import build, notable_people
from stelsel.demo.ports import free_ports, hold_ports, port_of

pytestmark = pytest.mark.country


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
    path, port = tmp_path / "people.sqlite", free_ports(1)[0]
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
    path, port = tmp_path / "people.sqlite", free_ports(1)[0]
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
    port = free_ports(1)[0]
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


def test_time_in_which_the_machine_was_halted_wears_out_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    patience = Patience(3)
    clock[0] += 3600
    assert not patience.is_over()
    clock[0] += 0.9
    assert not patience.is_over()
    for _ in range(2):
        clock[0] += 0.9
        over = patience.is_over()
    assert over


def test_a_held_port_is_for_who_may_listen_there_again_and_again_and_for_nobody_else() -> None:
    (held,) = hold_ports(1)
    address = f"127.0.0.1:{port_of(held)}"
    with held:
        for _ in range(3):
            listen(address).close()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port_of(held)))


def test_free_ports_differ_can_be_listened_on_and_are_given_to_nobody_else() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        listen(f"127.0.0.1:{port}").close()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
