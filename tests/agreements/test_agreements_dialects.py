"""Dialects: each question has one setting, and nodes that answer differently still work together."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
from agreements_peers import CONSUMER, OTHER, PROVIDER, Country
from hypothesis import given
from hypothesis import strategies as st
from test_agreements_api import HEADERS, Stranger, code_of
from test_agreements_country import state_of, until
from test_agreements_parties import claims_of, signed_by_all

from stelsel.agreements import signatures, tokens
from stelsel.agreements.agreement import State
from stelsel.agreements.contract import parse, reread
from stelsel.agreements.dialect import USUAL, Dialect, settle_parties
from stelsel.agreements.fsc_errors import RequestNotReadable, SignatureVerificationFailed, UnknownFscVersion
from stelsel.agreements.group import Group
from stelsel.agreements.proposals import (
    ConnectionProposal,
    DelegatedConnectionProposal,
    PublicationProposal,
    content_of,
)
from stelsel.agreements.terms import Terms
from stelsel.base import jose
from stelsel.base.canonical import canonical
from stelsel.base.certificates import KeyPair
from stelsel.base.jose import Signer

DOCS = Path(__file__).parents[2] / "docs" / "understand" / "dialects.md"
OTHERWISE = Dialect.model_validate(
    {
        "act_subject": "delegatee",
        "delegation_claims": "act-and-cdi",
        "missing_service_type": "accept",
        "fsc_versions": ["2.0.0", "1.0.0"],
        "party_error_codes": "one",
        "thumbprints": "base64url",
        "last_cursor": "empty",
        "bearer_prefix": "refuse",
        "offered_by": "outway",
    }
)
"""Every question answered the other way."""


def test_every_question_is_explained_and_answered_the_other_way_here() -> None:
    page = DOCS.read_text()
    for name in Dialect.model_fields:
        assert f"`{name}`" in page, f"{name} is not in docs/understand/dialects.md"
        assert getattr(OTHERWISE, name) != getattr(USUAL, name)


@pytest.mark.parametrize("usual_provider", [True, False])
def test_nodes_with_different_dialects_agree_in_all_flows(country: Country, terms: Terms, usual_provider: bool) -> None:
    differing = (country.consumer, country.directory) if usual_provider else (country.provider, country.other)
    for peer in differing:
        peer.dialect = OTHERWISE

    async def scenario() -> None:
        async with country.running(*country.peers):
            peers = {peer.id: peer.agreements for peer in country.peers}
            published = await peers[PROVIDER].propose(PublicationProposal("personen"))
            await until(lambda: state_of(peers[PROVIDER], published) is State.VALID)
            for peer_id in (CONSUMER, OTHER, PROVIDER):
                assert [each.name for each in await peers[peer_id].directory_services()] == ["personen"]
                assert len(await peers[peer_id].directory_peers()) == 4
            await signed_by_all(peers, CONSUMER, ConnectionProposal(PROVIDER, "personen", terms))
            delegated = DelegatedConnectionProposal(PROVIDER, "personen", terms, delegator=OTHER)
            content_hash = await signed_by_all(peers, CONSUMER, delegated)
            claims = await claims_of(peers, country, content_hash)
            assert (claims.consumer, claims.consumer_delegator) == (CONSUMER, OTHER)
            for peer in country.peers:
                for caught in await peer.agreements.catch_up():
                    assert (caught.trouble, caught.taken_in, caught.sent_again) == ("", 0, 0)

    asyncio.run(scenario())


def content(group: Group, now: float | None = None) -> dict[str, Any]:
    return content_of(ConnectionProposal(PROVIDER, "personen"), group, CONSUMER, "0" * 64, now or time.time())


def test_who_act_names_is_a_matter_of_writing_only() -> None:
    assert USUAL.subject_and_actor(CONSUMER, None) == OTHERWISE.subject_and_actor(CONSUMER, None) == {"sub": CONSUMER}
    assert USUAL.subject_and_actor(CONSUMER, OTHER) == {"sub": CONSUMER, "act": {"sub": OTHER}}
    written = OTHERWISE.subject_and_actor(CONSUMER, OTHER)
    assert written == {"sub": OTHER, "act": {"sub": CONSUMER}, "cdi": OTHER}
    for claims in (written, USUAL.subject_and_actor(CONSUMER, OTHER)):
        assert settle_parties(claims["sub"], claims["act"]["sub"], CONSUMER, OTHER) == (CONSUMER, OTHER)
    for subject, actor in ((CONSUMER, None), (OTHER, None), (CONSUMER, PROVIDER), (PROVIDER, OTHER), (OTHER, OTHER)):
        assert settle_parties(subject, actor, CONSUMER, OTHER) is None
    assert settle_parties(CONSUMER, OTHER, CONSUMER, None) is None


def test_a_delegator_in_cdi_alone_is_understood() -> None:
    payload: dict[str, Any] = {"gth": "g", "gid": "g", "sub": CONSUMER, "iss": PROVIDER, "svc": "s", "aud": "https://x"}
    payload |= {"exp": 2, "nbf": 1, "cnf": {"x5t#S256": "t"}, "cdi": OTHER}
    assert tokens.TokenClaims.from_json(payload).consumer_delegator == OTHER


def test_a_service_without_type_is_read_from_its_delegator_where_that_is_accepted(group: Group) -> None:
    plain, delegated = content(group), content(group)
    del plain["grants"][0]["data"]["service"]["type"]
    del delegated["grants"][0]["data"]["service"]["type"]
    delegated["grants"][0]["data"]["service"]["delegator"] = {"peer_id": OTHER}
    for each in (plain, delegated):
        with pytest.raises(RequestNotReadable, match=r"service\.type"):
            parse(each)
    assert parse(plain, OTHERWISE).grants[0].service_delegator is None
    assert parse(delegated, OTHERWISE).signatories == {CONSUMER, PROVIDER, OTHER}
    # What was taken in once stays readable, whatever the settings become, and its hash is over what was sent.
    assert reread(plain).content_hash == parse(plain, OTHERWISE).content_hash
    odd = content(group)
    odd["grants"][0]["data"]["service"]["type"] = "SERVICE_TYPE_ODD"
    for dialect in (USUAL, OTHERWISE):
        with pytest.raises(RequestNotReadable):
            parse(odd, dialect)


def test_a_version_is_taken_in_only_where_it_is_named(group: Group) -> None:
    old = content(group) | {"fsc_version": "1.0.0"}
    with pytest.raises(UnknownFscVersion):
        parse(old)
    assert parse(old, OTHERWISE).content["fsc_version"] == "1.0.0"
    with pytest.raises(UnknownFscVersion):
        parse(old | {"fsc_version": "1.1.2"}, OTHERWISE)


def test_the_error_code_for_a_peer_that_is_not_in_the_contract(country: Country) -> None:
    async def code(dialect: Dialect) -> str:
        country.provider.dialect = dialect
        async with country.running(country.provider), Stranger(country) as stranger:
            made = stranger.content()
            others = json.loads(json.dumps(made).replace(CONSUMER, OTHER))
            return code_of(await stranger.submit(others, stranger.signed(made)))

    assert asyncio.run(code(USUAL)) == "422 ERROR_CODE_SUBMITTING_PEER_NOT_PART_OF_CONTRACT"
    assert asyncio.run(code(OTHERWISE)) == "422 ERROR_CODE_PEER_NOT_PART_OF_CONTRACT"


def _encoded(keypair: KeyPair, payload: dict[str, Any]) -> str:
    """A signature whose header names its certificate in plain base64, as the standard's examples do."""
    signer = Signer(keypair)
    plain = keypair.certificate.thumbprint.replace("-", "+").replace("_", "/") + "="
    return signer.sign(canonical(payload), **{"x5t#S256": plain})


