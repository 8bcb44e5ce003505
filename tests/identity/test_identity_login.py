"""Whole logins, as a browser and a site hold them, and what must not leak on the way."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from identity_site import BSN, OFFICIAL_PEER, World, challenge_in, converse, hidden, new_browser, problem, query_of

from stelsel.base.jose import peek


async def _login(here: World, person: str = "p0", begin: str = "/begin") -> httpx.Response:
    """Log in on the site, as a browser does; gives the last answer."""
    away = await here.browser.get(f"{here.issuer}{begin}")
    shown = await here.browser.get(away.headers["location"])
    chosen = await here.choose(challenge_in(shown), person)
    assert chosen.status_code == 303
    return await here.browser.get(chosen.headers["location"])


def test_a_resident_logs_in_and_only_the_permitted_site_gets_the_bsn_on_its_server(folder: Path) -> None:
    async def conversation(here: World) -> None:
        back = await _login(here, begin="/begin?back=/inzage")
        assert (back.status_code, back.headers["location"]) == (303, "/inzage")
        seen = (await here.browser.get(here.issuer)).json()
        assert seen["bsn"] == BSN
        assert seen["level"] == "low"
        assert BSN not in seen["subject"]

    converse(folder, conversation)


def test_an_official_brings_organisation_and_roles_and_no_bsn(folder: Path) -> None:
    async def conversation(here: World) -> None:
        await _login(here, "p1")
        seen = (await here.browser.get(here.issuer)).json()
        assert (seen["peer_id"], seen["roles"], seen["bsn"]) == (OFFICIAL_PEER, ["steward", "officer"], None)

    converse(folder, conversation)


def test_an_id_token_says_what_the_profile_asks_and_never_amr_or_bsn(folder: Path) -> None:
    async def conversation(here: World) -> None:
        asked = '{"userinfo": {"burgerservicenummer": null}}'
        answer = (await here.redeem(await here.code(claims=asked))).json()
        header, claims = peek(answer["id_token"])
        assert header["alg"] == "RS256"
        assert header["kid"] == (await here.backend.get(f"{here.issuer}/oidc/jwks")).json()["keys"][0]["kid"]
        assert {"iss", "aud", "sub", "nonce", "jti", "iat", "nbf", "exp", "acr"} <= set(claims)
        assert claims["exp"] - claims["iat"] <= 300
        assert claims["acr"] == "http://eidas.europa.eu/LoA/low"
        assert "amr" not in claims
        assert BSN not in str(claims)
        assert BSN not in str(peek(answer["access_token"]))

    converse(folder, conversation)


def test_a_site_without_permission_or_without_asking_gets_no_bsn(folder: Path) -> None:
    async def conversation(here: World) -> None:
        from identity_site import OTHER_KEY

        answer = (await here.redeem(await here.code())).json()
        told = await here.backend.get(
            f"{here.issuer}/oidc/userinfo", headers={"Authorization": f"Bearer {answer['access_token']}"}
        )
        assert told.headers["content-type"] == "application/jwt"
        assert "burgerservicenummer" not in peek(told.text)[1]
        asked = '{"userinfo": {"burgerservicenummer": {"essential": true}}}'
        code = await here.code(client_id="other", prompt="login", claims=asked)
        mine = here.assertion(OTHER_KEY, iss="other", sub="other")
        answer = (await here.redeem(code, client_assertion=mine)).json()
        told = await here.backend.get(
            f"{here.issuer}/oidc/userinfo", headers={"Authorization": f"Bearer {answer['access_token']}"}
        )
        assert "burgerservicenummer" not in peek(told.text)[1]

    converse(folder, conversation)


def test_the_same_person_is_another_subject_in_another_sector(folder: Path) -> None:
    async def conversation(here: World) -> None:
        from identity_site import OTHER_KEY

        one = peek((await here.redeem(await here.code())).json()["id_token"])[1]["sub"]
        again = peek((await here.redeem(await here.code(prompt="login"))).json()["id_token"])[1]["sub"]
        mine = here.assertion(OTHER_KEY, iss="other", sub="other")
        code = await here.code(client_id="other", prompt="login")
        two = peek((await here.redeem(code, client_assertion=mine)).json()["id_token"])[1]["sub"]
        assert one == again
        assert one != two

    converse(folder, conversation)


def test_cancelling_is_an_answer_to_the_site_and_no_fault(folder: Path) -> None:
    async def conversation(here: World) -> None:
        away = await here.browser.get(f"{here.issuer}/begin")
        challenge = challenge_in(await here.browser.get(away.headers["location"]))
        cancelled = await here.browser.post(f"{here.issuer}/login", data={"challenge": challenge, "cancel": "1"})
        assert query_of(cancelled)["error"] == "access_denied"
        back = await here.browser.get(cancelled.headers["location"])
        assert (back.status_code, back.text) == (403, "login-cancelled")

    converse(folder, conversation)


def test_who_is_logged_in_need_not_log_in_again_unless_the_site_asks_so(folder: Path) -> None:
    async def conversation(here: World) -> None:
        await here.code()
        assert "code" in query_of(await here.authorize())
        assert "code" in query_of(await here.authorize(prompt="none"))
        challenge_in(await here.authorize(prompt="login"))
        challenge_in(await here.authorize(max_age="0"))
        challenge_in(await here.authorize(acr_values="http://eidas.europa.eu/LoA/substantial"))
        here.clock.forward(1801)
        assert query_of(await here.authorize(prompt="none"))["error"] == "login_required"

    converse(folder, conversation)


def test_a_session_ends_after_its_absolute_lifetime_however_busy(folder: Path) -> None:
    async def conversation(here: World) -> None:
        await here.code()
        for _ in range(24):
            here.clock.forward(1200)
            answer = await here.authorize(prompt="none")
        assert query_of(answer)["error"] == "login_required"

    converse(folder, conversation)


def test_a_demo_login_is_never_enough_for_substantial(folder: Path) -> None:
    async def conversation(here: World) -> None:
        challenge = challenge_in(await here.authorize(acr_values="http://eidas.europa.eu/LoA/substantial"))
        page = await here.browser.get(f"{here.issuer}/login?challenge={challenge}")
        assert "Noor" not in page.text
        assert (await here.choose(challenge)).status_code == 403

    converse(folder, conversation)


def test_an_official_cannot_enter_a_place_for_residents(folder: Path) -> None:
    async def conversation(here: World) -> None:
        answer = await here.choose(challenge_in(await here.authorize(client_id="other")), "p1")
        assert answer.status_code == 403

    converse(folder, conversation)


def test_without_the_ugly_setting_nobody_can_be_chosen(folder: Path) -> None:
    async def conversation(here: World) -> None:
        answer = await here.choose(challenge_in(await here.authorize()))
        assert answer.status_code == 404

    converse(folder, conversation, unsafe_demo_login_file=None)


def test_a_name_with_markup_stays_text(folder: Path) -> None:
    async def conversation(here: World) -> None:
        challenge = challenge_in(await here.authorize())
        page = await here.browser.get(f"{here.issuer}/login?challenge={challenge}")
        assert "<b>Terwold" not in page.text
        assert "&lt;b&gt;Terwold" in page.text

    converse(folder, conversation)


def test_logging_out_ends_both_sessions_and_returns_only_to_a_registered_address(folder: Path) -> None:
    async def conversation(here: World) -> None:
        await _login(here)
        away = await here.browser.post(f"{here.issuer}/end")
        out = await here.browser.get(away.headers["location"])
        assert (out.status_code, out.headers["location"]) == (303, f"{here.issuer}/")
        assert (await here.browser.get(here.issuer)).json() == {}
        assert query_of(await here.authorize(prompt="none"))["error"] == "login_required"
        elsewhere = urlencode({"client_id": "portal", "post_logout_redirect_uri": "https://evil.example/"})
        assert (await here.browser.get(f"{here.issuer}/oidc/logout?{elsewhere}")).status_code == 200

    converse(folder, conversation)


def test_a_link_cannot_log_somebody_out_without_asking(folder: Path) -> None:
    async def conversation(here: World) -> None:
        await here.code()
        asked = await here.browser.get(f"{here.issuer}/oidc/logout")
        assert "code" in query_of(await here.authorize(prompt="none"))
        forged = await here.browser.post(f"{here.issuer}/oidc/logout", data={"form_token": "0" * 64})
        assert forged.status_code == 403
        await here.browser.post(f"{here.issuer}/oidc/logout", data={"form_token": hidden(asked, "form_token")})
        assert query_of(await here.authorize(prompt="none"))["error"] == "login_required"

    converse(folder, conversation)


def test_a_session_id_planted_before_the_login_is_worth_nothing_after_it(folder: Path) -> None:
    async def conversation(here: World) -> None:
        planted = "A" * 43
        port = here.issuer.rpartition(":")[2]
        here.browser.cookies.set(f"stelsel-provider-{port}", planted, domain="localhost.local", path="/")
        here.browser.cookies.set(f"stelsel-portal-{port}", planted, domain="localhost.local", path="/")
        await _login(here)
        async with new_browser({f"stelsel-provider-{port}": planted, f"stelsel-portal-{port}": planted}) as thief:
            assert (await thief.get(here.issuer)).json() == {}
            answer = await thief.get(f"{here.issuer}/oidc/authorize?{urlencode(here.request(prompt='none'))}")
            assert query_of(answer)["error"] == "login_required"

    converse(folder, conversation)


def test_a_new_login_ends_the_session_before_it(folder: Path) -> None:
    async def conversation(here: World) -> None:
        await here.code()
        before = dict(here.browser.cookies)
        await here.code(prompt="login")
        async with new_browser(before) as old:
            answer = await old.get(f"{here.issuer}/oidc/authorize?{urlencode(here.request(prompt='none'))}")
        assert query_of(answer)["error"] == "login_required"

    converse(folder, conversation)


def test_a_login_cannot_be_finished_in_another_browser_nor_twice(folder: Path) -> None:
    async def conversation(here: World) -> None:
        challenge = challenge_in(await here.authorize())
        async with new_browser() as other:
            stolen = await other.post(f"{here.issuer}/login", data={"challenge": challenge, "person": "p0"})
            assert (stolen.status_code, problem(stolen)) == (403, "other-browser")
            # with a cookie of its own, too
            await other.get(f"{here.issuer}/oidc/authorize?{urlencode(here.request())}")
            stolen = await other.post(f"{here.issuer}/login", data={"challenge": challenge, "person": "p0"})
            assert (stolen.status_code, problem(stolen)) == (403, "other-browser")
        assert (await here.choose(challenge)).status_code == 303
        assert (await here.choose(challenge)).status_code == 410

    converse(folder, conversation)


def test_a_form_posted_by_another_site_is_refused(folder: Path) -> None:
    async def conversation(here: World) -> None:
        challenge = challenge_in(await here.authorize())
        answer = await here.browser.post(
            f"{here.issuer}/login",
            data={"challenge": challenge, "person": "p0"},
            headers={"Origin": "https://evil.example"},
        )
        assert answer.status_code == 403

    converse(folder, conversation)


def test_a_login_that_takes_too_long_is_over(folder: Path) -> None:
    async def conversation(here: World) -> None:
        challenge = challenge_in(await here.authorize())
        here.clock.forward(901)
        answer = await here.choose(challenge)
        assert (answer.status_code, problem(answer)) == (410, "challenge-over")

    converse(folder, conversation)


def test_guessing_in_one_login_is_braked(folder: Path) -> None:
    async def conversation(here: World) -> None:
        challenge = challenge_in(await here.authorize())
        answers = [(await here.choose(challenge, "p99")).status_code for _ in range(12)]
        assert answers[0] == 422
        assert answers[-1] == 429

    converse(folder, conversation)


def test_the_site_refuses_an_answer_for_another_browser_or_a_second_time(folder: Path) -> None:
    async def conversation(here: World) -> None:
        away = await here.browser.get(f"{here.issuer}/begin")
        chosen = await here.choose(challenge_in(await here.browser.get(away.headers["location"])))
        async with new_browser() as victim:
            forced = await victim.get(chosen.headers["location"])
            assert (forced.status_code, forced.text) == (401, "login-refused")
        # the answer was taken by that attempt, so that it cannot be tried on
        assert (await here.browser.get(chosen.headers["location"])).status_code == 401

    converse(folder, conversation)


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_a_site_sends_nobody_elsewhere_after_the_login(folder: Path, back: str) -> None:
    from stelsel.identity.site import own_path

    assert own_path(back) == "/"


def test_a_bsn_is_in_no_address_no_log_line_and_not_readable_on_disk(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    addresses: list[str] = []

    def wrap(app: object) -> object:
        async def watch(scope: dict[str, object], receive: object, send: object) -> None:
            addresses.append(f"{scope['path']}?{scope['query_string']!r}")
            await app(scope, receive, send)  # type: ignore[operator]

        return watch

    async def conversation(here: World) -> None:
        await _login(here)
        await here.browser.post(f"{here.issuer}/end")

    converse(folder, conversation, wrap=wrap, database_file=tmp_path / "node.db")
    said = capfd.readouterr()
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("node.db*"))
    assert len(addresses) > 5
    assert BSN not in "".join(addresses)
    assert BSN not in said.out + said.err
    assert BSN.encode() not in kept
    assert "UNSAFE" in said.out + said.err


def test_key_files_are_for_this_user_only(folder: Path, tmp_path: Path) -> None:
    from stelsel.identity.keys import Vault

    Vault.open(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new" / "secret.key").stat().st_mode) == 0o600


def test_a_broken_signing_key_stops_the_start_with_the_file_and_the_fix(folder: Path) -> None:
    from stelsel.base.errors import ConfigurationFault

    (folder / "signing.pem").write_text("nonsense")

    async def conversation(here: World) -> None:
        raise AssertionError("it started")

    with pytest.raises(ConfigurationFault) as refused:
        converse(folder, conversation)
    assert "signing.pem" in refused.value.detail


def test_of_two_processes_that_start_at_once_the_key_of_one_counts_for_both(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from stelsel.identity.keys import Vault

    with ThreadPoolExecutor(8) as pool:
        vaults = list(pool.map(lambda _: Vault.open(tmp_path / "new"), range(8)))
    assert len({vault.key("pairwise") for vault in vaults}) == 1
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["secret.key"]


def test_after_a_restart_people_keep_their_pseudonym_and_the_provider_its_keys(folder: Path, tmp_path: Path) -> None:
    subjects, keys = set(), set()

    async def first(here: World) -> None:
        subjects.add(peek((await here.redeem(await here.code())).json()["id_token"])[1]["sub"])
        keys.add((await here.backend.get(f"{here.issuer}/oidc/jwks")).text)

    async def second(here: World) -> None:
        keys.add((await here.backend.get(f"{here.issuer}/oidc/jwks")).text)
        subjects.add(peek((await here.redeem(await here.code())).json()["id_token"])[1]["sub"])

    database = tmp_path / "node.db"
    converse(folder, first, database_file=database)
    converse(folder, second, database_file=database)
    assert len(subjects) == 1
    assert len(keys) == 1


def test_cookies_cannot_be_read_by_scripts_and_are_bound_to_https_elsewhere() -> None:
    from starlette.responses import Response

    from stelsel.base.errors import ConfigurationFault
    from stelsel.identity.sessions import Cookie

    response = Response()
    Cookie("provider", "https://login.example").set(response, "x")
    said = response.headers["set-cookie"]
    assert said.startswith("__Host-stelsel-provider=x")
    assert all(part in said.lower() for part in ("httponly", "secure", "samesite=lax", "path=/"))
    with pytest.raises(ConfigurationFault):
        Cookie("provider", "http://login.example")
