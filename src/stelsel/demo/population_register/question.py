"""What a caller may ask, read strictly: a closed form, known fields, numbers that pass the eleven-test."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from stelsel.base.errors import BadRequest
from stelsel.base.text import inert
from stelsel.demo.population_register.answer import FIELDS
from stelsel.privacy import bsn

MAXIMUM_NUMBERS = 20
MAXIMUM_RESULTS = 30
MAXIMUM_FIELDS = 130  # as Haal Centraal BRP bevragen 2

_POSTCODE = re.compile(r"[1-9][0-9]{3} ?[A-Za-z]{2}", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByNumber:
    """RaadpleegMetBurgerservicenummer."""

    numbers: tuple[str, ...]
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByAddress:
    """ZoekMetPostcodeEnHuisnummer. None in a narrowing parameter: it does not matter."""

    postcode: str
    house_number: int
    house_letter: str | None
    house_addition: str | None
    include_deceased: bool
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByNameAndBirth:
    """ZoekMetGeslachtsnaamEnGeboortedatum."""

    family_name: str
    birth_date: str
    given_names: str | None
    prefix: str | None
    sex: str | None
    include_deceased: bool
    fields: tuple[str, ...]


Question = ByNumber | ByAddress | ByNameAndBirth


def fault(code: str, *wrong: tuple[str, str]) -> BadRequest:
    """A 400 in the manner of Haal Centraal: `code`, and `invalidParams` with a name and a reason each.

    Names and reasons never hold a value that was sent, but for the name of a field.
    """
    return BadRequest(
        "; ".join(f"{name}: {reason}" for name, reason in wrong),
        code=code,
        invalidParams=[{"name": name, "reason": reason} for name, reason in wrong],
    )


def read_question(body: dict[str, Any]) -> Question:
    """The question in a request's body. Raises `BadRequest` with `code` and `invalidParams`."""
    kind = body.get("type")
    if kind is None:
        raise fault("paramsRequired", ("type", "the kind of question is required"))
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise fault("paramsValidation", ("type", f"must be one of {', '.join(_KINDS)}"))
    required, optional, make = known
    missing = [name for name in required if body.get(name) is None]
    if missing:
        raise fault("paramsRequired", *((name, "is required") for name in missing))
    unknown = sorted(set(body) - {"type", *required, *optional})
    if unknown:
        raise fault("unknownParam", *((inert(name, 60), f"is no parameter of {kind}") for name in unknown[:10]))
    return make(body)


def _fields(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAXIMUM_FIELDS:
        raise fault("paramsValidation", ("fields", f"must be a list of 1 to {MAXIMUM_FIELDS} names of fields"))
    wrong = [(place, name) for place, name in enumerate(value) if not isinstance(name, str) or name not in FIELDS]
    if wrong:
        raise fault(
            "paramsValidation",
            *(
                (f"fields[{place}]", f"there is no field {inert(name, 100)}" if isinstance(name, str) else "is no text")
                for place, name in wrong[:10]
            ),
        )
    return tuple(dict.fromkeys(value))


def _by_number(body: dict[str, Any]) -> ByNumber:
    numbers = body["burgerservicenummer"]
    if not isinstance(numbers, list) or not 1 <= len(numbers) <= MAXIMUM_NUMBERS:
        raise fault("paramsValidation", ("burgerservicenummer", f"must be a list of 1 to {MAXIMUM_NUMBERS} numbers"))
    wrong = [place for place, number in enumerate(numbers) if not isinstance(number, str) or not bsn.valid(number)]
    if wrong:
        raise fault(
            "paramsValidation",
            *((f"burgerservicenummer[{place}]", "is not nine digits that pass the eleven-test") for place in wrong),
        )
    return ByNumber(tuple(dict.fromkeys(numbers)), _fields(body["fields"]))


def _by_address(body: dict[str, Any]) -> ByAddress:
    postcode, house_number = body["postcode"], body["huisnummer"]
    if not isinstance(postcode, str) or not _POSTCODE.fullmatch(postcode):
        raise fault("paramsValidation", ("postcode", "is not four digits and two letters"))
    if isinstance(house_number, str) and house_number.isascii() and house_number.isdigit() and len(house_number) <= 5:
        house_number = int(house_number)
    if not isinstance(house_number, int) or isinstance(house_number, bool) or not 1 <= house_number <= 99_999:
        raise fault("paramsValidation", ("huisnummer", "is not a number from 1 to 99999"))
    return ByAddress(
        postcode.replace(" ", "").upper(),
        house_number,
        _text(body, "huisletter", 1),
        _text(body, "huisnummertoevoeging", 4),
        _flag(body),
        _fields(body["fields"]),
    )


def _by_name_and_birth(body: dict[str, Any]) -> ByNameAndBirth:
    birth_date = body["geboortedatum"]
    try:
        if not isinstance(birth_date, str) or not _DATE.fullmatch(birth_date):
            raise ValueError
        date.fromisoformat(birth_date)
    except ValueError:
        raise fault("paramsValidation", ("geboortedatum", "is not an existing day as YYYY-MM-DD")) from None
    family_name = _text(body, "geslachtsnaam", 200)
    if not family_name:
        raise fault("paramsValidation", ("geslachtsnaam", "is empty"))
    sex = _text(body, "geslacht", 1)
    if sex is not None and sex not in {"M", "V", "O"}:
        raise fault("paramsValidation", ("geslacht", "must be M, V or O"))
    given_names, prefix = _text(body, "voornamen", 200), _text(body, "voorvoegsel", 10)
    return ByNameAndBirth(family_name, birth_date, given_names, prefix, sex, _flag(body), _fields(body["fields"]))


def _text(body: dict[str, Any], name: str, limit: int) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > limit):
        raise fault("paramsValidation", (name, f"must be text of at most {limit} characters"))
    return value.strip() if isinstance(value, str) else None


def _flag(body: dict[str, Any]) -> bool:
    value = body.get("inclusiefOverledenPersonen", False)
    if not isinstance(value, bool):
        raise fault("paramsValidation", ("inclusiefOverledenPersonen", "must be true or false"))
    return value


_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[dict[str, Any]], Question]]] = {
    "RaadpleegMetBurgerservicenummer": (("burgerservicenummer", "fields"), (), _by_number),
    "ZoekMetPostcodeEnHuisnummer": (
        ("postcode", "huisnummer", "fields"),
        ("huisletter", "huisnummertoevoeging", "inclusiefOverledenPersonen"),
        _by_address,
    ),
    "ZoekMetGeslachtsnaamEnGeboortedatum": (
        ("geslachtsnaam", "geboortedatum", "fields"),
        ("voornamen", "voorvoegsel", "geslacht", "inclusiefOverledenPersonen"),
        _by_name_and_birth,
    ),
}
