"""Synthetic residents: the same every time, in the country's proportions, as a stream."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from datetime import date
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelsel.base.errors import BadRequest
from stelsel.demo.people import MAXIMUM, REFERENCE_DAY, generate, municipalities
from stelsel.demo.people.generate import counts
from stelsel.demo.people.municipalities import AGE_GROUPS
from stelsel.demo.people.numbers import FIRST_BLOCK, LAST_BLOCK, numbers
from stelsel.privacy import bsn


def test_the_same_count_and_seed_give_the_same_people():
    assert list(generate(3000, 7)) == list(generate(3000, 7))
    assert list(generate(3000, 7)) != list(generate(3000, 8))


def test_asking_too_many_people_is_refused():
    for count in (-1, MAXIMUM + 1):
        with pytest.raises(BadRequest, match="outside 0 to 17,000,000"):
            generate(count)
    assert list(generate(0)) == []


def test_every_number_passes_the_eleven_test_and_the_test_range_comes_first():
    first = list(islice(numbers(), 30_000))
    assert all(bsn.valid(number) for number in first)
    assert len(set(first)) == len(first)
    in_test_range = [number for number in first if number.startswith("9999")]
    assert in_test_range == first[: len(in_test_range)]
    assert len(in_test_range) == 9091


def test_there_are_more_numbers_than_people():
    """A number is a distinct prefix and the one check digit that follows, so counting prefixes is counting numbers."""
    weights = range(9, 1, -1)
    valid_tails = Counter(
        sum(int(digit) * weight for digit, weight in zip(f"{tail:04}", range(5, 1, -1), strict=True)) % 11
        for tail in range(10_000)
    )
    total = 0
    for block in range(LAST_BLOCK, FIRST_BLOCK + 1):
        head = sum(int(digit) * weight for digit, weight in zip(str(block), weights, strict=False))
        total += 10_000 - valid_tails[(10 - head) % 11]
    assert total >= MAXIMUM
    assert total == 18_181_818


def test_a_number_that_is_taken_is_not_given_out():
    taken = frozenset(islice(numbers(), 50))
    assert not {person.burgerservicenummer for person in generate(200, taken=taken)} & taken


@settings(max_examples=40, deadline=None)
@given(st.integers(0, MAXIMUM), st.integers(0, 1000))
def test_the_parts_add_up_and_each_is_less_than_one_off(count: int, seed: int):
    parts = list(counts(count, seed))
    whole = sum(place.population * sum(place.age_shares) for place, _ in parts)
    assert sum(sum(cells) for _, cells in parts) == count
    for place, cells in parts:
        for share, cell in zip(place.age_shares, cells, strict=True):
            assert abs(cell - count * place.population * share / whole) < 1 + 1e-6


def test_people_live_and_age_in_the_published_proportions():
    people = list(generate(50_000, 3))
    everyone = municipalities()
    population = sum(place.population for place in everyone)
    lives = Counter(person.municipality_code for person in people)
    for place in everyone:
        assert abs(lives[place.code] - 50_000 * place.population / population) < 2
    ages = Counter(_group(person.birth_date) for person in people)
    for index in range(len(AGE_GROUPS)):
        share = sum(place.population * place.age_shares[index] for place in everyone) / (population * 10_000)
        assert abs(ages[index] / 50_000 - share) < 0.002
    men = sum(person.sex == "M" for person in people)
    assert 0.48 < men / 50_000 < 0.52


def _group(birth_date: str) -> int:
    born = date.fromisoformat(birth_date)
    age = REFERENCE_DAY.year - born.year - ((REFERENCE_DAY.month, REFERENCE_DAY.day) < (born.month, born.day))
    return next(index for index, (first, last) in enumerate(AGE_GROUPS) if first <= age <= last)


def test_people_share_addresses_as_households_do():
    homes = Counter((p.postcode, p.house_number) for p in generate(20_000))
    assert 1.5 < 20_000 / len(homes) < 2.4
    assert max(homes.values()) <= 12
    streets = {(p.postcode, p.street, p.place) for p in generate(20_000)}
    assert len({postcode for postcode, _, _ in streets}) == len(streets), "a postcode is one street"


def test_nobody_is_registered_before_being_born():
    assert all(person.birth_date <= person.registered_since for person in generate(5000))


def test_a_long_stream_stays_out_of_memory():
    def peak(count: int) -> int:
        tracemalloc.reset_peak()
        assert sum(1 for _ in generate(count)) == count
        return tracemalloc.get_traced_memory()[1]

    list(generate(10))  # names and days are made once
    tracemalloc.start()
    short, long = peak(5_000), peak(80_000)
    tracemalloc.stop()
    assert long < short + 500_000
    assert long < 10_000_000
