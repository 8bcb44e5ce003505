"""Where this room meets the world: the contracts of one peer, kept, signed, sent and looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from sqlalchemy import Connection

from stelsel.agreements import directory, lifecycle, signatures, store
from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.client import PeerClients
from stelsel.agreements.contract import Contract, check, check_offered, parse
from stelsel.agreements.gate import Gate
from stelsel.agreements.group import Group
from stelsel.agreements.intake import Intake, Submission
from stelsel.agreements.memory import Known, Memory
from stelsel.agreements.outbox import Outbox
from stelsel.agreements.proposals import ConnectionProposal, Proposal, PublicationProposal, content_of
from stelsel.agreements.services import Service
from stelsel.agreements.signatures import Signature, SignatureType
from stelsel.agreements.stored import Delivery, ListedPeer, ListedService, StoredContract
from stelsel.agreements.token_desk import TokenDesk
from stelsel.agreements.tokens import Token, TokenClaims
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import BadGateway, Fault, NotFound, Unavailable
from stelsel.base.jose import Signer
from stelsel.base.log import logger

__all__ = ["Agreements", "ConnectionProposal", "PublicationProposal"]

T = TypeVar("T")
_log = logger("agreements")


class Agreements:
    """The contracts of one peer. `start` loads them and begins sending; `stop` lets go, and nothing is lost.

    Everything that changes is durable before it is in memory, and in memory before the caller hears of it.
    """

    def __init__(
        self,
        *,
        database: Database,
        keypair: KeyPair,
        anchors: TrustAnchors,
        group: Group,
        clock: Clock,
        manager_address: str,
        inway_address: str | None = None,
        services: tuple[Service, ...] = (),
        gate: Gate | None = None,
        token_lifetime: int = 300,
    ) -> None:
        self.peer_id = keypair.certificate.peer_id
        self.group = group
        self.keypair = keypair
        self.manager_address = manager_address
        self._database = database
        self._clock = clock
        self._gate = gate
        self._signer = Signer(keypair)
        self._memory = Memory()
        self._own = ListedPeer(self.peer_id, keypair.certificate.peer_name, manager_address)
        self._peers: dict[str, ListedPeer] = {}
        self._clients = PeerClients(keypair, anchors, manager_address)
        self._directory = directory.DirectoryReader(self._clients, group)
        self._outbox = Outbox(database, clock, self._send)
        self._callbacks: list[Callable[[], None]] = []
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self._offered = frozenset(service.name for service in services)
        self._intake = Intake(
            memory=self._memory,
            clients=self._clients,
            anchors=anchors,
            group=group,
            certificate=keypair.certificate,
            services=self._offered,
            address_of=self.manager_address_of,
        )
        self._desk = TokenDesk(
            memory=self._memory,
            keypair=keypair,
            signer=self._signer,
            group=group,
            clock=clock,
            inway_address=inway_address,
            services=self._offered,
            lifetime=token_lifetime,
        )

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what is stored and begin sending what was left. Call it once, before anything else."""
        now = self._clock.now()
        with self._database.read() as connection:
            for contract, proposed_by, received_at, on_it in store.load_contracts(connection):
                self._memory.put(contract, proposed_by, received_at, on_it, now)
            self._peers = {peer.peer_id: peer for peer in store.load_peers(connection)}
        await self._database.write(lambda connection: store.hasten(connection, None, now))
        await self._outbox.start()

    async def stop(self) -> None:
        """Finish what is being stored, stop sending, close connections."""
        await asyncio.gather(*self._changes, return_exceptions=True)
        await self._outbox.stop()
        await self._desk.close()
        await self._clients.close()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this in the event loop after each change of the contracts in memory."""
        self._callbacks.append(callback)

    async def set_gate(self, gate: Gate | None) -> None:
        """The gate that new contracts of other peers must pass from now on."""
        self._gate = gate

    # --- what this peer does ---------------------------------------------------------------------------------------

    async def announce(self) -> None:
        """Make this peer known to the directory (FSC Core 4.4.2); retried until it is heard."""
        if self.peer_id == self.group.directory_peer_id:
            return
        to, now = [self.group.directory_peer_id], self._clock.now()
        await self._database.write(lambda connection: store.queue(connection, to, "announce", "", now))
        self._outbox.wake()

    async def propose(self, proposal: Proposal) -> str:
        """Sign and store a new contract and send it to the other peers; its content hash.

        Raises a `Fault` when the proposal breaks a rule of the group.
        """
        now = self._clock.now()
        thumbprint = self.keypair.certificate.key_thumbprint
        contract = parse(content_of(proposal, self.group, self.peer_id, thumbprint, now))
        check(contract, self.group, now)
        check_offered(contract, self.peer_id, self._offered)
        await self._in_order(self._sign(contract, "accept", "submit"))
        return contract.content_hash

    async def accept(self, content_hash: str) -> None:
        """Accept a contract. Raises `NotFound`, or `Conflict` when it can no longer be accepted."""
        await self._in_order(self._sign(self._known(content_hash).contract, "accept"))

    async def reject(self, content_hash: str) -> None:
        """Reject a proposed contract, for ever. Raises `NotFound` or `Conflict`."""
        await self._in_order(self._sign(self._known(content_hash).contract, "reject"))

    async def revoke(self, content_hash: str) -> None:
        """Revoke a contract, for ever; it authorises nothing from the moment that this returns."""
        await self._in_order(self._sign(self._known(content_hash).contract, "revoke"))

    async def resend(self, content_hash: str) -> None:
        """Send everything of ours about a contract again, also what was refused before. Raises `NotFound`."""
        known, now = self._known(content_hash), self._clock.now()
        others = known.contract.signatories - {self.peer_id}
        kinds = [kind for peer_id, kind in known.signatures if peer_id == self.peer_id]
        if known.proposed_by == self.peer_id:
            kinds = ["submit", *(kind for kind in kinds if kind != "accept")]

        def write(connection: Connection) -> None:
            for kind in kinds:
                store.queue(connection, others, kind, content_hash, now)

        await self._database.write(write)
        self._outbox.wake()

    # --- what this peer has ----------------------------------------------------------------------------------------

    def contracts(self, *, state: State | None = None) -> list[StoredContract]:
        """All contracts, or those in this state, newest first."""
        with self._database.read() as connection:
            by_hash: dict[str, list[Delivery]] = {}
            for delivery in store.deliveries_of(connection):
                by_hash.setdefault(delivery.content_hash, []).append(delivery)
        now = self._clock.now()
        every = [self._stored(known, by_hash.get(known.contract.content_hash, []), now) for known in self._memory.all()]
        return [stored for stored in reversed(every) if state is None or stored.state is state]

    def contract(self, content_hash: str) -> StoredContract:
        """One contract. Raises `NotFound`."""
        known = self._known(content_hash)
        with self._database.read() as connection:
            deliveries = store.deliveries_of(connection, content_hash)
        return self._stored(known, deliveries, self._clock.now())

    def agreements(self) -> tuple[Agreement, ...]:
        """Every connection grant of every contract, in any state, as an agreement."""
        return self._memory.agreements(self._clock.now())

    def agreement(self, grant_hash: str) -> Agreement | None:
        """The agreement with this grant hash. Whether it authorises now: `Agreement.holds`."""
        return self._memory.agreement(grant_hash)

    def known(self) -> list[Known]:
        """Every contract with its signatures, oldest first: for the manager's listing."""
        return list(self._memory.all())

    def peer_names(self) -> dict[str, str]:
        """Names of the peers that were met, by peer id; hostile text until made inert."""
        return {peer.peer_id: peer.name for peer in self.listed_peers()}

    # --- tokens ----------------------------------------------------------------------------------------------------

    def issue_token(self, form: Mapping[str, str], certificate: Certificate) -> dict[str, Any]:
        """See `TokenDesk.issue`."""
        return self._desk.issue(form, certificate)

    async def token(self, grant_hash: str) -> Token:
        """See `TokenDesk.get`."""
        return await self._desk.get(grant_hash, self._ask_token)

    def forget_token(self, grant_hash: str) -> None:
        """Ask a new token next time: the provider's inway did not take this one."""
        self._desk.forget(grant_hash)

    def verify_token(self, compact: str, thumbprint: str) -> TokenClaims:
        """See `TokenDesk.verify`."""
        return self._desk.verify(compact, thumbprint)

    # --- peers and services ----------------------------------------------------------------------------------------

    def listed_peers(self) -> list[ListedPeer]:
        """The peers that this manager knows, itself among them (`/peers`)."""
        return sorted({**self._peers, self.peer_id: self._own}.values(), key=lambda peer: peer.peer_id)

    def listed_services(self) -> list[ListedService]:
        """The services that are published by contracts that this manager has (`/services`)."""
        peers = {peer.peer_id: peer for peer in self.listed_peers()}
        # A newer publication of the same service takes the place of the older.
        found = {
            (grant.provider, grant.service): directory.listing(grant, peers)
            for _, grant in self._memory.published(self._clock.now())
        }
        return [found[key] for key in sorted(found)]

    async def directory_services(self, *, peer_id: str | None = None, name: str | None = None) -> list[ListedService]:
        """The services in the directory of this peer OR with this in their name; all when neither is given."""
        if self.peer_id == self.group.directory_peer_id:
            return directory.select(self.listed_services(), peer_id, name)
        return await self._directory.services(peer_id, name)

    async def directory_peers(self) -> list[ListedPeer]:
        """The peers in the directory."""
        if self.peer_id == self.group.directory_peer_id:
            return self.listed_peers()
        return await self._directory.peers()

    async def manager_address_of(self, peer_id: str, *, refresh: bool = False) -> str:
        """Address of a peer's manager, from memory or from the directory. Raises `Unavailable` while unknown."""
        if peer_id == self.peer_id:
            return self.manager_address
        if peer_id == self.group.directory_peer_id:
            return self.group.directory_address
        known = self._peers.get(peer_id)
        if known is not None and not refresh:
            return known.manager_address
        if self.peer_id != self.group.directory_peer_id:
            try:
                listed = [peer for peer in await self._directory.peers(peer_id) if peer.peer_id == peer_id]
                if listed:
                    await self.met(listed[0])
                    return listed[0].manager_address
            except (Fault, ValueError) as fault:
                if known is None:
                    raise Unavailable(f"the directory cannot tell where peer {peer_id} is: {fault}") from fault
        if known is not None:
            return known.manager_address
        raise Unavailable(f"peer {peer_id} is not in the directory yet", next_step="it should announce itself there")

    async def peer_client(self, peer_id: str) -> httpx.AsyncClient:
        """A client with mutual TLS that talks to this peer and no other, at any https address. Do not close it."""
        return self._clients.of(peer_id)

    # --- what other peers do ---------------------------------------------------------------------------------------

    async def receive(self, submission: Submission) -> None:
        """Take in a contract or a signature of another peer. Raises the FSC fault that tells why not."""
        now = self._clock.now()
        contract, signature = await self._intake.judge(submission, self._gate, now)
        await self._in_order(self._take_in(contract, signature, now))
        certificate = submission.certificate
        await self.met(ListedPeer(certificate.peer_id, certificate.peer_name, submission.manager_address))

    async def met(self, peer: ListedPeer) -> None:
        """Remember who a peer is and where its manager is; what waits for it is sent at once (4.4.1.9)."""
        if peer.peer_id == self.peer_id:
            return
        waits, now = self._outbox.waits_for(peer.peer_id), self._clock.now()
        if self._peers.get(peer.peer_id) == peer and not waits:
            return

        def write(connection: Connection) -> None:
            store.put_peer(connection, peer, now)
            store.hasten(connection, peer.peer_id, now)

        await self._database.write(write)
        self._peers[peer.peer_id] = peer
        self._outbox.wake()

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _in_order(self, change: Coroutine[Any, Any, None]) -> None:
        """Run one change after another, to the end, even when the caller goes away half-way."""

        async def run() -> None:
            async with self._changing:
                await change

        task = asyncio.create_task(run())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    async def _sign(self, contract: Contract, kind: SignatureType, message: str | None = None) -> None:
        now = self._clock.now()
        known = self._memory.get(contract.content_hash)
        on_it = known.signatures if known else {}
        lifecycle.may_sign(contract, on_it.values(), kind, self.peer_id, now)
        here = on_it.get((self.peer_id, kind))
        if here is not None and here.chain == self.keypair.chain:
            return  # signed already with this certificate; `resend` sends it again
        signature = signatures.sign(contract, kind, self._signer, self.keypair, now)
        await self._keep(contract, [signature], proposed_by=self.peer_id, send=message or kind, now=now)

    async def _take_in(self, contract: Contract, signature: Signature, now: float) -> None:
        self._intake.check_iv(contract)
        known = self._memory.get(contract.content_hash)
        if known is not None and not known.is_news(signature):
            return  # heard before
        kept, send = [signature], ""
        new = known is None and signature.type == "accept"
        if new and directory.accepts_by_itself(contract, self.peer_id, self.group, now):
            kept.append(signatures.sign(contract, "accept", self._signer, self.keypair, now))
            send = "accept"
        await self._keep(contract, kept, proposed_by=signature.peer_id, send=send, now=now)

    async def _keep(
        self, contract: Contract, kept: list[Signature], *, proposed_by: str, send: str, now: float
    ) -> None:
        """Store signatures, and what must be sent because of them, in one transaction; then show it in memory."""
        content_hash, others = contract.content_hash, contract.signatories - {self.peer_id}

        def write(connection: Connection) -> None:
            store.add_contract(connection, contract, proposed_by, now)
            for signature in kept:
                store.put_signature(connection, content_hash, signature)
            if send:
                store.queue(connection, others, send, content_hash, now)

        await self._database.write(write)
        self._memory.put(contract, proposed_by, now, kept, now)
        self._outbox.wake()
        for callback in self._callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - a listener's mistake may not undo what is stored
                _log.error("a listener for changed agreements failed", exc_info=error)

    async def _send(self, delivery: Delivery) -> None:
        address = await self.manager_address_of(delivery.peer_id, refresh=delivery.attempts % 4 == 3)
        if delivery.kind == "announce":
            await self._clients.put(delivery.peer_id, address, "/v1/announce")
            return
        async with self._changing:  # what is in the outbox may be a moment ahead of what is in memory
            known = self._known(delivery.content_hash)
        kind = "accept" if delivery.kind == "submit" else delivery.kind
        body = {"content": known.contract.content, "signature": known.signatures[self.peer_id, kind].compact}
        if delivery.kind == "submit":
            await self._clients.post(delivery.peer_id, address, "/v1/contracts", body)
        else:
            path = f"/v1/contracts/{quote(delivery.content_hash, safe='$')}/{kind}"
            await self._clients.put(delivery.peer_id, address, path, body)

    async def _ask_token(self, provider: str, form: dict[str, str]) -> dict[str, Any]:
        try:
            return await self._clients.form(provider, await self.manager_address_of(provider), "/v1/token", form)
        except (Unavailable, BadGateway):
            address = await self.manager_address_of(provider, refresh=True)  # it may have moved
            return await self._clients.form(provider, address, "/v1/token", form)

    def _known(self, content_hash: str) -> Known:
        known = self._memory.get(content_hash)
        if known is None:
            raise NotFound("this peer has no contract with this hash", next_step="see: stelsel agreement list")
        return known

    def _stored(self, known: Known, deliveries: list[Delivery], now: float) -> StoredContract:
        on_it = tuple(known.signatures.values())
        return StoredContract(
            contract=known.contract,
            state=known.state(now),
            proposed_by=known.proposed_by,
            received_at=known.received_at,
            signatures=on_it,
            others=tuple(sorted(known.contract.signatories - {self.peer_id})),
            deliveries=tuple(deliveries),
            agreements=lifecycle.agreements_of(known.contract, on_it, now),
        )
