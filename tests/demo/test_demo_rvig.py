"""The official test persons: every row loads, or is reported with its number and the reason."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from stelsel.base.errors import BadRequest
from stelsel.demo.people import rvig
from stelsel.demo.people.rvig import LoadedRow, RowReport
from stelsel.demo.population_register.store import Register, build

_HEADER = ["", *rvig._NEEDED]
_GOOD = {
    "01.01.20": "999993653",
    "01.02.10": "Suze",
    "01.02.40": "Verzonnen",
    "01.03.10": "19851201",
    "01.04.10": "V",
    "07.70.10": "0",
    "08.09.10": "0599",
    "08.09.20": "20131102",
    "08.11.10": "Nergensweg",
    "08.11.20": "31",
    "08.11.60": "3077AW",
}


def _file(folder: Path, *rows: dict[str, str] | str) -> Path:
    path = folder / "people.csv"
    lines = [";".join(_HEADER)]
    lines += [
        row if isinstance(row, str) else ";".join(["Lg01_1", *(row.get(name, "") for name in _HEADER[1:])])
        for row in rows
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def test_a_person_list_loads(tmp_path: Path):
    (row,) = rvig.read(_file(tmp_path, _GOOD))
    assert isinstance(row, LoadedRow)
    assert row.row == 2
    assert row.person.birth_date == "1985-12-01"
    assert (row.person.municipality_name, row.person.house_number) == ("Rotterdam", 31)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"01.01.20": ""}, "01.01.20: there is no burgerservicenummer"),
        ({"01.01.20": "999993654"}, "01.01.20: the burgerservicenummer does not pass"),
        ({"01.03.10": ""}, "01.03.10: there is no date of birth"),
        ({"01.03.10": "19850230"}, "01.03.10: there is no such day"),
        ({"01.03.10": "1985"}, "01.03.10: the date is not yyyymmdd"),
        ({"01.03.10": "19850012"}, "01.03.10: the date has a day or month"),
        ({"01.04.10": "X"}, "01.04.10: the sex"),
        ({"07.67.20": "W"}, "07.67.20 says that the list is withdrawn"),
        ({"07.67.20": "F"}, "07.67.20 says that the list is wrong"),
        ({"07.70.10": "9"}, "07.70.10"),
        ({"08.11.20": "12a"}, "08.11.20"),
        ({"08.11.60": "0123AB"}, "08.11.60"),
        ({"06.08.10": "05"}, "06.08.10: the date is not yyyymmdd"),
    ],
)
def test_a_row_that_cannot_load_is_reported_with_its_element(tmp_path: Path, change: dict[str, str], reason: str):
    (row,) = rvig.read(_file(tmp_path, _GOOD | change))
    assert isinstance(row, RowReport)
    assert row.row == 2
    assert row.reason.startswith(reason)
    assert "9999" not in row.reason


def test_rows_below_a_list_and_odd_rows_are_reported(tmp_path: Path):
    path = _file(tmp_path, _GOOD, ";" * (len(_HEADER) - 1), ";999993653" + ";" * (len(_HEADER) - 2), "a;b", _GOOD)
    reports = [row for row in rvig.read(path) if isinstance(row, RowReport)]
    assert [(report.row, report.reason.split(" (")[0]) for report in reports] == [
        (3, "the row is empty"),
        (4, "continues the list of row 2"),
        (5, f"the row has 2 columns, the first row {len(_HEADER)}"),
        (6, "01.01.20 is the burgerservicenummer of row 2 too"),
    ]


def test_unknown_parts_points_and_places_abroad_are_kept_as_what_they_are(tmp_path: Path):
    unknown, abroad, point = (
        _GOOD | {"01.03.10": "19680000"},
        _GOOD | {"01.01.20": "999990639", "08.13.10": "5010", "08.13.30": "Rue 1", "08.13.20": "20100000"},
        _GOOD | {"01.01.20": "999993872", "01.02.40": ".", "08.11.10": ".", "08.11.20": ""},
    )
    people = [row.person for row in rvig.read(_file(tmp_path, unknown, abroad, point)) if isinstance(row, LoadedRow)]
    assert people[0].birth_date == "1968-00-00"
    assert (people[1].foreign_country, people[1].foreign_address, people[1].address_since) == (
        "5010",
        "Rue 1",
        "2010-00-00",
    )
    assert (people[2].family_name, people[2].street) == ("", "")


@pytest.mark.parametrize("content", [b"", b"a;b\n", b"\xff\xfe\x00", b'"open;\n'])
def test_a_file_that_is_no_test_set_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "people.csv"
    path.write_bytes(content)
    with pytest.raises(BadRequest):
        list(rvig.read(path))


@pytest.mark.external
def test_every_row_of_the_official_test_set_loads_or_is_reported(external_data: Path):
    path = external_data / "brp" / "testset_persoonslijsten_20220502.csv"
    outcome = list(rvig.read(path, external_data / "brp" / "tabel33_gemeenten.csv"))
    assert [row.row for row in outcome] == list(range(2, 2158)), "one outcome a row, in order"
    loaded = [row.person for row in outcome if isinstance(row, LoadedRow)]
    reports = [row for row in outcome if isinstance(row, RowReport)]
    assert (len(loaded), len(reports)) == (677, 1479)
    kinds = Counter(re.sub(r"row \d+|\(category.*?\)", "#", report.reason) for report in reports)
    assert kinds == {
        "continues the list of # #: only the present situation is kept": 1454,
        "the row is empty": 15,
        "01.01.20 is the burgerservicenummer of # too": 5,
        "01.01.20: there is no burgerservicenummer": 1,
        "01.03.10: there is no date of birth": 1,
        "01.03.10: the date has a day or month but not the larger part": 1,
        "06.08.10: the date is not yyyymmdd": 1,
        "07.67.20 says that the list is withdrawn (W)": 1,
    }
    assert sum(person.suspension == "O" for person in loaded) == 20
    assert sum(person.municipality_code == "1999" for person in loaded) == 72


@pytest.mark.external
def test_the_official_people_can_be_asked_beside_synthetic_ones(external_data: Path, tmp_path: Path):
    path = tmp_path / "people.sqlite"
    built = build(path, count=500, people_file=external_data / "brp" / "testset_persoonslijsten_20220502.csv")
    assert (built.people, built.loaded_rows, len(built.reports)) == (1177, 677, 1479)
    register = Register(path)
    (person,) = register.by_numbers(("999993653",))
    assert (person.family_name, person.street) == ("Moulin", "Boterdiep")
    assert register.by_name_and_birth("moulin", "1985-12-01") == [person]
    register.close()
