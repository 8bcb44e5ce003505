"""The API: filters, pages, facets, CSV; and what a hostile caller gets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from opendata_samples import Client, document, people

from stelsel.base.web import application
from stelsel.opendata.api import routes
from stelsel.opendata.schema import Schema, with_codes
from stelsel.opendata.service import OpenData
from stelsel.opendata.text_csv import csv_lines


@pytest.fixture
def client(new_service: Callable[..., OpenData]) -> Client:
    service = new_service()
    service.publish(Schema.model_validate(document()), people())
    return Client(application(routes(service)))


def test_filtered_rows_come_as_json(client: Client) -> None:
    answer = client.get("/data/inwoners.json?gemeente=GM0001&leeftijd=0-14")
    assert answer.status_code == 200
    assert answer.headers["API-Version"] == "1.0.0"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    (row,) = answer.json()["data"]
    assert row["gemeente"] == "GM0001"
    assert row["status"] == "published"
    assert row["aantal"] > 10


def test_an_underscore_before_a_control_is_understood(client: Client) -> None:
    plain = client.get("/data/inwoners.json?sort=-aantal&limit=5").json()
    assert client.get("/data/inwoners.json?_sort=-aantal&_limit=5").json()["data"] == plain["data"]
    assert client.get("/data/inwoners.json?limit=5&_limit=5").status_code == 400


def test_comparisons_leave_out_what_is_suppressed(client: Client) -> None:
    data = client.get("/data/inwoners.json?aantal[gte]=0&limit=1000").json()["data"]
    assert data
    assert all(row["status"] == "published" for row in data)
    assert client.get("/data/inwoners.json?aantal[lt]=10").json()["data"] == []


@pytest.mark.parametrize("sort", ["", "aantal", "-aantal", "leeftijd", "-gemeente", "status"])
def test_pages_follow_one_another_without_gap_or_overlap(client: Client, sort: str) -> None:
    wanted = client.get(f"/data/inwoners.json?limit=1000&sort={sort}").json()["data"]
    found: list[Any] = []
    address = f"/data/inwoners.json?limit=7&sort={sort}"
    while address:
        page = client.get(address).json()
        found += page["data"]
        address = page["_links"].get("next", {}).get("href", "").removeprefix("https://register.example")
    assert found == wanted
    assert len(found) == 78
    if sort == "-aantal":
        counts = [row["aantal"] for row in found if row["aantal"] is not None]
        assert counts == sorted(counts, reverse=True)
        assert found[-1]["status"] == "suppressed"


def test_facets_count_rows_of_the_safe_table_only(client: Client) -> None:
    facets = client.get("/data/inwoners.json?facet=status&facet=gemeente&leeftijd=0-14").json()["facets"]
    assert {one["rows"] for one in facets["gemeente"]} == {1}, (
        "one row of the table each, however many people live there"
    )
    assert sum(one["rows"] for one in facets["status"]) == 13
    counts = client.get("/data/inwoners.json?facet=aantal").json()["facets"]["aantal"]
    assert all(one["value"] is None or one["value"] >= 10 for one in counts)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("inkomen=3", "the columns are gemeente, leeftijd, aantal, status"),
        ("nr=3", "the columns are"),
        ("aantal[like]=3", "aantal[gte]"),
        ("aantal[]=3", "aantal[gte]"),
        ("aantal=drie", "whole number"),
        ("aantal=-1", "whole number"),
        ("limit=0", "from 1 to 1000"),
        ("limit=1001", "from 1 to 1000"),
        ("limit=5&limit=6", "twice"),
        ("sort=inkomen", "the columns are"),
        ("facet=inkomen", "the columns are"),
        ("next=!!!", "base64url"),
        ("next=WzFd", "not one that was given out"),
        ("_select=aantal", "there is no column"),
        ("gemeente=" + "x" * 201, "longer than"),
        ("&".join(["gemeente=x"] * 21), "at most"),
    ],
)
def test_a_question_that_cannot_be_answered_is_a_problem_that_names_what_exists(
    client: Client, question: str, message: str
) -> None:
    for extension in ("json", "csv"):
        answer = client.get(f"/data/inwoners.{extension}?{question}")
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert message in json.dumps(answer.json())


_INJECTIONS = [
    "' OR 1=1 --",
    '"; DROP TABLE release; --',
    "x') UNION SELECT * FROM duckdb_settings() --",
    "\\'; ATTACH 'x'",
]


@pytest.mark.parametrize("text", _INJECTIONS)
@pytest.mark.parametrize("place", ["{}=x", "gemeente={}", "gemeente[{}]=x", "aantal={}", "sort={}", "facet={}"])
def test_sql_in_any_parameter_is_a_value_or_a_refusal(client: Client, place: str, text: str) -> None:
    from urllib.parse import quote

    answer = client.get("/data/inwoners.json?" + place.format(quote(text, safe="")))
    if place == "gemeente={}":
        assert answer.json()["data"] == []
    else:
        assert answer.status_code == 400
    assert len(client.get("/data/inwoners.json").json()["data"]) == 78


@pytest.mark.parametrize("text", _INJECTIONS)
def test_sql_in_a_page_mark_is_a_value_or_a_refusal(client: Client, text: str) -> None:
    from stelsel.base.canonical import b64url, canonical

    for mark in (
        ["2026-11-01.1", "gemeente", False, text, 0],
        ["2026-11-01.1", text, False, "x", 0],
        ["2026-11-01.1", "gemeente", False, "x", text],
        [text, "gemeente", False, "x", 0],
        ["2026-11-01.1", "gemeente", False, {"a": text}, 0],
    ):
        answer = client.get(f"/data/inwoners.json?sort=gemeente&next={b64url(canonical(mark))}")
        assert answer.status_code in {200, 400, 409}
    assert len(client.get("/data/inwoners.json").json()["data"]) == 78


def test_the_database_has_no_way_out(new_service: Callable[..., OpenData]) -> None:
    import duckdb

    service = new_service()
    service.publish(Schema.model_validate(document()), people())
    cursor = service._engine("inwoners")._cursor()
    for statement in (
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY release TO '/tmp/out.csv'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET threads = 64",
    ):
        with pytest.raises(duckdb.Error):
            cursor.execute(statement)


def test_csv_holds_every_row_and_no_suppressed_count(client: Client) -> None:
    answer = client.get("/data/inwoners.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 78
    assert all((row["aantal"] == "") == (row["status"] == "suppressed") for row in rows)
    assert len(list(csv.DictReader(io.StringIO(client.get("/data/inwoners.csv?gemeente=NL").text)))) == 6


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "\r=1"])
def test_a_text_that_a_spreadsheet_would_run_is_defused(text: str) -> None:
    cells = list(csv.reader(io.StringIO("".join(csv_lines(["naam"], [[text]])), newline="")))
    assert cells[1] == ["'" + text]


def test_names_come_with_the_codes(new_service: Callable[..., OpenData]) -> None:
    names = {f"GM{number:04}": "=Plaats, \"nr\" 'é'" for number in range(1, 13)}
    service = new_service()
    service.publish(with_codes(Schema.model_validate(document()), "gemeente", names), people())
    columns, rows, _ = service.table("inwoners", {"gemeente": "GM0001", "leeftijd": "totaal"})
    assert columns[:2] == ("gemeente", "gemeente_naam")
    assert rows[0][1] == "=Plaats, \"nr\" 'é'"
    assert "'=Plaats" in "".join(service.csv("inwoners", {"gemeente": "GM0001"}))


def test_an_etag_saves_asking_again(client: Client) -> None:
    for address in ("/data/", "/data/inwoners", "/data/inwoners.json", "/data/inwoners.csv", "/data/catalog.ttl"):
        first = client.get(address)
        assert first.status_code == 200
        again = client.get(address, headers={"If-None-Match": first.headers["ETag"]})
        assert again.status_code == 304
        assert again.content == b""
    other = client.get("/data/inwoners.json?limit=1").headers["ETag"]
    assert other != client.get("/data/inwoners.json").headers["ETag"]


def test_what_a_dataset_is_names_its_closed_columns_and_their_grounds(client: Client) -> None:
    told = client.get("/data/inwoners").json()
    assert told["closed_columns"] == [
        {"name": "bsn", "ground": "5.1.1.e", "protects": "wettelijke nummers ter identificatie van personen"}
    ]
    assert told["audit"]["failed"] == 0
    listed = client.get("/data/").json()["datasets"]
    assert [one["id"] for one in listed] == ["inwoners"]


@pytest.mark.parametrize("name", ["geen", "..%2f..%2fetc%2fpasswd", "%00", "inwoners.xml", "-", "a" * 5000])
def test_an_unknown_dataset_is_a_problem_that_says_where_to_look(client: Client, name: str) -> None:
    answer = client.get(f"/data/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_parquet_is_the_release(client: Client) -> None:
    import hashlib

    answer = client.get("/data/inwoners.parquet")
    assert hashlib.sha256(answer.content).hexdigest() == client.get("/data/inwoners").json()["sha256"]


def test_the_catalogue_of_nothing_is_not_there_yet(new_service: Callable[..., OpenData]) -> None:
    client = Client(application(routes(new_service())))
    assert client.get("/data/").json()["datasets"] == []
    assert client.get("/data/catalog.ttl").status_code == 404


def test_every_address_that_the_document_tells_of_answers(client: Client) -> None:
    told = client.get("/data/openapi.json").json()
    assert told["servers"] == [{"url": "https://register.example/data"}]
    for path in told["paths"]:
        assert client.get("/data" + path.replace("{dataset}", "inwoners")).status_code == 200


def test_the_document_keeps_the_api_design_rules_that_can_be_seen_in_it(client: Client) -> None:
    import re

    told = client.get("/data/openapi.json").json()
    assert set(told["info"]["contact"]) == {"name", "email", "url"}
    for path, operations in told["paths"].items():
        assert path == "/" or not path.endswith("/")
        get = operations["get"]
        assert all(
            re.fullmatch("[a-z]+([A-Z][a-z]+)*", one["name"]) for one in get["parameters"] if one["in"] == "query"
        )
        for status, answer in get["responses"].items():
            assert "API-Version" in answer["headers"]
            assert status == "200" or list(answer["content"]) == ["application/problem+json"]
