"""The official fictitious test persons of RvIG: a CSV whose columns are LO BRP element numbers.

A person list begins at a row with a name in the first column and holds the present situation there; the rows under
it, without a name, repeat categories: earlier situations, further nationalities, children. The register of the demo
keeps the present situation only, so each of those rows is reported and not loaded. Nothing is skipped in silence:
every row of the file becomes a `LoadedRow` or a `RowReport`.

Decisions, by element (Logisch Ontwerp BRP):
01.01.20 must pass the eleven-test and be new in the file. 01.03.10 must be there; unknown parts (zeros) are kept.
A name or a street that is a single point means "unknown" and becomes empty. 07.67.20 F or W (wrong, withdrawn) is
not loaded; O, E, M and R (deceased, emigrated, ministerial, non-resident) are. An address abroad (08.13) or a
described place (08.12) takes the place of a street.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from stelsel.base.errors import BadRequest
from stelsel.demo.people.municipalities import name_of
from stelsel.demo.people.person import Person
from stelsel.privacy import bsn

_NEEDED = ("01.01.20", "01.02.10", "01.02.30", "01.02.40", "01.03.10", "01.03.20", "01.03.30", "01.04.10", "06.08.10",
           "07.67.20", "07.70.10", "08.09.10", "08.09.20", "08.10.30", "08.11.10", "08.11.20", "08.11.30", "08.11.40",
           "08.11.60", "08.11.70", "08.12.10", "08.13.10", "08.13.20", "08.13.30", "08.13.40", "08.13.50")  # fmt: skip
_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})", re.ASCII)
_POSTCODE = re.compile(r"[1-9][0-9]{3}[A-Z]{2}", re.ASCII)
_WITHDRAWN = {"F": "wrong", "W": "withdrawn"}


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """A row that became a person; `row` is its line in the file, the header being 1."""

    row: int
    person: Person


@dataclass(frozen=True, slots=True)
class RowReport:
    """A row that was not loaded, and why. Holds no personal data."""

    row: int
    reason: str


class _Refused(Exception):
    """The reason why a row cannot be loaded."""


def read(path: Path, municipality_table: Path | None = None) -> Iterator[LoadedRow | RowReport]:
    """Every row of the test set, in order. `municipality_table` is LO BRP table 33 (UTF-16 CSV).

    Raises `BadRequest` when a file is not what it should be.
    """
    names = _table(municipality_table) if municipality_table else {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(csv.reader(file, delimiter=";", strict=True), names)
    except (OSError, UnicodeError, csv.Error) as error:
        raise BadRequest(
            f"{path.name}: cannot be read as a set of test persons ({type(error).__name__})",
            next_step="give the CSV of RvIG: `;` between columns, UTF-8, LO BRP element numbers in the first row",
        ) from error


def _table(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-16", newline="") as file:
            return {row[0]: row[1] for row in csv.reader(file) if len(row) > 1}
    except (OSError, UnicodeError, csv.Error) as error:
        raise BadRequest(
            f"{path.name}: cannot be read as LO BRP table 33", next_step="give the table as CSV in UTF-16"
        ) from error


def _rows(rows: Iterator[list[str]], names: Mapping[str, str]) -> Iterator[LoadedRow | RowReport]:
    header = next(rows, [])
    missing = [element for element in _NEEDED if element not in header[1:]]
    if missing:
        raise BadRequest(f"the first row lacks the elements {', '.join(missing)}")
    first_rows: dict[str, int] = {}
    current = 0
    for number, row in enumerate(rows, start=2):
        if not any(row):
            yield RowReport(number, "the row is empty")
        elif len(row) != len(header):
            yield RowReport(number, f"the row has {len(row)} columns, the first row {len(header)}")
        elif not row[0]:
            categories = sorted({name[:2] for name, value in zip(header, row, strict=True) if value})
            below = f"continues the list of row {current}" if current else "belongs to no list"
            yield RowReport(number, f"{below} (category {', '.join(categories)}): only the present situation is kept")
        else:
            current = number
            yield _list(number, dict(zip(header[1:], row[1:], strict=True)), names, first_rows)


def _list(
    number: int, elements: dict[str, str], names: Mapping[str, str], first_rows: dict[str, int]
) -> LoadedRow | RowReport:
    try:
        person = _person({name: value.strip() for name, value in elements.items()}, names)
    except _Refused as refused:
        return RowReport(number, str(refused))
    earlier = first_rows.setdefault(person.burgerservicenummer, number)
    if earlier != number:
        return RowReport(number, f"01.01.20 is the burgerservicenummer of row {earlier} too")
    return LoadedRow(number, person)


def _person(element: dict[str, str], names: Mapping[str, str]) -> Person:
    suspension = element["07.67.20"]
    if suspension in _WITHDRAWN:
        raise _Refused(f"07.67.20 says that the list is {_WITHDRAWN[suspension]} ({suspension})")
    if not element["01.01.20"]:
        raise _Refused("01.01.20: there is no burgerservicenummer")
    if not bsn.valid(element["01.01.20"]):
        raise _Refused("01.01.20: the burgerservicenummer does not pass the eleven-test")
    if not element["01.03.10"]:
        raise _Refused("01.03.10: there is no date of birth")
    house, postcode = element["08.11.20"], element["08.11.60"]
    if house and not (house.isascii() and house.isdigit() and len(house) <= 5):
        raise _Refused("08.11.20: the house number is no number of at most five digits")
    if postcode and not _POSTCODE.fullmatch(postcode):
        raise _Refused("08.11.60: the postcode is not four digits and two letters")
    if element["01.04.10"] not in {"M", "V", "O", ""}:
        raise _Refused("01.04.10: the sex is none of M, V and O")
    if element["07.70.10"] not in set("01234567") | {""}:
        raise _Refused("07.70.10: the indication of secrecy is not 0 to 7")
    code = element["08.09.10"]
    municipality = names.get(code) or name_of(code)
    street = _known(element["08.11.10"])
    abroad = "\n".join(line for line in (element["08.13.30"], element["08.13.40"], element["08.13.50"]) if line)
    return Person(
        burgerservicenummer=element["01.01.20"],
        given_names=_known(element["01.02.10"]),
        prefix=element["01.02.30"],
        family_name=_known(element["01.02.40"]),
        birth_date=_date(element, "01.03.10"),
        birth_place=element["01.03.20"],
        birth_country=element["01.03.30"],
        sex=element["01.04.10"] or "O",
        municipality_code=code,
        municipality_name=municipality,
        registered_since=_date(element, "08.09.20"),
        street=street,
        house_number=int(house or 0),
        house_letter=element["08.11.30"],
        house_addition=element["08.11.40"],
        postcode=postcode,
        place=element["08.11.70"] or (municipality if street else ""),
        location=_known(element["08.12.10"]),
        foreign_address=abroad,
        foreign_country=element["08.13.10"],
        address_since=_date(element, "08.13.20" if element["08.13.10"] else "08.10.30"),
        death_date=_date(element, "06.08.10"),
        suspension=suspension,
        secrecy=int(element["07.70.10"] or 0),
    )


def _known(text: str) -> str:
    return "" if text == "." else text


def _date(element: dict[str, str], name: str) -> str:
    """A date with zeros for what is unknown; no month without a year, no day without a month."""
    text = element[name]
    if not text:
        return ""
    match = _DATE.fullmatch(text)
    if match is None:
        raise _Refused(f"{name}: the date is not yyyymmdd")
    year, month, day = (int(part) for part in match.groups())
    try:
        date(year or 2000, month or 1, day or 1)
    except ValueError:
        raise _Refused(f"{name}: there is no such day") from None
    if (day and not month) or (month and not year):
        raise _Refused(f"{name}: the date has a day or month but not the larger part")
    return "-".join(match.groups())
