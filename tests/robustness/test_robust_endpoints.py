"""Malformed, oversized and unknown bodies, queries and paths, at every endpoint of running nodes."""

from __future__ import annotations

import time

import httpx
import pytest
from robust_siege import (
    BODIES,
    FORM,
    JSON,
    QUERY_NAMES,
    VALUES,
    Endpoint,
    client_for,
    endpoints_of,
    is_fault_document,
    logged_in,
    state_of,
    told,
)

from stelsel.demo.cast import GEMEENTE, REGIE, REGISTER, Actor
from stelsel.demo.country import MUNICIPALITY, Country
from stelsel.demo.population_register.store import notable_people

PLACES = [
    pytest.param(actor, listener, id=f"{listener} of {actor.name}")
    for actor, listeners in (
        (REGISTER, ("manager", "web", "control", "inzage")),
        (REGIE, ("manager", "web", "control")),
    )
    for listener in listeners
]

_HARMLESS_WITHOUT_BODY = {
    ("/v1/announce", "PUT"),  # FSC Core 4.4.1.1: what it says is in its certificate and header; a body is not read
    ("/commands/check", "POST"),  # runs all checks when no peer is named
}

_NUMBERS = ("limit", "cursor", "from", "size", "na", "after", "sort_order")
_NO_NUMBERS = ("%00", "-1", "9" * 30, "%D9%A7")
_LOGIN = {"/inloggen", "/uitloggen", "/oidc/logout", "/inloggen/terug"}
"""These end or begin a session, which is what they are for."""


@pytest.fixture(scope="session")
def every_endpoint(besieged: Country, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Endpoint]]:
    return {
        actor.key: endpoints_of(besieged, actor, tmp_path_factory.mktemp(f"p{actor.number}"))
        for actor in (REGIE, REGISTER)
    }


def _send(client: httpx.Client, method: str, url: str, **options: object) -> tuple[httpx.Response | None, float]:
    """The answer, or None where the node hung up on a body that it did not want; and the seconds it took."""
    begin = time.perf_counter()
    try:
        answer = client.request(method, url, **options)  # type: ignore[arg-type]
    except (httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError):
        return None, time.perf_counter() - begin
    return answer, time.perf_counter() - begin


def _sends_to_login(answer: httpx.Response, endpoint: Endpoint) -> bool:
    """Who is not logged in is sent to where she can, whatever she posted; what she posted is dropped."""
    return endpoint.path.startswith("/mijn-gegevens/") and (answer.status_code, answer.headers.get("location")) == (
        303,
        "/mijn-gegevens",
    )


@pytest.mark.parametrize(("actor", "listener"), PLACES)
def test_a_body_that_cannot_be_right_is_refused_in_words_and_changes_nothing(
    besieged: Country, every_endpoint: dict[str, list[Endpoint]], actor: Actor, listener: str
) -> None:
    before, wrong = state_of(besieged, actor), []
    with client_for(besieged, actor, listener) as client:
        for endpoint in every_endpoint[actor.key]:
            if endpoint.listener != listener or endpoint.method == "GET":
                continue
            for name, (kind, body) in BODIES.items():
                if endpoint.path == "/oidc/logout" and kind == FORM:
                    continue  # Without a session, logging out is done already, whatever the form says.
                if (endpoint.path, endpoint.method) in _HARMLESS_WITHOUT_BODY and name != "too large":
                    continue
                answer, seconds = _send(
                    client, endpoint.method, endpoint.at(), content=body, headers={"content-type": kind}
                )
                case = f"{endpoint.method} {endpoint.path}, {name}"
                if answer is None:
                    if len(body) < 1_000_000:
                        wrong.append(f"{case}: no answer")
                elif _sends_to_login(answer, endpoint):
                    continue
                elif not 400 <= answer.status_code < 500:
                    wrong.append(f"{case}: {answer.status_code} {answer.text[:200]}")
                elif not is_fault_document(answer):
                    wrong.append(
                        f"{case}: {answer.status_code} {answer.headers.get('content-type')} {answer.text[:100]}"
                    )
                elif seconds > 4:
                    wrong.append(f"{case}: {seconds:.1f} s")
    assert not wrong, "\n".join(wrong)
    assert state_of(besieged, actor) == before


