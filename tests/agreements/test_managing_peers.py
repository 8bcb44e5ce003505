"""Managing agreements between real managers: rules that approve, renewals, and a key that changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from agreements_peers import CONSUMER, PROVIDER, Country
from test_agreements_country import agree, state_of, until

from stelsel.agreements.agreement import State
from stelsel.agreements.managing import compare, on_radar, propose_renewal
from stelsel.agreements.proposals import ConnectionProposal
from stelsel.agreements.settings import AgreementsSettings
from stelsel.agreements.terms import Terms
from stelsel.base.certificates import KeyPair
from stelsel.base.errors import Conflict, Forbidden


def rules(terms: Terms, **changes: Any) -> AgreementsSettings:
    rule = {
        "name": "parkeren",
        "peers": [CONSUMER],
        "services": ["personen"],
        "maximum_days": 366,
        "purposes": [terms.purpose],
        "fields": terms.fields,
        "search_parameters": terms.search_parameters,
        "longest_retention": "P2Y",
    }
    return AgreementsSettings.model_validate({"approve": [rule | changes]})


def test_a_rule_makes_an_agreement_valid_at_both_sides_without_anyone(country: Country, terms: Terms) -> None:
    country.provider.settings = rules(terms)

    async def scenario() -> None:
        async with country.running(*country.peers):
            consumer, provider = country.consumer.agreements, country.provider.agreements
            within = await consumer.propose(ConnectionProposal(PROVIDER, "personen", terms))
            await until(lambda: state_of(consumer, within) is State.VALID)
            wider = terms.model_copy(update={"fields": (*terms.fields, "partners")})
            beyond = await consumer.propose(ConnectionProposal(PROVIDER, "personen", wider))
            stranger = await country.other.agreements.propose(ConnectionProposal(PROVIDER, "personen", terms))
            for content_hash in (beyond, stranger):
                await until(lambda content_hash=content_hash: provider.contract(content_hash))
                assert state_of(provider, content_hash) is State.PROPOSED
                assert not provider.verdict(content_hash).accepted
            assert provider.verdict(within).rule == "parkeren"
            assert "partners" in provider.verdict(beyond).objections[0].words.en
            assert not consumer.verdict(within).accepted  # what we propose ourselves, we have accepted already

    asyncio.run(scenario())


def test_a_rule_accepts_nothing_from_a_peer_that_the_gate_refuses(country: Country, terms: Terms) -> None:
    from stelsel.agreements.gate import Refusal

    class Closed:
        async def refuse_reason(self, peer_id: str, now: float) -> Refusal | None:
            return Refusal("obligations are not met")

    country.provider.settings, country.provider.gate = rules(terms), Closed()

    async def scenario() -> None:
        async with country.running():
            consumer = country.consumer.agreements
            content_hash = await consumer.propose(ConnectionProposal(PROVIDER, "personen", terms))
            await until(lambda: consumer.contract(content_hash).refused_by)
            assert country.provider.agreements.contracts() == []

    asyncio.run(scenario())


def test_a_renewal_takes_over_and_a_second_one_waits_for_the_first(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer, provider = country.consumer.agreements, country.provider.agreements
            old = await agree(country, terms)
            now = time.time()
            renewed = await propose_renewal(consumer, old, now, days=500)
            assert any("Bevolkingsregister" in words.nl for words in renewed.follows)
            await until(lambda: provider.contract(renewed.content_hash))
            for agreements in (consumer, provider):
                with pytest.raises(Conflict):
                    await propose_renewal(agreements, old, now)
            (difference,) = await compare(provider, renewed.content_hash, now)
            assert difference.against == old
            assert [change.what for change in difference.changes] == ["validity"]
            await provider.accept(renewed.content_hash)
            await until(lambda: state_of(consumer, renewed.content_hash) is State.VALID)
            anchors = country.consumer.anchors
            found = {item.kind: item for item in await on_radar(consumer, anchors, now, days=400, urgent_days=399)}
            assert not found["contract"].urgent
            assert found["certificate"].urgent
            await consumer.revoke(old)
            assert consumer.agreement(consumer.contract(renewed.content_hash).agreements[0].grant_hash)

    asyncio.run(scenario())


def test_an_outway_with_a_new_key_gets_a_token_again_after_a_renewal(
    country: Country, terms: Terms, new_keypair: Callable[..., KeyPair]
) -> None:
    country.provider.settings = rules(terms)

    async def scenario() -> None:
        async with country.running():
            consumer = country.consumer.agreements
            old = await consumer.propose(ConnectionProposal(PROVIDER, "personen", terms))
            await until(lambda: state_of(consumer, old) is State.VALID)
            await country.consumer.down()
            country.consumer.keypair = new_keypair(CONSUMER, "Gemeente Zilverdam")
            consumer = await country.consumer.up()
            with pytest.raises(Forbidden):
                await consumer.token(consumer.contract(old).agreements[0].grant_hash)
            renewed = await propose_renewal(consumer, old, time.time())
            assert renewed.renewal.new_key
            await until(lambda: state_of(consumer, renewed.content_hash) is State.VALID)
            grant_hash = consumer.contract(renewed.content_hash).agreements[0].grant_hash
            token = await consumer.token(grant_hash)
            thumbprint = country.consumer.keypair.certificate.thumbprint
            assert country.provider.agreements.verify_token(token.compact, thumbprint).service == "personen"

    asyncio.run(scenario())


def test_the_provider_can_renew_too_for_the_consumers_own_key(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer, provider = country.consumer.agreements, country.provider.agreements
            old = await agree(country, terms)
            renewed = await propose_renewal(provider, old, time.time())
            assert not renewed.renewal.new_key
            await until(lambda: consumer.contract(renewed.content_hash))
            await consumer.accept(renewed.content_hash)
            await until(lambda: state_of(provider, renewed.content_hash) is State.VALID)

    asyncio.run(scenario())


def test_an_agreement_that_was_revoked_is_not_renewed(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            old = await agree(country, terms)
            await country.consumer.agreements.revoke(old)
            with pytest.raises(Conflict):
                await propose_renewal(country.consumer.agreements, old, time.time())
            assert len(country.consumer.agreements.contracts()) == 1

    asyncio.run(scenario())
