"""Releases: written whole or not at all, never changed, safe rows only."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from opendata_samples import COLUMNS, NOW, document, people

from stelsel.base.clock import SetClock
from stelsel.base.errors import Conflict, NotFound, Unavailable, Unprocessable
from stelsel.opendata import release as releases_module
from stelsel.opendata.schema import Schema
from stelsel.opendata.service import OpenData
from stelsel.opendata.sources import SqliteSource

Make = Callable[..., OpenData]
_MONTH = 31 * 86400


def test_a_release_holds_the_safe_cells_and_how_they_came_about(new_service: Make, schema: Schema) -> None:
    service = new_service()
    release = service.publish(schema, people())
    assert release.name == "2026-11-01.1"
    columns, rows, following = service.table("inwoners", {"_limit": "1000"})
    assert columns == ("gemeente", "leeftijd", "aantal", "status")
    assert rows[0] == ("NL", "totaal", 3000, "published")
    assert following is None
    assert len(rows) == release.rows == 13 * 6
    hidden = [row for row in rows if row[3] == "suppressed"]
    assert hidden
    assert all(row[2] is None for row in hidden)
    assert all(row[2] >= 10 for row in rows if row[3] == "published")
    document = json.loads((release.folder / "release.json").read_text())
    assert document["audit"]["failed"] == 0
    assert document["audit"]["checked"] == len(hidden) == document["rows"]["suppressed"]
    assert document["audit"]["narrowest_proven_width"] >= 10


def test_nothing_suppressed_is_anywhere_in_the_folder(new_service: Make, schema: Schema) -> None:
    import duckdb

    service = new_service()
    release = service.publish(schema, people())
    assert sorted(entry.name for entry in release.folder.iterdir()) == ["data.parquet", "release.json"]
    with duckdb.connect(":memory:") as connection:
        counts = connection.execute("SELECT min(aantal) FROM read_parquet(?)", [str(release.parquet)]).fetchone()
    assert counts is not None
    assert counts[0] >= 10


def test_the_next_release_is_served_and_the_one_before_stays(new_service: Make, schema: Schema) -> None:
    clock = SetClock(NOW)
    service = new_service(clock=clock)
    first = service.publish(schema, people())
    assert service.table("inwoners")[1][0][2] == 3000
    clock.forward(_MONTH)
    second = service.publish(schema, people(3100))
    assert second.name == "2026-12-01.1"
    assert service.table("inwoners")[1][0][2] == 3100
    assert first.parquet.is_file()


def test_the_same_release_again_is_audited_with_the_first(new_service: Make, schema: Schema) -> None:
    service = new_service()
    service.publish(schema, people())
    again = service.publish(schema, people())
    assert again.name == "2026-11-01.2"
    assert again.document["audit"]["joint_with"] == ["2026-11-01.1"]


def test_a_correction_within_the_month_is_refused_and_the_first_stays_served(new_service: Make, schema: Schema) -> None:
    service = new_service()
    service.publish(schema, people())
    with pytest.raises(Conflict, match="changed"):
        service.publish(schema, people(3001))
    assert service.table("inwoners")[1][0][2] == 3000


def test_another_table_about_the_same_people_is_refused(new_service: Make, schema: Schema) -> None:
    service = new_service()
    service.publish(schema, people())
    with pytest.raises(Conflict, match="about the same people"):
        service.publish(Schema.model_validate(document(id="nog-een")), people())
    assert service.publish(Schema.model_validate(document(id="nog-een", population="anderen")), people(seed=2)).rows


def test_publishing_apart_spares_this_process_and_hands_back_what_is_wrong(
    new_service: Make, schema: Schema, tmp_path: Path
) -> None:
    path = tmp_path / "people.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE persons (bsn, gemeente_code, geboren)")
        connection.executemany("INSERT INTO persons VALUES (?, ?, ?)", people().rows(COLUMNS))
        connection.commit()
    service = new_service()
    assert service.publish_apart(schema, SqliteSource(path, "SELECT * FROM persons")).name == "2026-11-01.1"
    assert service.dataset("inwoners").name == "2026-11-01.1"
    with pytest.raises(Unprocessable, match="does not classify: extra") as caught:
        service.publish_apart(schema, SqliteSource(path, "SELECT *, 1 AS extra FROM persons"))
    assert "classify each" in caught.value.next_step


def test_a_lower_minimum_than_the_node_allows_is_refused(new_service: Make, schema: Schema) -> None:
    with pytest.raises(Unprocessable, match="minimum frequency of 10"):
        new_service(minimum_frequency=20).publish(schema, people())


@pytest.mark.parametrize("step", ["_write_parquet", "_write_durably", "_flush"])
def test_a_fault_at_any_step_leaves_the_release_before(
    new_service: Make, schema: Schema, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    clock = SetClock(NOW)
    service = new_service(clock=clock)
    service.publish(schema, people())
    clock.forward(_MONTH)

    def broken(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(releases_module, step, broken)
        with pytest.raises(OSError, match="disk full"):
            service.publish(schema, people(3100))
    assert service.dataset("inwoners").name == "2026-11-01.1"
    assert service.table("inwoners")[1][0][2] == 3000
    assert service.publish(schema, people(3100)).name == "2026-12-01.1"


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from opendata_samples import COLUMNS, NOW, document, people
from stelsel.base.clock import SetClock
from stelsel.opendata import release
from stelsel.opendata.schema import Schema
from stelsel.opendata.service import OpenData
from stelsel.opendata.sources import SqliteSource
from stelsel.opendata.settings import Publisher
release._write_durably = lambda path, data: os.kill(os.getpid(), signal.SIGKILL)
clock = SetClock(NOW + 31 * 86400)
service = OpenData(Path(sys.argv[1]), Publisher.model_validate({}), "http://localhost", clock=clock)
service.publish(Schema.model_validate(document()), people(3100))
"""


def test_a_kill_in_the_middle_of_publishing_leaves_the_release_before(new_service: Make, schema: Schema) -> None:
    service = new_service()
    service.publish(schema, people())
    here = str(Path(__file__).parent)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(service.folder), here], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert list((service.folder / "inwoners").glob(".partial-*"))
    assert service.datasets()[0].name == "2026-11-01.1"
    later = new_service(clock=SetClock(NOW + _MONTH))
    assert later.publish(schema, people(3100)).name == "2026-12-01.1"
    assert not list((service.folder / "inwoners").glob(".partial-*"))


def test_an_altered_release_is_not_served(new_service: Make, schema: Schema) -> None:
    service = new_service()
    release = service.publish(schema, people())
    data = bytearray(release.parquet.read_bytes())
    data[100] ^= 1
    release.parquet.write_bytes(data)
    with pytest.raises(Unavailable, match="not what was audited"):
        service.table("inwoners")


@pytest.mark.parametrize("name", ["..", "../inwoners", "inwoners/../inwoners", "", "INWONERS", "a\0b", "current", "é"])
def test_a_hostile_dataset_name_finds_nothing(new_service: Make, schema: Schema, name: str) -> None:
    service = new_service()
    service.publish(schema, people())
    with pytest.raises(NotFound):
        service.table(name)


def test_two_at_once_do_not_publish_the_same_dataset(new_service: Make, schema: Schema) -> None:
    service = new_service()
    with service._releases.publishing("inwoners"), pytest.raises(Conflict, match="being published"):
        service.publish(schema, people())
