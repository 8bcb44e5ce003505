"""A provider, a site that logs people in there, and a browser that is httpx: for scripted conversations."""

from __future__ import annotations

import asyncio
import html
import json
import re
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.base.canonical import canonical
from stelsel.base.clock import SetClock
from stelsel.base.database import Database
from stelsel.base.errors import Fault
from stelsel.base.web import application, listen, serving
from stelsel.identity.api import routes
from stelsel.identity.pages import TEXTS, ActivateView, FailedView, LoginView, LogoutView
from stelsel.identity.relying_party import RelyingParty
from stelsel.identity.requests import ASSERTION_TYPE, Client, s256
from stelsel.identity.service import OpenIdProvider
from stelsel.identity.settings import IdentitySettings
from stelsel.identity.site import SiteLogin

BSN = "999990019"
OFFICIAL_PEER = "00000099000000003000"
PORTAL_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
VERIFIER = "v" * 10 + "abcdefghijklmnopqrstuvwxyz0123456789-._~"
PEOPLE = [
    {"name": "Noor van Dalmeer", "burgerservicenummer": BSN},
    {"name": "Ilse <b>Terwold</b>", "peer_id": OFFICIAL_PEER, "roles": ["steward", "officer"]},
]


class PlainPages:
    """The provider's pages as bare as they can be."""

    def login(self, request: Request, view: LoginView) -> Response:
        choices = "".join(
            f'<button name="person" value="{p.handle}">{html.escape(p.name)}</button>' for p in view.demo_people
        )
        text = html.escape(TEXTS[view.problem][0]) if view.problem else ""
        return self._page(
            view.status,
            f'<p id="problem">{text}</p><p>{html.escape(view.client_name)}</p>'
            f'<form method="post" action="{view.action}">'
            f'<input type="hidden" name="challenge" value="{view.challenge}">'
            f'{choices}<button name="cancel" value="1">Annuleren</button></form>'
            + self._passkey("login", view.challenge, view.options_url, view.verify_url, view.script),
        )

    def activate(self, request: Request, view: ActivateView) -> Response:
        text = html.escape(TEXTS[view.problem][0]) if view.problem else ""
        if view.step == "passkey":
            return self._page(
                view.status, self._passkey("register", view.form_token, view.options_url, view.verify_url, view.script)
            )
        return self._page(
            view.status,
            f'<p id="step">{view.step}</p><p id="problem">{text}</p><form method="post" action="{view.action}">'
            f'<input type="hidden" name="form_token" value="{view.form_token}"><input name="code">'
            "<button>Verder</button></form>",
        )

    def logout(self, request: Request, view: LogoutView) -> Response:
        return self._page(200, f"{view.step} <input name=form_token value={view.form_token}> {view.return_to}")

    def failed(self, request: Request, view: FailedView) -> Response:
        return self._page(view.status, f'<p id="problem">{view.problem}</p>{html.escape(view.detail)}')

    def _page(self, status: int, body: str) -> Response:
        headers = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
                   "connect-src 'self'; form-action 'self' http://localhost:*"}  # fmt: skip
        return HTMLResponse(f"<!doctype html><html lang=nl><title>x</title>{body}", status, headers)

    @staticmethod
    def _passkey(kind: str, challenge: str, options: str, verify: str, script: str) -> str:
        return (
            f'<div data-passkey="{kind}" data-challenge="{challenge}" data-options="{options}" data-verify="{verify}">'
            "<button type=button data-passkey-start hidden>Toegangssleutel</button><p data-passkey-absent>geen</p>"
            f'<p data-passkey-failed role=alert hidden>mislukt</p></div><script src="{script}" defer></script>'
        )


@dataclass
class World:
    """What a conversation needs."""

    issuer: str
    provider: OpenIdProvider
    party: RelyingParty
    browser: httpx.AsyncClient
    backend: httpx.AsyncClient
    clock: SetClock
    database: Database

    @property
    def callback(self) -> str:
        return f"{self.issuer}/callback"

    def request(self, **changes: str | None) -> dict[str, str]:
        """An authorization request that is in order, but for `changes`; None leaves a parameter out."""
        values: dict[str, str | None] = {
            "response_type": "code",
            "client_id": "portal",
            "redirect_uri": self.callback,
            "scope": "openid",
            "state": "s-" + uuid.uuid4().hex,
            "nonce": "n-" + uuid.uuid4().hex,
            "code_challenge": s256(VERIFIER),
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in (values | changes).items() if value is not None}

    async def authorize(self, **changes: str | None) -> httpx.Response:
        return await self.browser.get(f"{self.issuer}/oidc/authorize?{urlencode(self.request(**changes))}")

    async def choose(self, challenge: str, person: str = "p0") -> httpx.Response:
        return await self.browser.post(f"{self.issuer}/login", data={"challenge": challenge, "person": person})

    async def code(self, person: str = "p0", **changes: str | None) -> str:
        """A code, after a login by the demo choice."""
        answer = await self.choose(challenge_in(await self.authorize(**({"prompt": "login"} | changes))), person)
        assert answer.status_code == 303, answer.text
        return query_of(answer)["code"]

    def assertion(self, key: ec.EllipticCurvePrivateKey = PORTAL_KEY, **changes: Any) -> str:
        now = int(self.clock.now())
        claims = {"iss": "portal", "sub": "portal", "aud": self.issuer, "jti": str(uuid.uuid4()), "exp": now + 60}
        kept = {name: value for name, value in (claims | changes).items() if value is not None}
        return jws.serialize_compact({"alg": "ES256"}, canonical(kept), ECKey.import_key(_pem(key)))

    async def redeem(self, code: str, **changes: str | None) -> httpx.Response:
        values: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.callback,
            "code_verifier": VERIFIER,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(),
        }
        form = {name: value for name, value in (values | changes).items() if value is not None}
        return await self.backend.post(f"{self.issuer}/oidc/token", data=form)