def test_a_thumbprint_in_plain_base64_is_read_where_that_is_accepted(country: Country) -> None:
    async def answer(dialect: Dialect) -> str:
        country.provider.dialect = dialect
        async with country.running(country.provider), Stranger(country) as stranger:
            made = stranger.content()
            payload = {"contract_content_hash": parse(made).content_hash, "type": "accept"}
            response = await stranger.submit(
                made, _encoded(stranger.keypair, payload | {"signed_at": int(time.time())})
            )
            return "taken" if response.status_code == 201 else code_of(response)

    assert asyncio.run(answer(USUAL)) == "taken"
    assert asyncio.run(answer(OTHERWISE)) == f"422 {SignatureVerificationFailed.code}"


@given(st.text(max_size=60))
def test_reading_a_thumbprint_never_makes_one_out_of_another(text: str) -> None:
    read = USUAL.thumbprint(text)
    assert USUAL.thumbprint(read) == read
    assert OTHERWISE.thumbprint(text) == text


def test_the_last_page_has_a_cursor_or_not(country: Country) -> None:
    async def cursors(dialect: Dialect) -> list[str]:
        country.provider.dialect = dialect
        async with country.running(country.provider), Stranger(country) as stranger:
            if not country.provider.agreements.contracts():
                for age in range(4):
                    made = stranger.content(created_at=int(time.time()) - age)
                    assert (await stranger.submit(made)).status_code == 201
            found: list[str] = []
            cursor = ""
            for _ in range(3):
                query = {"limit": "2", "cursor": cursor}
                page = (await stranger.client.get("/v1/contracts", params=query)).json()
                cursor = page["pagination"]["next_cursor"]
                found.append(f"{len(page['contracts'])} {bool(cursor)}")
                if not cursor:
                    break
            return found

    assert asyncio.run(cursors(USUAL)) == ["2 True", "2 True", "0 False"]
    assert asyncio.run(cursors(OTHERWISE)) == ["2 True", "2 False"]


