"""The pages and the public service. The number that an official enters travels in a body, never in a URL or a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.base.errors import BadRequest, ConfigurationFault, Forbidden
from stelsel.base.web import application, read_body
from stelsel.demo.parking import API_VERSION, FIELD_TOO_MANY, FIELDS
from stelsel.demo.parking.places import document, places
from stelsel.demo.parking.question import Outcome, ask
from stelsel.demo.people.municipalities import name_of
from stelsel.demo.process import with_version
from stelsel.privacy import bsn
from stelsel.privacy.fields import words

_FOLDER = Path(__file__).with_name("templates")
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # not no-referrer: then a browser sends `Origin: null` with our own form
    "Cache-Control": "no-store",
}
_PUBLIC = {"Access-Control-Allow-Origin": "*"}
_LARGEST_FORM = 4096
_NAMES = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Parking:
    """What the application is set up with."""

    register_url: str
    """Where the municipality's outway serves `personen`: the path of the question included."""
    municipality: str
    municipality_name: str
    client: httpx.AsyncClient
    now: Callable[[], float]


def routes(parking: Parking) -> list[BaseRoute]:
    """The page in Dutch (`/`) and in English (`/en`), its stylesheet, and the service without personal data."""
    pages = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
    pages.filters["words"] = lambda path, language: words(path).in_language(language)
    template = pages.get_template("permit.html")

    def page(language: str, status: int = 200, **shown: Any) -> Response:
        text = template.render(
            language=language,
            municipality=parking.municipality_name,
            fields=FIELDS,
            field_too_many=FIELD_TOO_MANY,
            **({"error": "", "outcome": None, "kind": ""} | shown),
        )
        return HTMLResponse(text, status_code=status, headers=_SECURITY)

    async def form(request: Request, language: str) -> Response:
        if request.method != "POST":
            return page(language)
        number, one_more = await _read_form(request)
        if not number:
            return page(language, 400, error="empty")
        if not bsn.valid(number):
            return page(language, 400, error="wrong")
        outcome: Outcome = await ask(
            parking.client, parking.register_url, number, parking.municipality, one_more=one_more
        )
        return page(language, outcome=outcome, kind=type(outcome).__name__)

    async def stylesheet(_: Request) -> Response:
        return Response((_FOLDER / "permit.css").read_bytes(), media_type="text/css", headers=_SECURITY)

    async def free_places(_: Request) -> Response:
        return JSONResponse(places(parking.municipality, parking.now()), headers=_PUBLIC)

    async def openapi(_: Request) -> Response:
        return JSONResponse(document(), headers=_PUBLIC)

    service = [
        Route(f"{prefix}{path}", endpoint)
        for prefix in ("", "/v1")
        for path, endpoint in (("/parkeerplaatsen", free_places), ("/openapi.json", openapi))
    ]
    return [
        Route("/", partial(form, language="nl"), methods=["GET", "POST"]),
        Route("/en", partial(form, language="en"), methods=["GET", "POST"]),
        Route("/permit.css", stylesheet),
        *service,
    ]


async def _read_form(request: Request) -> tuple[str, bool]:
    """(number without spaces and points, whether to ask one field more). Refuses what another site sends."""
    _refuse_other_sites(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise BadRequest("send the form as application/x-www-form-urlencoded")
    try:
        text = (await read_body(request, _LARGEST_FORM)).decode("ascii")
        values = parse_qs(text, max_num_fields=10, strict_parsing=bool(text), keep_blank_values=True)
    except ValueError as error:
        raise BadRequest("the form cannot be read") from error
    number = values.get("burgerservicenummer", [""])[0].strip()
    return number.replace(" ", "").replace(".", ""), "one_more" in values


def _refuse_other_sites(request: Request) -> None:
    """A page elsewhere must not make an official's browser look people up (cross-site request forgery)."""
    host = urlsplit(f"//{request.headers.get('host', '')}")
    origin = request.headers.get("origin")
    if host.hostname not in _NAMES:
        raise Forbidden("this application is asked under its own name only", next_step="open it as http://localhost")
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Forbidden("the form was sent by another site")
    if origin not in (None, f"http://{host.netloc}"):
        raise Forbidden("the form was sent by another site")


def new_client() -> httpx.AsyncClient:
    """A client for the outway. Nothing of the environment (proxies, netrc) comes between it and the application."""
    return httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=20))


def make_app(client: httpx.AsyncClient, outway: str, municipality: str, *, now: Callable[[], float] = time.time) -> Any:
    """The whole application. `outway` is the base URL of the municipality's outway, `municipality` a code of four.

    Raises `ConfigurationFault` for a code or a URL that cannot be.
    """
    name = name_of(municipality)
    if not name:
        raise ConfigurationFault("--municipality: there is no municipality by that code", next_step="use one as 0363")
    if not outway.startswith(("http://127.0.0.1:", "http://localhost:", "http://[::1]:")):
        raise ConfigurationFault("--outway: is no outway on loopback", next_step="use one as http://127.0.0.1:7380")
    parking = Parking(f"{outway.rstrip('/')}/personen/personen", municipality, name, client, now)
    return with_version(application(routes(parking)), API_VERSION)
