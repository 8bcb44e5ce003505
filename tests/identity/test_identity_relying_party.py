"""What a site refuses from a provider: tokens that were altered, mixed up, stale, or about somebody else."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import OctKey, RSAKey

from stelsel.base.canonical import canonical
from stelsel.base.clock import SetClock
from stelsel.base.errors import BadGateway
from stelsel.identity.assurance import acr
from stelsel.identity.faults import LoginCancelled, LoginRefused
from stelsel.identity.relying_party import Identity, RelyingParty

ISSUER = "https://login.example"
NOW = 1_800_000_000.0
KEY = RSAKey.generate_key(2048)
STRANGER = RSAKey.generate_key(2048)
Change = Callable[[dict[str, Any]], None]


class Provider:
    """A provider of somebody else's make, as the wire shows it, that can be made to misbehave."""

    def __init__(self) -> None:
        self.nonce = ""
        self.subject = str(uuid.uuid4())
        self.id_claims: dict[str, Any] = {}
        self.info_claims: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.key: Any = KEY
        self.algorithm = "RS256"
        self.alter: Callable[[str], str] = lambda token: token
        self.info_signed = True
        self.down = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("down")
        match request.url.path:
            case "/.well-known/openid-configuration":
                return httpx.Response(200, json=self._discovery())
            case "/jwks":
                return httpx.Response(200, json={"keys": [KEY.as_dict(private=False) | {"kid": "one"}]})
            case "/token":
                form = dict(parse_qsl(request.content.decode()))
                assert form["grant_type"] == "authorization_code"
                token = self._signed(self._id_token() | self.id_claims)
                return httpx.Response(200, json={"id_token": self.alter(token), "access_token": "opaque"})
            case "/userinfo":
                assert request.headers["authorization"] == "Bearer opaque"
                claims = {"iss": ISSUER, "aud": "site", "sub": self.subject, "burgerservicenummer": "999990019"}
                claims |= self.info_claims
                if not self.info_signed:
                    return httpx.Response(200, json=claims)
                return httpx.Response(200, text=self._signed(claims), headers={"Content-Type": "application/jwt"})
        return httpx.Response(404)

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "userinfo_endpoint": f"{ISSUER}/userinfo",
            "jwks_uri": f"{ISSUER}/jwks",
            "authorization_response_iss_parameter_supported": True,
        } | self.metadata

    def _id_token(self) -> dict[str, Any]:
        now = int(NOW)
        times = {"iat": now, "nbf": now, "exp": now + 300}
        return {"iss": ISSUER, "aud": "site", "sub": self.subject, "nonce": self.nonce, "acr": acr("low")} | times

    def _signed(self, claims: dict[str, Any]) -> str:
        kept = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.algorithm, "kid": "one"}
        return jws.serialize_compact(header, canonical(kept), self.key, algorithms=["RS256", "PS256", "HS256"])


def _log_in(provider: Provider, answer: Change = lambda _: None, **options: Any) -> Identity:
    async def run() -> Identity:
        async with httpx.AsyncClient(transport=httpx.MockTransport(provider)) as http:
            party = RelyingParty(
                issuer=ISSUER,
                client_id="site",
                key=ec.generate_private_key(ec.SECP256R1()),
                redirect_uri="https://site.example/callback",
                http=http,
                clock=SetClock(NOW),
            )
            address, pending = await party.begin(wants_bsn=True, **options)
            sent = dict(parse_qsl(urlsplit(address).query))
            provider.nonce = sent["nonce"]
            query = {"code": "c", "state": sent["state"], "iss": ISSUER}
            answer(query)
            return await party.finish({name: value for name, value in query.items() if value is not None}, pending)

    return asyncio.run(run())


