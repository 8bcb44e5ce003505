"""The service personen: exactly the fields asked, faults named, whom it is about in a header, nothing in logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from demo_client import AppClient

from stelsel.agreements.services import Service
from stelsel.base.errors import ConfigurationFault
from stelsel.demo.people.person import Person
from stelsel.demo.population_register.answer import FIELDS, age, answer, date_object
from stelsel.demo.population_register.api import make_app
from stelsel.demo.population_register.openapi import document
from stelsel.demo.population_register.store import Register, build, full_name, notable_people
from stelsel.privacy import guard
from stelsel.privacy.request import read_request

_TODAY = date(2026, 11, 23)


@pytest.fixture(scope="module")
def register(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Register]:
    path = tmp_path_factory.mktemp("register") / "people.sqlite"
    build(path, count=4000, seed=5)
    with_register = Register(path)
    yield with_register
    with_register.close()


@pytest.fixture(scope="module")
def person(register: Register) -> Person:
    return register._find("municipality_code = ? AND birth_date < ?", ("0363", "1990"), 1)[0]


@pytest.fixture
def client(register: Register) -> Iterator[AppClient]:
    client = AppClient(make_app(register, lambda: _TODAY))
    yield client
    client.close()


def _by_number(*numbers: str, fields: Any = ("naam.volledigeNaam",)) -> dict[str, Any]:
    return {
        "type": "RaadpleegMetBurgerservicenummer",
        "burgerservicenummer": list(numbers),
        "fields": list(fields),
    }


def test_an_answer_holds_exactly_the_fields_asked(client: AppClient, person: Person):
    fields = ["naam.volledigeNaam", "adressering.adresregel2", "gemeenteVanInschrijving.code", "leeftijd"]
    response = client.post("/personen", json=_by_number(person.burgerservicenummer, fields=fields))
    assert response.status_code == 200
    assert response.json() == {
        "type": "RaadpleegMetBurgerservicenummer",
        "personen": [
            {
                "naam": {"volledigeNaam": full_name(person)},
                "adressering": {"adresregel2": f"{person.postcode[:4]} {person.postcode[4:]} Amsterdam"},
                "gemeenteVanInschrijving": {"code": "0363"},
                "leeftijd": age(person, _TODAY),
            }
        ],
    }


def test_a_header_names_whom_the_answer_is_about_also_when_the_body_does_not(client: AppClient, person: Person):
    response = client.post("/personen", json=_by_number(person.burgerservicenummer))
    assert response.headers["stelsel-data-subjects"] == person.burgerservicenummer
    assert person.burgerservicenummer not in response.text
    assert response.headers["cache-control"] == "no-store"
    nobody = client.post("/personen", json=_by_number("800000006"))
    assert (nobody.json()["personen"], nobody.headers["stelsel-data-subjects"]) == ([], "")


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_no_field_gives_more_than_itself(client: AppClient, person: Person, field: str):
    response = client.post("/personen", json=_by_number(person.burgerservicenummer, fields=[field]))
    service = Service(name="personen", endpoint="http://127.0.0.1:1", personal=True, records="personen")
    assert guard.oversupplied(service, response.content, (field,)) == ()


def test_searching_by_address_finds_the_household(client: AppClient, register: Register, person: Person):
    response = client.post(
        "/personen",
        json={
            "type": "ZoekMetPostcodeEnHuisnummer",
            "postcode": f"{person.postcode[:4]} {person.postcode[4:].lower()}",
            "huisnummer": person.house_number,
            "fields": ["burgerservicenummer"],
        },
    )
    found = {found["burgerservicenummer"] for found in response.json()["personen"]}
    assert person.burgerservicenummer in found
    assert found == {p.burgerservicenummer for p in register.by_address(person.postcode, person.house_number, 99)}
    assert set(response.headers["stelsel-data-subjects"].split(",")) == found


def test_searching_by_name_and_birth_ignores_capitals(client: AppClient, person: Person):
    question = {
        "type": "ZoekMetGeslachtsnaamEnGeboortedatum",
        "geslachtsnaam": person.family_name.upper(),
        "geboortedatum": person.birth_date,
        "fields": ["burgerservicenummer"],
    }
    response = client.post("/v1/personen", json=question)
    assert response.json()["personen"] == [{"burgerservicenummer": person.burgerservicenummer}]
    narrowed = client.post("/personen", json=question | {"voornamen": "Iemand Anders"})
    assert narrowed.json()["personen"] == []


@pytest.mark.parametrize(
    ("change", "code", "name"),
    [
        ({"fields": None}, "paramsRequired", "fields"),
        ({"fields": []}, "paramsValidation", "fields"),
        ({"fields": "naam"}, "paramsValidation", "fields"),
        ({"fields": ["naam", "schoenmaat"]}, "paramsValidation", "fields[1]"),
        ({"fields": [1]}, "paramsValidation", "fields[0]"),
        ({"fields": ["naam"] * 131}, "paramsValidation", "fields"),
        ({"type": None}, "paramsRequired", "type"),
        ({"type": "Alles"}, "paramsValidation", "type"),
        ({"type": ["x"]}, "paramsValidation", "type"),
        ({"burgerservicenummer": None}, "paramsRequired", "burgerservicenummer"),
        ({"burgerservicenummer": "999993653"}, "paramsValidation", "burgerservicenummer"),
        ({"burgerservicenummer": ["999993653"] * 21}, "paramsValidation", "burgerservicenummer"),
        ({"burgerservicenummer": ["999993653", "999993654"]}, "paramsValidation", "burgerservicenummer[1]"),
        ({"burgerservicenummer": [999993653]}, "paramsValidation", "burgerservicenummer[0]"),
        ({"extra": 1}, "unknownParam", "extra"),
    ],
)
def test_a_wrong_question_is_refused_naming_what_is_wrong(client: AppClient, change: Any, code: str, name: str):
    body = {key: value for key, value in (_by_number("999993653") | change).items() if value is not None}
    response = client.post("/personen", json=body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["invalidParams"][0]["name"]) == (code, name)
    assert "99999365" not in response.text, "a number is never repeated"
    assert "stelsel-data-subjects" not in response.headers


@pytest.mark.parametrize(
    "change",
    [
        {"postcode": "0123AB"},
        {"postcode": 1234},
        {"huisnummer": 0},
        {"huisnummer": True},
        {"huisnummer": "1e3"},
        {"huisletter": "AB"},
        {"inclusiefOverledenPersonen": "ja"},
    ],
)
def test_a_wrong_address_is_refused(client: AppClient, change: dict[str, Any]):
    good = {"type": "ZoekMetPostcodeEnHuisnummer", "postcode": "1234AB", "huisnummer": 1, "fields": ["naam"]}
    assert client.post("/personen", json=good).status_code == 200
    assert client.post("/personen", json=good | change).status_code == 400


@pytest.mark.parametrize(
    "change",
    [
        {"geboortedatum": "1990-02-30"},
        {"geboortedatum": "19900201"},
        {"geslachtsnaam": " "},
        {"geslachtsnaam": "x" * 201},
        {"geslacht": "Q"},
    ],
)
def test_a_wrong_name_or_day_is_refused(client: AppClient, change: dict[str, Any]):
    good = {
        "type": "ZoekMetGeslachtsnaamEnGeboortedatum",
        "geslachtsnaam": "Niemand",
        "geboortedatum": "1990-02-01",
        "fields": ["naam"],
    }
    assert client.post("/personen", json=good).status_code == 200
    assert client.post("/personen", json=good | change).status_code == 400


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"a":1,"a":2}', b"\xff", b"nul", b'{"type":"\\ud800"}', b"[" * 9999]
)
def test_malformed_json_is_refused(client: AppClient, body: bytes):
    response = client.post("/personen", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


def test_other_content_methods_paths_and_sizes_are_refused(client: AppClient):
    assert client.post("/personen", content=b"{}", headers={"content-type": "text/plain"}).status_code == 400
    assert client.post("/personen", json={"type": "x" * 40_000}).status_code == 413
    for response, status in ((client.get("/personen"), 405), (client.get("/elders"), 404)):
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["api-version"] == "1.0.0"


def test_markup_in_a_field_name_comes_back_inert(client: AppClient):
    response = client.post("/personen", json=_by_number("999993653", fields=["naam\u202e\n<b>"]))
    assert "\u202e" not in response.text
    assert "\\n<" not in response.text


def test_more_results_than_allowed_is_refused_and_the_deceased_are_left_out(tmp_path: Path):
    path = tmp_path / "people.sqlite"
    build(path, count=400)
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("UPDATE persons SET postcode = '1234AB', house_number = 1")
    connection.execute("UPDATE persons SET death_date = '2020-01-01', suspension = 'O' WHERE rowid > 30")
    connection.commit()
    connection.close()
    register = Register(path)
    client = AppClient(make_app(register))
    question = {"type": "ZoekMetPostcodeEnHuisnummer", "postcode": "1234AB", "huisnummer": 1, "fields": ["naam"]}
    assert len(client.post("/personen", json=question).json()["personen"]) == 30
    response = client.post("/personen", json=question | {"inclusiefOverledenPersonen": True})
    assert (response.status_code, response.json()["code"]) == (400, "tooManyResults")
    client.close()
    register.close()


def test_dates_say_what_is_known():
    assert date_object("1965-01-02") == {"type": "Datum", "datum": "1965-01-02", "langFormaat": "2 januari 1965"}
    assert date_object("1965-05-00")["langFormaat"] == "mei 1965"
    assert date_object("1965-00-00") == {"type": "JaarDatum", "jaar": 1965, "langFormaat": "1965"}
    assert date_object("0000-00-00")["type"] == "DatumOnbekend"
    assert date_object("") == {}


def test_an_age_is_given_only_when_it_is_certain(person: Person):
    def at(birth: str, **change: str) -> int | None:
        return age(person._replace(birth_date=birth, **change), _TODAY)

    assert (at("2000-11-23"), at("2000-11-24"), at("2026-11-23")) == (26, 25, 0)
    assert (at("2000-10-00"), at("2000-12-00")) == (26, 25)
    assert at("2000-11-00") is None
    assert at("2000-00-00") is None
    assert at("2000-01-01", death_date="2020-01-01") is None


def test_who_lives_abroad_or_nowhere_known_has_no_dutch_address(person: Person):
    abroad = person._replace(
        street="", house_number=0, postcode="", foreign_country="5010", foreign_address="Rue 1\nNamur"
    )
    fields = ["adressering", "verblijfplaats.type", "verblijfplaats.verblijfadres"]
    assert answer(abroad, fields, _TODAY) == {
        "adressering": {"adresregel1": "Rue 1", "adresregel2": "Namur"},
        "verblijfplaats": {
            "type": "VerblijfplaatsBuitenland",
            "verblijfadres": {
                "woonplaats": "Amsterdam",
                "regel1": "Rue 1",
                "regel2": "Namur",
                "land": {"code": "5010"},
            },
        },
    }
    unknown = person._replace(street="", house_number=0, postcode="", place="")
    assert answer(unknown, fields, _TODAY) == {"verblijfplaats": {"type": "VerblijfplaatsOnbekend"}}


def test_the_inway_reads_our_questions_as_we_mean_them(person: Person):
    service = Service(name="personen", endpoint="http://127.0.0.1:1", personal=True, records="personen")
    body = json.dumps(_by_number(person.burgerservicenummer)).encode()
    request = read_request(service, "POST", "/personen", "application/json", body)
    assert request.fields == ("naam.volledigeNaam",)
    assert request.search_parameters == ("burgerservicenummer",)
    assert request.subjects == (person.burgerservicenummer,)


def test_the_openapi_document_says_what_the_api_does(client: AppClient):
    response = client.get("/openapi.json")
    assert response.json() == client.get("/v1/openapi.json").json() == document()
    assert response.headers["api-version"] == document()["info"]["version"]
    assert response.headers["access-control-allow-origin"] == "*"
    assert document()["openapi"] == "3.0.3"
    text = json.dumps(document())
    for name in document()["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text


@pytest.mark.external
def test_the_fields_are_those_of_haal_centraal(external_data: Path):
    known = set((external_data / "brp" / "fields-Persoon.csv").read_text(encoding="utf-8-sig").split())
    ours = {
        field
        for field in FIELDS
        if field.split(".")[0] not in {"geheimhoudingPersoonsgegevens", "opschortingBijhouding"}
    }
    assert ours - known == set()


def test_building_again_gives_the_same_register_and_leaves_no_partial_file(tmp_path: Path):
    first, second = tmp_path / "one.sqlite", tmp_path / "two.sqlite"
    seen: list[tuple[int, int]] = []
    build(first, count=2500, seed=9, progress=lambda done, total: seen.append((done, total)))
    build(second, count=2500, seed=9)
    assert first.read_bytes() == second.read_bytes()
    assert seen[-1] == (2500, 2500)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.sqlite", "two.sqlite"]


def test_a_build_that_breaks_off_leaves_the_earlier_register(tmp_path: Path):
    path = tmp_path / "people.sqlite"
    build(path, count=10)
    before = path.read_bytes()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(path, count=100, progress=stop)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_no_register_is_a_configuration_fault(tmp_path: Path):
    with pytest.raises(ConfigurationFault, match="no register here"):
        Register(tmp_path / "absent.sqlite")
    (tmp_path / "other.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(ConfigurationFault, match="not a register"):
        Register(tmp_path / "other.sqlite")


def test_notable_people_are_adults_of_the_municipality_and_always_the_same(tmp_path: Path):
    path = tmp_path / "people.sqlite"
    build(path, count=5000)
    people = notable_people(path, 5)
    assert people == notable_people(path, 5)
    assert len({resident.burgerservicenummer for resident in people}) == 5
    register = Register(path)
    for found in register.by_numbers(tuple(resident.burgerservicenummer for resident in people)):
        assert found.municipality_code == "0363"
        assert found.birth_date <= "2008-01-01"
    register.close()
