"""Is this request in order? The provider's decisions on what clients send, without I/O.

OIDC-NLGOV (client profile: authentication request, token request; provider profile: PKCE), RFC 6749, RFC 7636, RFC
7523, OpenID Connect Core 3.1.2.1. Request objects (`request`, `request_uri`) are refused: we offer no way in which a
client can make the provider fetch an address.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from stelsel.base.canonical import b64url, parse_object
from stelsel.base.certificates import PublicKey
from stelsel.base.errors import BadRequest
from stelsel.identity.assurance import LEVELS, Level, level_of
from stelsel.identity.faults import LoginProblem, ProtocolFault, RedirectedFault

ClientKind = Literal["resident", "official", "anyone"]

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
BSN_CLAIM = "burgerservicenummer"

_TEXT = re.compile(r"[\x21-\x7e]{1,512}")
_CODE_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_CODE_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_ONCE = 24
"""Parameters in one request at most."""
_LONGEST = 4096
_ASSERTION_LIFETIME = 300
_EARLY = 10
"""Seconds that another clock may run ahead (FAPI 2.0 Security Profile, 5.3.2.1 note on iat and nbf)."""


@dataclass(frozen=True)
class Client:
    """A site that lets people log in here, as the operator registered it."""

    client_id: str
    name: str
    redirect_uris: tuple[str, ...]
    keys: tuple[PublicKey, ...]
    """Public keys that may sign its client assertions."""
    sector: str
    """People have one pseudonym within a sector and another in every other (OpenID Connect Core 8.1)."""
    kind: ClientKind = "resident"
    may_see_bsn: bool = False
    post_logout_redirect_uris: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """An authorization request that is in order."""

    client_id: str
    redirect_uri: str
    state: str
    nonce: str
    code_challenge: str
    level: Level
    """The least level of assurance."""
    prompt: str
    """Empty, `none` or `login`."""
    max_age: int | None
    wants_bsn: bool

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for keeping while somebody logs in."""
        return asdict(self)


def read_authorization_request(
    parameters: Iterable[tuple[str, str]], clients: Mapping[str, Client]
) -> AuthorizationRequest:
    """An authorization request out of its parameters, decoded, in any order.

    Raises `LoginProblem` when it is not certain that the client asked, so that nobody may be sent anywhere; else
    `RedirectedFault`.
    """
    values, doubled = _single(parameters)
    client = clients.get(values.get("client_id", ""))
    if client is None or "client_id" in doubled:
        raise LoginProblem("client-unknown", detail="client_id names no client that is registered here")
    redirect_uri = values.get("redirect_uri", "")
    # Simple string comparison, no normalising (OIDC-NLGOV; RFC 9700, section 2.1).
    if "redirect_uri" in doubled or redirect_uri not in client.redirect_uris:
        raise LoginProblem("redirect-unknown", detail="redirect_uri is not exactly one that the client registered")
    state = values.get("state", "")

    def refuse(error: str, detail: str) -> RedirectedFault:
        echoed = state if _TEXT.fullmatch(state) and "state" not in doubled else ""
        return RedirectedFault(error, detail, redirect_uri=redirect_uri, state=echoed)

    if doubled:
        raise refuse("invalid_request", "a parameter is given twice (RFC 6749, section 3.1)")
    fault = _first_fault(values)
    if fault is not None:
        raise refuse(*fault)
    try:
        level, wants_bsn = _wishes(values)
    except ProtocolFault as wrong:
        raise refuse(wrong.error, wrong.detail) from wrong
    prompt = set(values.get("prompt", "").split())
    max_age = values.get("max_age")
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri=redirect_uri,
        state=state,
        nonce=values["nonce"],
        code_challenge=values["code_challenge"],
        level=level,
        prompt="none" if prompt == {"none"} else "login" if prompt else "",
        max_age=None if max_age is None else int(max_age),
        wants_bsn=wants_bsn and client.may_see_bsn,
    )


