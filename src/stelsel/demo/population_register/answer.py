"""A person as the fields asked for, and nothing else: names and nesting as in Haal Centraal BRP bevragen 2.

Each leaf has one function here. Asking for a group (`naam`) is asking for every leaf below it. Unlike Haal Centraal
nothing is given unasked, so `geheimhoudingPersoonsgegevens` and `opschortingBijhouding` are fields to be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

from stelsel.demo.people.municipalities import name_of
from stelsel.demo.people.person import Person
from stelsel.demo.population_register.store import full_name

Leaf = Callable[[Person, date], Any]

_MONTHS = (
    *("januari", "februari", "maart", "april", "mei", "juni", "juli"),
    *("augustus", "september", "oktober", "november", "december"),
)
_SEXES = {"M": "man", "V": "vrouw", "O": "onbekend"}
_SUSPENSIONS = {
    "O": "overlijden",
    "E": "emigratie",
    "M": "ministerieel besluit",
    "R": "pl is aangelegd in de rni",
}
_DATE_PARTS = ("type", "datum", "langFormaat", "jaar", "maand", "onbekend")
_NETHERLANDS, _UNKNOWN_COUNTRY = "6030", "0000"


def date_object(text: str) -> dict[str, Any]:
    """A date in Haal Centraal's four forms, by what is known of it; empty when there is none."""
    if not text:
        return {}
    year, month, day = (int(part) for part in text.split("-"))
    if not year:
        return {"type": "DatumOnbekend", "onbekend": True, "langFormaat": "onbekend"}
    if not month:
        return {"type": "JaarDatum", "jaar": year, "langFormaat": str(year)}
    if not day:
        long = f"{_MONTHS[month - 1]} {year}"
        return {"type": "JaarMaandDatum", "jaar": year, "maand": month, "langFormaat": long}
    return {"type": "Datum", "datum": text, "langFormaat": f"{day} {_MONTHS[month - 1]} {year}"}


def age(person: Person, today: date) -> int | None:
    """Whole years on `today`; None for who has died and where the birth date leaves it open."""
    if person.death_date or person.suspension == "O" or not person.birth_date:
        return None
    year, month, day = (int(part) for part in person.birth_date.split("-"))
    if not year or not month or (not day and month == today.month):
        return None
    return today.year - year - ((today.month, today.day) < (month, day or 1))


def residence_type(person: Person) -> str:
    """Haal Centraal's kind of verblijfplaats."""
    if person.foreign_country and person.foreign_country != _UNKNOWN_COUNTRY:
        return "VerblijfplaatsBuitenland"
    if person.location:
        return "Locatie"
    return "Adres" if person.street else "VerblijfplaatsOnbekend"


def _street_line(person: Person) -> str:
    addition = f"-{person.house_addition}" if person.house_addition else ""
    number = f" {person.house_number}" if person.house_number else ""
    return f"{person.street}{number}{f' {person.house_letter}' if person.house_letter else ''}{addition}"


def address_line(person: Person, line: int) -> str:
    """Line 1, 2 or 3 of the address as on an envelope; empty when there is none."""
    kind = residence_type(person)
    if kind == "VerblijfplaatsBuitenland":
        return _foreign_line(person, line)
    if kind == "VerblijfplaatsOnbekend" or line == 3:
        return ""
    if line == 1:
        return person.location if kind == "Locatie" else _street_line(person)
    postcode = f"{person.postcode[:4]} {person.postcode[4:]}" if person.postcode else ""
    return " ".join(part for part in (postcode, person.place) if part)


def _foreign_line(person: Person, line: int) -> str:
    lines = person.foreign_address.split("\n")
    return lines[line - 1] if line <= len(lines) else ""


def _column(name: str) -> Leaf:
    return lambda person, _: getattr(person, name)


def _date_leaves(path: str, column: str) -> dict[str, Leaf]:
    def part(name: str) -> Leaf:
        return lambda person, _: date_object(getattr(person, column)).get(name)

    return {f"{path}.{name}": part(name) for name in _DATE_PARTS}


def _initials(person: Person, _: date) -> str:
    return "".join(f"{name[0]}." for name in person.given_names.split())


