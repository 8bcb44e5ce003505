"""Charts: well-formed, readable without seeing them, no styles or scripts inside, and hostile labels inert."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.portal.charts import Bar, Point, bars, number_in, progress

TITLE = ("Inwoners per leeftijd", "Residents by age")
_SVG = "{http://www.w3.org/2000/svg}"


def _parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 - our own output


def _widths(root: ET.Element, kind: str) -> list[str]:
    return [one.attrib["width"] for one in root.iter(f"{_SVG}rect") if one.attrib.get("class") == kind]


def test_the_longest_bar_is_the_full_width_and_the_others_are_in_proportion() -> None:
    root = _parsed(bars([Bar("0-14", 50), Bar("15+", 200)], name="a", title=TITLE, language="nl"))
    assert _widths(root, "bar") == ["25%", "100%"]


def test_a_chart_is_an_image_with_a_title_and_a_description() -> None:
    root = _parsed(bars([Bar("0-14", 1500), Bar("15+", None)], name="a", title=TITLE, language="en"))
    named = {one.attrib["id"]: one.text for one in root if one.tag in (f"{_SVG}title", f"{_SVG}desc")}
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"].split() == list(named)
    assert list(named.values()) == [
        "Residents by age",
        "2 bars. Most: 0-14 (1,500). Least: 0-14 (1,500). 1 left out.",
    ]


def test_a_figure_that_is_left_out_is_hatched_and_says_so_in_words() -> None:
    picture = bars([Bar("0-14", None), Bar("15+", 12)], name="keuze", title=TITLE, language="nl")
    root = _parsed(picture)
    hatched = next(one for one in root.iter(f"{_SVG}rect") if one.attrib.get("class") == "left-out")
    assert hatched.attrib["fill"] == "url(#keuze-hatch)"
    assert 'id="keuze-hatch"' in picture
    assert "weggelaten" in [one.text for one in root.iter(f"{_SVG}text")]


def test_nothing_to_compare_draws_no_bars() -> None:
    for figures in ([], [Bar("a", 0)], [Bar("a", None)]):
        root = _parsed(bars(figures, name="a", title=TITLE, language="nl"))
        assert _widths(root, "bar") == []


@given(st.lists(st.tuples(st.text(max_size=80), st.none() | st.integers(0, 2**53)), max_size=12))
def test_any_label_gives_sound_markup_that_the_content_security_policy_allows(
    figures: list[tuple[str, int | None]],
) -> None:
    picture = bars([Bar(label, value) for label, value in figures], name="a", title=TITLE, language="nl")
    root = _parsed(picture)
    allowed = {"svg", "title", "desc", "defs", "pattern", "rect", "line", "text"}
    assert {one.tag.removeprefix(_SVG) for one in root.iter()} <= allowed
    assert not re.search(r"\sstyle=|<script|\son\w+=", re.sub(r">[^<]*<", "><", picture))


def test_hostile_labels_are_inert() -> None:
    hostile = "<script>alert(1)</script>\u202e\n"
    picture = bars([Bar(hostile, 3)], name="a", title=(hostile, hostile), language="nl")
    assert "<script" not in picture
    assert "\u202e" not in picture
    assert "\\u{202e}\\u{a}" in picture


def test_a_chart_with_a_negative_value_or_a_name_with_markup_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="plain name"):
        bars([Bar("a", -1)], name="a", title=TITLE, language="nl")
    with pytest.raises(ValueError, match="plain name"):
        bars([], name='"><b', title=TITLE, language="nl")
    with pytest.raises(ValueError, match="two points"):
        progress([_point(0, 1)], None, name="a", title=TITLE, language="nl")


def test_progress_shows_the_promise_as_a_line_and_the_measurement_as_a_dot() -> None:
    picture = progress(
        [_point(0, 0), _point(50, 5), _point(100, 10)], _point(25, 7), name="doel", title=TITLE, language="nl"
    )
    root = _parsed(picture)
    promise = [one for one in root.iter(f"{_SVG}line") if one.attrib["class"] == "promise"]
    dot = [one for one in root.iter(f"{_SVG}circle") if one.attrib["class"] == "measured" and one.attrib["r"] == "7"]
    assert len(promise) == 3  # two stretches and the legend
    assert [one.attrib["cx"] for one in dot] == ["26%"]
    assert "Afgesproken: van w0 op d0 naar w10 op d100. Gemeten: w7 op d25." in picture


def test_progress_without_a_measurement_shows_the_promise_alone() -> None:
    picture = progress([_point(0, 1), _point(1, 1)], None, name="doel", title=TITLE, language="en")
    assert "measured" not in picture
    _parsed(picture)


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=6), st.floats(-1e9, 1e9), st.floats(-10, 100))
def test_progress_stays_within_the_picture(values: list[float], measured: float, at: float) -> None:
    plan = [_point(place, value) for place, value in enumerate(values)]
    picture = progress(plan, _point(at, measured), name="doel", title=TITLE, language="nl")
    for one in _parsed(picture).iter(f"{_SVG}circle"):
        if one.attrib["cx"].endswith("%"):
            assert 0 <= float(one.attrib["cx"].rstrip("%")) <= 100
            assert 60 <= float(one.attrib["cy"]) <= 210


def test_numbers_are_written_as_the_reader_does() -> None:
    assert number_in(1234.5, "nl") == "1.234,5"
    assert number_in(1234.5, "en") == "1,234.5"
    assert number_in(1_000_000, "nl") == "1.000.000"
    assert number_in(90.0, "nl") == "90"


def _point(at: float, value: float) -> Point:
    return Point(at, value, (f"d{at:g}", f"D{at:g}"), (f"w{value:g}", f"W{value:g}"))
