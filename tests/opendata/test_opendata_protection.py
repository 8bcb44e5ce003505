"""Nobody can be recognised: attacks on the published table, and on the auditor that must stop them."""

from __future__ import annotations

from datetime import date
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opendata_samples import REFERENCE

from stelsel.base.errors import Conflict, Unprocessable
from stelsel.opendata.audit import Inconsistent, audit
from stelsel.opendata.counting import Counted
from stelsel.opendata.pipeline import Earlier, Protected, protect
from stelsel.opendata.suppression import Suppression
from stelsel.opendata.table import Axis, Shape

Table = list[list[int]]


def counted(table: Table, groups: dict[str, tuple[str, ...]] | None = None) -> Counted:
    rows = tuple(f"r{place}" for place in range(len(table)))
    columns = tuple(f"c{place}" for place in range(len(table[0])))
    shape = Shape((Axis.build("rij", "R", rows, groups or {}), Axis.build("kolom", "C", columns, {})))
    leaves = {
        (shape.axes[0].place[row], shape.axes[1].place[column]): table[i][j]
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    }
    return Counted(shape, shape.sum_up(leaves))


def published(found: Protected) -> dict[tuple[str, ...], int | None]:
    return dict(found.rows())


def brute_force_interval(cells: dict[tuple[str, ...], int | None], target: tuple[str, ...]) -> tuple[float, float]:
    """What an attacker can say of one cell of a flat table, with equations of the test's own making."""
    import numpy as np
    from scipy.optimize import linprog

    names = list(cells)
    rows = sorted({row for row, _ in names} - {"R"})
    columns = sorted({column for _, column in names} - {"C"})
    equations, right = [], []

    def equation(total: tuple[str, str], parts: list[tuple[str, str]]) -> None:
        line = np.zeros(len(names))
        for part in parts:
            line[names.index(part)] = 1
        line[names.index(total)] = -1
        equations.append(line)
        right.append(0)

    for row in [*rows, "R"]:
        equation((row, "C"), [(row, column) for column in columns])
    for column in [*columns, "C"]:
        equation(("R", column), [(row, column) for row in rows])
    bounds = [(0, None) if value is None else (value, value) for value in cells.values()]
    objective = np.zeros(len(names))
    objective[names.index(target)] = 1
    low = linprog(objective, A_eq=np.array(equations), b_eq=right, bounds=bounds)
    high = linprog(-objective, A_eq=np.array(equations), b_eq=right, bounds=bounds)
    assert low.status == 0
    return low.fun, float("inf") if high.status == 3 else -high.fun


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_suppressed_cell_can_be_derived_and_published_cells_are_true(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(2, 6)), data.draw(st.integers(2, 6))
    count = st.one_of(st.integers(0, 5), st.integers(0, 60))
    table = data.draw(st.lists(st.lists(count, min_size=width, max_size=width), min_size=height, max_size=height))
    secret = counted(table)
    try:
        cells = published(protect(secret, 4, reference=REFERENCE))
    except Unprocessable:
        return
    truth = dict(zip(secret.shape.cells(), secret.values, strict=True))
    for cell, value in cells.items():
        if value is None:
            low, high = brute_force_interval(cells, cell)
            assert high - low >= 4 - 1e-6, (cell, low, high)
        else:
            assert value == truth[cell] >= 4


def test_totals_minus_parts_do_not_give_a_small_cell() -> None:
    cells = published(protect(counted([[3, 40, 50], [30, 45, 55], [25, 35, 60]]), 10, reference=REFERENCE))
    assert cells["r0", "c0"] is None
    assert cells["R", "C"] == 343
    for row in ("r0", "r1", "r2", "R"):  # no sum has exactly one unknown
        unknown = [column for column in ("C", "c0", "c1", "c2") if cells[row, column] is None]
        assert len(unknown) != 1
    low, high = brute_force_interval(cells, ("r0", "c0"))
    assert high - low >= 10


