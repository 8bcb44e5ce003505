"""After the whole story: no number of a resident, no token, no key in any log, address or page."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from pathlib import Path

import pytest
from robust_siege import client_for, told

from stelsel.demo.cast import ACTORS, REGIE, REGISTER
from stelsel.demo.country import MUNICIPALITY, Country
from stelsel.demo.population_register.store import notable_people
from stelsel.demo.scenario.play import Story, play
from stelsel.demo.scenario.story import STEPS

_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")


@pytest.fixture(scope="module")
def played(besieged: Country) -> Story:
    story = Story(besieged, notable_people(besieged.folder / "people.sqlite", 1, MUNICIPALITY)[0])
    for one in play(story, STEPS):
        assert not one.failure, f"step {one.step.number}: {one.failure}"
    return story


def _numbers(country: Country) -> set[bytes]:
    with sqlite3.connect(country.folder / "people.sqlite") as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            if "burgerservicenummer" in columns:
                rows = database.execute(f"SELECT burgerservicenummer FROM {table}").fetchall()  # noqa: S608
                break
    database.close()
    numbers = {str(row[0]).zfill(9).encode() for row in rows}
    assert len(numbers) >= 300
    return numbers


def test_no_log_holds_a_number_a_name_a_token_or_a_key(besieged: Country, played: Story) -> None:
    numbers = _numbers(besieged)
    keys = {path: _secret_part(path) for path in besieged.folder.glob("*/key.pem")}
    logs = list(besieged.folder.glob("*/*.log"))
    assert len(logs) >= len(ACTORS) + 2
    for log in logs:
        data = log.read_bytes()
        found = set(re.findall(rb"(?<![0-9])[0-9]{9}(?![0-9])", data)) & numbers
        assert not found, log
        assert not _JWT.search(data), log
        assert played.resident.name.encode() not in data, log
        assert b"PRIVATE KEY" not in data, log
        assert not any(part in data for part in keys.values()), log
        assert b"Traceback" not in data, f"{log}: a mistake of ours: {data[-3000:]!r}"


def _secret_part(path: Path) -> bytes:
    lines = path.read_bytes().splitlines()
    return lines[len(lines) // 2]


def test_no_number_of_a_resident_lies_readable_in_what_a_node_keeps(besieged: Country, played: Story) -> None:
    mine = played.resident.burgerservicenummer.encode()
    for actor in ACTORS:
        for path in besieged.data(actor).rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert mine not in data, path
                assert base64.b64encode(mine) not in data, path


def test_secrets_on_disk_are_for_the_node_alone(besieged: Country, played: Story) -> None:
    for actor in ACTORS:
        home = besieged.folder / actor.key
        private = [
            home / "key.pem",
            home / "data" / "subject.key",
            *home.glob("data/*/*.key"),
            *home.glob("data/*.sock"),
        ]
        for path in private:
            if path.exists():
                assert path.stat().st_mode & 0o077 == 0, path
        assert (home / "data").stat().st_mode & 0o077 == 0, home


def test_what_operators_and_peers_are_told_holds_no_number_and_no_token(besieged: Country, played: Story) -> None:
    mine = played.resident.burgerservicenummer
    for actor in ACTORS:
        control = besieged.control(actor)
        shown = json.dumps([control.post("/log", {"limit": 100}), told(besieged, actor, "/agreements")])
        assert mine not in shown
        assert not _JWT.search(shown.encode())
    with client_for(besieged, REGISTER, "manager") as peer:
        for path in ("/v1/logs", "/v1/services", "/stelsel/v1/node"):
            text = peer.get(path).text
            assert mine not in text
    for actor in (REGIE, REGISTER):
        with client_for(besieged, actor, "web") as anyone:
            for path in ("/stelsel/v1/ledger/counted", "/stelsel/v1/ledger/checkpoint", "/steering/board", "/"):
                assert mine not in anyone.get(path).text
