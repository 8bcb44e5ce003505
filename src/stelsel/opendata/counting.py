"""Generalise and count: people stream in as rows, and only counts per cell stay. Nothing here keeps a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from typing import Any, Protocol

from stelsel.base.errors import Unprocessable
from stelsel.opendata.schema import Dimension, Schema, band_codes
from stelsel.opendata.table import Axis, Shape

_BATCH = 50_000
_DATE = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")
_REFUSED = "\0refused"
_MOST_CODES = 20_000


class Source(Protocol):
    """Where people come from: the names of all its columns, and a stream of rows with only the columns asked."""

    def columns(self) -> tuple[str, ...]: ...

    def rows(self, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]: ...


@dataclass(frozen=True)
class Counted:
    """A table before protection. Secret: it never leaves the process that counts."""

    shape: Shape
    values: list[int]


def count(schema: Schema, source: Source, reference: date) -> Counted:
    """Count the people of `source` into the table of `schema`, with ages at `reference`.

    Raises `Unprocessable` when a column is not classified, or when rows hold a value that fits no category: how
    many and in which column, never the value.
    """
    schema.check_columns(source.columns())
    dimensions = schema.dimensions
    rows = source.rows(tuple(dimension.column for dimension in dimensions))
    raw = _count_codes(rows, [generaliser(dimension, reference) for dimension in dimensions])
    _refuse_misfits(raw, dimensions)
    axes = tuple(_axis(dimension, {codes[place] for codes in raw}) for place, dimension in enumerate(dimensions))
    shape = Shape(axes)
    leaves = {
        tuple(axis.place[code] for axis, code in zip(axes, codes, strict=True)): number for codes, number in raw.items()
    }
    return Counted(shape, shape.sum_up(leaves))


def _count_codes(rows: Iterable[tuple[Any, ...]], generalisers: list[Callable[[Any], str]]) -> Counter[tuple[str, ...]]:
    """How many rows fall in each combination of codes. The distinct values of a column are looked at once each."""
    total: Counter[tuple[str, ...]] = Counter()
    caches = [_Cache(generalise) for generalise in generalisers]
    stream = iter(rows)
    while batch := list(islice(stream, _BATCH)):
        columns = zip(*batch, strict=True)
        total.update(
            zip(*(map(cache.__getitem__, column) for cache, column in zip(caches, columns, strict=True)), strict=True)
        )
    return total


class _Cache(dict[Any, str]):
    """Remembers what each distinct value of a column became; bounded, for a hostile column."""

    def __init__(self, generalise: Callable[[Any], str]) -> None:
        super().__init__()
        self._generalise = generalise

    def __missing__(self, value: Any) -> str:
        if len(self) > 200_000:
            self.clear()
        code = self[value] = self._generalise(value)
        return code


def generaliser(dimension: Dimension, reference: date) -> Callable[[Any], str]:
    """The function from a value in the source to a code of the dimension (or a mark that it fits none)."""
    if dimension.kind == "age":
        return lambda value: _age_band(value, dimension, reference)
    allowed = frozenset(dimension.codes or (code for members in dimension.groups.values() for code in members))
    pattern = re.compile(dimension.pattern)

    def code(value: Any) -> str:
        text = f"{dimension.prefix}{value}"
        if len(text) > 40 or text == dimension.total or not pattern.fullmatch(text):
            return _REFUSED
        return text if not allowed or text in allowed else _REFUSED

    return code


def _age_band(value: Any, dimension: Dimension, reference: date) -> str:
    """The band of the age at `reference`; a date with an unknown day, month or year (00) may still tell the band."""
    if value is None or value == "":
        return dimension.unknown
    match = _DATE.fullmatch(str(value))
    if match is None:
        return _REFUSED
    year, month, day = (int(part) for part in match.groups())
    if year == 0:
        return dimension.unknown
    try:
        if month == 0:
            earliest, latest = date(year, 1, 1), date(year, 12, 31)
        elif day == 0:
            earliest = date(year, month, 1)
            latest = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
        else:
            earliest = latest = date(year, month, day)
    except ValueError:
        return _REFUSED
    if earliest > reference:
        return _REFUSED
    oldest, youngest = _band(earliest, dimension, reference), _band(min(latest, reference), dimension, reference)
    return oldest if oldest == youngest else dimension.unknown


def _band(born: date, dimension: Dimension, reference: date) -> str:
    age = reference.year - born.year - ((reference.month, reference.day) < (born.month, born.day))
    place = sum(start <= age for start in dimension.bands) - 1
    return band_codes(dimension.bands)[place]


def _refuse_misfits(raw: Counter[tuple[str, ...]], dimensions: tuple[Dimension, ...]) -> None:
    for place, dimension in enumerate(dimensions):
        refused = sum(number for codes, number in raw.items() if codes[place] == _REFUSED)
        if refused:
            raise Unprocessable(
                f"{refused} rows have a value in {dimension.column} that fits no category of {dimension.name}",
                next_step="mend these rows, leave them out of the query, or extend the dimension",
            )
        if len({codes[place] for codes in raw}) > _MOST_CODES:
            raise Unprocessable(
                f"{dimension.column} has more than {_MOST_CODES} different codes", next_step="declare its codes"
            )
    if not raw:
        raise Unprocessable("the source has no rows", next_step="look at the query of the source")


def _axis(dimension: Dimension, seen: set[str]) -> Axis:
    if dimension.kind == "age":
        leaves = band_codes(dimension.bands)
        groups = dimension.groups
        if dimension.unknown in seen:  # only when it occurs: a column of zeros would have to be hidden, and hide others
            leaves = (*leaves, dimension.unknown)
    else:
        grouped = tuple(code for members in dimension.groups.values() for code in members)
        leaves, groups = dimension.codes or grouped or tuple(sorted(seen)), dimension.groups
    return Axis.build(dimension.name, dimension.total, leaves, groups)