def new_browser(cookies: dict[str, str] | None = None) -> httpx.AsyncClient:
    """A browser without anything; TLS is not used here, and reading all root certificates takes its time."""
    return httpx.AsyncClient(cookies=cookies, timeout=20, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def challenge_in(answer: httpx.Response) -> str:
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith("/login?challenge="), answer.headers["location"]
    return answer.headers["location"].partition("challenge=")[2]


def query_of(answer: httpx.Response) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


def hidden(answer: httpx.Response, name: str) -> str:
    found = re.search(rf'name="?{name}"? value="?([^">\s]*)', answer.text)
    assert found is not None, answer.text
    return found[1]


def problem(answer: httpx.Response) -> str:
    found = re.search(r'id="problem">([^<]*)<', answer.text)
    assert found is not None, answer.text
    return found[1]


@asynccontextmanager
async def world(
    folder: Path,
    *,
    database_file: Path | None = None,
    wrap: Callable[[Starlette], Any] = lambda app: app,
    **settings: Any,
) -> AsyncIterator[World]:
    """A provider with two clients, and the site `portal`, on one port of loopback."""
    listener = listen("127.0.0.1:0")
    issuer = f"http://localhost:{listener.getsockname()[1]}"
    people = folder / "people.json"
    people.write_text(json.dumps(PEOPLE))
    chosen = {"issuer": issuer, "unsafe_demo_login_file": people} | settings
    database, clock = Database(database_file), SetClock(time.time())
    portal = Client(
        client_id="portal",
        name="Mijn gegevens",
        redirect_uris=(f"{issuer}/callback",),
        keys=(PORTAL_KEY.public_key(),),
        sector="portal",
        kind="anyone",
        may_see_bsn=True,
        post_logout_redirect_uris=(f"{issuer}/",),
    )
    other = replace(
        portal, client_id="other", sector="other", keys=(OTHER_KEY.public_key(),), may_see_bsn=False, kind="resident"
    )
    provider = OpenIdProvider(
        settings=IdentitySettings(**chosen), database=database, folder=folder, clock=clock, clients=(portal, other)
    )
    database.create()
    async with (
        new_browser() as browser,
        new_browser() as backend,
    ):
        party = RelyingParty(
            issuer=issuer,
            client_id="portal",
            key=PORTAL_KEY,
            redirect_uri=f"{issuer}/callback",
            http=backend,
            clock=clock,
        )
        login = SiteLogin(relying_party=party, database=database, folder=folder, clock=clock, base_url=issuer)
        app = application(routes(provider, PlainPages()) + site_routes(login, issuer))
        try:
            await provider.start()
            async with serving(wrap(app), listener):
                yield World(issuer, provider, party, browser, backend, clock, database)
                await browser.aclose()  # or the server would wait for what is still to come over its connections
                await backend.aclose()
        finally:
            await provider.stop()
            database.close()
            listener.close()


def site_routes(login: SiteLogin, issuer: str) -> list[BaseRoute]:
    """A site with a page that shows who the visitor is."""

    async def begin(request: Request) -> Response:
        return await login.begin(
            request, back=request.query_params.get("back", "/"), wants_bsn=True, again="again" in request.query_params
        )

    async def finish(request: Request) -> Response:
        try:
            return await login.finish(request)
        except Fault as fault:
            return PlainTextResponse(fault.kind, fault.status)

    async def home(request: Request) -> Response:
        identity = await login.identity(request)
        if identity is None:
            return JSONResponse({})
        seen = {"subject": identity.subject, "level": identity.level, "bsn": identity.burgerservicenummer}
        return JSONResponse(seen | {"roles": identity.roles, "peer_id": identity.peer_id})

    async def end(request: Request) -> Response:
        return await login.end(request, return_to=f"{issuer}/")

    return [
        Route("/", home),
        Route("/begin", begin),
        Route("/callback", finish),
        Route("/end", end, methods=["POST"]),
    ]


def converse(folder: Path, conversation: Callable[[World], Awaitable[None]], **options: Any) -> None:
    """Hold one conversation in a fresh world."""

    async def run() -> None:
        async with world(folder, **options) as here:
            await conversation(here)

    asyncio.run(run())
