"""The OpenID Provider: where the decisions about logging in meet what is kept.

It knows no HTTP: `api` translates. A browser is known here by `browser`, the random value of its own cookie: a login
that began in one browser cannot be finished in another (no login forgery, RFC 9700 section 4.7).
"""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import BadRequest, Fault, Unauthenticated, Unavailable, Unprocessable
from stelsel.base.log import logger
from stelsel.base.text import inert
from stelsel.identity import tokens
from stelsel.identity.activation import ActivationCodes
from stelsel.identity.assurance import Level, at_least
from stelsel.identity.authenticators import Authenticated, Authenticator
from stelsel.identity.demo_choice import DemoChoice
from stelsel.identity.faults import LoginProblem, RedirectedFault
from stelsel.identity.keys import ASSERTION_ALGORITHMS, SIGNING_ALGORITHM, TokenSigner, Vault
from stelsel.identity.pages import Kind, LoginView, Problem
from stelsel.identity.passkey import Passkeys
from stelsel.identity.redemption import Redemption
from stelsel.identity.requests import (
    AuthorizationRequest,
    Client,
    read_authorization_request,
    response_address,
)
from stelsel.identity.sessions import new_secret
from stelsel.identity.settings import IdentitySettings
from stelsel.identity.store import Store
from stelsel.identity.throttle import Throttle
from stelsel.identity.tokens import Account
from stelsel.privacy import bsn as citizen_number

_log = logger("identity")