def _first_fault(values: Mapping[str, str]) -> tuple[str, str] | None:
    """(error, detail) of the first thing that is wrong with the request of a client that is known."""
    prompt = values.get("prompt", "").split()
    rules: tuple[tuple[bool, str, str], ...] = (
        ("request" not in values, "request_not_supported", "request objects are not supported here"),
        ("request_uri" not in values, "request_uri_not_supported", "request objects are not supported here"),
        (values.get("response_type") == "code", "unsupported_response_type", "response_type must be code"),
        (values.get("response_mode", "query") == "query", "invalid_request", "response_mode must be query"),
        ("openid" in values.get("scope", "").split(), "invalid_scope", "scope must contain openid"),
        (unguessable(values.get("state", "")), "invalid_request", "state must hold at least 128 bits of random text"),
        (unguessable(values.get("nonce", "")), "invalid_request", "nonce must hold at least 128 bits of random text"),
        (values.get("code_challenge_method") == "S256", "invalid_request", "code_challenge_method must be S256"),
        (
            _CODE_CHALLENGE.fullmatch(values.get("code_challenge", "")) is not None,
            "invalid_request",
            "code_challenge must be the base64url SHA-256 of the verifier (RFC 7636, section 4.2)",
        ),
        (
            set(prompt) <= {"none", "login", "consent", "select_account"}
            and ("none" not in prompt or len(prompt) == 1),
            "invalid_request",
            "prompt must be none, or any of login, consent and select_account",
        ),
        (
            re.fullmatch(r"[0-9]{1,9}", values.get("max_age", "0")) is not None,
            "invalid_request",
            "max_age must be a number of seconds",
        ),
    )
    return next(((error, detail) for holds, error, detail in rules if not holds), None)


def unguessable(text: str) -> bool:
    """Whether `text` can hold 128 random bits: its length, counted by the alphabet that it keeps to."""
    if not _TEXT.fullmatch(text) or len(set(text)) < 6:
        return False
    bits = 3.32 if text.isdigit() else 4 if re.fullmatch(r"[0-9a-fA-F-]+", text) else 6
    return len(text.replace("-", "") if bits == 4 else text) * bits >= 128


def _wishes(values: Mapping[str, str]) -> tuple[Level, bool]:
    """(least level, whether the burgerservicenummer is asked) from `acr_values` and `claims` (Core 5.5)."""
    acceptable = values.get("acr_values", "").split()
    wants_bsn = False
    if "claims" in values:
        try:
            claims = parse_object(values["claims"])
        except BadRequest as wrong:
            raise ProtocolFault("invalid_request", "claims must be a JSON object") from wrong
        userinfo, id_token = claims.get("userinfo"), claims.get("id_token")
        wants_bsn = isinstance(userinfo, dict) and BSN_CLAIM in userinfo
        asked = id_token.get("acr") if isinstance(id_token, dict) else None
        if isinstance(asked, dict):
            listed = asked.get("values", [asked.get("value")])
            acceptable += [value for value in listed if isinstance(value, str)] if isinstance(listed, list) else []
    if not acceptable:
        return "low", wants_bsn
    known = [level for level in map(level_of, acceptable) if level is not None]
    if not known:
        raise ProtocolFault("unmet_authentication_requirements", "none of the acr values is known here")
    return min(known, key=LEVELS.index), wants_bsn


def response_address(redirect_uri: str, issuer: str, state: str, **answer: str) -> str:
    """Where the browser goes with the answer; it names the issuer against mix-up (RFC 9207)."""
    values = {**answer, "iss": issuer} | ({"state": state} if state else {})
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(values)}"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token request of which the form is in order; who sent it still has to be proved by `client_assertion`."""

    code: str
    redirect_uri: str
    code_verifier: str
    client_assertion: str
    client_id: str


