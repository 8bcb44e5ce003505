"""Invented names. They are put together from syllables, so that they sound Dutch and are nobody's in particular."""

from __future__ import annotations

from functools import cache
from itertools import product

_ONSETS = ("B", "Br", "D", "Dr", "F", "G", "H", "J", "K", "L", "M", "N", "P", "R", "S", "St", "T", "V", "W", "Z")
_MIDDLES = ("aale", "ebbi", "eli", "emme", "ieke", "illi", "inde", "oele", "olle", "orri", "ume", "ijne")
_ENDS = {
    "M": ("brand", "dert", "kin", "man", "mer", "ram", "rik", "wijn"),
    "V": ("da", "ke", "lin", "na", "ske", "tje", "trude", "wina"),
}

_FAMILY_FIRST = (
    "Akker", "Berken", "Blauw", "Bol", "Braam", "Distel", "Duin", "Eiken", "Elzen", "Gaarde", "Geest", "Gras", "Groen",
    "Haver", "Hazel", "Heide", "Hoog", "Hooi", "Iepen", "Kamper", "Klaver", "Klei", "Kronkel", "Laag", "Lisse", "Maan",
    "Meers", "Mispel", "Mos", "Nevel", "Noorder", "Peppel", "Pluim", "Riet", "Rogge", "Schelp", "Sleutel", "Spaar",
    "Ster", "Stil", "Terp", "Turf", "Veld", "Veen", "Vlas", "Vogel", "Wilgen", "Winter", "Zand", "Zomer",
)  # fmt: skip
_FAMILY_LAST = (
    "baan", "beek", "berg", "brink", "broek", "daal", "dijker", "donk", "gaard", "geest", "graaf", "haag", "hof",
    "horst", "huizer", "kamp", "kroon", "laar", "linde", "meer", "molen", "oever", "plaat", "poort", "rade", "schans",
    "sloot", "stee", "stra", "tuin", "vaart", "waard", "wegge", "wende", "woude", "zijl",
)  # fmt: skip
_PREFIXES = ("",) * 14 + ("van", "van", "van de", "van der", "de", "ten")

_STREET_FIRST = (
    "Anemoon", "Ambacht", "Appelhof", "Bakker", "Beuken", "Bolder", "Boterbloem", "Brem", "Bronzen", "Dageraad",
    "Dobber", "Egel", "Engel", "Fluitschip", "Ganzerik", "Gerst", "Goudsbloem", "Haas", "Hamer", "Hommel", "IJzer",
    "Jasmijn", "Kapper", "Karwei", "Kievit", "Klok", "Koperen", "Kwartel", "Lantaarn", "Leeuwerik", "Libel", "Linnen",
    "Merel", "Mosterd", "Narcis", "Oester", "Papier", "Parel", "Raven", "Ridder", "Saffraan", "Schaats", "Spechten",
    "Tarwe", "Tulp", "Uilen", "Vlinder", "Zwaluw",
)  # fmt: skip
_STREET_MIDDLE = (
    "", "akker", "bos", "burg", "dal", "duin", "eind", "hoek", "hof", "kamp", "kant", "land", "meent", "oord", "rak",
    "rust", "veld", "wal", "weide", "zicht",
)  # fmt: skip
_STREET_LAST = ("straat", "laan", "weg", "pad", "plein", "kade", "dreef", "singel", "gracht", "steeg", "hof", "dijk")

_POSTCODE_LETTERS = "ABCDEGHJKLMNPRSTVWXZ"
POSTCODES_PER_NUMBER = len(_POSTCODE_LETTERS) ** 2


@cache
def given_names(sex: str) -> tuple[str, ...]:
    """Given names for M or V: some two thousand."""
    return tuple("".join(parts) for parts in product(_ONSETS, _MIDDLES, _ENDS[sex]))


@cache
def family_names() -> tuple[tuple[str, str], ...]:
    """(prefix, family name), some eighteen hundred; a quarter has a prefix."""
    names = ("".join(parts) for parts in product(_FAMILY_FIRST, _FAMILY_LAST))
    return tuple((_PREFIXES[index * 7 % len(_PREFIXES)], name) for index, name in enumerate(names))


@cache
def streets() -> tuple[str, ...]:
    """Street names, all different: eleven thousand."""
    return tuple(
        first + middle + last
        for middle, last, first in product(_STREET_MIDDLE, _STREET_LAST, _STREET_FIRST)
        if middle != last
    )


def postcode(area: int, street: int) -> str:
    """The one postcode of a street: `area` 1000 to 9999 is a municipality's first; streets fill areas upwards."""
    step, letters = divmod(street, POSTCODES_PER_NUMBER)
    first, second = divmod(letters, len(_POSTCODE_LETTERS))
    return f"{area + step}{_POSTCODE_LETTERS[first]}{_POSTCODE_LETTERS[second]}"
