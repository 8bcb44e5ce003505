"""`stelsel demo --people-file`: the official test persons beside synthetic ones, and a line for each row left out."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stelsel.cli.app import app
from stelsel.demo import run
from stelsel.demo.country import MUNICIPALITY, Options
from stelsel.demo.population_register.store import Register, notable_people

pytestmark = pytest.mark.external

_LOADED, _LEFT_OUT, _SYNTHETIC = 677, 1479, 50


def test_a_country_of_the_official_test_persons_is_prepared_from_the_command_line(
    external_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = external_data / "brp" / "testset_persoonslijsten_20220502.csv", tmp_path / "c"
    asked: list[Options] = []
    monkeypatch.setattr(run, "run_demo", asked.append)
    words = ["demo", "--people-file", str(file), "--people", str(_SYNTHETIC), "--folder", str(folder)]
    app(words, exit_on_error=False, result_action="return_value")
    (options,) = asked
    with run._progress() as progress:
        country = run._prepare(options, progress)

    with closing(sqlite3.connect(folder / "people.sqlite")) as database:
        (people,) = database.execute("SELECT count(*) FROM persons").fetchone()
    assert people == _LOADED + _SYNTHETIC
    assert country.built is not None
    assert (country.built.people, country.built.loaded_rows) == (_LOADED + _SYNTHETIC, _LOADED)

    lines = (folder / "people-rows.txt").read_text().splitlines()
    assert len(lines) == _LEFT_OUT
    rows = [int(line.removeprefix("row ").partition(":")[0]) for line in lines]
    assert rows == sorted(set(rows))
    assert 2 <= rows[0] < rows[-1] <= 2157
    assert all(line.partition(": ")[2] for line in lines), "each with its reason"
    told = " ".join(capsys.readouterr().err.split())
    assert f"{_LOADED} rows of the people file were loaded, {_LEFT_OUT} were not" in told
    assert "people-rows.txt" in told

    register = Register(folder / "people.sqlite")
    assert [person.family_name for person in register.by_numbers(("999993653",))] == ["Moulin"]
    register.close()
    logins = json.loads((folder / "regie" / "demo-people.json").read_text())
    chosen = [one["name"] for one in logins if "burgerservicenummer" in one]
    assert chosen == [one.name for one in notable_people(folder / "people.sqlite", 6, MUNICIPALITY)]
    assert chosen
    assert json.loads((folder / "country.json").read_text())["people_file"] == str(file.resolve())
