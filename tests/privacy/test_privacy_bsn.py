from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_builders import numbers

from stelsel.privacy import bsn


@pytest.mark.parametrize("number", ["999990019", "999993653", "111222333", "123456782"])
def test_numbers_that_pass_the_eleven_test_are_valid(number: str) -> None:
    assert bsn.valid(number)


@pytest.mark.parametrize(
    "number",
    [
        "",
        "000000000",
        "999990018",
        "99999001",
        "9999900190",
        " 99999001",
        "99999001\n",
        "٩٩٩٩٩٠٠١٩",
        "99999001９",
        "-99990019",
        "²22222222",
    ],
)
def test_what_is_no_number_is_refused(number: str) -> None:
    assert not bsn.valid(number)


@given(st.integers(min_value=1), st.integers(0, 8), st.integers(1, 9))
def test_one_wrong_digit_is_always_noticed(seed: int, place: int, change: int) -> None:
    number = numbers(1, seed)[0]
    assert bsn.valid(number)
    wrong = number[:place] + str((int(number[place]) + change) % 10) + number[place + 1 :]
    assert not bsn.valid(wrong)


@given(st.text())
def test_any_text_gets_an_answer(text: str) -> None:
    assert bsn.valid(text) in (True, False)
