"""Managers on loopback over real mutual TLS: what peers agreed is what both have, whatever happens in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from agreements_peers import CONSUMER, DIRECTORY, OTHER, PROVIDER, Country

from stelsel.agreements.agreement import State
from stelsel.agreements.gate import Refusal
from stelsel.agreements.proposals import ConnectionProposal, PublicationProposal
from stelsel.agreements.service import Agreements
from stelsel.agreements.terms import Terms
from stelsel.base.certificates import KeyPair
from stelsel.base.errors import Conflict, Fault, Forbidden, NotFound


async def until(true: Callable[[], Any], seconds: float = 5.0) -> None:
    """Wait until something is so; a contract that is not there yet is not so yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except NotFound:
            pass
        assert time.monotonic() < deadline, "it did not become so in time"
        await asyncio.sleep(0.01)


def state_of(agreements: Agreements, content_hash: str) -> State:
    return agreements.contract(content_hash).state


async def agree(country: Country, terms: Terms | None) -> str:
    """A connection, proposed by the consumer and accepted by the provider; its content hash."""
    consumer, provider = country.consumer.agreements, country.provider.agreements
    content_hash = await consumer.propose(ConnectionProposal(PROVIDER, "personen", terms))
    await until(lambda: provider.contract(content_hash))
    await provider.accept(content_hash)
    await until(lambda: state_of(consumer, content_hash) is State.VALID)
    return content_hash


