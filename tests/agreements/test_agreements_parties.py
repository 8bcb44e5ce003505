"""All four types of grant, between two, three and four peers, over real mutual TLS; and both ways to name an outway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from agreements_peers import CONSUMER, DIRECTORY, OTHER, PROVIDER, Country
from test_agreements_country import state_of, until

from stelsel.agreements.agreement import State
from stelsel.agreements.gate import Refusal
from stelsel.agreements.proposals import (
    ConnectionProposal,
    DelegatedConnectionProposal,
    DelegatedPublicationProposal,
    Proposal,
    PublicationProposal,
)
from stelsel.agreements.service import Agreements
from stelsel.agreements.terms import Terms
from stelsel.agreements.tokens import TokenClaims
from stelsel.base import jose
from stelsel.base.certificates import KeyPair
from stelsel.base.errors import Fault, Forbidden

Run = Callable[[dict[str, Agreements]], Any]


def with_four(country: Country, scenario: Run) -> None:
    """Run a scenario with all four peers; it gets their agreements by peer id."""

    async def run() -> None:
        async with country.running(*country.peers):
            await scenario({peer.id: peer.agreements for peer in country.peers})

    asyncio.run(run())


async def signed_by_all(peers: dict[str, Agreements], proposer: str, *proposals: Proposal) -> str:
    """A contract that all its signatories have accepted and that is valid at each; its content hash."""
    content_hash = await peers[proposer].propose(*proposals)
    others = peers[proposer].contract(content_hash).others
    for peer_id in others:
        await until(lambda peer_id=peer_id: peers[peer_id].contract(content_hash))  # type: ignore[misc]
        assert state_of(peers[proposer], content_hash) is State.PROPOSED
        await peers[peer_id].accept(content_hash)
    for peer_id in (proposer, *others):
        await until(lambda peer_id=peer_id: state_of(peers[peer_id], content_hash) is State.VALID)  # type: ignore[misc]
    return content_hash


async def claims_of(peers: dict[str, Agreements], country: Country, content_hash: str) -> TokenClaims:
    """What the provider's inway reads in the token that the consumer gets for the only agreement of a contract."""
    (agreement,) = peers[CONSUMER].contract(content_hash).agreements
    assert agreement.holds(time.time())
    assert agreement == peers[PROVIDER].agreement(agreement.grant_hash)
    token = await peers[CONSUMER].token(agreement.grant_hash)
    read = peers[PROVIDER].verify_token(token.compact, country.consumer.keypair.certificate.thumbprint)
    assert read == token.claims
    return read


def test_a_connection_on_behalf_of_another_needs_all_three(country: Country, terms: Terms) -> None:
    async def scenario(peers: dict[str, Agreements]) -> None:
        proposal = DelegatedConnectionProposal(PROVIDER, "personen", terms, delegator=OTHER)
        content_hash = await signed_by_all(peers, CONSUMER, proposal)
        claims = await claims_of(peers, country, content_hash)
        assert (claims.consumer, claims.consumer_delegator, claims.provider_delegator) == (CONSUMER, OTHER, None)
        (agreement,) = peers[OTHER].contract(content_hash).agreements
        with pytest.raises(Fault):
            await peers[OTHER].token(agreement.grant_hash)  # it lets another act; it does not act itself
        await peers[OTHER].revoke(content_hash)
        for each in (CONSUMER, PROVIDER):
            await until(lambda each=each: state_of(peers[each], content_hash) is State.REVOKED)  # type: ignore[misc]
        with pytest.raises(Forbidden):
            await peers[CONSUMER].token(agreement.grant_hash)

    with_four(country, scenario)


