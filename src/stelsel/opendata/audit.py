"""The auditor: can a suppressed cell be recomputed, or bounded too closely, from what would be published?

It shares no code with `suppression` and knows no secret: its input is the published rows, with None where a cell is
suppressed, and the code trees by which readers add up. For each suppressed cell it looks, with linear programs
(HiGHS), for two tables of whole numbers that agree with everything published and differ there by at least the
minimum frequency. Each table found is checked exactly, in whole numbers, so no rounding in the solver can make an
unsafe release pass; a cell for which no such pair is found fails. Since a suppressed cell is never negative, an
interval that wide also means that nobody can show the cell to be below the minimum frequency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Key = tuple[str, ...]
_GIVE_UP = 200
"""Cells found wanting in one part of the table after which the rest of that part is not looked at: it fails anyway."""


@dataclass(frozen=True)
class Failure:
    """A suppressed cell that readers can bound to `low`..`high`."""

    cell: Key
    low: int
    high: int


@dataclass(frozen=True)
class Audit:
    """What the auditor found."""

    checked: int
    """Suppressed cells looked at."""
    failures: tuple[Failure, ...]
    narrowest: int | None
    """The smallest width that was proven over all suppressed cells; None when nothing is suppressed. The true
    intervals may be wider."""
    programs: int
    """Linear programs solved."""

    @property
    def passed(self) -> bool:
        return not self.failures


class Inconsistent(ValueError):
    """The published rows are not a table: a cell is missing, occurs twice, or published cells do not add up."""


def audit(rows: Iterable[tuple[Key, int | None]], trees: Sequence[Mapping[str, str]], minimum_width: int) -> Audit:
    """Audit published rows (codes of the cell, its count or None). `trees[i]` gives each code's parent on side i.

    Raises `Inconsistent` when the rows are not a complete table that adds up.
    """
    table: dict[Key, int | None] = {}
    for key, value in rows:
        if key in table:
            raise Inconsistent("a cell occurs twice")
        table[key] = value
    variables = {key: number for number, key in enumerate(key for key, value in table.items() if value is None)}
    names = list(variables)
    equations = _equations(table, trees, variables)
    cap = max((value for value in table.values() if value is not None), default=0) + 1000 * minimum_width
    failures: list[Failure] = []
    narrowest: int | None = None
    programs = 0
    for cells, sums in _parts(len(names), equations):
        part = _Part(cells, sums, cap)
        wanting = part.examine(minimum_width)
        programs += part.programs
        failures += [Failure(names[cell], low, high) for cell, low, high in wanting]
        narrowest = part.narrowest if narrowest is None else min(narrowest, part.narrowest)
    return Audit(len(names), tuple(failures), narrowest, programs)


@dataclass(frozen=True)
class _Equation:
    """The sum of coefficient times suppressed cell is `right`, which is published."""

    terms: tuple[tuple[int, int], ...]
    right: int


def _equations(
    table: Mapping[Key, int | None], trees: Sequence[Mapping[str, str]], variables: Mapping[Key, int]
) -> list[_Equation]:
    """Every sum that a reader can write down, with what is published moved to the right."""
    found = []
    for side, tree in enumerate(trees):
        expected: dict[str, int] = defaultdict(int)
        for code in tree.values():
            expected[code] += 1
        children: dict[Key, list[Key]] = defaultdict(list)
        for child in table:
            parent_code = tree.get(child[side])
            if parent_code is not None:
                children[(*child[:side], parent_code, *child[side + 1 :])].append(child)
        for parent, members in children.items():
            if parent not in table or len(members) != expected[parent[side]]:
                raise Inconsistent("a cell is missing")
            terms = [(variables[member], 1) for member in members if table[member] is None]
            right = -sum(table[member] or 0 for member in members)
            if table[parent] is None:
                terms.append((variables[parent], -1))
            else:
                right += table[parent] or 0
            if terms:
                found.append(_Equation(tuple(terms), right))
            elif right != 0:
                raise Inconsistent("published cells do not add up to their published total")
    return found


def _parts(count: int, equations: list[_Equation]) -> list[tuple[list[int], list[_Equation]]]:
    """Split into parts that share no suppressed cell: each is audited on its own."""
    leader = list(range(count))

    def find(cell: int) -> int:
        while leader[cell] != cell:
            leader[cell] = leader[leader[cell]]
            cell = leader[cell]
        return cell

    for equation in equations:
        first = find(equation.terms[0][0])
        for cell, _ in equation.terms[1:]:
            leader[find(cell)] = first
    cells: dict[int, list[int]] = defaultdict(list)
    sums: dict[int, list[_Equation]] = defaultdict(list)
    for cell in range(count):
        cells[find(cell)].append(cell)
    for equation in equations:
        sums[find(equation.terms[0][0])].append(equation)
    return [(members, sums[root]) for root, members in cells.items()]


class _Part:
    """One part of the table, and the range that each of its cells has been seen to take in exact solutions."""

    def __init__(self, cells: list[int], sums: list[_Equation], cap: int) -> None:
        import numpy as np
        from scipy.sparse import csr_array

        self._numpy: Any = np
        self._cells = cells
        column = {cell: place for place, cell in enumerate(cells)}
        rows, columns, data = [], [], []
        for row, equation in enumerate(sums):
            for cell, coefficient in equation.terms:
                rows.append(row)
                columns.append(column[cell])
                data.append(coefficient)
        self._matrix = csr_array((data, (rows, columns)), shape=(len(sums), len(cells)), dtype=np.int64)
        self._right = np.array([equation.right for equation in sums], dtype=np.int64)
        self._cap = cap  # a cell without upper bound is given one: fewer tables to choose from, so never too lenient
        self._low = np.full(len(cells), np.iinfo(np.int64).max)
        self._high = np.full(len(cells), -1, dtype=np.int64)
        self.programs = 0

    @property
    def narrowest(self) -> int:
        return max(0, int((self._high - self._low).min())) if (self._high >= 0).all() else 0

    def examine(self, minimum_width: int) -> list[tuple[int, int, int]]:
        """(cell, low, high) of each cell that is not shown to have `minimum_width`."""
        if len(self._right) == 0:  # a cell that is in no sum at all: nothing bounds it
            self._low[:], self._high[:] = 0, self._cap
            return []
        self._explore(minimum_width)
        wanting: list[tuple[int, int, int]] = []
        for place in self._open(minimum_width):
            objective = self._numpy.zeros(len(self._cells))
            for direction in (-1.0, 1.0):
                if self._high[place] - self._low[place] < minimum_width:
                    objective[place] = direction
                    self._solve(objective)
            if self._high[place] - self._low[place] < minimum_width:
                low, high = int(self._low[place]), int(self._high[place])
                wanting.append((self._cells[place], *((low, high) if high >= 0 else (0, 0))))
                if len(wanting) >= _GIVE_UP:
                    break
        return wanting

    def _explore(self, minimum_width: int) -> None:
        """Move many open cells at once, in random order of preference: one solution settles many.

        A cell is moved no further than it needs to be, so that the sums it is in leave room for others. The solution
        before stays possible under these bounds, and a tighter bound can only make the auditor stricter.
        """
        numpy = self._numpy
        random = numpy.random.default_rng(0)
        self._solve(numpy.zeros(len(self._cells)))
        fruitless = 0
        upward = True
        while fruitless < 6 and len(still_open := self._open(minimum_width)) > 2 and (self._high >= 0).all():
            objective = numpy.zeros(len(self._cells))
            bounds = numpy.zeros((len(self._cells), 2))
            bounds[:, 1] = self._cap
            weights = random.random(len(still_open)) ** 2
            if upward:
                objective[still_open] = -weights
                bounds[still_open, 1] = self._low[still_open] + minimum_width
            else:
                objective[still_open] = weights
                bounds[still_open, 0] = numpy.maximum(0, self._high[still_open] - minimum_width)
            self._solve(objective, bounds)
            gained = len(still_open) - len(self._open(minimum_width))
            if gained * 100 < len(still_open):
                fruitless, upward = fruitless + 1, not upward

    def _open(self, minimum_width: int) -> Any:
        return self._numpy.flatnonzero(self._high - self._low < minimum_width)

    def _solve(self, objective: Any, bounds: Any = None) -> None:
        """Minimise `objective` over the tables that agree; keep the solution if it is exact in whole numbers."""
        from scipy.optimize import linprog

        numpy = self._numpy
        for method, integrality in (("highs-ds", None), ("highs", 1)):
            self.programs += 1
            answer = linprog(
                objective,
                A_eq=self._matrix,
                b_eq=self._right,
                bounds=(0, self._cap) if bounds is None else bounds,
                method=method,
                integrality=integrality,
                options={"time_limit": 20.0},
            )
            if answer.x is None:
                return
            table = numpy.rint(answer.x).astype(numpy.int64)
            if (table >= 0).all() and (self._matrix @ table == self._right).all():
                self._low = numpy.minimum(self._low, table)
                self._high = numpy.maximum(self._high, table)
                return
