"""Access tokens: certificate-bound JWTs that say under which grant a request comes (FSC Core 4.3)."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stelsel.agreements.agreement import Agreement
from stelsel.agreements.dialect import USUAL, Dialect, settle_parties
from stelsel.agreements.fsc_errors import TokenExpired, TokenInvalid, WrongGroup
from stelsel.base import jose
from stelsel.base.canonical import canonical
from stelsel.base.certificates import Certificate
from stelsel.base.errors import BadRequest, Unauthenticated

Ask = Callable[[str, dict[str, str]], Awaitable[dict[str, Any]]]
"""Sends a token request (form) to the manager of a peer (peer id) and gives its answer."""

MAXIMUM_TOKEN = 64 * 1024
"""Characters in a token: it carries the grant's properties, so it is not small."""


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims of an access token (FSC Core 4.3.1). Times in seconds since the epoch."""

    grant_hash: str
    group_id: str
    consumer: str
    """`sub`: the peer whose outway connects."""
    provider: str
    """`iss`: the peer that offers the service."""
    service: str
    audience: str
    """`aud`: address of the provider's inway."""
    expires: int
    not_before: int
    thumbprint: str
    """`cnf.x5t#S256`: the certificate that may use this token."""
    consumer_delegator: str | None = None
    provider_delegator: str | None = None
    properties: dict[str, Any] | None = None
    additional: dict[str, Any] = field(default_factory=dict)

    def to_json(self, dialect: Dialect = USUAL) -> dict[str, Any]:
        """The JWT payload."""
        payload: dict[str, Any] = {
            "gth": self.grant_hash,
            "gid": self.group_id,
            "iss": self.provider,
            "svc": self.service,
            "aud": self.audience,
            "exp": self.expires,
            "nbf": self.not_before,
            "cnf": {"x5t#S256": self.thumbprint},
            "add": self.additional,
            **dialect.subject_and_actor(self.consumer, self.consumer_delegator),
        }
        if self.provider_delegator is not None:
            payload["pdi"] = self.provider_delegator
        if self.properties is not None:
            payload["prp"] = self.properties
        return payload

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> TokenClaims:
        """Read a JWT payload. Raises `TokenInvalid` when a claim is absent or of the wrong kind.

        Which of `sub` and `act.sub` is the delegator depends on the writer's dialect: see `settled`.
        """
        actor = _optional(payload, "act", dict)
        delegator = _optional(payload, "cdi", str) if actor is None else _claim(actor, "sub", str)
        return cls(
            grant_hash=_claim(payload, "gth", str),
            group_id=_claim(payload, "gid", str),
            consumer=_claim(payload, "sub", str),
            provider=_claim(payload, "iss", str),
            service=_claim(payload, "svc", str),
            audience=_claim(payload, "aud", str),
            expires=_claim(payload, "exp", int),
            not_before=_claim(payload, "nbf", int),
            thumbprint=_claim(_claim(payload, "cnf", dict), "x5t#S256", str),
            consumer_delegator=delegator,
            provider_delegator=_optional(payload, "pdi", str),
            properties=_optional(payload, "prp", dict),
            additional=_optional(payload, "add", dict) or {},
        )

    def settled(self, agreement: Agreement) -> TokenClaims:
        """These claims with consumer and delegators in their places, as the grant has them.

        Raises `TokenInvalid` when the token names other peers than its grant.
        """
        found = settle_parties(self.consumer, self.consumer_delegator, agreement.consumer, agreement.consumer_delegator)
        if found is None:
            raise TokenInvalid("the access token names other peers than its grant")
        consumer, delegator = found
        return replace(
            self, consumer=consumer, consumer_delegator=delegator, provider_delegator=agreement.provider_delegator
        )


@dataclass(frozen=True, slots=True)
class Token:
    """An access token as it travels, with what it says."""

    compact: str
    claims: TokenClaims


def claims_for(
    agreement: Agreement,
    properties: dict[str, Any] | None,
    *,
    group_id: str,
    audience: str,
    certificate: Certificate,
    now: float,
    lifetime: int,
    clock_skew: int,
) -> TokenClaims:
    """What a token says that is given out at `now` under `agreement` to the holder of `certificate`."""
    return TokenClaims(
        grant_hash=agreement.grant_hash,
        group_id=group_id,
        consumer=agreement.consumer,
        provider=agreement.provider,
        service=agreement.service,
        audience=audience,
        expires=min(int(now) + lifetime, agreement.not_after),
        not_before=int(now) - clock_skew,
        thumbprint=certificate.thumbprint,
        consumer_delegator=agreement.consumer_delegator,
        provider_delegator=agreement.provider_delegator,
        properties=properties,
    )


def sign(claims: TokenClaims, signer: jose.Signer, dialect: Dialect = USUAL) -> str:
    """The token as a compact JWS."""
    return signer.sign(canonical(claims.to_json(dialect)), typ="JWT")


def read(compact: str) -> TokenClaims:
    """What a token says, **unchecked**: for the consumer, who had it from the provider over mutual TLS."""
    if len(compact) > MAXIMUM_TOKEN:
        raise TokenInvalid("the access token is too long")
    try:
        return TokenClaims.from_json(jose.peek(compact)[1])
    except BadRequest as error:
        raise TokenInvalid("the access token cannot be read") from error


def issuer_thumbprint(compact: str) -> str:
    """Which certificate a token says that it was issued with, **unchecked**. Raises `TokenInvalid`."""
    if len(compact) > MAXIMUM_TOKEN:
        raise TokenInvalid("the access token is too long")
    try:
        return str(jose.peek(compact)[0].get("x5t#S256"))
    except BadRequest as error:
        raise TokenInvalid("the access token cannot be read") from error


def verify(compact: str, certificate: Certificate) -> TokenClaims:
    """What a token says, its signature proven to be by `certificate`'s key. Raises `TokenInvalid`."""
    if len(compact) > MAXIMUM_TOKEN:
        raise TokenInvalid("the access token is too long")
    try:
        return TokenClaims.from_json(jose.verify(compact, certificate))
    except (BadRequest, Unauthenticated) as error:
        raise TokenInvalid("the access token was not issued by this peer, or was altered") from error


def check(claims: TokenClaims, *, thumbprint: str, group_id: str, provider: str, audience: str, now: float) -> None:
    """Whether a verified token may be used here and now, by the holder of the certificate (FSC Core 4.7.1.2).

    Raises `TokenInvalid`, `TokenExpired` or `WrongGroup`.
    """
    if not hmac.compare_digest(claims.thumbprint.encode(), thumbprint.encode()):
        raise TokenInvalid("the access token is bound to another certificate (RFC 8705, section 3)")
    if claims.group_id != group_id:
        raise WrongGroup("the access token is of another group")
    if claims.provider != provider or claims.audience != audience:
        raise TokenInvalid("the access token is meant for another inway")
    if now >= claims.expires:
        raise TokenExpired("the access token has expired", next_step="ask a new token at the manager")
    if now < claims.not_before:
        raise TokenInvalid("the access token is not valid yet")


def _claim(payload: Mapping[str, Any], name: str, kind: type) -> Any:
    value = payload.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TokenInvalid(f"the access token lacks the claim {name}")
    return value


def _optional(payload: Mapping[str, Any], name: str, kind: type) -> Any:
    return None if payload.get(name) is None else _claim(payload, name, kind)