def test_a_service_on_behalf_of_another_is_published_found_and_connected_to_by_four(
    country: Country, terms: Terms
) -> None:
    async def scenario(peers: dict[str, Agreements]) -> None:
        published = await peers[PROVIDER].propose(DelegatedPublicationProposal("personen", delegator=OTHER))
        await until(lambda: peers[OTHER].contract(published))
        await asyncio.sleep(0.1)
        assert await peers[CONSUMER].directory_services() == []  # the delegator has not signed yet
        await peers[OTHER].accept(published)
        await until(lambda: state_of(peers[DIRECTORY], published) is State.VALID)
        await until(lambda: state_of(peers[PROVIDER], published) is State.VALID)
        (listed,) = await peers[CONSUMER].directory_services()
        assert listed.delegator is not None
        assert (listed.peer.peer_id, listed.delegator.peer_id, listed.delegator.name) == (PROVIDER, OTHER, "Bouwer")

        # A connection must say on whose behalf the service is offered (4.2.1.4).
        wrong = await peers[CONSUMER].propose(ConnectionProposal(PROVIDER, "personen", terms))
        await until(lambda: peers[CONSUMER].contract(wrong).refused_by)
        content_hash = await signed_by_all(
            peers, CONSUMER, ConnectionProposal(PROVIDER, "personen", terms, service_delegator=OTHER)
        )
        claims = await claims_of(peers, country, content_hash)
        assert (claims.consumer_delegator, claims.provider_delegator) == (None, OTHER)

        four = DelegatedConnectionProposal(PROVIDER, "personen", terms, service_delegator=OTHER, delegator=DIRECTORY)
        content_hash = await signed_by_all(peers, CONSUMER, four)
        assert len(peers[CONSUMER].contract(content_hash).others) == 3
        claims = await claims_of(peers, country, content_hash)
        assert (claims.consumer_delegator, claims.provider_delegator) == (DIRECTORY, OTHER)

    with_four(country, scenario)


def test_a_delegator_proposes_for_the_outway_of_the_delegatee(country: Country, terms: Terms) -> None:
    async def scenario(peers: dict[str, Agreements]) -> None:
        bare = DelegatedConnectionProposal(PROVIDER, "personen", terms, consumer=CONSUMER, delegator=OTHER)
        with pytest.raises(Fault, match="which outway"):
            await peers[OTHER].propose(bare)
        key = country.consumer.keypair.certificate.key_thumbprint
        proposal = DelegatedConnectionProposal(
            PROVIDER, "personen", terms, consumer=CONSUMER, outway_key_thumbprint=key, delegator=OTHER
        )
        content_hash = await signed_by_all(peers, OTHER, proposal)
        assert (await claims_of(peers, country, content_hash)).consumer_delegator == OTHER

    with_four(country, scenario)


def test_an_outway_is_named_by_its_domain_and_survives_a_new_key(
    country: Country, terms: Terms, new_keypair: Callable[..., KeyPair]
) -> None:
    names = ("localhost", "Outway.gemeente.example")
    country.consumer.keypair = new_keypair(CONSUMER, "Gemeente Zilverdam", domain_names=names)

    async def scenario(peers: dict[str, Agreements]) -> None:
        both = ConnectionProposal(
            PROVIDER, "personen", terms, outway_key_thumbprint="0" * 64, outway_domain_name="outway.gemeente.example"
        )
        with pytest.raises(Fault, match="not by both"):
            await peers[CONSUMER].propose(both)
        by_name = ConnectionProposal(PROVIDER, "personen", terms, outway_domain_name="outway.gemeente.example")
        content_hash = await signed_by_all(peers, CONSUMER, by_name)
        (agreement,) = peers[CONSUMER].contract(content_hash).agreements
        assert (agreement.outway_key_thumbprint, agreement.outway_domain_name) == (None, "outway.gemeente.example")
        await claims_of(peers, country, content_hash)

        await country.consumer.down()
        country.consumer.keypair = new_keypair(CONSUMER, "Gemeente Zilverdam", domain_names=names)
        peers[CONSUMER] = await country.consumer.up()
        await claims_of(peers, country, content_hash)

        await country.consumer.down()
        country.consumer.keypair = new_keypair(CONSUMER, "Gemeente Zilverdam", domain_names=("localhost",))
        peers[CONSUMER] = await country.consumer.up()
        with pytest.raises(Forbidden, match="not of the outway"):
            await peers[CONSUMER].token(agreement.grant_hash)

    with_four(country, scenario)


