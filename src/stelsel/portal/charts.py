"""Charts as SVG, made on the server, always beside their table. Pure.

No scripts and no inline style (the Content Security Policy forbids both): classes, and positions as percentages in a
picture without a view box, so that its text has the same size on a telephone as on a wide screen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from stelsel.base.text import inert
from stelsel.portal.words import LANGUAGES, Language

Pair = tuple[str, str]

_ROW = 46
"""Height of a bar with its label above it, in pixels."""
_THICK = 16
_LABEL = 14
_LONGEST_LABEL = 60
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. `value` None: left out to protect people, drawn as a hatched stretch with words."""

    label: str
    value: int | float | None


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


def _short(label: str) -> str:
    return inert(label, _LONGEST_LABEL)


def _percent(part: float) -> str:
    return f"{100 * part:.2f}".rstrip("0").rstrip(".")
