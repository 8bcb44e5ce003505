"""What the robustness tests share: every endpoint of a node's listeners, what to throw at it, and how to judge."""

from __future__ import annotations

import re
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.routing import BaseRoute, Mount, Route

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.settings import read_toml
from stelsel.control import api as control
from stelsel.demo.cast import BOUWER, REGISTER, Actor
from stelsel.demo.country import Country
from stelsel.demo.scenario.browser import Visitor
from stelsel.node import Node, NodeSettings
from stelsel.privacy.api import routes as insight_routes

PATIENCE = 5.0
"""Seconds within which everything hostile must have its answer."""


@dataclass(frozen=True)
class Endpoint:
    """One method on one path of one listener; `path` may hold `{parameters}`."""

    listener: str
    method: str
    path: str

    def at(self, value: str = "x") -> str:
        """The path with every parameter filled in."""
        return re.sub(
            r"\{(\w+)(:\w+)?\}", lambda found: "7" if found[2] == ":int" and value == "x" else value, self.path
        )


def endpoints_of(country: Country, actor: Actor, folder: Path) -> list[Endpoint]:
    """Every endpoint of a node, read from its own routes, so that a new one is besieged without being listed here.

    A second node is put together beside the running one, from the same file, and not started.
    """
    home = folder / actor.key
    shutil.copytree(country.folder / actor.key, home, ignore=shutil.ignore_patterns("data", "*.log"))
    for name in ("group.toml", "trust-anchors.pem"):
        shutil.copy(country.folder / name, folder / name)
    for other in country.folder.iterdir():
        if other.is_dir() and not (folder / other.name).exists():
            (folder / other.name).mkdir()
            shutil.copy(other / "certificate.pem", folder / other.name / "certificate.pem")
    node = Node(read_toml(home / "node.toml", NodeSettings))
    assert node.settings.web is not None
    listeners: dict[str, list[BaseRoute]] = {
        "manager": node._manager_routes(),
        "web": list(node._web(node.settings.web).routes),
        "control": list(control.routes(node._rooms())),
        "inzage": list(insight_routes(node.insight)),
    }
    found = []
    for listener, routes in listeners.items():
        for route in routes:
            if isinstance(route, Route):
                methods = sorted((route.methods or {"GET"}) - {"HEAD"})
                found += [Endpoint(listener, method, route.path) for method in methods]
            elif isinstance(route, Mount):
                found.append(Endpoint(listener, "GET", f"{route.path}/{{file}}"))
    node.database.close()
    assert len(found) > 25
    return found


def client_for(country: Country, actor: Actor, listener: str, caller: Actor = BOUWER) -> httpx.Client:
    """A client that gets as far as a real caller of that listener would: with a certificate, or on the socket."""
    if listener in ("control", "inzage"):
        transport = httpx.HTTPTransport(uds=str(country.data(actor) / f"{listener}.sock"))
        return httpx.Client(transport=transport, base_url="http://node", timeout=PATIENCE)
    if listener in ("manager", "inway"):
        base = f"https://localhost:{actor.port(country.base, listener)}"
        return httpx.Client(base_url=base, verify=tls_of(country, caller), timeout=PATIENCE, trust_env=False)
    return httpx.Client(
        base_url=f"http://127.0.0.1:{actor.port(country.base, listener)}", timeout=PATIENCE, trust_env=False
    )


def tls_of(country: Country, caller: Actor) -> ssl.SSLContext:
    """The TLS context of a peer that calls."""
    home = country.folder / caller.key
    keypair = KeyPair.load(home / "certificate.pem", home / "key.pem")
    return keypair.client_context(TrustAnchors.load(country.folder / "trust-anchors.pem"))


def state_of(country: Country, actor: Actor = REGISTER) -> Any:
    """What a node has agreed to and whom it knows: hostile input must leave it exactly as it is."""
    agreements = {
        row["content_hash"]: (row["state"], row["waiting_for"]) for row in told(country, actor, "/agreements")
    }
    return agreements, sorted(row["peer_id"] for row in told(country, actor, "/peers"))