_ACTIVATION_LIFETIME = 600.0
_SWEEP_EVERY = 60.0
_NO_SESSION = "login_required"


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the browser to `address`; when somebody just logged in, with a new session that holds `session`."""

    address: str
    session: dict[str, Any] | None = None


class OpenIdProvider:
    """An OpenID Provider by OIDC-NLGOV. `folder` holds its keys; `clients` come beside those of the settings."""

    def __init__(
        self,
        *,
        settings: IdentitySettings,
        database: Database,
        folder: Path,
        clock: Clock,
        clients: Iterable[Client] = (),
    ) -> None:
        self.settings, self.issuer, self.clock, self.database = settings, settings.issuer, clock, database
        self.vault = Vault.open(folder)
        self.clients = {client.client_id: client for client in (*(c.client() for c in settings.clients), *clients)}
        self._folder = folder
        self._store = store = Store(self.vault)
        self._pairwise_key = self.vault.key("pairwise")
        self._codes = ActivationCodes(database, store, self.vault, clock, settings.activation_code_lifetime)
        self._passkeys = Passkeys(database, store, clock, issuer=settings.issuer, site_name=settings.name)
        self._redemption = Redemption(
            issuer=self.issuer,
            clients=self.clients,
            database=database,
            store=store,
            clock=clock,
            pairwise_key=self._pairwise_key,
            lifetime=settings.access_token_lifetime,
        )
        self._demo: DemoChoice | None = None
        if settings.unsafe_demo_login_file is not None:
            self._demo = DemoChoice(settings.unsafe_demo_login_file, database, store)
            _log.warning("UNSAFE demo login is on: anyone can be anyone in the file; never use this with real people")
        self._begun = Throttle(burst=2000, rate=500)
        self._tries = Throttle(burst=10, rate=1 / 30)
        self._activations = Throttle(burst=60, rate=1)
        self._opening: asyncio.Task[TokenSigner] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the signing key, and begin sweeping what has expired.

        The first time the key is still being made, in a thread, when this returns. Raises `ConfigurationFault`.
        """
        self._opening = asyncio.create_task(asyncio.to_thread(TokenSigner.open, self._folder))
        if TokenSigner.exists(self._folder):
            await self._opening
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Stop sweeping."""
        for task in (self._sweeper, self._opening):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, Fault):
                    await task

    async def signer(self) -> TokenSigner:
        """The signer of tokens, as soon as its key is there."""
        if self._opening is None:
            raise Unavailable("the OpenID Provider has not started")
        return await asyncio.shield(self._opening)

    # Enrolment, for the operator

    async def enrol_resident(self, *, name: str, burgerservicenummer: str, level: Level) -> str:
        """An activation code for a resident whose identity the operator has established at `level`."""
        if not citizen_number.valid(burgerservicenummer):
            raise Unprocessable("this is not a burgerservicenummer", next_step="check its nine digits")
        return await self._enrol(Account(str(uuid.uuid4()), "resident", inert(name, 200)), burgerservicenummer, level)

    async def enrol_official(self, *, name: str, peer_id: str, roles: tuple[str, ...], level: Level) -> str:
        """An activation code for an official of a peer."""
        return await self._enrol(Account(str(uuid.uuid4()), "official", inert(name, 200), peer_id, roles), None, level)

    async def _enrol(self, account: Account, bsn: str | None, level: Level) -> str:
        kept = await self.database.write(lambda connection: self._store.keep_account(connection, account, bsn))
        return await self._codes.issue(kept.account_id, level)

    # The authorization endpoint

    async def authorize(
        self, parameters: Iterable[tuple[str, str]], browser: str, session: Mapping[str, Any] | None
    ) -> Forward | str:
        """Where to send the browser, or the challenge of a login that has to be shown first.

        Raises `LoginProblem` when nobody may be sent anywhere, `TooMany`.
        """
        now = self.clock.now()
        self._begun.spend("authorize", now)
        try:
            request = read_authorization_request(parameters, self.clients)
            account = self._remembered(request, session, now)
            if request.prompt == "none" and account is None:
                raise RedirectedFault(
                    _NO_SESSION, "nobody is logged in here", redirect_uri=request.redirect_uri, state=request.state
                )
        except RedirectedFault as fault:
            return Forward(
                response_address(
                    fault.redirect_uri, self.issuer, fault.state, error=fault.error, error_description=fault.detail
                )
            )
        if account is not None and session is not None:
            code = new_secret()
            value = self._code_value(request, account, session["level"], session["authenticated_at"])
            await self.database.write(
                lambda connection: self._store.put(connection, "code", code, value, now + self.settings.code_lifetime)
            )
            return Forward(response_address(request.redirect_uri, self.issuer, request.state, code=code))
        challenge = new_secret()
        kept = request.to_json() | {"browser": self._browser(browser)}
        await self.database.write(
            lambda connection: self._store.put(connection, "login", challenge, kept, now + self.settings.login_lifetime)
        )
        return challenge

    def _remembered(
        self, request: AuthorizationRequest, session: Mapping[str, Any] | None, now: float
    ) -> Account | None:
        """Who is logged in already, if that is enough for this request."""
        if session is None or request.prompt == "login" or not at_least(session["level"], request.level):
            return None
        if request.max_age is not None and now - session["authenticated_at"] >= request.max_age:
            return None
        with self.database.read() as connection:
            account = self._store.account(connection, session["account_id"])
        return account if account is not None and account.kind in self._kinds(request) else None

    # The login page

    def login_view(self, challenge: str, browser: str, problem: Problem | None = None, status: int = 200) -> LoginView:
        """What the login page shows. Raises `LoginProblem`."""
        request = self._login(challenge, browser)
        people = self._demo.people(self._kinds(request)) if self._demo is not None and request.level == "low" else ()
        address = urlsplit(request.redirect_uri)
        return LoginView(
            challenge=challenge,
            client_name=self.clients[request.client_id].name,
            level=request.level,
            passkey=find_spec("webauthn") is not None,
            demo_people=people,
            redirect_origin=f"{address.scheme}://{address.netloc}",
            problem=problem,
            status=status,
        )

    async def cancel(self, challenge: str, browser: str) -> Forward:
        """The person does not want to log in: that is an answer too, `access_denied`."""
        request = self._login(challenge, browser)
        now = self.clock.now()
        if await self.database.write(lambda connection: self._store.take(connection, "login", challenge, now)) is None:
            raise LoginProblem("challenge-over", status=410)
        return Forward(
            response_address(
                request.redirect_uri,
                self.issuer,
                request.state,
                error="access_denied",
                error_description="the person chose not to log in",
            )
        )

    async def choose(self, challenge: str, browser: str, person: str) -> Forward:
        """Finish a login by the unsafe demo choice."""
        if self._demo is None:
            raise LoginProblem("request-refused", status=404)
        return await self._finish(challenge, browser, self._demo, {"person": person})

    async def passkey_options(self, challenge: str, browser: str) -> dict[str, Any]:
        """What the browser needs to log in with a passkey."""
        self._login(challenge, browser)
        self._tries.spend(f"options {challenge}", self.clock.now())
        return await self._passkeys.login_options(challenge)

    async def passkey_login(self, challenge: str, browser: str, credential: Mapping[str, Any]) -> Forward:
        """Finish a login with a passkey."""
        return await self._finish(challenge, browser, self._passkeys, credential)

    async def _finish(
        self, challenge: str, browser: str, authenticator: Authenticator, answer: Mapping[str, Any]
    ) -> Forward:
        request, now = self._login(challenge, browser), self.clock.now()
        self._tries.spend(f"login {challenge}", now)
        who = await authenticator.authenticate(challenge, answer)
        self._check_enough(request, who)
        session = {"account_id": who.account.account_id, "level": who.level, "authenticated_at": int(now)}
        code = new_secret()
        value = self._code_value(request, who.account, who.level, int(now))

        def write(connection: Any) -> None:
            if self._store.take(connection, "login", challenge, now) is None:
                raise LoginProblem("challenge-over", status=410)
            self._store.put(connection, "code", code, value, now + self.settings.code_lifetime)

        await self.database.write(write)
        _log.info("logged in", client=request.client_id, assurance=who.level, **who.evidence)
        return Forward(response_address(request.redirect_uri, self.issuer, request.state, code=code), session)

    def _check_enough(self, request: AuthorizationRequest, who: Authenticated) -> None:
        if who.account.kind not in self._kinds(request):
            raise LoginProblem("wrong-kind", status=403)
        if not at_least(who.level, request.level):
            raise LoginProblem("level-too-low", status=403)

    def _login(self, challenge: str, browser: str) -> AuthorizationRequest:
        """The request for which somebody is logging in, in this very browser."""
        with self.database.read() as connection:
            kept = self._store.look(connection, "login", challenge, self.clock.now())
        if kept is None or kept["client_id"] not in self.clients:
            raise LoginProblem("challenge-over", status=410)
        if not hmac.compare_digest(kept.pop("browser"), self._browser(browser)):
            raise LoginProblem("other-browser", status=403)
        return AuthorizationRequest(**kept)

    def _kinds(self, request: AuthorizationRequest) -> tuple[Kind, ...]:
        kind = self.clients[request.client_id].kind
        return ("resident", "official") if kind == "anyone" else (kind,)

    def _browser(self, browser: str) -> str:
        return self.vault.hashed("browser", browser)

    @staticmethod
    def _code_value(
        request: AuthorizationRequest, account: Account, level: Level, authenticated_at: int
    ) -> dict[str, Any]:
        return {
            "client_id": request.client_id,
            "redirect_uri": request.redirect_uri,
            "code_challenge": request.code_challenge,
            "nonce": request.nonce,
            "wants_bsn": request.wants_bsn,
            "account_id": account.account_id,
            "level": level,
            "authenticated_at": authenticated_at,
        }

    # The activation page

    def form_token(self, browser: str) -> str:
        """What a form of this browser must send along, so that no other site can send it (CSRF)."""
        return self.vault.hashed("form", browser)

    def check_form(self, form_token: str, browser: str) -> None:
        """Raises `LoginProblem` when the form does not come from a page that this browser was given."""
        if not browser or not hmac.compare_digest(form_token.encode(), self.form_token(browser).encode()):
            raise LoginProblem("other-browser", status=403)

    async def activate(self, text: str, browser: str) -> tuple[str, Account]:
        """(token for making a passkey, whose) when the activation code is right. Raises `LoginProblem`, `TooMany`."""
        now = self.clock.now()
        self._tries.spend(f"activate {self._browser(browser)}", now)
        self._activations.spend("activate", now)
        code = await self._codes.judge(text)
        with self.database.read() as connection:
            account = self._store.account(connection, code.account_id)
        if account is None:
            raise LoginProblem("code-refused", status=422)
        ceremony = new_secret()
        value = {
            "account_id": code.account_id,
            "level": code.level,
            "selector": code.selector,
            "browser": self._browser(browser),
        }
        await self.database.write(
            lambda connection: self._store.put(connection, "activation", ceremony, value, now + _ACTIVATION_LIFETIME)
        )
        return ceremony, account

    async def registration_options(self, ceremony: str, browser: str) -> dict[str, Any]:
        """What the browser needs to make a passkey after a right activation code."""
        activation = self._activation(ceremony, browser)
        self._tries.spend(f"options {ceremony}", self.clock.now())
        with self.database.read() as connection:
            account = self._store.account(connection, activation["account_id"])
        if account is None:
            raise LoginProblem("challenge-over", status=410)
        return await self._passkeys.registration_options(ceremony, account)

    async def register(self, ceremony: str, browser: str, credential: Mapping[str, Any]) -> None:
        """Keep the passkey that the browser made; the activation code is then used up."""
        activation, now = self._activation(ceremony, browser), self.clock.now()
        await self._passkeys.register(ceremony, credential, activation)
        await self.database.write(lambda connection: self._store.take(connection, "activation", ceremony, now))
        _log.info("passkey registered", assurance=activation["level"])

    def _activation(self, ceremony: str, browser: str) -> dict[str, Any]:
        with self.database.read() as connection:
            found = self._store.look(connection, "activation", ceremony, self.clock.now())
        if found is None:
            raise LoginProblem("challenge-over", status=410)
        if not hmac.compare_digest(found["browser"], self._browser(browser)):
            raise LoginProblem("other-browser", status=403)
        return found

    # What is for clients: the token endpoint and UserInfo

    async def token(self, parameters: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """The token response. Raises `ProtocolFault`."""
        return await self._redemption.token(parameters, await self.signer())

    async def userinfo(self, access_token: str) -> str:
        """The signed UserInfo response (a JWT) for an access token. Raises `Unauthenticated`."""
        return await self._redemption.userinfo(access_token, await self.signer())

    # Logging out, and what is public

    async def logout_hint(self, parameters: Mapping[str, str], session: Mapping[str, Any] | None) -> tuple[bool, str]:
        """(whether to end the session without asking, where to go then or empty) (RP-Initiated Logout 1.0).

        Without asking only when the client proves, by an ID token that we gave, that it means this very person.
        """
        hint: dict[str, Any] = {}
        with suppress(Unauthenticated, BadRequest):
            hint = (await self.signer()).verify(parameters.get("id_token_hint", ""))
        client = self.clients.get(str(hint.get("aud") or parameters.get("client_id", "")))
        address = self.return_address(parameters.get("post_logout_redirect_uri", ""))
        if client is None or address not in client.post_logout_redirect_uris:
            address = ""
        if session is None:
            return True, address
        if client is None or not hint:
            return False, address
        subject = tokens.pairwise(self._pairwise_key, client.sector, session["account_id"])
        return hmac.compare_digest(subject, str(hint.get("sub", ""))), address

    def return_address(self, address: str) -> str:
        """`address` when it is one that some client registered for after logging out, else empty."""
        return address if any(address in c.post_logout_redirect_uris for c in self.clients.values()) else ""

    def discovery(self) -> dict[str, Any]:
        """The discovery document."""
        return dict(tokens.discovery(self.issuer, (SIGNING_ALGORITHM,), ASSERTION_ALGORITHMS))

    async def jwks(self) -> dict[str, Any]:
        """The public keys of the provider."""
        return (await self.signer()).jwks()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            now = self.clock.now()
            await self.database.write(lambda connection: self._store.sweep(connection, now))  # noqa: B023
