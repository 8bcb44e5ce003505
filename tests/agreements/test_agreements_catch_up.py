"""Never stranded: peers that were away catch up, new certificates sign again, and version skew is seen in time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from agreements_peers import CONSUMER, OTHER, PROVIDER, Country, Peer
from structlog.testing import capture_logs
from test_agreements_api import Stranger
from test_agreements_country import agree, state_of, until
from test_agreements_parties import signed_by_all

from stelsel.agreements import store
from stelsel.agreements.agreement import State
from stelsel.agreements.contract import parse
from stelsel.agreements.proposals import ConnectionProposal, DelegatedConnectionProposal
from stelsel.agreements.service import Agreements
from stelsel.agreements.terms import Terms
from stelsel.base.canonical import canonical
from stelsel.base.certificates import KeyPair
from stelsel.base.clock import SetClock
from stelsel.base.jose import Signer
from stelsel.demo.ports import free_ports


def lose_disk(peer: Peer) -> None:
    for file in peer.folder.iterdir():
        file.unlink()


async def give_up(agreements: Agreements) -> None:
    """Forget all messages of this peer: as if it lost them, or gave up long ago."""
    database = agreements._database
    await agreements._outbox.stop()  # a message that is on its way now would be written down, and sent, again
    await database.write(lambda connection: connection.execute(store.outbox.delete()))
    await agreements._outbox.start()


def signatures_at(agreements: Agreements, content_hash: str) -> set[tuple[str, str, str]]:
    return {(s.peer_id, s.type, s.compact) for s in agreements.contract(content_hash).signatures}


def test_a_peer_that_was_away_pulls_what_was_never_sent_to_it(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            consumer, provider = country.consumer.agreements, country.provider.agreements
            first = await agree(country, terms)
            proposed = await consumer.propose(ConnectionProposal(PROVIDER, "personen", terms))
            await until(lambda: provider.contract(proposed))
            await country.consumer.down()
            await provider.accept(proposed)
            await provider.revoke(first)
            await give_up(provider)
            consumer = await country.consumer.up()
            assert state_of(consumer, first) is State.VALID
            (caught,) = await consumer.catch_up(PROVIDER)
            assert (caught.listed, caught.taken_in, caught.trouble) == (2, 2, "")
            assert state_of(consumer, first) is State.REVOKED
            assert state_of(consumer, proposed) is State.VALID
            (again,) = await consumer.catch_up(PROVIDER)
            assert (again.taken_in, again.sent_again) == (0, 0)

    asyncio.run(scenario())


def test_a_peer_that_lost_its_disk_is_made_whole_by_whom_it_agreed_with(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running(*country.peers):
            peers = {peer.id: peer.agreements for peer in country.peers}
            proposal = DelegatedConnectionProposal(PROVIDER, "personen", terms, delegator=OTHER)
            content_hash = await signed_by_all(peers, CONSUMER, proposal)
            whole = signatures_at(peers[CONSUMER], content_hash)
            await country.provider.down()
            lose_disk(country.provider)
            provider = await country.provider.up()
            assert provider.contracts() == []
            # By pulling from one, its own signature and that of the third peer included.
            (caught,) = await provider.catch_up(CONSUMER)
            assert (caught.taken_in, caught.trouble) == (3, "")
            assert signatures_at(provider, content_hash) == whole
            assert state_of(provider, content_hash) is State.VALID
            assert provider.contract(content_hash).proposed_by == CONSUMER

            # Or the others notice, and send what it lacks; once.
            await country.provider.down()
            lose_disk(country.provider)
            provider = await country.provider.up()
            for peer_id in (CONSUMER, OTHER):
                (caught,) = await peers[peer_id].catch_up(PROVIDER)
                assert (caught.sent_again, caught.trouble) == (1, "")
            await until(lambda: len(provider.contract(content_hash).signatures) == 2)
            (caught,) = await peers[OTHER].catch_up(PROVIDER)
            assert caught.sent_again == 0

    asyncio.run(scenario())


def test_a_node_catches_up_by_itself_at_its_start(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            provider = country.provider.agreements
            content_hash = await agree(country, terms)
            await country.consumer.down()
            await provider.revoke(content_hash)
            await give_up(provider)
            country.consumer.catch_up_interval = 3600
            consumer = await country.consumer.up()
            await until(lambda: state_of(consumer, content_hash) is State.REVOKED)
            await until(lambda: consumer.versions())  # written down when all of the round is done
            assert [version.peer_id for version in consumer.versions()] == [PROVIDER]

    asyncio.run(scenario())


def test_a_peer_that_is_down_is_told_and_holds_up_nobody(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running(*country.peers):
            peers = {peer.id: peer.agreements for peer in country.peers}
            proposal = DelegatedConnectionProposal(PROVIDER, "personen", terms, delegator=OTHER)
            await signed_by_all(peers, CONSUMER, proposal)
            await country.provider.down()
            found = {each.peer_id: each for each in await peers[CONSUMER].catch_up()}
            assert PROVIDER in found[PROVIDER].trouble
            assert found[OTHER].trouble == ""

    asyncio.run(scenario())


def test_a_peer_that_was_down_when_we_started_is_asked_again_soon(
    country: Country, terms: Terms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stelsel.agreements.service._TICK", 0.02)
    monkeypatch.setattr("stelsel.agreements.service.LONGEST_WAIT", 0.02)

    async def scenario() -> None:
        async with country.running():
            provider = country.provider.agreements
            content_hash = await agree(country, terms)
            await country.consumer.down()
            await provider.revoke(content_hash)
            await give_up(provider)
            await country.provider.down()
            country.consumer.catch_up_interval = 3600
            consumer = await country.consumer.up()
            await asyncio.sleep(0.2)
            assert state_of(consumer, content_hash) is State.VALID
            await country.provider.up()
            await until(lambda: state_of(consumer, content_hash) is State.REVOKED)

    asyncio.run(scenario())


class _Liar:
    """Lists false contracts and signatures, and says to speak another version."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.answers: dict[str, bytes] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = self.answers.get(scope["path"])
        if body is None:
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def test_what_a_peer_lists_is_believed_only_when_it_is_signed(country: Country, terms: Terms) -> None:
    liars: list[_Liar] = []

    def wrap(app: Any) -> Any:
        liars.append(_Liar(app))
        return liars[-1]

    country.provider.wrap = wrap

    async def scenario() -> None:
        async with country.running(*country.peers), Stranger(country, OTHER) as stranger:
            consumer = country.consumer.agreements
            content_hash = await agree(country, terms)
            before = signatures_at(consumer, content_hash)
            real = consumer.contract(content_hash)
            by = {s.peer_id: s.compact for s in real.signatures}

            def lists(contract: Any) -> None:
                body = {"contracts": [contract], "pagination": {"next_cursor": ""}}
                liars[0].answers["/v1/contracts"] = json.dumps(body).encode()

            content = real.content
            of_another = stranger.signed(content, keypair=country.other.keypair)
            for signed in (
                {"revoke": {CONSUMER: by[CONSUMER]}},
                {"reject": {PROVIDER: by[PROVIDER]}},
                {"accept": {OTHER: of_another}},
                {"accept": {PROVIDER: of_another}},
                {"accept": {PROVIDER: by[PROVIDER][:-8] + "AAAAAAAA"}},
                {"accept": {CONSUMER: by[PROVIDER]}},
                {"accept": {PROVIDER: 7}, "revoke": [], "reject": None},
            ):
                lists({"content": content, "signatures": {"accept": {}, "reject": {}, "revoke": {}} | signed})
                (caught,) = await consumer.catch_up(PROVIDER)
                assert caught.taken_in == 0, signed
                assert signatures_at(consumer, content_hash) == before
            for nonsense in ({}, [], {"content": {}, "signatures": {}}, {"content": content}, "x"):
                lists(nonsense)
                (caught,) = await consumer.catch_up(PROVIDER)
                assert caught.taken_in == 0
            # A contract that breaks the rules does not come in by the back door.
            elsewhere = content | {"group_id": "other"}
            compact = stranger.signed(elsewhere, keypair=country.provider.keypair)
            lists({"content": elsewhere, "signatures": {"accept": {PROVIDER: compact}, "reject": {}, "revoke": {}}})
            (caught,) = await consumer.catch_up(PROVIDER)
            assert caught.taken_in == 0
            assert len(consumer.contracts()) == 1
            for body in (b"[]", b"x", b'{"contracts":3,"pagination":{}}', b'{"contracts":[]}'):
                liars[0].answers["/v1/contracts"] = body
                (caught,) = await consumer.catch_up(PROVIDER)
                assert caught.trouble

    asyncio.run(scenario())


