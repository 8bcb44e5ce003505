"""Views become HTML here, and nowhere else: one layout, autoescaping, one set of headers, two languages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from stelsel.base.text import inert
from stelsel.portal.charts import number_in
from stelsel.portal.words import LANGUAGES, Language, word

LANGUAGE_COOKIE = "taal"
_ZONE = ZoneInfo("Europe/Amsterdam")
_MONTHS = {
    "nl": [
        "januari",
        "februari",
        "maart",
        "april",
        "mei",
        "juni",
        "juli",
        "augustus",
        "september",
        "oktober",
        "november",
        "december",
    ],
    "en": [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
}


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the main menu; `current` marks where the reader is."""

    href: str
    label: str
    current: bool = False


class Renderer:
    """Makes HTML answers for one organisation's pages."""

    def __init__(self, organisation: str, *, demo: bool) -> None:
        self._environment = Environment(
            loader=PackageLoader("stelsel.portal"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"inert": lambda text: inert(str(text), 2000), "number": _number}
        self._organisation = inert(organisation, 200)
        self._demo = demo

    def page(
        self,
        request: Request,
        template: str,
        *,
        title: tuple[str, str],
        navigation: Iterable[tuple[str, str]] = (),
        signed_in: bool = False,
        status: int = 200,
        form_action: str = "",
        here: str = "",
        **view: Any,
    ) -> Response:
        """The page that `template` makes of `view`.

        `title` and other pairs of text are (Dutch, English); `navigation` are (address, key of the frame's words).
        In templates: `t(key)` a frame word, `say(dutch, english)` or `say(pair)` the reader's language, `when(ms)` and
        `day(seconds)` moments in Dutch time. `form_action` is an
        origin beside our own to which a form may lead; `here` is where a
        GET shows this page again, in the other language, when that is not the address that was just asked.
        """
        language = language_of(request)
        other: Language = "en" if language == "nl" else "nl"
        path = request.url.path

        def say(dutch: str | tuple[str, str], english: str = "") -> str:
            pair = (dutch, english) if isinstance(dutch, str) else dutch
            return pair[LANGUAGES.index(language)]

        html = self._environment.get_template(template).render(
            language=language,
            t=lambda key: word(key, language),
            say=say,
            when=lambda milliseconds: when(milliseconds / 1000, language),
            day=lambda seconds: day(seconds, language),
            title=inert(say(title), 300),
            organisation=self._organisation,
            demo=self._demo,
            navigation=[
                Link(href, word(key, language), path == href or path.startswith(f"{href}/")) for href, key in navigation
            ],
            other_language={
                "code": other,
                "label": word("other_language", language),
                "href": _with_language(here or _address(request), other),
            },
            signed_in=signed_in,
            **view,
        )
        response = HTMLResponse(html, status)
        response.headers["Content-Language"] = language
        response.headers["Content-Security-Policy"] = _policy(form_action)
        response.headers["Cache-Control"] = "no-store" if signed_in or form_action or status >= 400 else "no-cache"
        if request.query_params.get("taal") in LANGUAGES:
            response.set_cookie(LANGUAGE_COOKIE, language, max_age=31_536_000, httponly=True, samesite="lax")
        return response


def language_of(request: Request) -> Language:
    """The reader's language: as asked just now, as chosen before, or Dutch."""
    for wanted in (request.query_params.get("taal"), request.cookies.get(LANGUAGE_COOKIE)):
        for language in LANGUAGES:
            if wanted == language:
                return language
    return "nl"


def when(seconds: float, language: Language) -> str:
    """A moment for people, in Dutch time: 23 november 2026, 14.05 uur."""
    moment = datetime.fromtimestamp(seconds, tz=UTC).astimezone(_ZONE)
    time = f"{moment:%H.%M} uur" if language == "nl" else f"{moment:%H:%M}"
    return f"{day(seconds, language)}, {time}"


def day(seconds: float, language: Language) -> str:
    """A day for people, in Dutch time: 23 november 2026."""
    moment = datetime.fromtimestamp(seconds, tz=UTC).astimezone(_ZONE)
    return f"{moment.day} {_MONTHS[language][moment.month - 1]} {moment.year}"


@pass_context
def _number(context: Context, value: float) -> str:
    """A number as the reader of this page writes it."""
    return number_in(value, context["language"])


def _policy(form_action: str) -> str:
    """Nothing but our own: no inline script or style, no frame, no other origin (Content Security Policy 3)."""
    forms = f"'self' {form_action}".strip()
    return (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
        f"form-action {forms}; base-uri 'none'; frame-ancestors 'none'"
    )


def _address(request: Request) -> str:
    return f"{request.url.path}?{urlencode(dict(request.query_params))}"


def _with_language(address: str, language: Language) -> str:
    """A path on this site, asked in another language. Names and values of its query come back encoded."""
    path, _, query = address.partition("?")
    return f"{path}?{urlencode(dict(parse_qsl(query)) | {'taal': language})}"
