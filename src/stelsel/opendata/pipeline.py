"""From counts to a table that may be published: suppress, audit, suppress more; or refuse.

What is proven is that the published sums leave every suppressed cell a range at least as wide as the minimum
frequency, jointly with earlier releases of the same reference date. Not covered: what a reader who knows the method
by heart concludes from the choice of cells, what readers know from elsewhere, and two releases further apart in time
than `minimum_days_between`, whose difference is the sum of all births, deaths and moves between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from stelsel.base.errors import Conflict, Unprocessable
from stelsel.opendata.audit import Audit, audit
from stelsel.opendata.counting import Counted
from stelsel.opendata.suppression import Suppression
from stelsel.opendata.table import Shape

_ROUNDS = 60
Row = tuple[tuple[str, ...], int | None]


@dataclass(frozen=True)
class Earlier:
    """An earlier release of the same dataset, as published."""

    release: str
    reference: date
    fingerprint: str
    minimum_frequency: int
    values: tuple[int | None, ...]
    """In the order of the cells of its shape; None where suppressed."""


@dataclass(frozen=True)
class Protected:
    """A table that passed the audit. `values` holds None where a cell is suppressed: the secret is gone."""

    shape: Shape
    values: tuple[int | None, ...]
    audit: Audit
    rounds: int
    minimum_frequency: int
    joint_with: tuple[str, ...]

    def rows(self) -> Iterator[Row]:
        """The rows as they will be published."""
        return zip(self.shape.cells(), self.values, strict=True)


def protect(
    counted: Counted,
    minimum_frequency: int,
    *,
    reference: date,
    minimum_days_between: int = 28,
    earlier: Sequence[Earlier] = (),
) -> Protected:
    """Suppress and audit until the auditor passes it, jointly with the earlier releases.

    Raises `Conflict` when the table may not stand beside an earlier release, `Unprocessable` when it cannot be
    made safe.
    """
    same = [release for release in earlier if release.reference == reference]
    for release in earlier:
        _check_beside(counted, release, reference, minimum_days_between)
    minimum = max([minimum_frequency, *(release.minimum_frequency for release in same)])
    shown = {cell for release in same for cell, value in enumerate(release.values) if value is not None}
    concealed = {cell for release in same for cell, value in enumerate(release.values) if value is None}
    suppression = Suppression(counted.shape, counted.values, minimum, public=shown, keep_hidden=concealed - shown)
    for round_number in range(1, _ROUNDS + 1):
        values = tuple(None if cell in suppression.hidden else value for cell, value in enumerate(counted.values))
        report = audit(zip(counted.shape.cells(), values, strict=True), counted.shape.trees(), minimum)
        if report.passed:
            if all(value is None for value in values):
                raise Unprocessable(
                    f"every cell would be suppressed with a minimum frequency of {minimum}",
                    next_step="use wider bands or groups",
                )
            names = tuple(release.release for release in same)
            return Protected(counted.shape, values, report, round_number, minimum, names)
        suppression.strengthen(_numbers(counted.shape, [failure.cell for failure in report.failures]))
    raise Unprocessable(
        f"after {_ROUNDS} rounds the auditor can still recompute suppressed cells",
        next_step="use wider bands or groups",
    )


def _check_beside(counted: Counted, release: Earlier, reference: date, minimum_days_between: int) -> None:
    """Two releases side by side: the difference between them may not be about a few people."""
    if release.reference != reference:
        if abs((release.reference - reference).days) < minimum_days_between:
            raise Conflict(
                f"release {release.release} is of {release.reference}: less than {minimum_days_between} days apart, "
                "the difference between the two would be about a few people",
                next_step="choose a later reference date",
            )
        return
    if release.fingerprint != counted.shape.fingerprint():
        raise Conflict(
            f"release {release.release} has the same reference date but other categories: subtracting one from the "
            "other would give counts that neither shows",
            next_step="choose another reference date, or keep the categories",
        )
    if any(old is not None and old != new for old, new in zip(release.values, counted.values, strict=True)):
        raise Conflict(
            f"the source has changed since release {release.release} of the same reference date: the difference "
            "would be about the people who were corrected",
            next_step="publish the correction with the next reference date",
        )


def _numbers(shape: Shape, cells: list[tuple[str, ...]]) -> list[int]:
    return [
        sum(axis.place[code] * stride for axis, code, stride in zip(shape.axes, cell, shape.strides, strict=True))
        for cell in cells
    ]
