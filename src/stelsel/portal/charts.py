"""Charts as SVG, made on the server, always beside their table. Pure.

No scripts and no inline style (the Content Security Policy forbids both): classes, and positions as percentages in a
picture without a view box, so that its text has the same size on a telephone as on a wide screen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from stelsel.base.text import inert
from stelsel.portal.words import LANGUAGES, Language

Pair = tuple[str, str]

_ROW = 46
"""Height of a bar with its label above it, in pixels."""
_THICK = 16
_LABEL = 14
_HEIGHT = 250
_TOP = 66
_BOTTOM = 206
_LONGEST_LABEL = 60
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. `value` None: left out to protect people, drawn as a hatched stretch with words."""

    label: str
    value: int | float | None


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a moment, with how both are written."""

    at: float
    """Seconds since the epoch."""
    value: float
    day: Pair
    shown: Pair


def bars(figures: Sequence[Bar], *, name: str, title: Pair, language: Language) -> Markup:
    """Horizontal bars, one a figure, in the order given; the longest is the full width.

    `name` tells this chart from others on the page (letters, digits, hyphens). Raises `ValueError` for a negative
    value or another name.
    """
    if not _NAME.fullmatch(name) or any(one.value is not None and one.value < 0 for one in figures):
        raise ValueError("a chart needs a plain name and values of 0 or more")
    most = max((one.value for one in figures if one.value is not None), default=0) or 1
    left_out = ("weggelaten", "left out")[LANGUAGES.index(language)]
    parts = [_head(name, title, _description(figures, language), max(1, len(figures)) * _ROW, language, hatch=True)]
    for place, one in enumerate(figures):
        top = place * _ROW
        label = escape(_short(one.label))
        shown = escape(left_out if one.value is None else number_in(one.value, language))
        parts.append(
            Markup(
                '<text class="label" x="0" y="{}">{}</text>'
                '<text class="value" x="100%" y="{}" text-anchor="end">{}</text>'
                '<rect class="track" x="0" y="{}" width="100%" height="{}" rx="2"/>'
            ).format(top + _LABEL, label, top + _LABEL, shown, top + _LABEL + 7, _THICK)
        )
        if one.value is None:
            shape = Markup('<rect class="left-out" x="1" y="{}" width="22%" height="{}" rx="2" fill="url(#{}-hatch)"/>')
            parts.append(shape.format(top + _LABEL + 7, _THICK, name))
        elif one.value > 0:
            shape = Markup('<rect class="bar" x="0" y="{}" width="{}%" height="{}" rx="2"/>')
            parts.append(shape.format(top + _LABEL + 7, _percent(one.value / most), _THICK))
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def progress(plan: Sequence[Point], measured: Point | None, *, name: str, title: Pair, language: Language) -> Markup:
    """What was promised as a line over time, and what was measured as a dot; at least two points, in order of time.

    Raises `ValueError` for another name than letters, digits and hyphens, or a plan of fewer points.
    """
    if not _NAME.fullmatch(name) or len(plan) < 2:
        raise ValueError("a chart needs a plain name and a plan of two points or more")
    every = [*plan, *([measured] if measured is not None else [])]
    low, high = min(0.0, *(one.value for one in every)), max(one.value for one in every)
    first, last = plan[0].at, max(one.at for one in plan)

    def place(one: Point) -> tuple[str, str]:
        along = (min(max(one.at, first), last) - first) / ((last - first) or 1)
        up = (one.value - low) / ((high - low) or 1)
        return f"{_percent(0.02 + 0.96 * along)}%", f"{_BOTTOM - up * (_BOTTOM - _TOP):.1f}"

    parts = [_head(name, title, _told(plan, measured, language), _HEIGHT, language, hatch=False)]
    parts.append(Markup('<line class="axis" x1="0" y1="{0}" x2="100%" y2="{0}"/>').format(_BOTTOM + 8))
    for one, two in pairwise(plan):
        (x1, y1), (x2, y2) = place(one), place(two)
        parts.append(Markup('<line class="promise" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(x1, y1, x2, y2))
    for one in plan:
        x, y = place(one)
        parts.append(Markup('<circle class="promise-point" cx="{}" cy="{}" r="4"/>').format(x, y))
    parts += _legend(measured is not None, language)
    if measured is not None:
        x, y = place(measured)
        drop = Markup('<line class="measured-line" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>')
        parts.append(drop.format(x, y, _BOTTOM + 8))
        parts.append(Markup('<circle class="measured" cx="{}" cy="{}" r="7"/>').format(x, y))
    for one, anchor, edge in ((plan[0], "start", "0"), (plan[-1], "end", "100%")):
        _, y = place(one)
        # beside the line on the side where the measured dot is not
        below = measured is not None and measured.value >= one.value and float(y) < _BOTTOM - 20
        row = Markup(
            '<text class="value value--edge" x="{0}" y="{1}" text-anchor="{2}">{3}</text>'
            '<text class="label" x="{0}" y="{4}" text-anchor="{2}">{5}</text>'
        )
        shown, day = one.shown[LANGUAGES.index(language)], one.day[LANGUAGES.index(language)]
        parts.append(row.format(edge, float(y) + (23 if below else -12), anchor, shown, _HEIGHT - 6, day))
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def number_in(value: float, language: Language) -> str:
    """A number as people write it: 1.234,5 in Dutch, 1,234.5 in English. Whole numbers without decimals."""
    whole = float(value).is_integer()
    text = f"{int(value):,}" if whole else f"{value:,.1f}"
    return text if language == "en" else text.translate(str.maketrans(",.", ".,"))


def _head(name: str, title: Pair, description: str, height: int, language: Language, *, hatch: bool) -> Markup:
    pattern = Markup(
        '<defs><pattern id="{}-hatch" width="7" height="7" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect class="hatch-ground" width="7" height="7"/>'
        '<line class="hatch-line" x1="0" y1="0" x2="0" y2="7"/></pattern></defs>'
    ).format(name)
    return Markup(
        '<svg class="plot" role="img" aria-labelledby="{0}-title {0}-description" width="100%" height="{1}" '
        'xmlns="http://www.w3.org/2000/svg" focusable="false"><title id="{0}-title">{2}</title>'
        '<desc id="{0}-description">{3}</desc>{4}'
    ).format(name, height, inert(title[LANGUAGES.index(language)], 300), description, pattern if hatch else Markup(""))


def _description(figures: Sequence[Bar], language: Language) -> str:
    """What the bars show, in a sentence; all figures are in the table beside the chart."""
    known = [one for one in figures if one.value is not None]
    hidden = len(figures) - len(known)
    if not known:
        return ("Alle aantallen zijn weggelaten.", "All numbers are left out.")[LANGUAGES.index(language)]
    top = max(known, key=lambda one: one.value or 0)
    low = min(known, key=lambda one: one.value or 0)
    values = [
        _short(top.label),
        number_in(top.value or 0, language),
        _short(low.label),
        number_in(low.value or 0, language),
    ]
    if language == "nl":
        text = "{} staven. Het meeste: {} ({}). Het minste: {} ({}).".format(len(figures), *values)
        return f"{text} {hidden} weggelaten." if hidden else text
    text = "{} bars. Most: {} ({}). Least: {} ({}).".format(len(figures), *values)
    return f"{text} {hidden} left out." if hidden else text


def _told(plan: Sequence[Point], measured: Point | None, language: Language) -> str:
    """What the line and the dot show, in a sentence."""
    place = LANGUAGES.index(language)
    first, last = plan[0], plan[-1]
    promise = (
        f"Afgesproken: van {first.shown[0]} op {first.day[0]} naar {last.shown[0]} op {last.day[0]}.",
        f"Promised: from {first.shown[1]} on {first.day[1]} to {last.shown[1]} on {last.day[1]}.",
    )[place]
    if measured is None:
        return promise
    now = (
        f"Gemeten: {measured.shown[0]} op {measured.day[0]}.",
        f"Measured: {measured.shown[1]} on {measured.day[1]}.",
    )[place]
    return f"{promise} {now}"


def _legend(measured: bool, language: Language) -> list[Markup]:
    place = LANGUAGES.index(language)
    parts = [
        Markup(
            '<line class="promise" x1="0" y1="10" x2="26" y2="10"/><text class="label" x="34" y="15">{}</text>'
        ).format(("afgesproken", "promised")[place])
    ]
    if measured:
        parts.append(
            Markup(
                '<circle class="measured" cx="148" cy="10" r="6"/><text class="label" x="160" y="15">{}</text>'
            ).format(("gemeten", "measured")[place])
        )
    return parts


def _short(label: str) -> str:
    return inert(label, _LONGEST_LABEL)


def _percent(part: float) -> str:
    return f"{100 * part:.2f}".rstrip("0").rstrip(".")
