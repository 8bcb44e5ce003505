"""A stream of synthetic residents: deterministic, in the country's proportions, never held in memory."""

from __future__ import annotations

from collections.abc import Container, Iterator
from datetime import date
from functools import cache
from itertools import islice
from random import Random

from stelsel.base.errors import BadRequest
from stelsel.demo.people.municipalities import AGE_GROUPS, Municipality, municipalities
from stelsel.demo.people.names import family_names, given_names, postcode, streets
from stelsel.demo.people.numbers import numbers
from stelsel.demo.people.person import Person

MAXIMUM = 17_000_000
REFERENCE_DAY = date(2026, 1, 1)
"""Ages are as on this day, so that the same seed gives the same people on every day."""

_NETHERLANDS = "6030"
_AREAS_PER_MUNICIPALITY = 25
_MAXIMUM_STREETS = 10_000
_RESIDENTS_PER_STREET = 100
_PARTNER = 0.62
_ADULT = 18 * 365
_FERTILE = 45 * 365


def generate(count: int, seed: int = 1, *, taken: Container[str] = ()) -> Iterator[Person]:
    """`count` residents, municipality by municipality, household by household.

    The number in each municipality and age group is its share of `count`, rounded so that every run of
    cells is less than one off and the whole is exact. `taken` holds burgerservicenummers not to be used. Raises
    `BadRequest` when `count` is not 0 to `MAXIMUM`.
    """
    if not 0 <= count <= MAXIMUM:
        raise BadRequest(f"the number of people is outside 0 to {MAXIMUM:,}", next_step="ask for fewer people")
    return _stream(count, seed, numbers(taken))


def counts(count: int, seed: int = 1) -> Iterator[tuple[Municipality, list[int]]]:
    """How many residents each municipality gets, per age group."""
    everyone = municipalities()
    total = sum(place.population * sum(place.age_shares) for place in everyone)
    offset = Random(f"counts:{seed}").randrange(total)  # noqa: S311 - synthetic people, no secret
    reached, passed = offset // total, 0
    for place in everyone:
        cells = []
        for share in place.age_shares:
            passed += place.population * share
            upto = (passed * count + offset) // total
            cells.append(upto - reached)
            reached = upto
        yield place, cells


@cache
def _days() -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Every birth day as text, oldest first, and for each age group the first and last index into it."""
    oldest = _birthday(AGE_GROUPS[-1][1] + 1) + 1
    texts = tuple(date.fromordinal(day).isoformat() for day in range(oldest, REFERENCE_DAY.toordinal() + 1))
    spans = tuple((_birthday(last + 1) + 1 - oldest, _birthday(first) - oldest) for first, last in AGE_GROUPS)
    return texts, spans


def _birthday(age: int) -> int:
    return REFERENCE_DAY.replace(year=REFERENCE_DAY.year - age).toordinal()


def _stream(count: int, seed: int, citizen_numbers: Iterator[str]) -> Iterator[Person]:
    for index, (place, cells) in enumerate(counts(count, seed)):
        if any(cells):
            # One generator per municipality, so that one municipality can be made again on its own.
            random = Random(f"{seed}:{place.code}")  # noqa: S311 - synthetic people, no secret
            area = 1000 + index * _AREAS_PER_MUNICIPALITY
            yield from _municipality(place, area, cells, random, citizen_numbers)


def _households(cells: list[int], random: Random) -> Iterator[list[int]]:
    """Divide the residents of one municipality into households; members as index into the birth days, oldest first.

    Draws from the counts until they are empty, so the proportions stay exact.
    """
    _, spans = _days()
    left = list(cells)
    draw = random.random

    def born(group: int) -> int:
        first, last = spans[group]
        part = draw()
        # Fewer people the older they are: the last group thins out towards 100 years.
        return first + int((part**0.5 if group == 4 else part) * (last - first + 1))

    def child(group: int, parent: int) -> int:
        first, last = spans[group]
        low, high = max(first, parent + _ADULT), min(last, parent + _FERTILE)
        return low + int(draw() * (high - low + 1)) if low <= high else born(group)

    while (adults := left[1] + left[2] + left[3] + left[4]) > 0:
        pick = int(draw() * adults)
        group = 1 if pick < left[1] else 2 if pick < left[1] + left[2] else 3 if pick < adults - left[4] else 4
        left[group] -= 1
        head = born(group)
        members = [head]
        if left[group] and group > 1 and draw() < _PARTNER:
            left[group] -= 1
            members.append(born(group))
        if group in (2, 3):
            # Children and their possible parents run out together.
            parents = left[2] + left[3] + len(members)
            young = int(left[0] / parents * len(members) * 2 * draw() + draw()) if left[0] else 0
            for _ in range(min(young, left[0], 8)):
                left[0] -= 1
                members.append(child(0, head))
            if group == 3 and left[1] and draw() < 0.3:
                left[1] -= 1
                members.append(child(1, head))
        yield members
    while left[0] > 0:  # more children than the parents above could have: only in a handful of people
        size = min(left[0], 3)
        left[0] -= size
        yield [born(0) for _ in range(size)]


def _municipality(
    place: Municipality, area: int, cells: list[int], random: Random, citizen_numbers: Iterator[str]
) -> Iterator[Person]:
    texts, _ = _days()
    today = len(texts) - 1
    names = {sex: given_names(sex) for sex in "MV"}
    families, all_streets = family_names(), streets()
    number_of_streets = min(_MAXIMUM_STREETS, sum(cells) // _RESIDENTS_PER_STREET + 3)
    shift = random.randrange(len(all_streets))
    men = place.men / 10_000
    draw = random.random
    new = tuple.__new__
    for household, members in enumerate(_households(cells, random)):
        house, street = divmod(household, number_of_streets)
        street_name, code = all_streets[(street * 37 + shift) % len(all_streets)], postcode(area, street)
        prefix, family = families[int(draw() * len(families))]
        moved = today - int(draw() * draw() * 9000)
        for member, birth in enumerate(members):
            sex = "M" if draw() < men else "V"
            given = names[sex][int(draw() * 1920)]
            if member == 1 and birth - members[0] < _ADULT:  # a partner has a name of their own
                own_prefix, own_family = families[int(draw() * len(families))]
            else:
                own_prefix, own_family = prefix, family
            since = texts[max(birth, moved)]
            yield new(
                Person,
                (
                    *(next(citizen_numbers), given, own_prefix, own_family, texts[birth], place.code, _NETHERLANDS),
                    *(sex, place.code, place.name, since, street_name, house + 1, "", "", code, place.name),
                    *("", "", "", since, "", "", 0),
                ),
            )


def batches(people: Iterator[Person], size: int) -> Iterator[list[Person]]:
    """The stream in lists of `size`."""
    while batch := list(islice(people, size)):
        yield batch
