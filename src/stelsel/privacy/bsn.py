"""The citizen service number (burgerservicenummer, BSN): its form and its eleven-test.

It has nine digits (Wet algemene bepalingen burgerservicenummer, article 1). With the digits a..i,
9a + 8b + 7c + 6d + 5e + 4f + 3g + 2h - i must be a multiple of eleven (Logisch Ontwerp BRP, element 01.20).
"""

from __future__ import annotations

_WEIGHTS = (9, 8, 7, 6, 5, 4, 3, 2, -1)
_DIGITS = frozenset("0123456789")


def valid(bsn: str) -> bool:
    """Whether `bsn` is nine ASCII digits that pass the eleven-test, and not all zeros."""
    if len(bsn) != 9 or not _DIGITS.issuperset(bsn) or bsn == "000000000":
        return False
    return sum(weight * (ord(digit) - 48) for weight, digit in zip(_WEIGHTS, bsn, strict=True)) % 11 == 0