def test_a_peer_on_another_version_is_seen_before_it_drops_out(country: Country, terms: Terms) -> None:
    liars: list[_Liar] = []

    def wrap(app: Any) -> Any:
        liars.append(_Liar(app))
        return liars[-1]

    country.provider.wrap = wrap

    async def scenario() -> None:
        async with country.running(), Stranger(country) as stranger:
            consumer, provider = country.consumer.agreements, country.provider.agreements
            await agree(country, terms)
            liars[0].answers["/v1/peer"] = (
                f'{{"peer_id":"{PROVIDER}","fsc_version":"3.0.0\\n","enabled_extensions":{{"X":"1"}}}}'.encode()
            )
            with capture_logs() as logs:
                await consumer.catch_up()
                await consumer.catch_up()
            warned = [line for line in logs if "another version" in line["event"]]
            assert len(warned) == 1  # told once, not every hour
            (version,) = consumer.versions()
            assert version.differs
            assert "\n" not in version.fsc_version
            assert version.extensions == {"X": "1"}
            # And a peer that proposes in another version is refused, and known to speak it.
            made = stranger.content()
            answer = await stranger.submit(made | {"fsc_version": "1.1.2"}, stranger.signed(made))
            assert answer.status_code == 422
            assert [(each.peer_id, each.fsc_version) for each in provider.versions()] == [(CONSUMER, "1.1.2")]

    asyncio.run(scenario())


