"""The moment from which logs are compared, as people write it."""

from __future__ import annotations

import pytest

from stelsel.base.errors import BadRequest
from stelsel.cli.log import _moment

NOW = 1_764_000_000.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("7d", NOW - 7 * 86_400),
        ("12h", NOW - 12 * 3600),
        ("2025-11-24", 1_763_942_400.0),
        ("2025-11-24T16:00:00Z", NOW),
        ("2025-11-24T17:00:00+01:00", NOW),
        ("1960-01-01", 0.0),
        ("99999d", 0.0),
    ],
)
def test_a_moment_or_so_long_ago(text: str, moment: float) -> None:
    assert _moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7w", "2025-13-01", "-1d", "1d\n"])
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        _moment(text, NOW)
    assert "2026-11-20" in refused.value.next_step
