"""Activation codes: given out once, typed as people type, and not to be guessed."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from identity_site import BSN, TEXTS, World, converse, hidden, problem

from stelsel.base.errors import ConfigurationFault, TooMany, Unprocessable
from stelsel.identity.settings import IdentitySettings
from stelsel.identity.throttle import Throttle


async def _code(here: World) -> str:
    return await here.provider.enrol_resident(name="Noor", burgerservicenummer=BSN, level="substantial")


async def _try(here: World, code: str) -> httpx.Response:
    token = hidden(await here.browser.get(f"{here.issuer}/activate"), "form_token")
    return await here.browser.post(f"{here.issuer}/activate", data={"form_token": token, "code": code})


def _other(code: str) -> str:
    """The same code but for its last character."""
    return code[:-1] + ("0" if code[-1] != "0" else "1")


def test_a_code_is_read_as_people_write_it(folder: Path) -> None:
    async def conversation(here: World) -> None:
        code = await _code(here)
        written = " " + code.lower().replace("-", " ").replace("0", "o").replace("1", "l") + " "
        assert 'data-passkey="register"' in (await _try(here, written)).text

    converse(folder, conversation)


def test_after_five_wrong_tries_a_code_is_dead_even_when_right(folder: Path) -> None:
    async def conversation(here: World) -> None:
        code = await _code(here)
        for _ in range(5):
            answer = await _try(here, _other(code))
            assert (answer.status_code, problem(answer)) == (422, TEXTS["code-refused"][0])
        assert (await _try(here, code)).status_code == 422

    converse(folder, conversation)


def test_wrong_codes_say_nothing_about_which_exist_and_are_braked(folder: Path) -> None:
    async def conversation(here: World) -> None:
        code = await _code(here)
        texts = set()
        for wrong in (_other(code), "000000" + code[6:], "kort", "<script>", "é" * 16):
            texts.add(problem(await _try(here, wrong)))
        assert len(texts) == 1
        answers = [(await _try(here, "A" * 16)).status_code for _ in range(10)]
        assert answers[-1] == 429

    converse(folder, conversation)


def test_a_code_expires_and_a_newer_one_replaces_it(folder: Path) -> None:
    async def conversation(here: World) -> None:
        old, new = await _code(here), await _code(here)
        assert (await _try(here, old)).status_code == 422
        here.clock.forward(1_209_601)
        assert (await _try(here, new)).status_code == 422

    converse(folder, conversation)


def test_a_form_without_the_token_of_this_browser_is_refused(folder: Path) -> None:
    async def conversation(here: World) -> None:
        code = await _code(here)
        await here.browser.get(f"{here.issuer}/activate")
        answer = await here.browser.post(f"{here.issuer}/activate", data={"form_token": "0" * 64, "code": code})
        assert answer.status_code == 403

    converse(folder, conversation)


def test_codes_lie_on_disk_only_as_hashes(folder: Path, tmp_path: Path) -> None:
    async def conversation(here: World) -> None:
        code = (await _code(here)).replace("-", "")
        kept = b"".join(file.read_bytes() for file in tmp_path.glob("node.db*"))
        assert code[6:].encode() not in kept

    converse(folder, conversation, database_file=tmp_path / "node.db")


def test_a_wrong_bsn_is_not_enrolled(folder: Path) -> None:
    async def conversation(here: World) -> None:
        with pytest.raises(Unprocessable) as refused:
            await here.provider.enrol_resident(name="Noor", burgerservicenummer="123456789", level="low")
        assert "123456789" not in str(refused.value.problem())

    converse(folder, conversation)


def test_what_has_expired_is_swept(folder: Path) -> None:
    async def conversation(here: World) -> None:
        from sqlalchemy import func, select

        from stelsel.identity import store

        await _code(here)
        await here.code()
        here.clock.forward(10_000_000)
        await here.database.write(
            lambda connection: store.Store(here.provider.vault).sweep(connection, here.clock.now())
        )
        with here.database.read() as connection:
            for table in ("identity_single_use", "identity_sessions", "identity_activation_codes"):
                count = select(func.count()).select_from(store.metadata.tables[table])
                assert connection.execute(count).scalar_one() == 0, table

    converse(folder, conversation)


def test_a_bucket_refills_with_time_and_buckets_do_not_pile_up() -> None:
    throttle = Throttle(burst=2, rate=0.5, keys=3)
    throttle.spend("a", 0)
    throttle.spend("a", 0)
    with pytest.raises(TooMany):
        throttle.spend("a", 1)
    throttle.spend("a", 3)
    for number in range(100):
        throttle.spend(str(number), 3)
    assert len(throttle._buckets) == 3


@pytest.mark.parametrize(
    "people",
    [
        "nonsense",
        "{}",
        "[]",
        [{"name": "X", "burgerservicenummer": "123456789"}],
        [{"name": "X", "burgerservicenummer": 999990019}],
        [{"name": "", "burgerservicenummer": BSN}],
        [{"name": "X", "burgerservicenummer": BSN, "more": 1}],
        [{"name": "X", "peer_id": "1", "roles": []}],
        [{"name": "X", "peer_id": "00000099000000003000", "roles": "steward"}],
        [7],
    ],
)
def test_a_demo_file_that_is_not_in_order_is_refused_in_one_line(folder: Path, people: object) -> None:
    from stelsel.base.database import Database
    from stelsel.identity.demo_choice import DemoChoice
    from stelsel.identity.keys import Vault
    from stelsel.identity.store import Store

    path = folder / "wrong.json"
    path.write_text(people if isinstance(people, str) else json.dumps(people))
    database = Database(None)
    with pytest.raises(ConfigurationFault) as refused:
        DemoChoice(path, database, Store(Vault.open(folder)))
    database.close()
    assert str(path) in refused.value.detail
    assert "\n" not in refused.value.detail
    assert BSN not in refused.value.detail


def test_settings_refuse_plain_http_and_keys_that_are_none(tmp_path: Path) -> None:
    from stelsel.identity.settings import read_public_keys

    with pytest.raises(ValueError, match="https"):
        IdentitySettings(issuer="http://login.example")
    with pytest.raises(ValueError, match="https"):
        IdentitySettings.model_validate(
            {
                "issuer": "https://login.example",
                "clients": [
                    {
                        "client_id": "x",
                        "name": "x",
                        "redirect_uris": ["http://site.example/"],
                        "public_keys": "x.pem",
                        "sector": "x",
                    }
                ],
            }
        )
    for content in (b"", b"{}", b'{"keys":[{"kty":"oct","k":"AAAA"}]}', b"-----BEGIN CERTIFICATE-----"):
        (tmp_path / "keys").write_bytes(content)
        with pytest.raises(ConfigurationFault):
            read_public_keys(tmp_path / "keys")


def test_client_keys_are_read_from_pem_certificate_and_jwk_set(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from identity_site import PORTAL_KEY
    from joserfc.jwk import ECKey

    from stelsel.demo.authority import Authority
    from stelsel.identity.settings import read_public_keys

    pem = PORTAL_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [ECKey.import_key(pem).as_dict(private=False)]}))
    certificate, _ = Authority().issue(tmp_path / "peer", "00000099000000001000", "Regie")
    assert read_public_keys(tmp_path / "key.pem") == (PORTAL_KEY.public_key(),)
    assert read_public_keys(tmp_path / "keys.json") == (PORTAL_KEY.public_key(),)
    assert len(read_public_keys(certificate)) == 1
