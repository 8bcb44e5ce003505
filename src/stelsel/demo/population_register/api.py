"""The routes of `personen`. Questions come in the body, never in the URL; nothing about people is logged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.base.web import application, read_json
from stelsel.demo.people.person import Person
from stelsel.demo.population_register import API_VERSION, SUBJECTS_HEADER
from stelsel.demo.population_register.answer import answer
from stelsel.demo.population_register.openapi import document
from stelsel.demo.population_register.question import (
    MAXIMUM_RESULTS,
    ByAddress,
    ByNameAndBirth,
    ByNumber,
    Question,
    fault,
    read_question,
)
from stelsel.demo.population_register.store import Register, comparable
from stelsel.demo.process import with_version

_MAXIMUM_BODY = 32 * 1024


def routes(register: Register, today: Callable[[], date]) -> list[BaseRoute]:
    """`POST /personen` and `GET /openapi.json`, at the root and under `/v1`."""

    async def ask(request: Request) -> Response:
        question = read_question(body := await read_json(request, _MAXIMUM_BODY))
        people, day = find(register, question), today()
        return JSONResponse(
            {"type": body["type"], "personen": [answer(person, question.fields, day) for person in people]},
            headers={
                SUBJECTS_HEADER: ",".join(person.burgerservicenummer for person in people),
                "Cache-Control": "no-store",
            },
        )

    async def openapi(_: Request) -> Response:
        # Open to every origin: the document is public (API Design Rules, /core/publish-openapi).
        return JSONResponse(document(), headers={"Access-Control-Allow-Origin": "*"})

    return [
        route
        for prefix in ("", "/v1")
        for route in (
            Route(f"{prefix}/personen", ask, methods=["POST"]),
            Route(f"{prefix}/openapi.json", openapi, methods=["GET"]),
        )
    ]


def find(register: Register, question: Question) -> list[Person]:
    """Whom a question is about. More than `MAXIMUM_RESULTS` is a `BadRequest` with code `tooManyResults`."""
    match question:
        case ByNumber():
            return register.by_numbers(question.numbers)
        case ByAddress():
            # Who is registered at an address where thousands are is no one's business at once: read a bounded number.
            people = register.by_address(question.postcode, question.house_number, 1000)
            people = [
                person
                for person in people
                if question.house_letter in (None, person.house_letter)
                and question.house_addition in (None, person.house_addition)
            ]
        case ByNameAndBirth():
            people = [
                person
                for person in register.by_name_and_birth(question.family_name, question.birth_date)
                if _same(question.given_names, person.given_names)
                and _same(question.prefix, person.prefix)
                and question.sex in (None, person.sex)
            ]
    if not question.include_deceased:
        people = [person for person in people if not person.death_date and person.suspension != "O"]
    if len(people) > MAXIMUM_RESULTS:
        raise fault("tooManyResults", ("type", f"more than {MAXIMUM_RESULTS} people fit this; ask more precisely"))
    return people


def _same(asked: str | None, known: str) -> bool:
    return asked is None or comparable(asked) == comparable(known)


def make_app(register: Register, today: Callable[[], date] | None = None) -> Any:
    """The whole application. `today` tells the day on which ages are counted: default the machine's own."""
    return with_version(application(routes(register, today or date.today)), API_VERSION)
