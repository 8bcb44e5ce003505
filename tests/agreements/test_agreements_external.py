"""External Contract Reference 1.0.0: carried whole, logged, and never accepted without anyone looking."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agreements_peers import CONSUMER, DIRECTORY, OTHER, PROVIDER, Country
from pydantic import ValidationError
from test_agreements_api import Stranger, code_of
from test_agreements_country import state_of, until
from test_agreements_parties import signed_by_all

from stelsel.agreements.agreement import State
from stelsel.agreements.external_contract import CONNECTION, PUBLICATION, ExternalContract, additional_data
from stelsel.agreements.proposals import (
    ConnectionProposal,
    DelegatedConnectionProposal,
    DelegatedPublicationProposal,
    PublicationProposal,
)
from stelsel.agreements.terms import Terms
from stelsel.base.errors import Fault

REFERENCE = ExternalContract(
    reference="https://contracten.example/1", delegator_id="00000099000000009000", delegator_name="Kleine gemeente"
)
WRITTEN = REFERENCE.model_dump()


def test_a_connection_by_an_external_contract_reaches_token_and_log(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            peers = {peer.id: peer.agreements for peer in country.peers[:3]}
            content_hash = await signed_by_all(
                peers, CONSUMER, ConnectionProposal(PROVIDER, "personen", terms, external_contract=REFERENCE)
            )
            (agreement,) = peers[PROVIDER].contract(content_hash).agreements
            assert agreement.external_contract == REFERENCE
            assert agreement.terms == terms
            token = await peers[CONSUMER].token(agreement.grant_hash)
            assert token.claims.properties is not None
            assert token.claims.properties[CONNECTION] == WRITTEN
            for peer_id in (CONSUMER, PROVIDER):
                assert peers[peer_id].log_data(agreement.grant_hash) == {CONNECTION: WRITTEN}
                assert set(peers[peer_id].reference_decisions(content_hash)) == {"accept"}
            assert peers[PROVIDER].log_data("$1$3$unknown") == {}

    asyncio.run(scenario())


def test_a_directory_publishes_by_an_external_contract_only_when_somebody_looked(country: Country) -> None:
    async def scenario() -> None:
        async with country.running():
            directory, provider = country.directory.agreements, country.provider.agreements
            published = await provider.propose(PublicationProposal("personen", external_contract=REFERENCE))
            await until(lambda: directory.contract(published))
            await asyncio.sleep(0.2)
            assert state_of(directory, published) is State.PROPOSED
            assert directory.reference_decisions(published) == {}
            await directory.accept(published)
            await until(lambda: state_of(provider, published) is State.VALID)
            assert set(directory.reference_decisions(published)) == {"accept"}
            (listed,) = await country.consumer.agreements.directory_services()
            assert listed.properties[PUBLICATION] == WRITTEN
            # One that nobody believes is rejected, and that is kept as well.
            doubted = await provider.propose(PublicationProposal("personen", external_contract=REFERENCE))
            await until(lambda: directory.contract(doubted))
            await directory.reject(doubted)
            assert set(directory.reference_decisions(doubted)) == {"reject"}
            await until(lambda: state_of(provider, doubted) is State.REJECTED)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "https://contracten.example/1",
        {},
        {"reference": "x", "delegator_id": "1"},
        {"reference": "", "delegator_id": "1", "delegator_name": "x"},
        {"reference": 1, "delegator_id": "1", "delegator_name": "x"},
        {"reference": "x", "delegator_id": "1", "delegator_name": "x" * 300},
    ],
)
def test_a_reference_that_is_not_whole_is_refused(broken: Any, country: Country) -> None:
    async def scenario() -> None:
        async with country.running(country.provider), Stranger(country) as stranger:
            made = stranger.content()
            made["grants"][0]["data"]["properties"] = {CONNECTION: broken}
            assert code_of(await stranger.submit(made)) == "422 STELSEL_CONTRACT_NOT_ACCEPTABLE"
            made["grants"][0]["data"]["properties"] = {CONNECTION: WRITTEN | {"more": 1}, "other": [1]}
            assert (await stranger.submit(made)).status_code == 201

    asyncio.run(scenario())


def test_a_grant_has_one_delegator_only(country: Country) -> None:
    async def scenario() -> None:
        async with country.running(country.provider):
            provider = country.provider.agreements
            for proposal in (
                DelegatedConnectionProposal(PROVIDER, "personen", delegator=OTHER, external_contract=REFERENCE),
                DelegatedPublicationProposal("personen", delegator=OTHER, external_contract=REFERENCE),
            ):
                with pytest.raises(Fault, match="not both"):
                    await provider.propose(proposal)

    asyncio.run(scenario())


def test_only_the_reference_of_the_properties_goes_to_the_log(terms: Terms) -> None:
    assert additional_data(None) == additional_data({}) == additional_data(terms.to_properties()) == {}
    assert additional_data(terms.to_properties() | {PUBLICATION: WRITTEN}) == {PUBLICATION: WRITTEN}
    with pytest.raises(ValidationError):
        ExternalContract(reference="", delegator_id=DIRECTORY, delegator_name="x")
