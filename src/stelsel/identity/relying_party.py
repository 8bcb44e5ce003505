"""The other side: a site that lets people log in at any OpenID Provider that follows OIDC-NLGOV.

`begin` gives where to send the browser and what to keep on the server; `finish` gives who came back, or refuses. What
is checked is what OIDC-NLGOV (client profile) and OpenID Connect Core 3.1.3.7 ask, and the issuer of RFC 9207 against
mix-up. Tokens never reach the browser, except the ID token as a hint when somebody logs out.
"""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from stelsel.base.canonical import canonical, parse_object
from stelsel.base.certificates import PrivateKey
from stelsel.base.clock import Clock
from stelsel.base.errors import BadGateway, BadRequest
from stelsel.base.jose import peek
from stelsel.base.text import inert
from stelsel.identity.assurance import Level, acr, at_least, level_of
from stelsel.identity.faults import LoginCancelled, LoginRefused
from stelsel.identity.keys import read_jwk_set
from stelsel.identity.requests import ASSERTION_TYPE, BSN_CLAIM, s256
from stelsel.identity.sessions import is_loopback, new_secret
from stelsel.privacy import bsn as citizen_number

_ALGORITHMS = ("RS256", "PS256", "ES256")
_EARLY = 10
_OLDEST = 600
"""Seconds ago that an ID token may have been issued."""
_KEYS_FRESH = 300.0
_KEYS_AGAIN = 10.0
_MAXIMUM_ANSWER = 256 * 1024
_AGAIN = "log in again; if it keeps failing, tell the site's operator"


@dataclass(frozen=True, slots=True)
class Pending:
    """What a site keeps on its own server while somebody is away to log in."""

    state: str
    nonce: str
    verifier: str = field(repr=False)
    level: Level = "low"
    wants_bsn: bool = False

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; `Pending(**object)` reads it back."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who logged in, as one site knows them. It stays on the server."""

    issuer: str
    subject: str
    """The pairwise `sub`: only this site's sector knows them by it."""
    level: Level
    authenticated_at: int
    peer_id: str = ""
    """Of an official: the OIN of the organisation."""
    roles: tuple[str, ...] = ()
    burgerservicenummer: str | None = field(default=None, repr=False)
    id_token: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for a sealed session only."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Identity:
        """The identity that `to_json` gave."""
        return cls(**{**value, "roles": tuple(value["roles"])})


