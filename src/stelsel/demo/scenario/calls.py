"""Calls that the steps make: through an outway as an application does, or straight at an inway as an attacker would."""

from __future__ import annotations

import json
from typing import Any

import httpx

from stelsel.base.ids import new_span_id, new_trace_id, traceparent, uuid7
from stelsel.demo.cast import REGISTER, Actor
from stelsel.demo.scenario.play import Story, expect


def question(story: Story, fields: tuple[str, ...]) -> bytes:
    """A question about the resident, as Haal Centraal asks it; the resident is in the body, never in the address."""
    return json.dumps(
        {
            "type": "RaadpleegMetBurgerservicenummer",
            "burgerservicenummer": [story.resident.burgerservicenummer],
            "fields": list(fields),
        }
    ).encode()


def ask_outway(story: Story, actor: Actor, path: str, body: bytes | None = None) -> httpx.Response:
    """A call by an actor's own application, through the actor's outway."""
    url = f"{story.country.outway(actor)}/{path}"
    if body is None:
        return httpx.get(url, timeout=30, trust_env=False)
    return httpx.post(url, content=body, headers={"content-type": "application/json"}, timeout=30, trust_env=False)


def token_of(story: Story, actor: Actor, grant_hash: str) -> str:
    """An access token that the register's manager gives to an actor (FSC Core 4.6.1.3)."""
    context = story.keypair(actor).client_context(story.anchors)
    form = {"grant_type": "client_credentials", "scope": grant_hash, "client_id": actor.peer_id}
    manager = f"https://localhost:{REGISTER.port(story.country.base, 'manager')}"
    answer = httpx.post(f"{manager}/v1/token", data=form, verify=context, timeout=30, trust_env=False)
    expect(answer.status_code == 200, "the manager gives a token", answer.text)
    return str(answer.json()["access_token"])


def ask_inway(story: Story, actor: Actor, token: str | None, body: bytes) -> httpx.Response:
    """A call straight at the register's inway, with an actor's certificate and a token of whoever."""
    context = story.keypair(actor).client_context(story.anchors)
    inway = f"https://localhost:{REGISTER.port(story.country.base, 'inway')}"
    headers = {
        "content-type": "application/json",
        "fsc-transaction-id": uuid7(),
        "traceparent": traceparent(new_trace_id(), new_span_id()),
    }
    if token is not None:
        headers["fsc-authorization"] = token
    return httpx.post(f"{inway}/personen", content=body, headers=headers, verify=context, timeout=30, trust_env=False)


def leaves(value: Any, path: str = "") -> set[str]:
    """The paths of the values in a JSON answer; elements of a list share their path."""
    if isinstance(value, dict):
        return set().union(*(leaves(member, f"{path}.{name}" if path else name) for name, member in value.items()))
    if isinstance(value, list):
        return set().union(*(leaves(member, path) for member in value))
    return {path}
