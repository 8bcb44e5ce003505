"""A dataset declared as data: what it is, what every column of its source is, and which table is published.

A column that the declaration does not classify stops the publication. A closed column cites the ground in the
Open Government Act (Wet open overheid, article 5.1) on which it stays closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from stelsel.base.errors import ConfigurationFault, Unprocessable
from stelsel.base.settings import Settings, read_toml
from stelsel.base.text import inert

COUNT = "aantal"
STATUS = "status"
RESERVED_COLUMNS = frozenset({COUNT, STATUS, "nr", "sort", "limit", "next", "facet"})
RESERVED_NAMES = frozenset({"catalog", "openapi", "current"})

WOO_GROUNDS = {
    "5.1.1.a": "de eenheid van de Kroon",
    "5.1.1.b": "de veiligheid van de Staat",
    "5.1.1.c": "vertrouwelijk verstrekte bedrijfs- en fabricagegegevens",
    "5.1.1.d": "bijzondere en strafrechtelijke persoonsgegevens",
    "5.1.1.e": "wettelijke nummers ter identificatie van personen",
    "5.1.2.a": "de betrekkingen van Nederland met andere landen",
    "5.1.2.b": "economische of financiële belangen van de overheid",
    "5.1.2.c": "opsporing en vervolging van strafbare feiten",
    "5.1.2.d": "inspectie, controle en toezicht",
    "5.1.2.e": "de eerbiediging van de persoonlijke levenssfeer",
    "5.1.2.f": "concurrentiegevoelige bedrijfs- en fabricagegegevens",
    "5.1.2.g": "de bescherming van het milieu",
    "5.1.2.h": "de beveiliging van personen en bedrijven",
    "5.1.2.i": "het goed functioneren van de overheid",
    "5.1.5": "onevenredige benadeling in een uitzonderlijk geval",
}
"""Wet open overheid, article 5.1: paragraph and letter, and what it protects."""

THEMES = {
    "AGRI": "Landbouw, visserij, bosbouw en voeding",
    "ECON": "Economie en financiën",
    "EDUC": "Onderwijs, cultuur en sport",
    "ENER": "Energie",
    "ENVI": "Milieu",
    "GOVE": "Overheid en publieke sector",
    "HEAL": "Gezondheid",
    "INTR": "Internationale vraagstukken",
    "JUST": "Justitie, rechtsstelsel en openbare veiligheid",
    "REGI": "Regio's en steden",
    "SOCI": "Bevolking en samenleving",
    "TECH": "Wetenschap en technologie",
    "TRAN": "Vervoer",
}
"""The data themes of the European Union, with their Dutch labels."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=40)]
DatasetId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", min_length=3, max_length=64)]
Code = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z+_.-]{0,39}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
Prose = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class Bilingual(Settings):
    """A text in Dutch and in English."""

    nl: Prose = Field(description="the text in Dutch")
    en: Prose = Field(description="the text in English")


