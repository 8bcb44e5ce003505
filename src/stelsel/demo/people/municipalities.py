"""Municipalities with their population by age group, from published figures (see the head of the file)."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

AGE_GROUPS = ((0, 14), (15, 24), (25, 44), (45, 64), (65, 100))
"""First and last age of each group, in years; nobody synthetic is older than 100."""


class Municipality(NamedTuple):
    """One municipality; shares are in hundredths of a percent."""

    code: str
    """Four digits, as in LO BRP table 33 and, after `GM`, at Statistics Netherlands."""
    name: str
    population: int
    age_shares: tuple[int, ...]
    men: int


@cache
def municipalities() -> tuple[Municipality, ...]:
    """All municipalities, in the order of their codes."""
    with Path(__file__).with_name("municipalities.csv").open(encoding="utf-8", newline="") as file:
        rows = csv.reader(line for line in file if not line.startswith("#"))
        next(rows)
        return tuple(
            Municipality(code, name, int(population), tuple(int(share) for share in shares), int(men))
            for code, name, population, *shares, men in rows
        )


@cache
def name_of(code: str) -> str:
    """The name that goes with a code; empty when there is none by that code."""
    return next((municipality.name for municipality in municipalities() if municipality.code == code), "")