def test_from_publication_to_token_to_revocation(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer, provider = country.consumer.agreements, country.provider.agreements
            published = await provider.propose(PublicationProposal("personen", "Personen zoeken", personal=True))
            await until(lambda: state_of(provider, published) is State.VALID)
            (listed,) = await consumer.directory_services(name="PERSON")
            assert (listed.peer.peer_id, listed.description) == (PROVIDER, "Personen zoeken")
            assert await consumer.directory_services(peer_id=OTHER) == []
            await until(lambda: CONSUMER in country.directory.agreements.peer_names())
            assert {peer.peer_id for peer in await consumer.directory_peers()} == {DIRECTORY, PROVIDER, CONSUMER}

            changes: list[int] = []
            provider.on_change(lambda: changes.append(1))
            content_hash = await agree(country, terms)
            assert changes
            (agreement,) = consumer.agreements()
            assert agreement.holds(time.time())
            assert agreement == provider.agreement(agreement.grant_hash)
            stored = consumer.contract(content_hash)
            assert [(d.kind, d.status) for d in stored.deliveries] == [("submit", "delivered")]
            assert stored.others == (PROVIDER,)
            assert stored.unsigned == ()

            token = await consumer.token(agreement.grant_hash)
            assert token is await consumer.token(agreement.grant_hash)
            thumbprint = country.consumer.keypair.certificate.thumbprint
            assert provider.verify_token(token.compact, thumbprint).service == "personen"

            await provider.revoke(content_hash)
            revoked = provider.agreement(agreement.grant_hash)
            assert revoked is not None
            assert not revoked.holds(time.time())  # at once, though the token lives
            await until(lambda: state_of(consumer, content_hash) is State.REVOKED)
            with pytest.raises(Forbidden):
                await consumer.token(agreement.grant_hash)
            with pytest.raises(Conflict):
                await consumer.accept(content_hash)
            assert [stored.content_hash for stored in consumer.contracts(state=State.REVOKED)] == [content_hash]
            assert consumer.contracts(state=State.VALID) == []

    asyncio.run(scenario())


def test_a_proposal_is_rejected(country: Country) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer, provider = country.consumer.agreements, country.provider.agreements
            content_hash = await consumer.propose(ConnectionProposal(PROVIDER, "personen"))
            await until(lambda: provider.contract(content_hash))
            await provider.reject(content_hash)
            await until(lambda: state_of(consumer, content_hash) is State.REJECTED)

    asyncio.run(scenario())


def test_a_peer_that_is_down_hears_everything_when_it_is_back(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer = country.consumer.agreements
            await country.provider.down()
            content_hash = await consumer.propose(ConnectionProposal(PROVIDER, "personen", terms))
            await until(lambda: consumer.contract(content_hash).deliveries[0].attempts >= 2)
            (delivery,) = consumer.contract(content_hash).deliveries
            assert delivery.status == "pending"
            assert delivery.reason
            provider = await country.provider.up()
            await until(lambda: provider.contract(content_hash))
            await country.consumer.down()
            await provider.accept(content_hash)
            await provider.revoke(content_hash)
            consumer = await country.consumer.up()
            await until(lambda: state_of(consumer, content_hash) is State.REVOKED)

    asyncio.run(scenario())


def test_what_was_signed_but_not_sent_before_a_power_cut_is_sent_afterwards(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running(country.directory, country.provider):
            consumer = country.consumer.open()  # it does not send: as if the power fails right after signing
            content_hash = await consumer.propose(ConnectionProposal(PROVIDER, "personen", terms))
            await country.consumer.down()
            with pytest.raises(NotFound):
                country.provider.agreements.contract(content_hash)
            consumer = await country.consumer.up()
            await until(lambda: country.provider.agreements.contract(content_hash))
            before = consumer.contract(content_hash)
            assert before.content == country.provider.agreements.contract(content_hash).content

    asyncio.run(scenario())


class _Thief:
    """Lets every request through, then loses the answer: the sender must send again."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.lost = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "GET" or self.lost >= 3:
            await self._app(scope, receive, send)
            return
        self.lost += 1

        async def swallow(message: Any) -> None:
            del message

        await self._app(scope, receive, swallow)
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def test_lost_answers_and_doubled_messages_do_no_harm(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        country.provider.wrap = country.consumer.wrap = _Thief
        async with country.running():
            content_hash = await agree(country, terms)
            consumer, provider = country.consumer.agreements, country.provider.agreements
            signatures = {s.compact for s in provider.contract(content_hash).signatures}
            await consumer.resend(content_hash)
            await provider.resend(content_hash)
            await provider.accept(content_hash)
            for agreements in (consumer, provider):
                await until(
                    lambda agreements=agreements: all(  # type: ignore[misc]
                        d.status == "delivered" for d in agreements.contract(content_hash).deliveries
                    )
                )
                assert {s.compact for s in agreements.contract(content_hash).signatures} == signatures
                assert len(agreements.contracts()) == 1

    asyncio.run(scenario())


def test_a_signature_that_comes_before_its_contract_brings_the_contract(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer, provider = country.consumer.agreements, country.provider.agreements
            content_hash = await agree(country, terms)
            await consumer.revoke(content_hash)
            await until(lambda: state_of(provider, content_hash) is State.REVOKED)
            # The provider loses its disk; what the consumer sends again makes it whole, in whatever order.
            await country.provider.down()
            for file in country.provider.folder.iterdir():
                file.unlink()
            provider = await country.provider.up()
            await consumer.resend(content_hash)
            await until(lambda: state_of(provider, content_hash) is State.REVOKED)
            await until(lambda: len(provider.contract(content_hash).signatures) == 2)

    asyncio.run(scenario())


def test_a_restart_forgets_nothing(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            content_hash = await agree(country, terms)
            before = country.provider.agreements.agreements()
            await country.provider.down()
            provider = await country.provider.up()
            assert provider.agreements() == before
            assert provider.contract(content_hash).proposed_by == CONSUMER
            assert provider.peer_names()[CONSUMER] == "Gemeente Zilverdam"

    asyncio.run(scenario())


class _Norm:
    """A gate for tests: the named peer misses an obligation until `met`."""

    def __init__(self, peer_id: str) -> None:
        self._peer_id = peer_id
        self.met = False
        self.unreachable = False

    async def refuse_reason(self, peer_id: str, now: float) -> Refusal | None:
        if self.unreachable:
            raise Fault("the steward does not answer")
        if self.met or peer_id != self._peer_id:
            return None
        return Refusal("security.txt is missing\n\x1b[2J", [{"check": "security-txt", "found": "404"}])


def test_a_peer_that_misses_an_obligation_gets_no_new_contract_until_it_mends(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer, provider = country.consumer.agreements, country.provider.agreements
            running = await agree(country, terms)
            norm = _Norm(CONSUMER)
            await provider.set_gate(norm)
            refused = await consumer.propose(ConnectionProposal(PROVIDER, "personen", terms))
            await until(lambda: consumer.contract(refused).refused_by)
            stored = consumer.contract(refused)
            assert stored.state is State.PROPOSED
            (delivery,) = stored.deliveries
            assert delivery.reason.startswith("security.txt is missing")
            assert "\n" not in delivery.reason
            assert delivery.evidence == [{"check": "security-txt", "found": "404"}]
            with pytest.raises(NotFound):
                provider.contract(refused)
            # What runs goes on, and can be signed.
            assert (await consumer.token(consumer.contract(running).agreements[0].grant_hash)).compact
            await consumer.revoke(running)
            await until(lambda: state_of(provider, running) is State.REVOKED)
            norm.met = True
            await consumer.resend(refused)
            await until(lambda: provider.contract(refused))
            await until(lambda: not consumer.contract(refused).refused_by)
            assert await agree(country, terms)

    asyncio.run(scenario())


def test_a_gate_that_gives_no_answer_refuses_nobody(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        norm = _Norm(CONSUMER)
        norm.unreachable = True
        country.provider.gate = norm
        async with country.running():
            assert await agree(country, terms)

    asyncio.run(scenario())


def test_the_gate_of_the_directory_holds_up_publications(country: Country) -> None:
    async def scenario() -> None:
        norm = _Norm(PROVIDER)
        country.directory.gate = norm
        async with country.running():
            provider = country.provider.agreements
            published = await provider.propose(PublicationProposal("personen"))
            await until(lambda: provider.contract(published).refused_by)
            assert await provider.directory_services() == []
            norm.met = True
            await provider.resend(published)
            await until(lambda: state_of(provider, published) is State.VALID)

    asyncio.run(scenario())


def test_a_contract_for_a_service_that_is_not_there_is_refused_with_the_reason(country: Country) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer = country.consumer.agreements
            content_hash = await consumer.propose(ConnectionProposal(PROVIDER, "adressen"))
            await until(lambda: consumer.contract(content_hash).refused_by)
            assert "adressen" in consumer.contract(content_hash).refused_by[PROVIDER]
            with pytest.raises(Fault):
                await consumer.propose(PublicationProposal("adressen"))
            with pytest.raises(Fault):
                await consumer.propose(ConnectionProposal(PROVIDER, "personen", days=0))
            with pytest.raises(Fault):
                await consumer.propose(ConnectionProposal("not an OIN", "personen"))
            with pytest.raises(NotFound):
                await consumer.accept("$1$1$unknown")

    asyncio.run(scenario())


def test_nothing_is_sent_to_another_peer_that_answers_at_the_address(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer = country.consumer.agreements
            await until(lambda: PROVIDER in country.directory.agreements.peer_names())
            await country.provider.down()
            country.other.port = country.provider.port  # another peer of the group, with a good certificate
            await country.other.up()
            content_hash = await consumer.propose(ConnectionProposal(PROVIDER, "personen", terms))
            await until(lambda: consumer.contract(content_hash).deliveries[0].reason)
            assert OTHER in consumer.contract(content_hash).deliveries[0].reason
            assert country.other.agreements.contracts() == []

    asyncio.run(scenario())


def test_a_host_name_that_is_not_in_the_certificate_is_not_talked_to(
    country: Country, new_keypair: Callable[..., KeyPair]
) -> None:
    async def scenario() -> None:
        country.provider.keypair = new_keypair(PROVIDER, "Bevolkingsregister", domain_names=("elders.example",))
        async with country.running():
            consumer = country.consumer.agreements
            content_hash = await consumer.propose(ConnectionProposal(PROVIDER, "personen"))
            await until(lambda: consumer.contract(content_hash).deliveries[0].reason)
            assert "certificate does not hold" in consumer.contract(content_hash).deliveries[0].reason

    asyncio.run(scenario())


def test_a_peer_agrees_with_itself_without_the_network(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running(country.provider):
            provider = country.provider.agreements
            content_hash = await provider.propose(ConnectionProposal(PROVIDER, "personen", terms))
            (agreement,) = provider.contract(content_hash).agreements
            assert agreement.holds(time.time())
            assert (await provider.token(agreement.grant_hash)).claims.consumer == PROVIDER

    asyncio.run(scenario())


def test_a_new_certificate_signs_a_running_contract_again(
    country: Country, terms: Terms, new_keypair: Callable[..., KeyPair]
) -> None:
    async def scenario() -> None:
        async with country.running():
            content_hash = await agree(country, terms)
            before = {s.peer_id: s.compact for s in country.provider.agreements.contract(content_hash).signatures}
            await country.consumer.down()
            await asyncio.sleep(1.1)  # `signed_at` is in whole seconds, and the newer signature must be newer
            country.consumer.keypair = new_keypair(CONSUMER, "Gemeente Zilverdam")
            consumer = await country.consumer.up()
            await consumer.accept(content_hash)
            after = country.provider.agreements

            def signed_again() -> bool:
                now = {s.peer_id: s.compact for s in after.contract(content_hash).signatures}
                return now[CONSUMER] != before[CONSUMER] and now[PROVIDER] == before[PROVIDER]

            await until(signed_again)
            assert state_of(after, content_hash) is State.VALID

    asyncio.run(scenario())