class RelyingParty:
    """One client at one provider. `key` signs its client assertions; `http` connects (its timeouts hold)."""

    def __init__(
        self, *, issuer: str, client_id: str, key: PrivateKey, redirect_uri: str, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.issuer, self.client_id, self.redirect_uri = issuer, client_id, redirect_uri
        self._key = ECKey.import_key(pem) if isinstance(key, ec.EllipticCurvePrivateKey) else RSAKey.import_key(pem)
        self._algorithm = "ES256" if isinstance(self._key, ECKey) else "PS256"
        self._http, self._clock = http, clock
        self._metadata: dict[str, Any] = {}
        self._keys: tuple[RSAKey | ECKey, ...] | None = None
        self._keys_read = 0.0

    async def begin(self, *, level: Level = "low", wants_bsn: bool = False, again: bool = False) -> tuple[str, Pending]:
        """(address to send the browser to, what to keep on the server). `again`: even who is logged in must log in."""
        metadata = await self._provider()
        pending = Pending(new_secret(), new_secret(), new_secret(), level, wants_bsn)
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "openid",
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": s256(pending.verifier),
            "code_challenge_method": "S256",
            "acr_values": acr(level),
        }
        if wants_bsn:
            parameters["claims"] = canonical({"userinfo": {BSN_CLAIM: None}}).decode()
        if again:
            parameters["prompt"] = "login"
        return f"{metadata['authorization_endpoint']}?{urlencode(parameters)}", pending

    async def finish(self, query: Mapping[str, str], pending: Pending) -> Identity:
        """Who came back with the answer in `query`.

        Raises `LoginCancelled` when the person chose not to, `LoginRefused` when the answer does not hold, `BadGateway`
        when the provider cannot be reached or understood. Use a `Pending` for one answer only.
        """
        metadata = await self._provider()
        self._check_answer(query, pending, metadata)
        answer = await self._redeem(query["code"], pending, metadata)
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise BadGateway("the provider gave no ID token and access token", next_step=_AGAIN)
        claims = await self._verified(id_token)
        level = self._check_id_token(claims, pending)
        bsn = await self._burgerservicenummer(access_token, claims["sub"], metadata) if pending.wants_bsn else None
        roles, peer_id, when = claims.get("roles"), claims.get("peer_id"), claims.get("auth_time")
        return Identity(
            issuer=self.issuer,
            subject=claims["sub"],
            level=level,
            authenticated_at=when if isinstance(when, int) else int(claims["iat"]),
            peer_id=peer_id if isinstance(peer_id, str) else "",
            roles=tuple(str(role) for role in roles) if isinstance(roles, list) else (),
            burgerservicenummer=bsn,
            id_token=id_token,
        )

    async def logout_address(self, identity: Identity, return_to: str) -> str | None:
        """Where to send the browser to log out at the provider too; None when the provider does not offer it."""
        endpoint = (await self._provider()).get("end_session_endpoint")
        if not isinstance(endpoint, str):
            return None
        values = {"id_token_hint": identity.id_token, "post_logout_redirect_uri": return_to}
        return f"{endpoint}?{urlencode(values)}"

    def _check_answer(self, query: Mapping[str, str], pending: Pending, metadata: Mapping[str, Any]) -> None:
        if not hmac.compare_digest(query.get("state", "").encode(), pending.state.encode()):
            raise LoginRefused("the answer belongs to another login (state)", next_step=_AGAIN)
        expected = metadata.get("authorization_response_iss_parameter_supported") is True
        if (expected or "iss" in query) and query.get("iss") != self.issuer:
            raise LoginRefused("the answer comes from another provider (iss, RFC 9207)", next_step=_AGAIN)
        if query.get("error") == "access_denied":
            raise LoginCancelled("You chose not to log in.", next_step="log in whenever you like")
        if "error" in query:
            raise LoginRefused(
                f"the provider answered {inert(query['error'], 60)}", next_step=_AGAIN, error=inert(query["error"], 60)
            )
        if not query.get("code"):
            raise LoginRefused("the answer holds no code", next_step=_AGAIN)

    async def _redeem(self, code: str, pending: Pending, metadata: Mapping[str, Any]) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": pending.verifier,
            "client_id": self.client_id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(),
        }
        answer = await self._call("POST", metadata["token_endpoint"], data=form)
        body = _object(answer)
        if answer.status_code != 200:
            raise LoginRefused(
                f"the provider did not accept the code: {inert(str(body.get('error', answer.status_code)), 60)}",
                next_step=_AGAIN,
            )
        return body

    def assertion(self) -> str:
        """A new client assertion (RFC 7523); its audience is the issuer alone (FAPI 2.0, 5.3.3.1)."""
        now = int(self._clock.now())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.issuer,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "exp": now + 60,
        }
        header = {"alg": self._algorithm, "typ": "JWT"}
        return jws.serialize_compact(header, canonical(claims), self._key, algorithms=list(_ALGORITHMS))

    def _check_id_token(self, claims: Mapping[str, Any], pending: Pending) -> Level:
        """OIDC-NLGOV client profile, ID Tokens; OpenID Connect Core 3.1.3.7."""
        now, audience = self._clock.now(), claims.get("aud")
        issued, before, expiry = claims.get("iat"), claims.get("nbf", claims.get("iat")), claims.get("exp")
        times = [issued, before, expiry]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in times):
            raise LoginRefused("the ID token lacks iat, nbf or exp", next_step=_AGAIN)
        subject, nonce, got = claims.get("sub"), str(claims.get("nonce", "")), level_of(str(claims.get("acr", "")))
        rules = (
            (claims.get("iss") == self.issuer, "the ID token is from another issuer"),
            (audience in (self.client_id, [self.client_id]), "the ID token is for another client (aud)"),
            (claims.get("azp", self.client_id) == self.client_id, "the ID token is for another client (azp)"),
            (hmac.compare_digest(nonce.encode(), pending.nonce.encode()), "the ID token is of another login (nonce)"),
            (float(claims["exp"]) > now, "the ID token has expired"),
            (now - _OLDEST < float(claims["iat"]) <= now + _EARLY, "the ID token was not issued just now"),
            (float(before if before is not None else now) <= now + _EARLY, "the ID token does not hold yet"),
            (isinstance(subject, str) and 0 < len(subject) <= 255, "the ID token names nobody (sub)"),
        )
        for holds, detail in rules:
            if not holds:
                raise LoginRefused(detail, next_step=_AGAIN)
        if got is None or not at_least(got, pending.level):
            raise LoginRefused("the level of assurance is lower than was asked (acr)", next_step=_AGAIN)
        return got

    async def _burgerservicenummer(self, access_token: str, subject: str, metadata: Mapping[str, Any]) -> str | None:
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/jwt, application/json"}
        answer = await self._call("GET", metadata["userinfo_endpoint"], headers=headers)
        if answer.status_code != 200:
            raise BadGateway("the provider does not say whose login this is (UserInfo)", next_step=_AGAIN)
        if answer.headers.get("content-type", "").startswith("application/jwt"):
            claims = await self._verified(answer.text)
            if claims.get("iss") != self.issuer or claims.get("aud") not in (self.client_id, [self.client_id]):
                raise LoginRefused("UserInfo is from another issuer or for another client", next_step=_AGAIN)
        else:
            claims = _object(answer)
        # Core 5.3.2: without this check somebody else's UserInfo could be slipped in.
        if not hmac.compare_digest(str(claims.get("sub", "")).encode(), subject.encode()):
            raise LoginRefused("UserInfo is about somebody else", next_step=_AGAIN)
        bsn = claims.get(BSN_CLAIM)
        return bsn if isinstance(bsn, str) and citizen_number.valid(bsn) else None

    async def _verified(self, compact: str) -> dict[str, Any]:
        """The claims of a token that the provider signed, by its published keys."""
        try:
            header, claims = peek(compact)
        except BadRequest as error:
            raise LoginRefused("the provider's token cannot be read", next_step=_AGAIN) from error
        if header.get("alg") not in _ALGORITHMS or "crit" in header:
            raise LoginRefused("the provider's token is not signed in a way that is allowed", next_step=_AGAIN)
        keys = await self._provider_keys(header.get("kid"))
        for key in keys:
            if header.get("kid") in (None, key.kid):
                try:
                    jws.deserialize_compact(compact, key, algorithms=list(_ALGORITHMS))
                except (JoseError, ValueError):
                    continue
                return claims
        raise LoginRefused("the signature under the provider's token does not hold", next_step=_AGAIN)

    async def _provider(self) -> dict[str, Any]:
        """The provider's metadata, read once (OpenID Connect Discovery 4)."""
        if not self._metadata:
            metadata = _object(await self._ok(f"{self.issuer}/.well-known/openid-configuration"))
            if metadata.get("issuer") != self.issuer:
                raise BadGateway("the provider's discovery document is of another issuer")
            for name in ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"):
                address = metadata.get(name)
                if not isinstance(address, str) or not (address.startswith("https://") or is_loopback(address)):
                    raise BadGateway(f"the provider's discovery document has no usable {name}")
            self._metadata = metadata
        return self._metadata

    async def _provider_keys(self, key_id: Any) -> tuple[RSAKey | ECKey, ...]:
        """The provider's keys; read again when a key is unknown, though not for every token that names one."""
        age = time.monotonic() - self._keys_read
        known = self._keys is not None and (key_id is None or any(key.kid == key_id for key in self._keys))
        if self._keys is None or age > _KEYS_FRESH or (not known and age > _KEYS_AGAIN):
            document = _object(await self._ok((await self._provider())["jwks_uri"]))
            try:
                self._keys = read_jwk_set(document)
            except BadRequest as error:
                raise BadGateway("the provider's keys cannot be read") from error
            self._keys_read = time.monotonic()
        return self._keys

    async def _ok(self, address: str) -> httpx.Response:
        answer = await self._call("GET", address)
        if answer.status_code != 200:
            raise BadGateway(f"the provider answered {answer.status_code}", next_step="try again in a minute")
        return answer

    async def _call(self, method: str, address: str, **options: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, address, follow_redirects=False, **options)
        except httpx.HTTPError as error:
            raise BadGateway("the provider cannot be reached", next_step="try again in a minute") from error
        if len(answer.content) > _MAXIMUM_ANSWER:
            raise BadGateway("the provider's answer is too large")
        return answer


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        return parse_object(answer.content)
    except BadRequest as error:
        raise BadGateway("the provider's answer is not JSON", next_step="try again in a minute") from error
