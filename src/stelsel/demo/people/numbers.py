"""Citizen service numbers (burgerservicenummers) that pass the eleven-test and belong to nobody.

RvIG's test persons have numbers that begin with 9999. That range holds 9,091 numbers that pass the test, so it is
used first; when it is full, the numbers go on downwards: 9998, 9997 ... to 8000. Those further ranges are no
official test range: they are synthetic because this file says so, and must never be mixed with a real register.
In all there are 18,181,818 of them.

Two numbers are never the same: a number is eight digits and a check digit that follows from them, every block of
ten thousand prefixes is another four leading digits, and within a block the step is coprime to its size.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

FIRST_BLOCK, LAST_BLOCK = 9999, 8000
_STEP, _START = 7919, 4242  # 7919 is prime, so coprime to 10,000: neighbours in the stream do not look alike


def numbers(taken: Container[str] = ()) -> Iterator[str]:
    """All synthetic numbers in a fixed order, leaving out those that are `taken`."""
    tails = [(_START + index * _STEP) % 10_000 for index in range(10_000)]
    scored = [(f"{tail:04}", _score(f"{tail:04}", 5)) for tail in tails]
    by_head = [
        [tail + str((score + head) % 11) for tail, score in scored if (score + head) % 11 != 10] for head in range(11)
    ]
    for block in range(FIRST_BLOCK, LAST_BLOCK - 1, -1):
        lead = str(block)
        for tail in by_head[_score(lead, 9) % 11]:
            number = lead + tail
            if number not in taken:
                yield number


def _score(digits: str, weight: int) -> int:
    return sum(int(digit) * (weight - place) for place, digit in enumerate(digits))