def test_one_contract_holds_connections_of_several_peers(country: Country, terms: Terms) -> None:
    async def scenario(peers: dict[str, Agreements]) -> None:
        key = country.other.keypair.certificate.key_thumbprint
        content_hash = await signed_by_all(
            peers,
            CONSUMER,
            ConnectionProposal(PROVIDER, "personen", terms),
            ConnectionProposal(PROVIDER, "personen", terms, consumer=OTHER, outway_key_thumbprint=key),
        )
        for peer_id in (CONSUMER, OTHER):
            (own,) = (a for a in peers[peer_id].contract(content_hash).agreements if a.consumer == peer_id)
            assert (await peers[peer_id].token(own.grant_hash)).claims.consumer == peer_id
        with pytest.raises(Fault, match="cannot be combined"):
            await peers[PROVIDER].propose(
                PublicationProposal("personen"), ConnectionProposal(PROVIDER, "personen", terms)
            )

    with_four(country, scenario)


class _Refuses:
    def __init__(self, peer_id: str) -> None:
        self.peer_id: str | None = peer_id

    async def refuse_reason(self, peer_id: str, now: float) -> Refusal | None:
        return Refusal("it does not keep its obligations") if peer_id == self.peer_id else None


def test_a_refused_peer_does_not_come_in_as_a_party_to_the_contract_of_another(country: Country, terms: Terms) -> None:
    async def scenario(peers: dict[str, Agreements]) -> None:
        gate = _Refuses(OTHER)
        await peers[PROVIDER].set_gate(gate)
        proposal = DelegatedConnectionProposal(PROVIDER, "personen", terms, delegator=OTHER)
        content_hash = await peers[CONSUMER].propose(proposal)
        for peer_id in (PROVIDER, OTHER):
            await until(lambda peer_id=peer_id: peers[peer_id].contract(content_hash))  # type: ignore[misc]
            await peers[peer_id].accept(content_hash)
        await until(lambda: PROVIDER in peers[OTHER].contract(content_hash).refused_by)
        assert state_of(peers[PROVIDER], content_hash) is State.PROPOSED
        # Not by the back door either: what the consumer lists of it is judged alike.
        await until(lambda: state_of(peers[CONSUMER], content_hash) is State.VALID)
        (caught,) = await peers[PROVIDER].catch_up(CONSUMER)
        assert (caught.trouble, caught.taken_in) == ("", 0)
        assert state_of(peers[PROVIDER], content_hash) is State.PROPOSED
        (agreement,) = peers[CONSUMER].contract(content_hash).agreements
        with pytest.raises(Forbidden):
            await peers[CONSUMER].token(agreement.grant_hash)
        gate.peer_id = None
        await peers[OTHER].resend(content_hash)
        await until(lambda: state_of(peers[PROVIDER], content_hash) is State.VALID)
        assert (await peers[CONSUMER].token(agreement.grant_hash)).claims.consumer_delegator == OTHER

    with_four(country, scenario)


def test_a_refused_peer_may_always_withdraw(country: Country, terms: Terms) -> None:
    async def scenario(peers: dict[str, Agreements]) -> None:
        content_hash = await peers[CONSUMER].propose(ConnectionProposal(PROVIDER, "personen", terms))
        await until(lambda: peers[PROVIDER].contract(content_hash))
        await peers[PROVIDER].set_gate(_Refuses(CONSUMER))
        await peers[CONSUMER].revoke(content_hash)
        await until(lambda: state_of(peers[PROVIDER], content_hash) is State.REVOKED)

    with_four(country, scenario)


def test_the_token_of_a_delegation_says_so_on_the_wire(country: Country, terms: Terms) -> None:
    async def scenario(peers: dict[str, Agreements]) -> None:
        proposal = DelegatedConnectionProposal(PROVIDER, "personen", terms, delegator=OTHER)
        content_hash = await signed_by_all(peers, CONSUMER, proposal)
        (agreement,) = peers[CONSUMER].contract(content_hash).agreements
        _, payload = jose.peek((await peers[CONSUMER].token(agreement.grant_hash)).compact)
        assert (payload["sub"], payload["act"]) == (CONSUMER, {"sub": OTHER})
        assert "pdi" not in payload
        assert "cdi" not in payload
        assert payload["prp"] == terms.to_properties()

    with_four(country, scenario)
