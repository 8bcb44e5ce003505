"""Releases on disk: `<folder>/<dataset>/<release>/` with `data.parquet` and `release.json`, and a link `current`.

A release is made beside its final place, flushed, and moved there in one step; `current` is swapped in one step. A
process killed at any moment leaves the previous release served and at most a folder `.partial-*`, which the next
publication clears. A release is never changed.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from stelsel.base.canonical import canonical, parse_object
from stelsel.base.errors import Conflict, NotFound, Unavailable
from stelsel.opendata.pipeline import Earlier
from stelsel.opendata.schema import COUNT, STATUS, Dimension, Schema

PUBLISHED, SUPPRESSED = "published", "suppressed"
_DATASET = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RELEASE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.[0-9]{1,4}")
_PARTIAL = ".partial-"


@dataclass(frozen=True)
class Release:
    """A release as its `release.json` tells it."""

    dataset: str
    name: str
    reference: date
    created: str
    sha256: str
    size: int
    rows: int
    suppressed: int
    schema: Schema
    document: dict[str, Any]
    """All of `release.json`: method, parameters, audit, code trees too."""
    folder: Path

    @property
    def parquet(self) -> Path:
        return self.folder / "data.parquet"

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        return self.schema.dimensions


def column_names(schema: Schema) -> tuple[str, ...]:
    """The columns of the published table, in order."""
    names: list[str] = []
    for dimension in schema.dimensions:
        names.append(dimension.name)
        if dimension.labels:
            names.append(f"{dimension.name}_naam")
    return (*names, COUNT, STATUS)


class Releases:
    """The releases in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def datasets(self) -> list[str]:
        """Names of the datasets that have a current release."""
        if not self._folder.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self._folder.iterdir()
            if _DATASET.fullmatch(entry.name) and (entry / "current" / "release.json").is_file()
        )

    def current(self, dataset: str) -> Release:
        """The release that is served. Raises `NotFound`."""
        if _DATASET.fullmatch(dataset):
            with suppress(OSError):
                return _read((self._folder / dataset / "current").resolve(strict=True))
        raise NotFound("there is no dataset by that name", next_step="see the list at /data/")

    def all(self, dataset: str) -> list[Release]:
        """Every release of a dataset, oldest reference first. Raises `Unavailable` when one cannot be read."""
        place = self._folder / dataset
        if not _DATASET.fullmatch(dataset) or not place.is_dir():
            return []
        names = [entry.name for entry in place.iterdir() if _RELEASE.fullmatch(entry.name)]
        return [_read(place / name) for name in sorted(names, key=_by_number)]

    @contextmanager
    def publishing(self, dataset: str) -> Iterator[None]:
        """Only one process at a time publishes a dataset. Raises `Conflict`."""
        place = self._folder / dataset
        place.mkdir(parents=True, exist_ok=True)
        with (place / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("this dataset is being published at the moment", next_step="try again later") from None
            for left in place.glob(f"{_PARTIAL}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield

    def write(
        self, schema: Schema, reference: date, rows: Iterable[tuple[tuple[str, ...], int | None]], facts: dict[str, Any]
    ) -> Release:
        """Write a release and make it current. Call it within `publishing`; `facts` go into `release.json`."""
        place = self._folder / schema.id
        taken = [
            int(release.name.rpartition(".")[2]) for release in self.all(schema.id) if release.reference == reference
        ]
        name = f"{reference.isoformat()}.{max(taken, default=0) + 1}"
        partial = place / f"{_PARTIAL}{name}"
        partial.mkdir()
        number, suppressed = _write_parquet(partial / "data.parquet", schema, rows)
        document = {
            "dataset": schema.id,
            "release": name,
            "reference": reference.isoformat(),
            "rows": {"total": number, "published": number - suppressed, "suppressed": suppressed},
            "sha256": _digest(partial / "data.parquet"),
            "bytes": (partial / "data.parquet").stat().st_size,
            "schema": schema.model_dump(mode="json"),
            **facts,
        }
        _write_durably(partial / "release.json", canonical(document))
        _flush(partial)
        partial.rename(place / name)
        _flush(place)
        link = place / f"{_PARTIAL}current"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        link.replace(place / "current")
        _flush(place)
        return _read(place / name)


def earlier(release: Release) -> Earlier:
    """What readers of a release know, for the joint audit of the next one."""
    import duckdb

    check(release)
    with duckdb.connect(":memory:") as connection:
        found = connection.execute(
            f"SELECT {COUNT} FROM read_parquet(?) ORDER BY nr",  # noqa: S608  a name of ours
            [str(release.parquet)],
        ).fetchall()
    return Earlier(
        release=release.name,
        reference=release.reference,
        fingerprint=str(release.document["fingerprint"]),
        minimum_frequency=int(release.document["method"]["minimum_frequency"]),
        values=tuple(row[0] for row in found),
    )


def check(release: Release) -> None:
    """Refuse a release whose data is not what was audited. Raises `Unavailable`."""
    try:
        digest = _digest(release.parquet)
    except OSError:
        digest = ""
    if digest != release.sha256:
        raise Unavailable(
            f"the data of release {release.name} of {release.dataset} is not what was audited",
            next_step="the publisher puts the folder of the release back from a copy, or publishes again",
        )


def _read(folder: Path) -> Release:
    try:
        document = parse_object((folder / "release.json").read_bytes())
        return Release(
            dataset=str(document["dataset"]),
            name=str(document["release"]),
            reference=date.fromisoformat(document["reference"]),
            created=str(document["created"]),
            sha256=str(document["sha256"]),
            size=int(document["bytes"]),
            rows=int(document["rows"]["total"]),
            suppressed=int(document["rows"]["suppressed"]),
            schema=Schema.model_validate(document["schema"]),
            document=document,
            folder=folder,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise Unavailable(f"release.json of {folder.name} cannot be read") from error


def _write_parquet(path: Path, schema: Schema, rows: Iterable[tuple[tuple[str, ...], int | None]]) -> tuple[int, int]:
    """(rows, suppressed rows) written. A suppressed cell has no count in the file: there is nothing to find."""
    import duckdb

    names = column_names(schema)
    types = {"nr": "INTEGER"} | dict.fromkeys(names, "VARCHAR") | {COUNT: "BIGINT"}
    staged = path.with_suffix(".csv")
    number = suppressed = 0
    with staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for codes, value in rows:
            fields: list[str | int] = [number]
            for dimension, code in zip(schema.dimensions, codes, strict=True):
                fields += [code, dimension.labels.get(code, code)] if dimension.labels else [code]
            writer.writerow([*fields, "" if value is None else value, SUPPRESSED if value is None else PUBLISHED])
            number += 1
            suppressed += value is None
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        source = connection.read_csv(str(staged), header=False, columns=types, delimiter=",", quotechar='"')
        source.order("nr").write_parquet(str(path), compression="zstd")
    staged.unlink()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return number, suppressed


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_number(name: str) -> tuple[str, int]:
    day, _, number = name.partition(".")
    return day, int(number)
