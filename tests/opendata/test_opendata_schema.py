"""A dataset is declared in full, or nothing is counted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from opendata_samples import COLUMNS, REFERENCE, document
from pydantic import ValidationError

from stelsel.base.errors import ConfigurationFault, Unprocessable
from stelsel.opendata.counting import count, generaliser
from stelsel.opendata.schema import Schema, band_codes, read_schema, with_codes
from stelsel.opendata.service import RESIDENTS
from stelsel.opendata.sources import RowsSource, SqliteSource


def test_a_source_with_an_unclassified_column_is_refused(schema: Schema) -> None:
    source = RowsSource((*COLUMNS, "religie"), [("1", "GM0001", "1980-01-01", "x")])
    with pytest.raises(Unprocessable, match="religie"):
        count(schema, source, REFERENCE)


def test_a_source_without_a_counted_column_is_refused(schema: Schema) -> None:
    with pytest.raises(Unprocessable, match="lacks the columns geboren"):
        count(schema, RowsSource(("bsn", "gemeente_code"), []), REFERENCE)


def test_an_identifier_is_never_read(schema: Schema) -> None:
    class Careful(RowsSource):
        def rows(self, columns: tuple[str, ...]) -> Any:
            assert "bsn" not in columns
            return super().rows(columns)

    counted = count(schema, Careful(COLUMNS, [("1", "GM0001", "1980-01-01")] * 30), REFERENCE)
    assert counted.values[0] == 30


def test_rows_that_fit_no_category_are_told_by_number_and_not_by_value(schema: Schema) -> None:
    rows = [("1", "GM0001", "1980-01-01"), ("2", "GM0001\n<script>", "1980-01-01"), ("3", "NL", "1980-01-01")]
    with pytest.raises(Unprocessable, match="2 rows have a value in gemeente_code") as caught:
        count(schema, RowsSource(COLUMNS, rows), REFERENCE)
    assert "script" not in caught.value.detail


@pytest.mark.parametrize(
    ("born", "band"),
    [
        ("2011-11-02", "0-14"),
        ("2011-11-01", "15-24"),
        ("20111101", "15-24"),
        ("1961-11-02", "45-64"),
        ("1961-11-01", "65+"),
        ("1968-00-00", "45-64"),
        ("1961-00-00", "onbekend"),
        ("1961-11-00", "onbekend"),
        ("0000-00-00", "onbekend"),
        ("", "onbekend"),
        ("2026-00-00", "0-14"),
    ],
)
def test_a_birth_date_becomes_a_band_or_unknown(schema: Schema, born: str, band: str) -> None:
    assert generaliser(schema.dimensions[1], date(2026, 11, 1))(born) == band


@pytest.mark.parametrize("born", ["1980-02-30", "morgen", "2027-01-01", "1980-13-01", "=1+1"])
def test_a_birth_date_that_cannot_be_is_refused(schema: Schema, born: str) -> None:
    assert generaliser(schema.dimensions[1], date(2026, 11, 1))(born).startswith("\0")


def _without_ground() -> dict[str, Any]:
    columns = document()["columns"]
    return document(columns=[columns[0] | {"ground": ""}, *columns[1:]])


def _with_measure() -> dict[str, Any]:
    return document(columns=[*document()["columns"], {"name": "inkomen", "kind": "measure"}])


def _with_bands(bands: tuple[int, ...]) -> dict[str, Any]:
    first, second = document()["dimensions"]
    return document(dimensions=[first, second | {"bands": bands}])


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (_without_ground(), "needs the ground of the Woo"),
        (_with_measure(), "dominance"),
        (_with_bands((5, 10)), "begin at 0"),
        (_with_bands((0, 20, 10)), "rise"),
        (document(theme="SPAM"), "theme must be one of"),
        (document(id="../../etc"), "string"),
        (document(id="catalog"), "addresses"),
        (document(id="a b"), "string"),
        (document(access_rights="NON_PUBLIC"), "PUBLIC"),
        (document(licence="ALL_RIGHTS_RESERVED"), "CC0"),
        (document(sql="SELECT 1"), "Extra inputs"),
        (document(protection={"minimum_frequency": 1}), "greater than"),
        (document(dimensions=document()["dimensions"][:1]), "exactly one dimension"),
    ],
)
def test_a_declaration_that_is_not_sound_is_refused(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Schema.model_validate(declared)


def test_the_dataset_that_comes_along_is_sound_and_a_typing_error_is_told(tmp_path: Path) -> None:
    schema = read_schema(RESIDENTS)
    assert schema.id == "inwoners-per-gemeente-en-leeftijd"
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(RESIDENTS.read_text().replace("licence =", "license ="))
    with pytest.raises(ConfigurationFault, match="unknown key license"):
        read_schema(wrong)


def test_codes_and_names_can_come_from_a_list(schema: Schema) -> None:
    filled = with_codes(schema, "gemeente", {"GM0001": "Eenstad", "GM0002": "Tweedorp", "GM0003": ""})
    assert filled.dimensions[0].codes == ("GM0001", "GM0002", "GM0003")
    assert "GM0003" not in filled.dimensions[0].labels
    with pytest.raises(ConfigurationFault, match="gemeente"):
        with_codes(schema, "gemeente", {"'; DROP": "x"})


def test_bands_have_codes() -> None:
    assert band_codes((0, 1, 65)) == ("0", "1-64", "65+")


def test_a_query_on_a_file_is_streamed_and_a_wrong_one_is_told(tmp_path: Path, schema: Schema) -> None:
    import sqlite3
    from contextlib import closing

    path = tmp_path / "people.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE persons (bsn, gemeente_code, geboren)")
        connection.executemany("INSERT INTO persons VALUES (?, ?, ?)", [("1", "GM0001", "1980-01-01")] * 25)
        connection.commit()
    assert count(schema, SqliteSource(path, "SELECT * FROM persons"), REFERENCE).values[0] == 25
    with pytest.raises(ConfigurationFault, match="query of the source fails"):
        count(schema, SqliteSource(path, "SELECT * FROM nothing"), REFERENCE)
    with pytest.raises(ConfigurationFault):
        count(schema, SqliteSource(tmp_path / "absent.sqlite", "SELECT 1"), REFERENCE)


def test_a_source_cannot_be_written(tmp_path: Path, new_service: Callable[..., Any]) -> None:
    import sqlite3
    from contextlib import closing

    path = tmp_path / "people.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE persons (bsn)")
        connection.commit()
    with closing(SqliteSource(path, "SELECT * FROM persons")._open()) as connection, pytest.raises(sqlite3.Error):
        connection.execute("DROP TABLE persons")
