"""Synthetic residents: invented people in the real country's proportions.

`generate` gives a stream of any length up to seventeen million; the same count and seed give the same people. How
many live where and how old they are follows published figures (`municipalities.csv`); who they are is made up:
names, streets, postcodes and numbers belong to nobody. `rvig` reads the official fictitious test persons instead.
"""

from stelsel.demo.people.generate import MAXIMUM, REFERENCE_DAY, generate
from stelsel.demo.people.municipalities import Municipality, municipalities
from stelsel.demo.people.person import Person

__all__ = [
    "MAXIMUM",
    "REFERENCE_DAY",
    "Municipality",
    "Person",
    "generate",
    "municipalities",
]
