"""Which cells to suppress: the small and telling ones, and those that would give them away.

This proposes; it proves nothing. The proof is the auditor's (`audit`), who knows only what would be published.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from stelsel.base.errors import Unprocessable
from stelsel.opendata.table import Relation, Shape


class Suppression:
    """The set of suppressed cells of one table, which only grows."""

    def __init__(
        self,
        shape: Shape,
        values: list[int],
        minimum_frequency: int,
        *,
        public: Collection[int] = (),
        keep_hidden: Iterable[int] = (),
    ) -> None:
        """`public`: cells an earlier release shows, so hiding them protects nothing; `keep_hidden`: cells it hides."""
        self._shape = shape
        self._values = values
        self._minimum = minimum_frequency
        self._public = frozenset(public)
        self._relations = list(shape.relations())
        self._of_cell: dict[int, list[int]] = {}
        for number, relation in enumerate(self._relations):
            for cell in (relation.parent, *relation.children):
                self._of_cell.setdefault(cell, []).append(number)
        self.hidden: set[int] = set()
        self._waiting: deque[int] = deque()
        for cell in sorted({*self._primary(), *keep_hidden}):
            self._hide(cell)
        self.settle()

    def _primary(self) -> set[int]:
        """The threshold rule, zeros included, and group disclosure.

        A zero says something of everybody in its row ("nobody here is over 65"), so it is as telling as a one. When
        one category holds all of its parent, or all but fewer than the threshold, the same follows by subtraction.
        """
        small = {cell for cell, value in enumerate(self._values) if value < self._minimum}
        telling = {
            child
            for relation in self._relations
            if len(relation.children) > 1 and relation.parent not in small
            for child in relation.children
            if child not in small and self._values[relation.parent] - self._values[child] < self._minimum
        }
        return small | telling

    def settle(self) -> None:
        """Suppress more until no single sum gives a suppressed cell away, or bounds it too closely."""
        while self._waiting:
            relation = self._relations[self._waiting.popleft()]
            while self._is_weak(relation):
                self._extend(relation)

    def strengthen(self, failing: Iterable[int]) -> None:
        """The auditor found these cells recomputable: suppress the cheapest further cell in each sum they are in."""
        extended: set[int] = set()
        before = len(self.hidden)
        for cell in failing:
            for number in self._of_cell[cell]:
                if number not in extended:
                    extended.add(number)
                    candidates = self._candidates(self._relations[number])
                    if candidates:
                        self._hide(candidates[0])
        self.settle()
        if len(self.hidden) == before:
            raise self._refusal()

    def _is_weak(self, relation: Relation) -> bool:
        hidden = [cell for cell in relation.children if cell in self.hidden]
        if relation.parent in self.hidden:
            return not hidden
        return bool(hidden) and (len(hidden) < 2 or sum(self._values[cell] for cell in hidden) < self._minimum)

    def _extend(self, relation: Relation) -> None:
        candidates = self._candidates(relation)
        if not candidates:
            raise self._refusal()
        self._hide(candidates[0])

    def _candidates(self, relation: Relation) -> list[int]:
        """What may be suppressed in this sum, cheapest first: inner cells before totals; cells whose other sums have
        suppressed cells already; the smallest."""
        members = [*relation.children, relation.parent]
        free = [cell for cell in members if cell not in self.hidden and cell not in self._public]
        return sorted(free, key=self._cost)

    def _cost(self, cell: int) -> tuple[int, int, int]:
        alone = sum(
            not any(other in self.hidden for other in (relation.parent, *relation.children))
            for relation in map(self._relations.__getitem__, self._of_cell[cell])
        )
        return self._shape.level(cell), alone, self._values[cell]

    def _hide(self, cell: int) -> None:
        if cell in self._public:
            raise self._refusal()
        if cell not in self.hidden:
            self.hidden.add(cell)
            self._waiting.extend(self._of_cell.get(cell, ()))

    def _refusal(self) -> Unprocessable:
        return Unprocessable(
            "this table cannot be published safely: what would have to be suppressed is already public, or nothing "
            "is left to suppress",
            next_step="use wider bands or groups, or another reference date than the earlier release",
        )