class Column(Settings):
    """What one column of the source is, and so what becomes of it."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=60)] = Field(
        description="name of the column in the source"
    )
    kind: Literal["identifier", "dimension", "measure", "sensitive", "drop"] = Field(
        description="identifier: tells who it is, dropped; dimension: counted by, after generalising; sensitive: "
        "closed, dropped; drop: not about people or not wanted; measure: refused, this version publishes counts only"
    )
    ground: str = Field("", description="ground in the Woo on which the column stays closed, such as 5.1.2.e")

    @model_validator(mode="after")
    def _grounded(self) -> Column:
        if self.kind == "measure":
            raise ValueError(
                f"{self.name}: sums of a measure need dominance rules that this version does not have; classify it drop"
            )
        if self.kind != "dimension" and self.ground not in WOO_GROUNDS:
            known = ", ".join(sorted(WOO_GROUNDS))
            raise ValueError(
                f"{self.name}: a closed column needs the ground of the Woo on which it is closed ({known})"
            )
        return self


class Dimension(Settings):
    """One side of the published table: a tree of codes with a total on top."""

    name: Name = Field(description="name of the column in the published table")
    column: str = Field(description="column of the source that it is made from")
    title: Bilingual = Field(description="what readers see above the column")
    kind: Literal["code", "age"] = Field(
        description="code: the source's own code; age: bands of the age at the reference date, from a birth date"
    )
    total: Code = Field(description="code of the total over this dimension")
    codes: tuple[Code, ...] = Field(
        (), max_length=20_000, description="the codes that may occur (kind code); empty: those that do occur"
    )
    pattern: str = Field(
        r"[0-9A-Za-z][0-9A-Za-z+_.-]{0,39}", max_length=200, description="what a code must look like (kind code)"
    )
    prefix: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{0,10}$")] = Field(
        "", description="put before the source's code to make the published one, such as GM (kind code)"
    )
    labels: dict[Code, Label] = Field(default_factory=dict, description="name of each code, for readers")
    groups: dict[Code, tuple[Code, ...]] = Field(
        default_factory=dict, description="subtotals: the code of each group, and the codes in it"
    )
    bands: tuple[int, ...] = Field((), max_length=120, description="the ages at which bands begin, first 0 (kind age)")
    unknown: Code = Field("onbekend", description="code for a birth date that does not tell the band (kind age)")

    @model_validator(mode="after")
    def _whole(self) -> Dimension:
        if self.name in RESERVED_COLUMNS or self.name.endswith("_naam"):
            raise ValueError(f"{self.name} is a name that the published table uses itself")
        if self.kind == "age":
            self._check_bands()
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern of {self.name} is not a regular expression: {error}") from error
        grouped = [code for members in self.groups.values() for code in members]
        leaves = set(self.codes or grouped) if self.kind == "code" else set(band_codes(self.bands))
        names = [self.total, *self.groups, *leaves]
        if len(set(names)) != len(names):
            raise ValueError(f"dimension {self.name} uses one code for two things")
        if self.groups and (len(set(grouped)) != len(grouped) or set(grouped) != leaves):
            raise ValueError(f"the groups of {self.name} must hold every code exactly once")
        return self

    def _check_bands(self) -> None:
        if not self.bands or self.bands[0] != 0 or list(self.bands) != sorted(set(self.bands)) or self.bands[-1] > 120:
            raise ValueError(f"the bands of {self.name} must begin at 0 and rise to at most 120")
        if self.codes:
            raise ValueError(f"dimension {self.name} has bands, so it has no codes")


class Protection(Settings):
    """How people in the table are protected."""

    minimum_frequency: int = Field(
        10, ge=3, le=1000, description="a cell with fewer people, zero included, is suppressed (threshold rule)"
    )
    minimum_days_between: int = Field(
        28, ge=1, le=3660, description="days between the reference dates of two releases (differencing over time)"
    )


class Schema(Settings):
    """A dataset: its description, its columns, its table."""

    id: DatasetId = Field(description="name in addresses, small letters and hyphens")
    title: Bilingual = Field(description="title of the dataset")
    description: Bilingual = Field(description="what it tells, in a few sentences")
    population: DatasetId = Field(
        description="who is counted, such as residents: datasets with the same population are about the same people"
    )
    theme: str = Field(description="data theme of the European Union, such as SOCI")
    keywords: tuple[Label, ...] = Field((), max_length=20, description="words to find it by, Dutch")
    licence: Literal["CC0", "CC_BY_4_0"] = Field("CC0", description="licence: CC0 or CC_BY_4_0")
    access_rights: Literal["PUBLIC"] = Field("PUBLIC", description="a release is public, or it is no release")
    columns: tuple[Column, ...] = Field(min_length=1, max_length=200, description="every column of the source")
    dimensions: tuple[Dimension, ...] = Field(min_length=1, max_length=3, description="the sides of the table")
    protection: Protection = Field(
        default_factory=lambda: Protection.model_validate({}), description="how people are protected"
    )

    @field_validator("id")
    @classmethod
    def _free(cls, value: str) -> str:
        if value in RESERVED_NAMES:
            raise ValueError(f"{value} is a name that the addresses under /data/ use themselves")
        return value

    @field_validator("theme")
    @classmethod
    def _theme(cls, value: str) -> str:
        if value not in THEMES:
            raise ValueError(f"the theme must be one of {', '.join(THEMES)}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Schema:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("a column is classified twice")
        if len({dimension.name for dimension in self.dimensions}) != len(self.dimensions):
            raise ValueError("two dimensions have the same name")
        counted = {column.name for column in self.columns if column.kind == "dimension"}
        used = [dimension.column for dimension in self.dimensions]
        if set(used) != counted or len(set(used)) != len(used):
            raise ValueError("each column of kind dimension belongs to exactly one dimension, and no other column does")
        return self

    def check_columns(self, found: Iterable[str]) -> None:
        """Refuse a source with a column that is not classified, or without one that is counted by."""
        present = list(found)
        classified = {column.name for column in self.columns}
        unclassified = [inert(name, 60) for name in present if name not in classified]
        if unclassified:
            raise Unprocessable(
                f"the source has columns that the dataset does not classify: {', '.join(unclassified[:20])}",
                next_step="classify each of them under [[columns]], or leave it out of the query",
            )
        lacking = [dimension.column for dimension in self.dimensions if dimension.column not in present]
        if lacking:
            raise Unprocessable(
                f"the source lacks the columns {', '.join(lacking)}", next_step="add them to the query of the source"
            )


def with_codes(schema: Schema, dimension: str, labels: Mapping[str, str]) -> Schema:
    """The same dataset, with the codes and names of one dimension filled in from a list kept elsewhere. A code
    with an empty name is shown by its code.

    Raises `ConfigurationFault` when a code or a name cannot be published.
    """
    document = schema.model_dump()
    for one in document["dimensions"]:
        if one["name"] == dimension:
            one["codes"] = tuple(labels)
            one["labels"] = {code: name for code, name in labels.items() if name}
    try:
        return Schema.model_validate(document)
    except ValidationError as error:
        raise ConfigurationFault(
            f"the codes of dimension {dimension} cannot be used: {_first(error)}",
            next_step="correct the list of codes",
        ) from error


def read_schema(path: Path) -> Schema:
    """The dataset declared in a TOML file. Raises `ConfigurationFault`, naming the key and the fix."""
    return read_toml(path, Schema)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return inert(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}", 200)


def band_codes(bands: tuple[int, ...]) -> tuple[str, ...]:
    """The codes of age bands that begin at these ages: (0, 15, 65) gives 0-14, 15-64, 65+."""
    ends = [start - 1 for start in bands[1:]]
    closed = [f"{start}-{end}" if end > start else str(start) for start, end in zip(bands, ends, strict=False)]
    return (*closed, f"{bands[-1]}+") if bands else ()
