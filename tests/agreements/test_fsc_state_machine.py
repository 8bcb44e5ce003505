"""The life of contracts between three peers, over a network that does its worst (FSC Core 3.2.1 and 4.4.1).

Whatever people do, and whatever is lost, repeated, late or restarted: once the network works again and the outboxes are
empty, all peers have the same signatures on every contract, and so the same state. `make fuzz` tries this more often.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import pytest
from agreements_peers import CONSUMER, DIRECTORY, PROVIDER, make_group
from fsc_simulation import FATES, PowerCut, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stelsel.agreements.agreement import State
from stelsel.agreements.fsc_errors import TokenRequestFault
from stelsel.agreements.group import Group
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.database import Database
from stelsel.base.errors import Conflict, NotFound
from stelsel.demo.authority import Authority

RUNS = int(os.environ.get("STELSEL_FUZZ", "30"))

PEERS = (DIRECTORY, PROVIDER, CONSUMER)
SERVICES = {DIRECTORY: (), PROVIDER: ("personen", "adressen", "bouwwerken"), CONSUMER: ()}
_HOUR, _DAY = 3600, 86_400

peers = st.sampled_from(PEERS)
signing = st.sampled_from(("accept", "accept", "reject", "revoke", "revoke"))


def _connection(thumbprint: str, *, delegator: str | None, of_service: str | None) -> dict[str, Any]:
    service: dict[str, Any] = {"type": "SERVICE_TYPE_SERVICE", "peer_id": PROVIDER, "name": "personen"}
    if of_service is not None:
        delegated = {"type": "SERVICE_TYPE_DELEGATED_SERVICE", "delegator": {"peer_id": of_service}}
        service |= delegated | {"name": "adressen"}
    identification = {
        "type": "OUTWAY_IDENTIFICATION_TYPE_PUBLIC_KEY_THUMBPRINT",
        "public_key_thumbprint": thumbprint,
    }
    grant = {
        "type": "GRANT_TYPE_SERVICE_CONNECTION",
        "service": service,
        "outway": {"peer_id": CONSUMER, "identification": identification},
    }
    if delegator is not None:
        grant |= {"type": "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION", "delegator": {"peer_id": delegator}}
    return grant


def _publication(name: str, *, delegator: str | None) -> dict[str, Any]:
    grant: dict[str, Any] = {
        "type": "GRANT_TYPE_SERVICE_PUBLICATION",
        "directory": {"peer_id": DIRECTORY},
        "service": {"peer_id": PROVIDER, "name": name, "protocol": "PROTOCOL_TCP_HTTP_1.1"},
    }
    if delegator is not None:
        grant |= {"type": "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION", "delegator": {"peer_id": delegator}}
    return grant


KINDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "a connection": lambda key: _connection(key, delegator=None, of_service=None),
    "a connection for a delegator": lambda key: _connection(key, delegator=DIRECTORY, of_service=None),
    "a connection to a service of a delegator": lambda key: _connection(key, delegator=None, of_service=DIRECTORY),
    "a publication": lambda _: _publication("bouwwerken", delegator=None),
    "a publication for a delegator": lambda _: _publication("bouwwerken", delegator=CONSUMER),
}


COMBINATIONS = (
    *((kind,) for kind in KINDS),
    ("a connection", "a connection for a delegator"),
    ("a connection", "a connection to a service of a delegator"),
)


class ContractLife(RuleBasedStateMachine):
    """What people, time and the network do, in any order. Set the class variables before it runs."""

    keypairs: ClassVar[dict[str, list[KeyPair]]]
    databases: ClassVar[dict[str, Database]]
    anchors: ClassVar[TrustAnchors]
    group: ClassVar[Group]
    begin: ClassVar[float]
    runs: ClassVar[int] = 0

    contracts: Bundle[str] = Bundle("contracts")

    @initialize(seed=st.integers(0, 2**32))
    def begin_world(self, seed: int) -> None:
        type(self).runs += 1
        self.chance = random.Random(seed)
        self.parties: dict[str, frozenset[str]] = {}
        self.ends: dict[str, int] = {}
        self.on_disk: dict[str, set[tuple[str, str, str]]] = {peer_id: set() for peer_id in PEERS}
        self.decided: set[tuple[str, str, str]] = set()
        self.world = World(
            keypairs={peer_id: self.keypairs[peer_id][0] for peer_id in PEERS},
            databases=self.databases,
            services=SERVICES,
            anchors=self.anchors,
            group=self.group,
            begin=self.begin,
            seed=seed,
        )
        for peer_id in PEERS:
            self.world.start(peer_id)
        # A connection to a service of a delegator asks that it is published on behalf of that delegator.
        published = self._propose(PROVIDER, [_publication("adressen", delegator=DIRECTORY)], 0, 300 * _DAY)
        self.world.run(_sleep(5))
        self.sign(published, DIRECTORY, "accept")
        self.world.run(_sleep(5))
        self.all_peers_agree()
        assert self.world.network.nodes[PROVIDER].agreements.contract(published).state is State.VALID

    # --- what people do ---

    @rule(
        target=contracts,
        kinds=st.sampled_from(COMBINATIONS),
        by_consumer=st.booleans(),
        begins=st.sampled_from((0, 0, 600)),
        lasts=st.sampled_from((_HOUR, 300 * _DAY, 300 * _DAY)),
        all_agree=st.booleans(),
    )
    def propose(self, kinds: tuple[str, ...], by_consumer: bool, begins: int, lasts: int, all_agree: bool) -> Any:
        by = CONSUMER if by_consumer and kinds != ("a publication",) else PROVIDER
        if self.world.agreements(by) is None:
            return multiple()
        thumbprint = self.keypairs[CONSUMER][0].certificate.key_thumbprint
        content_hash = self._propose(by, [KINDS[kind](thumbprint) for kind in kinds], begins, lasts)
        if all_agree:
            self.all_sign(content_hash)
        return content_hash

    @rule(contract=contracts)
    def all_sign(self, contract: str) -> None:
        for peer_id in sorted(self.parties[contract]):
            self.time_passes(1.0)
            self.sign(contract, peer_id, "accept")

    def _propose(self, by: str, grants: list[dict[str, Any]], begins: int, lasts: int) -> str:
        now = int(self.world.clocks[by].now())
        content = {
            "fsc_version": "2.0.0",
            "iv": str(uuid.UUID(int=self.chance.getrandbits(128), version=4)),
            "group_id": self.group.id,
            "validity": {"not_before": now + begins, "not_after": now + begins + lasts},
            "grants": [{"data": grant} for grant in grants],
            "hash_algorithm": "HASH_ALGORITHM_SHA3_512",
            "created_at": now - 5,
        }
        content_hash: str = self.world.run(self.world.propose(by, content))
        stored = self.world.network.nodes[by].agreements.contract(content_hash)
        self.parties[content_hash] = stored.contract.signatories
        self.ends[content_hash] = stored.contract.not_after
        self.decided.add((by, content_hash, "accept"))
        return content_hash

    @rule(contract=contracts, by=peers, kind=signing)
    def sign(self, contract: str, by: str, kind: str) -> None:
        agreements = self.world.agreements(by)
        if agreements is None:
            return
        try:
            self.world.run(getattr(agreements, kind)(contract))
        except (Conflict, NotFound):
            return
        self.decided.add((by, contract, kind))
        if kind != "accept":
            assert not any(a.holds(self._now(by)) for a in agreements.contract(contract).agreements)

    @rule(contract=contracts, by=peers, kind=signing, turns=st.integers(0, 12))
    def the_power_goes_while_signing(self, contract: str, by: str, kind: str, turns: int) -> None:
        agreements = self.world.agreements(by)
        if agreements is None:
            return
        task = self.world.run(_begin(getattr(agreements, kind)(contract), turns))
        if task.done() and task.exception() is None:
            self.decided.add((by, contract, kind))
        self.world.stop(by, power_cut=True)
        self.world.run(asyncio.wait([task]))
        if not isinstance(task.exception(), Conflict | NotFound | PowerCut | None):
            raise task.exception()
        self.world.start(by)

    @rule(contract=contracts, by=peers, kind=signing, power_cut=st.booleans(), which=st.integers(0, 1))
    def sign_with_the_last_of_a_certificate(
        self, contract: str, by: str, kind: str, power_cut: bool, which: int
    ) -> None:
        self.sign(contract, by, kind)
        self.renew_certificate(by, power_cut, which)

    @rule(contract=contracts, by=peers)
    def send_again(self, contract: str, by: str) -> None:
        agreements = self.world.agreements(by)
        if agreements is None:
            return
        try:
            self.world.run(agreements.resend(contract))
        except NotFound:
            return

    @rule(by=peers)
    def ask_the_others_what_they_have(self, by: str) -> None:
        agreements = self.world.agreements(by)
        if agreements is not None:
            self.world.run(agreements.catch_up())

    # --- what the network does ---

    @rule(sender=peers, receiver=peers, fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=4))
    def bad_weather(self, sender: str, receiver: str, fates: list[str]) -> None:
        self.world.network.fates[sender, receiver].extend(fates)

    @rule(sender=peers, receiver=peers, cut=st.booleans())
    def cable(self, sender: str, receiver: str, cut: bool) -> None:
        (self.world.network.cut.add if cut else self.world.network.cut.discard)((sender, receiver))

    @precondition(lambda self: self.world.network.carried)
    @rule(data=st.data())
    def an_old_message_comes_by_again(self, data: st.DataObject) -> None:
        carried = self.world.network.carried
        message = carried[data.draw(st.integers(0, len(carried) - 1))]
        node = self.world.network.nodes.get(message.receiver)
        if node is not None and node.up:
            try:
                self.world.run(self.world.network.deliver(message))
            except OSError:
                return

    # --- what time and machines do ---

    @rule(seconds=st.sampled_from((0.05, 0.2, 1.0, 15.0, 400.0, 4000.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.run(_sleep(seconds))

    @rule(peer=peers, off=st.sampled_from((-25.0, -1.0, 0.0, 1.0, 25.0)))
    def clock_is_set(self, peer: str, off: float) -> None:
        self.world.clocks[peer].off = off

    @rule(peer=peers, power_cut=st.booleans(), back=st.booleans())
    def restart(self, peer: str, power_cut: bool, back: bool) -> None:
        self.world.stop(peer, power_cut=power_cut)
        if back:
            self.world.start(peer)

    @rule(peer=peers, power_cut=st.booleans(), which=st.integers(0, 1))
    def renew_certificate(self, peer: str, power_cut: bool, which: int) -> None:
        self.world.stop(peer, power_cut=power_cut)
        self.world.keypairs[peer] = self.keypairs[peer][which]
        self.world.start(peer)

    # --- what must hold ---

    @rule()
    def everything_works_again(self) -> None:
        self.heal()
        self.all_peers_agree()

    @invariant()
    def nothing_that_was_stored_or_acknowledged_is_lost(self) -> None:
        for peer_id in PEERS:
            signed = self.world.signed(peer_id)
            assert self.on_disk[peer_id] <= signed
            self.on_disk[peer_id] = signed
        for receiver, content_hash, signatory, kind in self.world.network.acknowledged:
            assert (content_hash, signatory, kind) in self.on_disk[receiver]
        for peer_id, content_hash, kind in self.decided:
            assert (content_hash, peer_id, kind) in self.on_disk[peer_id]

    @invariant()
    def only_what_all_signed_and_nobody_ended_authorises(self) -> None:
        for peer_id in PEERS:
            agreements = self.world.agreements(peer_id)
            if agreements is None:
                continue
            now = self._now(peer_id)
            ended = {content_hash for content_hash, _, kind in self.on_disk[peer_id] if kind != "accept"}
            for stored in agreements.contracts():
                if stored.content_hash in ended:
                    assert stored.state in {State.REJECTED, State.REVOKED}
            for agreement in agreements.agreements():
                if agreement.holds(now):
                    for signatory in self.parties[agreement.content_hash]:
                        assert (agreement.content_hash, signatory, "accept") in self.world.signed(signatory)
                    assert agreement.content_hash not in ended
                if agreement.provider == peer_id:
                    self._token_follows(agreement.grant_hash, agreement.holds(now))

    @invariant()
    def nobody_made_a_mistake(self) -> None:
        assert not self.world.network.mistakes
        assert not self.world.unhandled

    def _token_follows(self, grant_hash: str, holds: bool) -> None:
        provider = self.world.agreements(PROVIDER)
        assert provider is not None
        form = {"grant_type": "client_credentials", "scope": grant_hash, "client_id": CONSUMER}
        try:
            provider.issue_token(form, self.keypairs[CONSUMER][0].certificate)
        except TokenRequestFault:
            assert not holds
        else:
            assert holds

    def _now(self, peer_id: str) -> float:
        return self.world.clocks[peer_id].now()

    def heal(self) -> None:
        network = self.world.network
        network.cut.clear()
        network.fates.clear()
        for peer_id in PEERS:
            self.world.clocks[peer_id].off = 0.0
            if self.world.agreements(peer_id) is None:
                self.world.start(peer_id)
        for _ in range(80):
            if not self.world.waiting():
                return
            self.world.run(_sleep(50.0))
        raise AssertionError(f"the outboxes do not become empty: {self.world.waiting()}")

    def all_peers_agree(self) -> None:
        now = self.world.now()
        for content_hash, parties in self.parties.items():
            found = {}
            for peer_id in sorted(parties):
                agreements = self.world.agreements(peer_id)
                assert agreements is not None
                try:
                    stored = agreements.contract(content_hash)
                except NotFound:
                    # It came too late: a contract that has ended is not taken in, and authorises nobody.
                    assert now >= self.ends[content_hash], f"{peer_id} never heard of a contract: {self._why()}"
                    continue
                signed = frozenset((s.peer_id, s.type, s.certificate_not_after) for s in stored.signatures)
                found[peer_id] = (stored.state, signed)
            assert len(set(found.values())) == 1, f"peers are not of one mind: {found}: {self._why()}"

    def _why(self) -> list[str]:
        told = []
        for peer_id in PEERS:
            agreements = self.world.agreements(peer_id)
            assert agreements is not None
            told += [
                f"{peer_id} to {delivery.peer_id}: {delivery.kind} {delivery.status} {delivery.reason}"
                for stored in agreements.contracts()
                for delivery in stored.deliveries
                if delivery.status != "delivered"
            ]
        return told

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.heal()
            self.all_peers_agree()
            self.nothing_that_was_stored_or_acknowledged_is_lost()
            self.only_what_all_signed_and_nobody_ended_authorises()
            self.nobody_made_a_mistake()
        finally:
            self.world.close()


async def _begin(what: Coroutine[Any, Any, None], turns: int) -> asyncio.Task[None]:
    """Begin this, and let the loop make so many turns."""
    task = asyncio.create_task(what)
    for _ in range(turns):
        await asyncio.sleep(0)
    return task


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@pytest.mark.timeout(0 if RUNS > 100 else 120)
def test_all_peers_end_in_the_same_state(
    authority: Authority,
    anchors: TrustAnchors,
    new_keypair: Callable[..., KeyPair],
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path_factory.mktemp("group")
    life = type("ContractLifeOnce", (ContractLife,), {})
    life.anchors = anchors
    life.group = make_group(folder, authority, 8443).model_copy(
        update={"directory_address": f"https://p{DIRECTORY[-4:]}.example:8443"}
    )
    names = dict(zip(PEERS, ("Regie", "Bevolkingsregister", "Gemeente Zilverdam"), strict=True))
    life.keypairs = {
        peer_id: [new_keypair(peer_id, name, days=3000), new_keypair(peer_id, name, days=3100)]
        for peer_id, name in names.items()
    }
    life.begin = max(pair.certificate.not_before for pairs in life.keypairs.values() for pair in pairs) + 2 * _DAY
    life.databases = {peer_id: Database(None) for peer_id in PEERS}
    try:
        for database in life.databases.values():
            database.create()
        run_state_machine_as_test(
            life,
            settings=settings(
                max_examples=RUNS,
                stateful_step_count=40,
                deadline=None,
                derandomize="STELSEL_FUZZ" not in os.environ,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        for database in life.databases.values():
            database.close()
    if "STELSEL_FUZZ" in os.environ:
        with capsys.disabled():
            print(f"\n{life.runs} runs: no divergence found")