def test_a_peer_that_moved_tells_its_counterparties_and_the_directory(country: Country, terms: Terms) -> None:
    async def scenario() -> None:
        async with country.running():
            directory, provider = country.directory.agreements, country.provider.agreements
            await agree(country, terms)
            await country.consumer.down()
            country.consumer.port = free_ports(1)[0]
            consumer = await country.consumer.up()
            await consumer.announce()
            for each in (provider, directory):
                await until(
                    lambda each=each: (  # type: ignore[misc]
                        country.consumer.address in {peer.manager_address for peer in each.listed_peers()}
                    )
                )
            # It says so once: after that the directory alone hears that it is there.
            await country.consumer.down()
            consumer = await country.consumer.up()
            await consumer.announce()
            assert not await consumer._peers.moved()
            listed = [peer for peer in consumer.listed_peers() if peer.peer_id == CONSUMER]
            assert [peer.manager_address for peer in listed] == [country.consumer.address]

    asyncio.run(scenario())


# --- renewed certificates (FSC Core 4.2.7) ---------------------------------------------------------------------------


def test_a_node_with_a_new_certificate_signs_again_at_its_start_and_all_peers_hear(
    country: Country, terms: Terms, new_keypair: Callable[..., KeyPair]
) -> None:
    async def scenario() -> None:
        async with country.running(*country.peers):
            peers = {peer.id: peer.agreements for peer in country.peers}
            proposal = DelegatedConnectionProposal(PROVIDER, "personen", terms, delegator=OTHER)
            content_hash = await signed_by_all(peers, CONSUMER, proposal)
            rejected = await peers[CONSUMER].propose(ConnectionProposal(PROVIDER, "personen", terms))
            await until(lambda: peers[PROVIDER].contract(rejected))
            await peers[PROVIDER].reject(rejected)
            before = signatures_at(peers[CONSUMER], content_hash)
            old = country.provider.keypair
            await country.provider.down()
            country.provider.keypair = new_keypair(PROVIDER, "Bevolkingsregister")
            provider = await country.provider.up()
            for each in (provider, peers[CONSUMER], peers[OTHER]):
                await until(lambda each=each: signatures_at(each, content_hash) != before)  # type: ignore[misc]
                assert state_of(each, content_hash) is State.VALID
                assert len(each.contract(content_hash).signatures) == 3
            same = signatures_at(provider, content_hash)
            assert signatures_at(peers[CONSUMER], content_hash) == signatures_at(peers[OTHER], content_hash) == same
            assert len(signatures_at(provider, rejected)) == 2  # what is over is left as it is
            assert await provider.sign_again() == []
            # The certificate that signatures still need is shown beside the present one: here that of the rejection.
            shown = [key["x5t#S256"] for key in provider.key_set()["keys"]]
            assert shown == [country.provider.keypair.certificate.thumbprint, old.certificate.thumbprint]

    asyncio.run(scenario())


