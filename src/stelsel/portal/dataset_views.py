"""Datasets as builders read them: what is in it, how people are protected, and the part they chose. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from stelsel.base.text import inert
from stelsel.opendata.release import SUPPRESSED, Release
from stelsel.opendata.schema import STATUS, THEMES, WOO_GROUNDS, Dimension, band_codes
from stelsel.portal.board_views import day_pair
from stelsel.portal.contract_views import Pair

MOST_OPTIONS = 2000
"""Codes offered in one list of choices; beyond that the API is the way."""

_LICENCES: dict[str, tuple[str, str]] = {
    "CC0": ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "CC_BY_4_0": ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
}
_THEMES_EN = {
    "AGRI": "Agriculture, fisheries, forestry and food",
    "ECON": "Economy and finance",
    "EDUC": "Education, culture and sport",
    "ENER": "Energy",
    "ENVI": "Environment",
    "GOVE": "Government and public sector",
    "HEAL": "Health",
    "INTR": "International issues",
    "JUST": "Justice, legal system and public safety",
    "REGI": "Regions and cities",
    "SOCI": "Population and society",
    "TECH": "Science and technology",
    "TRAN": "Transport",
}


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset in the list."""

    id: str
    title: Pair
    description: Pair
    reference: Pair
    rows: int
    suppressed: int
    licence: str


@dataclass(frozen=True, slots=True)
class Option:
    """One code that can be chosen."""

    code: str
    label: str
    chosen: bool
    total: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """One dimension as a list of choices."""

    name: str
    title: Pair
    options: tuple[Option, ...]
    chosen: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Columns of the source that stay closed on one ground of the law (Woo, article 5.1)."""

    ground: str
    protects: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatasetView:
    """All of a dataset's current release."""

    row: DatasetRow
    theme: Pair
    licence_link: str
    keywords: tuple[str, ...]
    release: str
    sha256: str
    minimum_frequency: int
    left_out_share: float
    """Percentage of the cells that are left out."""
    checked: int
    programs: int
    joint_with: tuple[str, ...]
    closed: tuple[Closed, ...]
    columns: tuple[str, ...]


def row_view(release: Release) -> DatasetRow:
    """A dataset for the list."""
    schema = release.schema
    return DatasetRow(
        id=release.dataset,
        title=(schema.title.nl, schema.title.en),
        description=(schema.description.nl, schema.description.en),
        reference=day_pair(release.reference.isoformat()),
        rows=release.rows,
        suppressed=release.suppressed,
        licence=_LICENCES[schema.licence][0],
    )


def dataset_view(release: Release, columns: Sequence[str]) -> DatasetView:
    """One dataset with how it was made."""
    schema, audit = release.schema, release.document["audit"]
    grounds: dict[str, list[str]] = {}
    for column in schema.columns:
        if column.ground:
            grounds.setdefault(column.ground, []).append(column.name)
    return DatasetView(
        row=row_view(release),
        theme=(THEMES[schema.theme], _THEMES_EN[schema.theme]),
        licence_link=_LICENCES[schema.licence][1],
        keywords=schema.keywords,
        release=release.name,
        sha256=release.sha256,
        minimum_frequency=int(release.document["method"]["minimum_frequency"]),
        left_out_share=100 * release.suppressed / release.rows if release.rows else 0.0,
        checked=int(audit["checked"]),
        programs=int(audit["linear_programs"]),
        joint_with=tuple(str(name) for name in audit["joint_with"]),
        closed=tuple(Closed(ground, WOO_GROUNDS[ground], tuple(names)) for ground, names in sorted(grounds.items())),
        columns=tuple(columns),
    )


def choices(release: Release, chosen: Mapping[str, str]) -> tuple[Choice, ...]:
    """The lists of choices, one a dimension, with what was chosen marked."""
    trees: Mapping[str, Mapping[str, str]] = release.document["trees"]
    return tuple(
        _choice(dimension, trees.get(dimension.name, {}), chosen.get(dimension.name, ""))
        for dimension in release.dimensions
    )


def axis_of(release: Release, chosen: Mapping[str, str]) -> Dimension | None:
    """The dimension that a chart of this choice lays out: of those left open, the one with the fewest codes."""
    left = [one for one in release.dimensions if not chosen.get(one.name) or chosen[one.name] == one.total]
    trees = release.document["trees"]
    return min(left, key=lambda one: len(trees.get(one.name, {})), default=None)


def tops(release: Release, dimension: Dimension, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of these rows the ones right below the total of this dimension: a group, and not its parts beside it."""
    tree = release.document["trees"][dimension.name]
    return [row for row in rows if tree.get(row[dimension.name]) == dimension.total]


def label_of(row: Mapping[str, Any], dimension: Dimension) -> str:
    """What a row says of one dimension: the name where there is one, else the code."""
    return str(row.get(f"{dimension.name}_naam") or row[dimension.name])


def is_left_out(row: Mapping[str, Any]) -> bool:
    """Whether the row's count is left out to protect people."""
    return bool(row[STATUS] == SUPPRESSED)


def address(path: str, parameters: Iterable[tuple[str, str]]) -> str:
    """`path` with these parameters, encoded; those without a value are left out."""
    question = urlencode([(name, value) for name, value in parameters if value])
    return f"{path}?{question}" if question else path


def _choice(dimension: Dimension, tree: Mapping[str, str], chosen: str) -> Choice:
    codes = [code for code in tree if code != dimension.total]
    if dimension.kind == "age":  # in the order of age, not of text
        order = {code: place for place, code in enumerate(band_codes(dimension.bands))}
        codes.sort(key=lambda code: order.get(code, len(order)))
    else:
        codes.sort(key=lambda code: dimension.labels.get(code, code))
    options = [
        Option(code, dimension.labels.get(code, code), code == chosen, code == dimension.total)
        for code in [dimension.total, *codes[:MOST_OPTIONS]]
    ]
    return Choice(dimension.name, (dimension.title.nl, dimension.title.en), tuple(options), inert(chosen, 60))
