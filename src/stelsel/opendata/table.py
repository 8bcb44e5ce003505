"""The declared table: a hypercube of cells over one to three dimensions, each a tree of codes with a total on top."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from stelsel.base.canonical import canonical
from stelsel.base.errors import Unprocessable

MAXIMUM_CELLS = 5_000_000


@dataclass(frozen=True)
class Axis:
    """One dimension. `parents[i]` is the place of the parent of `codes[i]`; the total is first and has none (-1)."""

    name: str
    codes: tuple[str, ...]
    parents: tuple[int, ...]

    @classmethod
    def build(cls, name: str, total: str, leaves: tuple[str, ...], groups: Mapping[str, tuple[str, ...]]) -> Axis:
        """The tree: total, then groups if there are any, then leaves. Groups without a leaf are left out."""
        used = {group: [code for code in members if code in set(leaves)] for group, members in groups.items()}
        names = [group for group, members in used.items() if members]
        group_of = {code: 1 + place for place, group in enumerate(names) for code in used[group]}
        codes = (total, *names, *leaves)
        parents = (-1, *(0 for _ in names), *(group_of.get(code, 0) for code in leaves))
        return cls(name, codes, parents)

    @cached_property
    def place(self) -> dict[str, int]:
        """Where each code stands in `codes`."""
        return {code: place for place, code in enumerate(self.codes)}

    @cached_property
    def children(self) -> dict[int, tuple[int, ...]]:
        """The places right under each place that has any."""
        found: dict[int, list[int]] = {}
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                found.setdefault(parent, []).append(place)
        return {parent: tuple(places) for parent, places in found.items()}

    def lineage(self, place: int) -> tuple[int, ...]:
        """The place itself and everything above it."""
        found = [place]
        while self.parents[found[-1]] >= 0:
            found.append(self.parents[found[-1]])
        return tuple(found)


@dataclass(frozen=True)
class Relation:
    """A cell that is the sum of other cells."""

    parent: int
    children: tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """The cells of the table, numbered; the last axis runs fastest."""

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        if self.size > MAXIMUM_CELLS:
            raise Unprocessable(
                f"the table would have {self.size} cells; at most {MAXIMUM_CELLS} are allowed",
                next_step="use fewer dimensions, or wider bands and groups",
            )

    @cached_property
    def size(self) -> int:
        """How many cells there are, totals included."""
        return prod(len(axis.codes) for axis in self.axes)

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """How far apart two neighbours on each axis are."""
        return tuple(prod(len(axis.codes) for axis in self.axes[place + 1 :]) for place in range(len(self.axes)))

    def cells(self) -> Iterator[tuple[str, ...]]:
        """The codes of every cell, in the order of their numbers."""
        return product(*(axis.codes for axis in self.axes))

    def level(self, cell: int) -> int:
        """On how many axes the cell is a total or subtotal: 0 is an inner cell."""
        return sum(
            (cell // stride) % len(axis.codes) in axis.children
            for stride, axis in zip(self.strides, self.axes, strict=True)
        )

    def relations(self) -> Iterator[Relation]:
        """Every sum that holds between cells: along each axis, for each parent, in each slice of the others."""
        for stride, axis in zip(self.strides, self.axes, strict=True):
            width = stride * len(axis.codes)
            for start in range(0, self.size, width):
                for offset in range(start, start + stride):
                    for parent, children in axis.children.items():
                        yield Relation(offset + parent * stride, tuple(offset + child * stride for child in children))

    def sum_up(self, leaves: Mapping[tuple[int, ...], int]) -> list[int]:
        """The value of every cell, out of the counts of the inner cells (keyed by the place on each axis)."""
        lineages = [[axis.lineage(place) for place in range(len(axis.codes))] for axis in self.axes]
        values = [0] * self.size
        for places, count in leaves.items():
            ways = (lineages[number][place] for number, place in enumerate(places))
            for above in product(*ways):
                values[sum(place * stride for place, stride in zip(above, self.strides, strict=True))] += count
        return values

    def trees(self) -> tuple[dict[str, str], ...]:
        """For each axis, the parent of each code but the total: what readers, and the auditor, need to add up."""
        return tuple(
            {code: axis.codes[parent] for code, parent in zip(axis.codes, axis.parents, strict=True) if parent >= 0}
            for axis in self.axes
        )

    def fingerprint(self) -> str:
        """SHA-256 over the axes: two releases can be compared cell by cell when it is the same."""
        described = [[axis.name, list(axis.codes), list(axis.parents)] for axis in self.axes]
        return hashlib.sha256(canonical(described)).hexdigest()
