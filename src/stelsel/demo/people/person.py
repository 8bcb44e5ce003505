"""One resident as the register keeps her: the present situation, flat, in the order of the table's columns."""

from __future__ import annotations

from typing import NamedTuple


class Person(NamedTuple):
    """A person list's present situation. Empty text means: not there, or not known.

    A tuple and not a dataclass, because seventeen million of them go straight into `executemany`.
    """

    burgerservicenummer: str
    given_names: str
    prefix: str
    """Voorvoegsel: `van der`."""
    family_name: str
    birth_date: str
    """`YYYY-MM-DD`; an unknown part is zeros (LO BRP 01.03.10): `1968-00-00`, `0000-00-00`."""
    birth_place: str
    """Municipality code in the Netherlands, free text elsewhere."""
    birth_country: str
    """LO BRP country code; 6030 is the Netherlands."""
    sex: str
    """M, V or O (unknown)."""
    municipality_code: str
    """Municipality of registration; 1999 is the register of non-residents (RNI)."""
    municipality_name: str
    registered_since: str
    """Date of registration in the municipality, as `birth_date`."""
    street: str
    house_number: int
    """0 when there is none."""
    house_letter: str
    house_addition: str
    postcode: str
    place: str
    location: str
    """Description of a place without an address, such as a houseboat's mooring."""
    foreign_address: str
    """Up to three lines abroad, separated by line feeds."""
    foreign_country: str
    address_since: str
    death_date: str
    suspension: str
    """Why the list is no longer kept up: O deceased, E emigrated, M ministerial decision, R non-resident."""
    secrecy: int
    """07.70.10: 0 no restriction, 1 to 7 the resident asked for secrecy."""