@pytest.mark.parametrize(("actor", "listener"), PLACES)
def test_a_hostile_path_or_query_is_never_a_mistake_of_ours(
    besieged: Country, every_endpoint: dict[str, list[Endpoint]], actor: Actor, listener: str
) -> None:
    before, wrong = state_of(besieged, actor), []
    with client_for(besieged, actor, listener) as client:
        for endpoint in every_endpoint[actor.key]:
            if endpoint.listener != listener:
                continue
            addresses = [endpoint.at(value) for value in VALUES if "{" in endpoint.path]
            if endpoint.method == "GET":
                for value in VALUES:
                    query = "&".join(f"{name}={value}" for name in QUERY_NAMES if len(value) < 4000 or name in "limit")
                    addresses.append(f"{endpoint.at()}?{query}")
                addresses += [f"{endpoint.at()}?{name}={value}" for name in _NUMBERS for value in _NO_NUMBERS]
            for address in addresses:
                body = {"content": b"{}", "headers": {"content-type": JSON}} if endpoint.method != "GET" else {}
                answer, seconds = _send(client, endpoint.method, address, **body)
                case = f"{endpoint.method} {address[:120]}"
                if answer is None:
                    wrong.append(f"{case}: no answer")
                elif answer.status_code >= 500:
                    wrong.append(f"{case}: {answer.status_code} {answer.text[:200]}")
                elif answer.status_code >= 400 and not is_fault_document(answer):
                    wrong.append(
                        f"{case}: {answer.status_code} {answer.headers.get('content-type')} {answer.text[:100]}"
                    )
                elif seconds > 4:
                    wrong.append(f"{case}: {seconds:.1f} s")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong[:60])
    assert state_of(besieged, actor) == before


def test_the_outway_refuses_hostile_bodies_about_people_and_none_reaches_the_register(besieged: Country) -> None:
    from stelsel.demo.cast import UITKERING

    size = told(besieged, REGISTER, "/about")["ledger"]["size"]
    with client_for(besieged, UITKERING, "outway") as client:
        for name, (kind, body) in BODIES.items():
            answer, seconds = _send(client, "POST", "/personen/personen", content=body, headers={"content-type": kind})
            assert seconds < 4, name
            if answer is not None:
                assert 400 <= answer.status_code < 500, (name, answer.text)
                assert is_fault_document(answer), (name, answer.text)
    assert told(besieged, REGISTER, "/about")["ledger"]["size"] == size


def test_the_demo_applications_refuse_hostile_bodies(besieged: Country) -> None:
    for actor, path in ((REGISTER, "/personen"), (GEMEENTE, "/")):
        with client_for(besieged, actor, "application") as client:
            for name, (kind, body) in BODIES.items():
                answer, seconds = _send(client, "POST", path, content=body, headers={"content-type": kind})
                assert seconds < 4, name
                if answer is not None:
                    assert 400 <= answer.status_code < 500, (actor.name, name, answer.text)


@pytest.mark.parametrize("who", ["a resident", "an official"])
def test_who_is_logged_in_cannot_break_a_page_either(
    besieged: Country, every_endpoint: dict[str, list[Endpoint]], who: str
) -> None:
    resident = notable_people(besieged.folder / "people.sqlite", 1, MUNICIPALITY)[0].name
    actor, name = (REGIE, resident) if who == "a resident" else (REGISTER, f"Medewerker van {REGISTER.name}")
    before, wrong = state_of(besieged, actor), []
    with logged_in(besieged, actor, name) as client:
        for endpoint in every_endpoint[actor.key]:
            if endpoint.listener != "web" or endpoint.path in _LOGIN:
                continue
            sent: list[tuple[str, str, bytes]] = [(endpoint.at(value), JSON, b"{}") for value in VALUES]
            if endpoint.method == "POST":
                sent = [(endpoint.at(), kind, body) for kind, body in BODIES.values() if len(body) < 200_000]
            elif endpoint.method == "GET":
                sent += [
                    (f"{endpoint.at()}?{name}={value}", JSON, b"") for name in ("na", "gedaan") for value in VALUES
                ]
            for address, kind, body in sent:
                answer, seconds = _send(
                    client,
                    endpoint.method,
                    address,
                    content=body,
                    headers={"content-type": kind, "accept": "text/html"},
                )
                case = f"{endpoint.method} {address[:120]} {body[:40]!r}"
                refused = answer is not None and 400 <= answer.status_code < 500 and is_fault_document(answer)
                shown = answer is not None and endpoint.method == "GET" and answer.status_code < 400
                if seconds > 4 or not (refused or shown):
                    wrong.append(f"{case}: {answer and answer.status_code} {answer and answer.text[:200]}")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong[:40])
    assert state_of(besieged, actor) == before