def _birth_place_code(person: Person, _: date) -> str:
    return person.birth_place if person.birth_country == _NETHERLANDS else ""


def _birth_place_name(person: Person, _: date) -> str:
    return name_of(person.birth_place) if person.birth_country == _NETHERLANDS else person.birth_place


_LEAVES: dict[str, Leaf] = {
    "burgerservicenummer": _column("burgerservicenummer"),
    "naam.voornamen": _column("given_names"),
    "naam.voorletters": _initials,
    "naam.voorvoegsel": _column("prefix"),
    "naam.geslachtsnaam": _column("family_name"),
    "naam.volledigeNaam": lambda person, _: full_name(person),
    **_date_leaves("geboorte.datum", "birth_date"),
    "geboorte.plaats.code": _birth_place_code,
    "geboorte.plaats.omschrijving": _birth_place_name,
    "geboorte.land.code": _column("birth_country"),
    "leeftijd": age,
    "geslacht.code": _column("sex"),
    "geslacht.omschrijving": lambda person, _: _SEXES.get(person.sex),
    "gemeenteVanInschrijving.code": _column("municipality_code"),
    "gemeenteVanInschrijving.omschrijving": _column("municipality_name"),
    **_date_leaves("datumInschrijvingInGemeente", "registered_since"),
    "adressering.adresregel1": lambda person, _: address_line(person, 1),
    "adressering.adresregel2": lambda person, _: address_line(person, 2),
    "adressering.adresregel3": lambda person, _: address_line(person, 3),
    "verblijfplaats.type": lambda person, _: residence_type(person),
    **_date_leaves("verblijfplaats.datumVan", "address_since"),
    "verblijfplaats.verblijfadres.korteStraatnaam": _column("street"),
    "verblijfplaats.verblijfadres.officieleStraatnaam": _column("street"),
    "verblijfplaats.verblijfadres.huisnummer": _column("house_number"),
    "verblijfplaats.verblijfadres.huisletter": _column("house_letter"),
    "verblijfplaats.verblijfadres.huisnummertoevoeging": _column("house_addition"),
    "verblijfplaats.verblijfadres.postcode": _column("postcode"),
    "verblijfplaats.verblijfadres.woonplaats": _column("place"),
    "verblijfplaats.verblijfadres.locatiebeschrijving": _column("location"),
    "verblijfplaats.verblijfadres.regel1": lambda person, _: _foreign_line(person, 1),
    "verblijfplaats.verblijfadres.regel2": lambda person, _: _foreign_line(person, 2),
    "verblijfplaats.verblijfadres.regel3": lambda person, _: _foreign_line(person, 3),
    "verblijfplaats.verblijfadres.land.code": lambda person, _: person.foreign_country.replace(_UNKNOWN_COUNTRY, ""),
    **_date_leaves("overlijden.datum", "death_date"),
    "opschortingBijhouding.reden.code": _column("suspension"),
    "opschortingBijhouding.reden.omschrijving": lambda person, _: _SUSPENSIONS.get(person.suspension),
    "geheimhoudingPersoonsgegevens": lambda person, _: True if person.secrecy else None,
}


def _with_groups() -> dict[str, tuple[str, ...]]:
    fields: dict[str, list[str]] = {}
    for leaf in _LEAVES:
        parts = leaf.split(".")
        for depth in range(1, len(parts) + 1):
            fields.setdefault(".".join(parts[:depth]), []).append(leaf)
    return {name: tuple(leaves) for name, leaves in fields.items()}


FIELDS: dict[str, tuple[str, ...]] = _with_groups()
"""Every field that may be asked, group or leaf, with the leaves it stands for."""


def answer(person: Person, fields: Iterable[str], today: date) -> dict[str, Any]:
    """The person as a nested JSON object with only the fields asked; what is not there is left out."""
    result: dict[str, Any] = {}
    for leaf in dict.fromkeys(leaf for field in fields for leaf in FIELDS[field]):
        value = _LEAVES[leaf](person, today)
        if value in ("", None) or (value == 0 and leaf.endswith("huisnummer")):
            continue
        *groups, name = leaf.split(".")
        place = result
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return result