def test_the_nation_minus_the_other_municipalities_does_not_give_a_small_one() -> None:
    cells = published(protect(counted([[3, 4], [400, 500], [300, 350]]), 10, reference=REFERENCE))
    assert cells["r0", "C"] is None
    assert sum(cells[row, "C"] is None for row in ("r0", "r1", "r2")) >= 2


def test_subtotals_do_not_give_a_small_cell() -> None:
    groups = {"noord": ("r0", "r1"), "zuid": ("r2", "r3")}
    secret = counted([[2, 50], [60, 70], [80, 90], [85, 95]], groups)
    found = protect(secret, 10, reference=REFERENCE)
    cells = published(found)
    assert cells["r0", "c0"] is None
    assert cells["r1", "c0"] is None or cells["noord", "c0"] is None
    assert found.audit.passed


def test_zeros_and_cells_of_a_hundred_percent_are_not_shown() -> None:
    cells = published(protect(counted([[0, 120, 0], [50, 60, 70], [55, 66, 77]]), 10, reference=REFERENCE))
    assert cells["r0", "c0"] is None
    assert cells["r0", "c2"] is None
    assert cells["r0", "c1"] is None, "all of r0 is in c1: that says something of each of them"
    assert 0 not in cells.values()


def test_a_category_that_holds_nearly_all_of_its_total_is_not_shown() -> None:
    cells = published(protect(counted([[118, 2], [50, 60], [55, 66]]), 10, reference=REFERENCE))
    assert cells["r0", "c0"] is None


def test_a_single_person_is_not_shown_anywhere() -> None:
    table = [[20, 30, 40], [25, 35, 45], [22, 33, 1]]
    cells = published(protect(counted(table), 10, reference=REFERENCE))
    assert cells["r2", "c2"] is None
    low, high = brute_force_interval(cells, ("r2", "c2"))
    assert low <= 1 <= high
    assert high - low >= 10


def test_overlapping_questions_cannot_be_subtracted() -> None:
    """Any set of published cells along one side: what is left of the total is at least the minimum."""
    cells = published(protect(counted([[5, 14, 30, 8], [40, 11, 60, 70], [10, 10, 9, 80]]), 10, reference=REFERENCE))
    for row in ("r0", "r1", "r2", "R"):
        total = cells[row, "C"]
        parts = [cells[row, f"c{place}"] for place in range(4)]
        if total is not None and None in parts:
            assert total - sum(part or 0 for part in parts) >= 10


def test_the_auditor_fails_a_table_with_only_the_small_cells_suppressed() -> None:
    secret = counted([[3, 40, 50], [30, 45, 55], [25, 35, 60]])
    rows = [(cell, value if value >= 10 else None) for cell, value in _rows(secret)]
    report = audit(rows, secret.shape.trees(), 10)
    assert not report.passed
    assert [(failure.cell, failure.low, failure.high) for failure in report.failures] == [(("r0", "c0"), 3, 3)]


# Six suppressed cells in a ring: every sum has two unknowns that add up to more than 60, and yet together the sums
# leave each of them a range of only six.
_RING = [[1, 60, 100], [100, 60, 5], [60, 100, 60]]
_RING_CELLS = {("r0", "c0"), ("r0", "c1"), ("r1", "c1"), ("r1", "c2"), ("r2", "c2"), ("r2", "c0")}


def test_the_auditor_fails_cells_that_only_several_sums_together_give_away() -> None:
    secret = counted(_RING)
    rows = [(cell, None if cell in _RING_CELLS else value) for cell, value in _rows(secret)]
    report = audit(rows, secret.shape.trees(), 10)
    assert {failure.cell for failure in report.failures} == _RING_CELLS
    assert all(failure.high - failure.low == 6 for failure in report.failures)


def test_what_the_auditor_fails_is_suppressed_further_until_it_passes() -> None:
    secret = counted(_RING)
    suppression = Suppression(secret.shape, secret.values, 10)
    before = set(suppression.hidden)
    suppression.strengthen([list(secret.shape.cells()).index(("r0", "c0"))])
    assert before < suppression.hidden
    assert protect(secret, 10, reference=REFERENCE).audit.passed


