"""What a client may not do: each test names the fault in a request, and it is refused where it should be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from identity_site import OTHER_KEY, PORTAL_KEY, VERIFIER, World, converse, problem, query_of
from joserfc import jws
from joserfc.jwk import OctKey

from stelsel.base.canonical import canonical
from stelsel.identity.faults import LoginProblem, RedirectedFault
from stelsel.identity.requests import Client, read_authorization_request, s256, unguessable

REDIRECT = "https://portal.example/callback"
CLIENTS = {
    "portal": Client("portal", "Portal", (REDIRECT,), (PORTAL_KEY.public_key(),), "portal"),
}
STATE = "0123456789abcdef0123456789ABCDEF-xyz"
RIGHT = {
    "response_type": "code",
    "client_id": "portal",
    "redirect_uri": REDIRECT,
    "scope": "openid",
    "state": STATE,
    "nonce": STATE,
    "code_challenge": s256(VERIFIER),
    "code_challenge_method": "S256",
}


def _read(**changes: str | None) -> Any:
    values = {name: value for name, value in (RIGHT | changes).items() if value is not None}
    return read_authorization_request(values.items(), CLIENTS)


def test_a_request_that_is_in_order_is_read() -> None:
    request = _read(acr_values="http://eidas.europa.eu/LoA/high http://eidas.europa.eu/LoA/substantial", max_age="60")
    assert (request.level, request.max_age, request.wants_bsn) == ("substantial", 60, False)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "x" * 42}, "invalid_request"),
        ({"code_challenge": "x" * 42 + "="}, "invalid_request"),
        ({"state": None}, "invalid_request"),
        ({"state": "kort"}, "invalid_request"),
        ({"state": "a" * 64}, "invalid_request"),
        ({"state": "0123456789abcdef01234567"}, "invalid_request"),
        ({"nonce": None}, "invalid_request"),
        ({"nonce": "123456789012345678901234"}, "invalid_request"),
        ({"nonce": "n\r\nSet-Cookie: x=y-0123456789abcdefgh"}, "invalid_request"),
        ({"nonce": "n" * 600}, "invalid_request"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.example/"}, "request_uri_not_supported"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "please"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "٣"}, "invalid_request"),
        ({"claims": "{"}, "invalid_request"),
        ({"claims": '{"a":1,"a":2}'}, "invalid_request"),
        ({"acr_values": "urn:other"}, "unmet_authentication_requirements"),
    ],
)
def test_a_fault_in_a_request_is_told_to_the_site(changes: dict[str, str | None], error: str) -> None:
    with pytest.raises(RedirectedFault) as refused:
        _read(**changes)
    assert refused.value.error == error
    assert refused.value.redirect_uri == REDIRECT


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        REDIRECT + "/",
        REDIRECT + "?",
        REDIRECT + "?next=https://evil.example",
        REDIRECT + "#x",
        REDIRECT.replace("https", "http"),
        REDIRECT.upper(),
        REDIRECT + "/../callback",
        "https://portal.example:443/callback",
        "https://portal.example@evil.example/callback",
        "https://portal.example.evil.example/callback",
        REDIRECT + "\n",
    ],
)
def test_a_redirect_address_that_is_not_exactly_registered_is_never_used(address: str | None) -> None:
    with pytest.raises(LoginProblem) as refused:
        _read(redirect_uri=address)
    assert refused.value.what == "redirect-unknown"


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
def test_a_doubled_client_or_redirect_sends_nobody_anywhere(name: str) -> None:
    with pytest.raises(LoginProblem):
        read_authorization_request([*RIGHT.items(), (name, RIGHT[name])], CLIENTS)


def test_a_doubled_parameter_is_refused() -> None:
    with pytest.raises(RedirectedFault):
        read_authorization_request([*RIGHT.items(), ("nonce", "another-nonce-0123456789abcdef")], CLIENTS)


def test_a_request_of_absurd_size_is_refused() -> None:
    with pytest.raises(LoginProblem):
        read_authorization_request([*RIGHT.items(), ("x", "x" * 100_000)], CLIENTS)
    with pytest.raises(LoginProblem):
        read_authorization_request([(f"x{number}", "") for number in range(100)], CLIENTS)


@given(st.dictionaries(st.sampled_from([*RIGHT, "prompt", "max_age", "claims", "acr_values"]), st.text(max_size=80)))
def test_whatever_is_sent_is_read_or_refused_in_words(changes: dict[str, str]) -> None:
    try:
        request = _read(**changes)
    except (LoginProblem, RedirectedFault):
        return
    assert request.redirect_uri == REDIRECT
    assert unguessable(request.state)
    assert unguessable(request.nonce)


def test_faults_reach_the_site_by_redirect_and_unknown_sites_get_a_page(folder: Path) -> None:
    async def conversation(here: World) -> None:
        answer = await here.authorize(code_challenge_method="plain")
        assert answer.status_code == 303
        told = query_of(answer)
        assert (told["error"], told["iss"]) == ("invalid_request", here.issuer)
        assert told["state"].startswith("s-")
        for changes in ({"client_id": "unknown"}, {"redirect_uri": f"{here.issuer}/callback/"}):
            answer = await here.authorize(**changes)
            assert answer.status_code == 400
            assert "location" not in answer.headers
        assert problem(answer) == "redirect-unknown"
        assert (await here.browser.get(f"{here.issuer}/oidc/authorize?client_id=%ff%fe")).status_code == 400

    converse(folder, conversation)


def test_a_code_can_be_redeemed_once_and_a_replay_takes_back_what_it_gave(folder: Path) -> None:
    async def conversation(here: World) -> None:
        code = await here.code()
        first = await here.redeem(code)
        assert first.headers["cache-control"] == "no-store"
        bearer = {"Authorization": f"Bearer {first.json()['access_token']}"}
        assert (await here.backend.get(f"{here.issuer}/oidc/userinfo", headers=bearer)).status_code == 200
        second = await here.redeem(code)
        assert (second.status_code, second.json()["error"]) == (400, "invalid_grant")
        assert (await here.backend.get(f"{here.issuer}/oidc/userinfo", headers=bearer)).status_code == 401

    converse(folder, conversation)


def test_of_many_who_redeem_one_code_at_once_one_succeeds(folder: Path, tmp_path: Path) -> None:
    async def conversation(here: World) -> None:
        code = await here.code()
        answers = await asyncio.gather(*(here.redeem(code) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7

    converse(folder, conversation, database_file=tmp_path / "node.db")


def test_a_fault_in_a_token_request_is_refused(folder: Path) -> None:
    faults: list[tuple[dict[str, str | None], str]] = [
        ({"code_verifier": "w" * 50}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "kort"}, "invalid_grant"),
        ({"redirect_uri": "http://localhost/callback/"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"client_assertion": None}, "invalid_client"),
        ({"client_assertion": "x.y"}, "invalid_client"),
        ({"client_assertion_type": None}, "invalid_client"),
        ({"client_id": "other"}, "invalid_client"),
        ({"client_secret": "x"}, "invalid_request"),
    ]

    async def conversation(here: World) -> None:
        for changes, error in faults:
            answer = await here.redeem(await here.code(), **changes)
            assert answer.status_code in {400, 401}, changes
            assert answer.json()["error"] == error, changes
        assert (await here.redeem("unknown")).json()["error"] == "invalid_grant"

    converse(folder, conversation)


def test_a_code_of_another_client_is_refused_and_gone(folder: Path) -> None:
    async def conversation(here: World) -> None:
        code = await here.code()
        theirs = here.assertion(OTHER_KEY, iss="other", sub="other")
        assert (await here.redeem(code, client_assertion=theirs)).json()["error"] == "invalid_grant"
        assert (await here.redeem(code)).json()["error"] == "invalid_grant"

    converse(folder, conversation)


def test_a_code_older_than_a_minute_is_refused(folder: Path) -> None:
    async def conversation(here: World) -> None:
        code = await here.code()
        here.clock.forward(60)
        assert (await here.redeem(code)).json()["error"] == "invalid_grant"

    converse(folder, conversation)


def test_a_client_assertion_must_be_signed_fresh_ours_and_used_once(folder: Path) -> None:
    async def conversation(here: World) -> None:
        now = int(here.clock.now())
        stranger = ec.generate_private_key(ec.SECP256R1())
        public = canonical({"iss": "portal", "sub": "portal", "aud": here.issuer, "jti": "j" * 20, "exp": now + 60})
        wrong = {
            "expired": here.assertion(exp=now - 1),
            "living too long": here.assertion(exp=now + 3600),
            "without end": here.assertion(exp=None),
            "end is no number": here.assertion(exp=True),
            "from the future": here.assertion(iat=now + 3600),
            "for another audience": here.assertion(aud="https://elsewhere.example"),
            "for two audiences": here.assertion(aud=[here.issuer, "https://elsewhere.example"]),
            "about another subject": here.assertion(sub="other"),
            "of an unknown client": here.assertion(iss="nobody", sub="nobody"),
            "without jti": here.assertion(jti=None),
            "with a short jti": here.assertion(jti="1"),
            "signed by a stranger": here.assertion(stranger),
            "signed by another client": here.assertion(OTHER_KEY),
            "with a shared secret": jws.serialize_compact({"alg": "HS256"}, public, OctKey.import_key(b"k" * 32)),
            "unsigned": "eyJhbGciOiJub25lIn0." + here.assertion().split(".")[1] + ".",
        }
        for fault, assertion in wrong.items():
            answer = await here.redeem("c" * 43, client_assertion=assertion)
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), fault
        once = here.assertion(aud=f"{here.issuer}/oidc/token")
        assert (await here.redeem(await here.code(), client_assertion=once)).status_code == 200
        again = await here.redeem(await here.code(), client_assertion=once)
        assert (again.status_code, again.json()["error"]) == (401, "invalid_client")

    converse(folder, conversation)


def test_userinfo_is_only_for_a_living_access_token(folder: Path) -> None:
    async def conversation(here: World) -> None:
        given_ = (await here.redeem(await here.code())).json()
        address = f"{here.issuer}/oidc/userinfo"
        token = given_["access_token"]
        body = token.split(".")
        wrong = ["x", given_["id_token"], f"{body[0]}.{body[1]}.{body[2][:-4]}AAAA", "a" * 10_000]
        for bearer in wrong:
            answer = await here.backend.get(address, headers={"Authorization": f"Bearer {bearer}"})
            assert answer.status_code == 401, bearer[:20]
            assert "invalid_token" in answer.headers["www-authenticate"]
        assert (await here.backend.get(f"{address}?access_token={token}")).status_code == 401
        here.clock.forward(301)
        assert (await here.backend.get(address, headers={"Authorization": f"Bearer {token}"})).status_code == 401

    converse(folder, conversation)


def test_hostile_bodies_are_refused_and_never_a_mistake(folder: Path) -> None:
    async def conversation(here: World) -> None:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        js = {"Content-Type": "application/json"}
        for path in ("/oidc/token", "/login", "/activate", "/oidc/logout", "/oidc/authorize"):
            for body in (b"\xff\xfe", b"%ff=%fe", b"a=" + b"x" * 50_000, b"&".join([b"a=1"] * 90), b"{}"):
                answer = await here.browser.post(f"{here.issuer}{path}", content=body, headers=form)
                assert 200 <= answer.status_code < 500, (path, body[:10], answer.text)
            assert (await here.browser.post(f"{here.issuer}{path}", content=b"{}", headers=js)).status_code < 500
        for path in ("/login/passkey/", "/activate/passkey/"):
            for end in ("options", "verify"):
                for body in (b"", b"[]", b'{"challenge":1}', b'{"challenge":"x","credential":[]}', b"[" * 5000):
                    answer = await here.browser.post(f"{here.issuer}{path}{end}", content=body, headers=js)
                    assert 400 <= answer.status_code < 500, (path, body[:10])
        hostile = urlencode({"challenge": "'; DROP TABLE identity_accounts; --\x00\u202e"})
        assert (await here.browser.get(f"{here.issuer}/login?{hostile}")).status_code in {403, 410}

    converse(folder, conversation)


def test_discovery_promises_only_what_is_there(folder: Path) -> None:
    async def conversation(here: World) -> None:
        answer = await here.backend.get(f"{here.issuer}/.well-known/openid-configuration")
        document = answer.json()
        assert answer.headers["access-control-allow-origin"] == "*"
        assert document["issuer"] == here.issuer
        assert document["response_types_supported"] == ["code"]
        assert document["code_challenge_methods_supported"] == ["S256"]
        assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
        assert document["subject_types_supported"] == ["pairwise"]
        assert document["authorization_response_iss_parameter_supported"] is True
        assert "RS256" in document["id_token_signing_alg_values_supported"]
        keys = (await here.backend.get(document["jwks_uri"])).json()["keys"]
        assert all(not {"d", "p", "q", "dp", "dq", "qi"} & set(key) for key in keys)
        for name in ("authorization_endpoint", "userinfo_endpoint", "end_session_endpoint"):
            assert (await here.backend.get(document[name])).status_code != 404
        assert (await here.backend.get(document["token_endpoint"])).status_code == 405

    converse(folder, conversation)