def test_the_word_bearer_before_a_token(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            peers = {peer.id: peer.agreements for peer in country.peers[:3]}
            content_hash = await signed_by_all(peers, CONSUMER, ConnectionProposal(PROVIDER, "personen", terms))
            (agreement,) = peers[CONSUMER].contract(content_hash).agreements
            compact = (await peers[CONSUMER].token(agreement.grant_hash)).compact
            thumbprint = country.consumer.keypair.certificate.thumbprint
            for header in (compact, f"Bearer {compact}", f"bearer  {compact}"):
                assert peers[PROVIDER].verify_token(header, thumbprint).consumer == CONSUMER

    asyncio.run(scenario())
    assert OTHERWISE.token_in("Bearer abc") == "Bearer abc"
    assert USUAL.token_in("Bearer ") == ""


def test_who_may_offer_a_connection(country: Country) -> None:
    async def answer(dialect: Dialect, submitter: str) -> int:
        country.provider.dialect = dialect
        async with country.running(country.provider), Stranger(country, submitter) as stranger:
            made = stranger.content()
            second = copy.deepcopy(made["grants"][0])
            second["data"]["outway"]["peer_id"] = OTHER
            made["grants"].append(second)
            return (await stranger.submit(made)).status_code

    assert asyncio.run(answer(USUAL, OTHER)) == 201
    assert asyncio.run(answer(OTHERWISE, OTHER)) == 422


def test_what_a_peer_says_of_itself(country: Country) -> None:
    async def scenario() -> None:
        async with country.running(country.provider), Stranger(country) as stranger:
            told = (await stranger.client.get("/v1/peer", headers=HEADERS)).json()
            assert told == {
                "peer_id": PROVIDER,
                "peer_name": "Bevolkingsregister",
                "fsc_version": "2.0.0",
                "enabled_extensions": {"EXTENSION_TRANSACTION_LOGGING": "1.1.0"},
            }

    asyncio.run(scenario())


def test_a_signature_names_its_certificate_in_base64url(country: Country, group: Group) -> None:
    contract, keypair = parse(content(group)), country.consumer.keypair
    compact = signatures.sign(contract, "accept", Signer(keypair), keypair, time.time()).compact
    assert jose.peek(compact)[0]["x5t#S256"] == keypair.certificate.thumbprint