def read_token_request(parameters: Iterable[tuple[str, str]]) -> TokenRequest:
    """A token request out of its form. Raises `ProtocolFault`."""
    values, doubled = _single(parameters)
    if doubled:
        raise ProtocolFault("invalid_request", "a parameter is given twice (RFC 6749, section 3.2)")
    if values.get("client_assertion_type") != ASSERTION_TYPE or not values.get("client_assertion"):
        raise ProtocolFault("invalid_client", "authenticate with private_key_jwt (RFC 7523)", status=401)
    if "client_secret" in values:
        raise ProtocolFault("invalid_request", "use one way of client authentication only")
    if values.get("grant_type") != "authorization_code":
        raise ProtocolFault("unsupported_grant_type", "grant_type must be authorization_code")
    for name in ("code", "redirect_uri", "code_verifier"):
        if not values.get(name):
            raise ProtocolFault("invalid_request", f"{name} is missing")
    return TokenRequest(
        values["code"],
        values["redirect_uri"],
        values["code_verifier"],
        values["client_assertion"],
        values.get("client_id", ""),
    )


def check_assertion(claims: Mapping[str, Any], client_id: str, audiences: tuple[str, ...], now: float) -> str:
    """The `jti` of a client assertion whose signature was checked; the caller uses it up. Raises `ProtocolFault`.

    RFC 7523 section 3; OpenID Connect Core section 9; OIDC-NLGOV token endpoint, client authentication.
    """

    def refuse(detail: str) -> ProtocolFault:
        return ProtocolFault("invalid_client", detail, status=401)

    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise refuse("iss and sub of the client assertion must be the client_id")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if len(named) != 1 or named[0] not in audiences:
        raise refuse("aud of the client assertion must be the issuer or the token endpoint, and nothing else")
    times = claims.get("exp"), claims.get("iat", now), claims.get("nbf", now)
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in times):
        raise refuse("exp, iat and nbf of the client assertion must be numbers")
    expiry, issued, before = (float(time) for time in times if time is not None)
    if not now < expiry <= now + _ASSERTION_LIFETIME + _EARLY:
        raise refuse(f"the client assertion must expire within {_ASSERTION_LIFETIME} seconds from now")
    if max(issued, before) > now + _EARLY:
        raise refuse("the client assertion is from the future")
    identifier = claims.get("jti")
    if not isinstance(identifier, str) or not 16 <= len(identifier) <= 256:
        raise refuse("jti of the client assertion must be 16 to 256 characters")
    return identifier


def check_code(code: Mapping[str, Any], client_id: str, request: TokenRequest) -> None:
    """Whether what a code stands for goes with who presents it and how. Raises `ProtocolFault`."""
    if code.get("client_id") != client_id:
        raise ProtocolFault("invalid_grant", "the code was given to another client")
    if code.get("redirect_uri") != request.redirect_uri:
        raise ProtocolFault("invalid_grant", "redirect_uri is not that of the authorization request")
    if not verifies(request.code_verifier, str(code.get("code_challenge", ""))):
        raise ProtocolFault("invalid_grant", "code_verifier does not match the code_challenge")


def verifies(verifier: str, challenge: str) -> bool:
    """Whether a PKCE verifier belongs to an S256 challenge (RFC 7636, section 4.6)."""
    if not _CODE_VERIFIER.fullmatch(verifier):
        return False
    return hmac.compare_digest(s256(verifier).encode(), challenge.encode())


def s256(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636, section 4.2)."""
    return b64url(hashlib.sha256(verifier.encode("ascii")).digest())


def _single(parameters: Iterable[tuple[str, str]]) -> tuple[dict[str, str], set[str]]:
    """(name to value, names that came more than once). Raises `LoginProblem` when there is far too much."""
    values: dict[str, str] = {}
    doubled: set[str] = set()
    for count, (name, value) in enumerate(parameters):
        if count >= _ONCE or len(value) > _LONGEST * 2:
            raise LoginProblem("request-refused", detail="the request is larger than any login needs")
        if name in values:
            doubled.add(name)
        values[name] = value
    return values, doubled
