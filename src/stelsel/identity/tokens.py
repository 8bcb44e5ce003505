"""What tokens say (OIDC-NLGOV: ID tokens, access tokens, UserInfo), and how subjects are named in them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stelsel.base.canonical import b64url
from stelsel.identity.assurance import ACR_VALUES, Level, acr
from stelsel.identity.problems import Kind

ID_TOKEN_LIFETIME = 300
"""Seconds: "SHOULD have an active lifetime no longer than five minutes" (OIDC-NLGOV, ID Tokens)."""


@dataclass(frozen=True)
class Account:
    """Somebody who can log in here. The burgerservicenummer is not in it: see `Store.burgerservicenummer`."""

    account_id: str
    kind: Kind
    display_name: str
    peer_id: str = ""
    """OIN of the organisation of an official."""
    roles: tuple[str, ...] = ()


def pairwise(key: bytes, sector: str, account_id: str) -> str:
    """The `sub` of an account in a sector: HMAC-SHA-256 over both, each with its length before it, base64url.

    Two sectors cannot find out that two of their subjects are one person (OpenID Connect Core 8.1; OIDC-NLGOV,
    Pairwise Identifiers).
    """
    message = b"".join(len(part).to_bytes(4, "big") + part for part in (sector.encode(), account_id.encode()))
    return b64url(hmac.new(key, message, hashlib.sha256).digest())


def id_token(
    *,
    issuer: str,
    client_id: str,
    subject: str,
    account: Account,
    level: Level,
    nonce: str,
    identifier: str,
    authenticated_at: int,
    now: int,
) -> dict[str, Any]:
    """The claims of an ID token. Never `amr` (OIDC-NLGOV, Authentication Context), never a burgerservicenummer."""
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": client_id,
        "sub": subject,
        "nonce": nonce,
        "jti": identifier,
        "iat": now,
        "nbf": now,
        "exp": now + ID_TOKEN_LIFETIME,
        "auth_time": authenticated_at,
        "acr": acr(level),
    }
    return claims | official_claims(account)


def access_token(
    *, issuer: str, client_id: str, subject: str, identifier: str, lifetime: int, now: int
) -> dict[str, Any]:
    """The claims of an access token for our own UserInfo (NL GOV profile for OAuth: iss, azp, exp, jti)."""
    return {
        "iss": issuer,
        "aud": issuer,
        "azp": client_id,
        "sub": subject,
        "jti": identifier,
        "iat": now,
        "exp": now + lifetime,
        "scope": "openid",
    }


def official_claims(account: Account) -> dict[str, Any]:
    """`peer_id` and `roles` of an official; nothing for a resident."""
    return {"peer_id": account.peer_id, "roles": list(account.roles)} if account.kind == "official" else {}


def discovery(issuer: str, algorithms: tuple[str, ...], assertion_algorithms: tuple[str, ...]) -> Mapping[str, Any]:
    """The discovery document (OpenID Connect Discovery 1.0; OIDC-NLGOV, Discovery document): only what is there."""
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oidc/authorize",
        "token_endpoint": f"{issuer}/oidc/token",
        "userinfo_endpoint": f"{issuer}/oidc/userinfo",
        "end_session_endpoint": f"{issuer}/oidc/logout",
        "jwks_uri": f"{issuer}/oidc/jwks",
        "scopes_supported": ["openid"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["pairwise"],
        "acr_values_supported": list(ACR_VALUES),
        "id_token_signing_alg_values_supported": list(algorithms),
        "userinfo_signing_alg_values_supported": list(algorithms),
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": list(assertion_algorithms),
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": [
            "iss", "aud", "sub", "nonce", "jti", "iat", "nbf", "exp", "auth_time", "acr",
            "peer_id", "roles", "burgerservicenummer",
        ],
        "claims_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["nl", "en"],
    }  # fmt: skip