def test_who_hears_late_of_a_contract_can_check_a_signature_by_a_superseded_certificate(
    country: Country, terms: Terms, new_keypair: Callable[..., KeyPair]
) -> None:
    async def scenario() -> None:
        async with country.running(*country.peers):
            consumer, provider = country.consumer.agreements, country.provider.agreements
            content_hash = await agree(country, terms)
            await provider.revoke(content_hash)
            await until(lambda: state_of(consumer, content_hash) is State.REVOKED)
            await country.provider.down()
            await country.consumer.down()
            lose_disk(country.consumer)
            country.provider.keypair = new_keypair(PROVIDER, "Bevolkingsregister")
            provider = await country.provider.up()
            consumer = await country.consumer.up()
            (caught,) = await consumer.catch_up(PROVIDER)
            assert (caught.taken_in, caught.trouble) == (3, "")
            assert state_of(consumer, content_hash) is State.REVOKED

    asyncio.run(scenario())


def test_a_contract_whose_certificate_expired_holds_again_when_it_is_signed_again(
    country: Country, terms: Terms, new_keypair: Callable[..., KeyPair]
) -> None:
    country.consumer.keypair = new_keypair(CONSUMER, "Gemeente Zilverdam", days=10)

    async def scenario() -> None:
        async with country.running():
            content_hash = await agree(country, terms)
        later = time.time() + 20 * 86_400
        for peer in country.peers:
            peer.clock = SetClock(later)
        expired = country.provider.open()
        await expired.start()
        (agreement,) = expired.agreements()
        assert not agreement.holds(later)
        assert state_of(expired, content_hash) is State.PROPOSED
        await expired.stop()
        await country.provider.down()
        key = country.consumer.keypair.key
        country.consumer.keypair = new_keypair(CONSUMER, "Gemeente Zilverdam", days=90, key=key)
        async with country.running():
            provider = country.provider.agreements
            await until(lambda: state_of(provider, content_hash) is State.VALID)
            # The same key, so the contract needed nothing but a signature.
            (agreement,) = country.consumer.agreements.agreements()
            assert (await country.consumer.agreements.token(agreement.grant_hash)).claims.consumer == CONSUMER

    asyncio.run(scenario())


def test_two_signatures_of_the_same_second_end_the_same_in_any_order(country: Country) -> None:
    async def ends(order: tuple[int, int]) -> str:
        async with country.running(country.provider), Stranger(country) as stranger:
            made = stranger.content(iv=f"0193{order[0]}000-0000-7000-8000-00000000000{order[1]}", created_at=1)
            moment = int(time.time())
            payload = {"contract_content_hash": parse(made).content_hash, "type": "accept", "signed_at": moment}
            two = sorted(Signer(stranger.keypair).sign(canonical(payload | {"n": n})) for n in (1, 2))
            for index in order:
                assert (await stranger.submit(made, two[index])).status_code == 201
            (kept,) = country.provider.agreements.contract(parse(made).content_hash).signatures
            return "last" if kept.compact == two[1] else "first"

    assert asyncio.run(ends((0, 1))) == asyncio.run(ends((1, 0))) == "last"