def told(country: Country, actor: Actor, path: str) -> Any:
    """What a node tells its operator."""
    return country.control(actor).get(path)


def is_fault_document(answer: httpx.Response) -> bool:
    """Whether an error has one of the forms that its reader expects: problem+json, FSC, RFC 6749, or a page."""
    kind = answer.headers.get("content-type", "")
    if kind.startswith("text/html"):
        return "<html" in answer.text and "Traceback" not in answer.text
    if kind.startswith("application/problem+json"):
        document = answer.json()
        return "title" in document and document.get("status") == answer.status_code
    if kind.startswith("application/json"):
        document = answer.json()
        return any(
            names <= document.keys()
            for names in ({"message", "domain", "code"}, {"error", "error_description"}, {"problem", "message_nl"})
        )
    return False


def logged_in(country: Country, actor: Actor, name: str) -> httpx.Client:
    """A browser in which somebody has logged in at a peer's site, as a client that follows nothing."""
    visitor = Visitor()
    visitor.go(f"{country.web(actor)}/inloggen")
    visitor.press(name)
    cookies = visitor._client.cookies
    visitor._client.close()
    assert cookies
    return httpx.Client(base_url=country.web(actor), cookies=cookies, timeout=PATIENCE, trust_env=False)


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

BODIES: dict[str, tuple[str, bytes]] = {
    "nothing": (JSON, b""),
    "half an object": (JSON, b'{"content": {'),
    "a list": (JSON, b"[1, 2, 3]"),
    "null": (JSON, b"null"),
    "a member twice": (JSON, b'{"content": {}, "content": {"a": 1}, "signature": "x"}'),
    "nested too deeply": (JSON, b'{"content": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b', "signature": "x"}'),
    "brackets without end": (JSON, b"[" * 100_000),
    "no UTF-8": (JSON, b'{"content": "\xff\xfe", "signature": "\xc0\xaf"}'),
    "half a surrogate": (JSON, b'{"content": "\\ud800", "signature": "\\udfff"}'),
    "not a number": (JSON, b'{"content": NaN, "signature": -Infinity}'),
    "a number without end": (JSON, b'{"content": ' + b"9" * 5000 + b"}"),
    "unknown members": (JSON, b'{"__proto__": {"admin": true}, "zzz": [], "limit": "x", "service": {}, "schema": 5}'),
    "wrong types": (
        JSON,
        b'{"content": [], "signature": {"a": 1}, "challenge": 5, "limit": "many", "peer_id": 7, "service": []}',
    ),
    "a NUL": (JSON, b"\x00" * 64),
    "too large": (JSON, b'{"content": "' + b"x" * 3_000_000 + b'"}'),
    "XML with an entity": (
        "application/xml",
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    ),
    "JSON named as text": ("text/plain", b'{"content": {}, "signature": "x"}'),
    "a broken multipart": ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n'),
    "a form with a member twice": (FORM, b"grant_type=a&grant_type=b&scope=%00&client_id=%ff"),
    "a form that is no form": (FORM, b"%zz&&&=;%"),
    "a form with very many members": (FORM, b"&".join(b"a%d=1" % number for number in range(5000))),
    "a form too large": (FORM, b"grant_type=" + b"x" * 3_000_000),
    "a content type that is hostile": ('application/json; charset="\\x1b[31m"; a=' + "b" * 2000, b"{"),
}

VALUES = (
    "%00",
    "%ff%fe",
    "%1b%5b31m",
    "..%2f..%2f..%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "'%20OR%201=1--",
    "%E2%80%AEevil",
    "9" * 30,
    "9" * 5000,
    "-1",
    "a" * 9000,
    "%24{jndi:ldap://x}",
    "*",
)

QUERY_NAMES = (
    "limit",
    "cursor",
    "sort_order",
    "grant_hash",
    "grant_type",
    "peer_id",
    "peer_name",
    "service_name",
    "after",
    "before",
    "transaction_ids",
    "size",
    "from",
    "state",
    "challenge",
    "code",
    "client_id",
    "redirect_uri",
    "terug",
    "na",
    "taal",
    "_next",
    "next",
    "_facet",
    "gemeente",
    "iss",
)