@pytest.mark.parametrize("signed", [True, False])
def test_any_provider_that_keeps_to_the_profile_will_do(signed: bool) -> None:
    provider = Provider()
    provider.info_signed = signed
    identity = _log_in(provider)
    assert (identity.subject, identity.level, identity.burgerservicenummer) == (provider.subject, "low", "999990019")
    assert "999990019" not in repr(identity)
    assert Identity.from_json(identity.to_json()) == identity


@pytest.mark.parametrize(
    "change",
    [
        {"state": "another"},
        {"state": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"code": None},
        {"error": "server_error"},
        {"error": "<script>"},
    ],
)
def test_an_answer_of_another_login_or_another_provider_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(LoginRefused):
        _log_in(Provider(), lambda query: query.update(change))


def test_cancelling_is_told_apart_from_failing_and_only_by_the_provider_itself() -> None:
    with pytest.raises(LoginCancelled):
        _log_in(Provider(), lambda query: query.update({"error": "access_denied", "code": None}))
    with pytest.raises(LoginRefused):
        _log_in(Provider(), lambda query: query.update({"error": "access_denied", "state": "forged"}))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": ["site", "another"]},
        {"azp": "another"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": int(NOW)},
        {"exp": None},
        {"exp": "later"},
        {"iat": int(NOW) - 3600},
        {"iat": int(NOW) + 3600},
        {"nbf": int(NOW) + 3600},
        {"sub": ""},
        {"sub": None},
        {"sub": 7},
        {"acr": None},
        {"acr": "urn:strong"},
    ],
)
def test_an_id_token_with_a_wrong_claim_is_refused(claims: dict[str, Any]) -> None:
    provider = Provider()
    provider.id_claims = claims
    with pytest.raises(LoginRefused):
        _log_in(provider)


def test_a_level_lower_than_asked_is_refused() -> None:
    with pytest.raises(LoginRefused):
        _log_in(Provider(), level="substantial")


def test_an_altered_id_token_is_refused() -> None:
    def other_payload(token: str) -> str:
        header, payload, signature = token.split(".")
        return f"{header}.{payload[:-8]}{'A' * 8}.{signature}"

    for alter in (
        lambda token: token[:-6] + "AAAAAA",
        other_payload,
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: "eyJhbGciOiJub25lIn0." + token.split(".")[1] + ".",
        lambda token: "x",
        lambda token: "",
    ):
        provider = Provider()
        provider.alter = alter
        with pytest.raises(LoginRefused):
            _log_in(provider)


def test_a_token_signed_by_a_stranger_or_with_the_public_key_as_a_secret_is_refused() -> None:
    provider = Provider()
    provider.key = STRANGER
    with pytest.raises(LoginRefused):
        _log_in(provider)
    provider.key, provider.algorithm = OctKey.import_key(b"p" * 64), "HS256"
    with pytest.raises(LoginRefused):
        _log_in(provider)


@pytest.mark.parametrize("claims", [{"sub": "somebody-else"}, {"iss": "https://evil.example"}, {"aud": "another"}])
def test_userinfo_about_somebody_else_is_refused(claims: dict[str, Any]) -> None:
    provider = Provider()
    provider.info_claims = claims
    with pytest.raises(LoginRefused):
        _log_in(provider)


def test_a_bsn_that_fails_the_eleven_test_is_no_bsn() -> None:
    provider = Provider()
    provider.info_claims = {"burgerservicenummer": "123456789"}
    assert _log_in(provider).burgerservicenummer is None


@pytest.mark.parametrize(
    "metadata",
    [{"issuer": "https://evil.example"}, {"token_endpoint": "http://login.example/token"}, {"jwks_uri": None}],
)
def test_a_discovery_document_that_is_not_in_order_is_refused(metadata: dict[str, Any]) -> None:
    provider = Provider()
    provider.metadata = metadata
    with pytest.raises(BadGateway):
        _log_in(provider)


def test_a_provider_that_is_down_is_said_to_be_down() -> None:
    provider = Provider()
    provider.down = True
    with pytest.raises(BadGateway):
        _log_in(provider)