def test_the_auditor_wants_a_whole_table_that_adds_up() -> None:
    secret = counted([[30, 40], [50, 60]])
    rows = list(_rows(secret))
    with pytest.raises(Inconsistent, match="missing"):
        audit([row for row in rows if row[0] != ("r0", "c0")], secret.shape.trees(), 10)
    with pytest.raises(Inconsistent, match="twice"):
        audit([*rows, rows[0]], secret.shape.trees(), 10)
    wrong = [(cell, value + 1 if cell == ("r0", "c0") else value) for cell, value in rows]
    with pytest.raises(Inconsistent, match="add up"):
        audit(wrong, secret.shape.trees(), 10)


def test_a_table_in_which_everything_would_be_suppressed_is_refused() -> None:
    with pytest.raises(Unprocessable, match="every cell"):
        protect(counted([[1, 2], [3, 0]]), 10, reference=REFERENCE)


def test_two_releases_a_few_days_apart_are_refused() -> None:
    secret = counted([[30, 40], [50, 60]])
    earlier = _earlier(protect(secret, 10, reference=REFERENCE), REFERENCE)
    with pytest.raises(Conflict, match="days apart"):
        protect(counted([[31, 40], [50, 60]]), 10, reference=date(2026, 11, 8), earlier=[earlier])
    assert protect(secret, 10, reference=date(2026, 12, 1), earlier=[earlier]).audit.passed


def test_a_corrected_release_of_the_same_date_is_refused() -> None:
    earlier = _earlier(protect(counted([[30, 40], [50, 60]]), 10, reference=REFERENCE), REFERENCE)
    with pytest.raises(Conflict, match="changed"):
        protect(counted([[31, 40], [50, 60]]), 10, reference=REFERENCE, earlier=[earlier])


def test_other_categories_of_the_same_date_are_refused() -> None:
    earlier = _earlier(protect(counted([[30, 40], [50, 60]]), 10, reference=REFERENCE), REFERENCE)
    with pytest.raises(Conflict, match="other categories"):
        protect(counted([[30, 40, 10], [50, 60, 10]]), 10, reference=REFERENCE, earlier=[earlier])


def test_what_an_earlier_release_hid_stays_hidden_with_a_lower_minimum() -> None:
    secret = counted([[7, 40, 50], [30, 45, 55], [25, 35, 60]])
    first = protect(secret, 10, reference=REFERENCE)
    second = protect(secret, 3, reference=REFERENCE, earlier=[_earlier(first, REFERENCE)])
    assert second.values == first.values
    assert second.joint_with == ("eerder",)


def test_what_an_earlier_release_showed_is_not_pretended_to_be_hidden() -> None:
    secret = counted([[7, 40, 50], [30, 45, 55], [25, 35, 60]])
    first = protect(secret, 5, reference=REFERENCE)
    with pytest.raises(Unprocessable, match="already public"):
        protect(secret, 10, reference=REFERENCE, earlier=[_earlier(first, REFERENCE)])


def test_three_sides_are_protected_too() -> None:
    axes = tuple(Axis.build(name, name.upper(), tuple(f"{name}{n}" for n in range(3)), {}) for name in "abc")
    shape = Shape(axes)
    leaves = {
        places: 5 + 7 * ((places[0] * 5 + places[1] * 3 + places[2]) % 5) for places in product((1, 2, 3), repeat=3)
    }
    found = protect(Counted(shape, shape.sum_up(leaves)), 10, reference=REFERENCE)
    assert found.audit.passed
    assert found.audit.narrowest is not None
    assert found.audit.narrowest >= 10


def _rows(secret: Counted) -> list[tuple[tuple[str, ...], int]]:
    return list(zip(secret.shape.cells(), secret.values, strict=True))


def _earlier(found: Protected, reference: date) -> Earlier:
    return Earlier("eerder", reference, found.shape.fingerprint(), found.minimum_frequency, found.values)
