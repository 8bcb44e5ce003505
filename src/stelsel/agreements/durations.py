"""ISO 8601 durations of years, months and days, as retention periods are written, and which of two is longer."""

from __future__ import annotations

import re

_DURATION = re.compile(r"P(?=.)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,5})D)?")
_DAYS_A_MONTH = 365.2425 / 12
_UNCERTAIN = 4.0
"""Days by which a number of months may differ from its average: no more, whenever it begins."""


def is_duration(text: str) -> bool:
    """Whether `text` is a duration of years, months and days."""
    return _DURATION.fullmatch(text) is not None


def compare(first: str, second: str) -> int | None:
    """1 when `first` is longer than `second`, -1 when shorter, 0 when equal; None when that depends on when it begins.

    Raises `ValueError` when either is no duration.
    """
    months, days = _parts(first)
    other_months, other_days = _parts(second)
    if months == other_months or (months - other_months) * (days - other_days) > 0:
        difference: float = months - other_months or days - other_days
    elif days == other_days:
        difference = months - other_months
    else:
        difference = (months - other_months) * _DAYS_A_MONTH + days - other_days
        if abs(difference) <= _UNCERTAIN:
            return None
    return (difference > 0) - (difference < 0)


def _parts(text: str) -> tuple[int, int]:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("this is no duration of years, months and days")
    years, months, days = (int(part or 0) for part in match.groups())
    return years * 12 + months, days
