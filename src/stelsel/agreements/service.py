"""Where this room meets the world: the contracts of one peer, kept, signed, sent and looked up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx

from stelsel.agreements import directory, lifecycle, signatures, store
from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.approval import Approver
from stelsel.agreements.book import ContractBook
from stelsel.agreements.catch_up import CatchUp, ListedSignature
from stelsel.agreements.client import PeerClients
from stelsel.agreements.contract import parse
from stelsel.agreements.dialect import USUAL, Dialect
from stelsel.agreements.directory_reader import pages
from stelsel.agreements.external_contract import additional_data
from stelsel.agreements.fsc_errors import UnknownFscVersion
from stelsel.agreements.gate import Gate
from stelsel.agreements.group import Group
from stelsel.agreements.intake import Intake, Submission
from stelsel.agreements.memory import Known, Memory
from stelsel.agreements.outbox import LONGEST_WAIT, Outbox
from stelsel.agreements.peers import PeerBook
from stelsel.agreements.policy import Verdict
from stelsel.agreements.post import Post
from stelsel.agreements.proposals import (
    ConnectionProposal,
    DelegatedConnectionProposal,
    DelegatedPublicationProposal,
    Proposal,
    PublicationProposal,
    content_of,
)
from stelsel.agreements.services import Service
from stelsel.agreements.settings import AgreementsSettings
from stelsel.agreements.stored import CaughtUp, Delivery, ListedPeer, ListedService, PeerVersion, StoredContract
from stelsel.agreements.token_desk import TokenDesk
from stelsel.agreements.tokens import Token, TokenClaims
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.jose import Signer
from stelsel.base.log import logger

__all__ = [
    "Agreements",
    "ConnectionProposal",
    "DelegatedConnectionProposal",
    "DelegatedPublicationProposal",
    "PublicationProposal",
]

_log = logger("agreements")
_random = random.SystemRandom()
_TICK = 60.0  # seconds between two looks at the revocation lists


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
        dialect: Dialect = USUAL,
        extensions: Mapping[str, str] | None = None,
        catch_up_interval: float = 3600,
        settings: AgreementsSettings | None = None,
    ) -> None:
        """`extensions` are told to other peers (`/peer`); a `catch_up_interval` (seconds) of 0: only when asked."""
        self.peer_id = keypair.certificate.peer_id
        self.group = group
        self.keypair = keypair
        self.manager_address = manager_address
        self.dialect = dialect
        self.extensions = dict(extensions or {})
        self._database = database
        self._anchors = anchors
        self._clock = clock
        self._gate = gate
        self._catch_up_interval = catch_up_interval
        self._signer = Signer(keypair, group.signature_algorithms)
        self._memory = Memory()
        self._clients = PeerClients(keypair, anchors, manager_address)
        self._outbox = Outbox(database, clock, self._carry)
        own = ListedPeer(self.peer_id, keypair.certificate.peer_name, manager_address)
        self._peers = PeerBook(
            own=own, database=database, clients=self._clients, outbox=self._outbox, group=group, clock=clock
        )
        offered = frozenset(service.name for service in services)
        self._intake = Intake(
            memory=self._memory,
            clients=self._clients,
            anchors=anchors,
            group=group,
            keypair=keypair,
            services=offered,
            address_of=self._peers.address_of,
            dialect=dialect,
        )
        self._approver = Approver(self.peer_id, group, settings or AgreementsSettings())
        self._book = ContractBook(
            database=database,
            memory=self._memory,
            outbox=self._outbox,
            keypair=keypair,
            signer=self._signer,
            clock=clock,
            check_iv=self._intake.check_iv,
            approves=self._approver.approves,
        )
        self._post = Post(
            own=self.peer_id,
            database=database,
            clock=clock,
            outbox=self._outbox,
            clients=self._clients,
            peers=self._peers,
            book=self._book,
        )
        self._catch_up = CatchUp(
            own=self.peer_id,
            memory=self._memory,
            clients=self._clients,
            peers=self._peers,
            merge=self._merge,
            send_again=self._post.again_unless_refused,
        )
        self._desk = TokenDesk(
            memory=self._memory,
            keypair=keypair,
            signer=self._signer,
            group=group,
            clock=clock,
            inway_address=inway_address,
            services=offered,
            lifetime=token_lifetime,
            dialect=dialect,
            anchors=anchors,
        )
        self._catch_up_at = 0.0
        self._keepers: list[asyncio.Task[None]] = []

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what is stored, sign again what our new certificate asks, and begin sending. Call it once, first."""
        now = self._clock.now()
        with self._database.read() as connection:
            self._book.load(connection, now)
            self._peers.load(connection)
        await self._database.write(lambda connection: store.hasten(connection, None, now))
        again = await self._book.sign_again()
        if again:
            _log.info("signed again with the present certificate", contracts=len(again))
        await self._outbox.start()
        works = (self._read_lists, self._catch_up_in_time)
        self._keepers = [asyncio.create_task(self._now_and_then(work)) for work in works]

    async def stop(self) -> None:
        """Finish what is being stored, stop sending, close connections."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._book.finish()
        await self._outbox.stop()
        await self._desk.close()
        await self._clients.close()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this in the event loop after each change of the contracts in memory."""
        self._book.on_change(callback)

    async def set_gate(self, gate: Gate | None) -> None:
        """The gate that new contracts of other peers must pass from now on."""
        self._gate = gate

    # --- what this peer does ---------------------------------------------------------------------------------------

    async def announce(self) -> None:
        """Make this peer known to the directory, and a new address to its counterparties too (FSC Core 4.4.2).

        Retried until it is heard.
        """
        to = set() if self._peers.keeps_directory else {self.group.directory_peer_id}
        if await self._peers.moved():
            to.update(await self._catch_up.counterparties(self._clock.now()))
        if to:
            await self._post.queue(to, ["announce"])

    async def propose(self, proposal: Proposal, *together: Proposal) -> str:
        """Sign and store a new contract and send it to the other peers; its content hash.

        Those `together` with it become further grants of the same contract. Raises a `Fault` when it breaks a rule
        of the group.
        """
        thumbprint = self.keypair.certificate.key_thumbprint
        now = self._clock.now()
        return await self.propose_content(content_of(proposal, self.group, self.peer_id, thumbprint, now, together))

    async def propose_content(self, content: dict[str, Any]) -> str:
        """As `propose`, for a contract's content (4.2) as it is to be."""
        contract = parse(content, self.dialect)
        self._intake.check_own(contract, self._clock.now())
        await self._book.sign(contract, "accept", "submit")
        return contract.content_hash

    async def accept(self, content_hash: str) -> None:
        """Accept a contract. Raises `NotFound`, or `Conflict` when it can no longer be accepted.

        Who accepts a contract that rests on one outside FSC says to have looked at that (External Contract
        Reference 2.1.2); that it was decided, and when, is kept.
        """
        await self._book.sign(self._book.known(content_hash).contract, "accept")

    async def reject(self, content_hash: str) -> None:
        """Reject a proposed contract, for ever. Raises `NotFound` or `Conflict`."""
        await self._book.sign(self._book.known(content_hash).contract, "reject")

    async def revoke(self, content_hash: str) -> None:
        """Revoke a contract, for ever; it authorises nothing from the moment that this returns."""
        await self._book.sign(self._book.known(content_hash).contract, "revoke")

    async def sign_again(self) -> list[str]:
        """See `ContractBook.sign_again`: done at each start, and by command."""
        return await self._book.sign_again()

    async def catch_up(self, peer_id: str | None = None) -> list[CaughtUp]:
        """Ask counterparties (or this one) what they have, and merge; see `catch_up`. Never raises a `Fault`."""
        now = self._clock.now()
        wanted = await self._catch_up.counterparties(now) if peer_id is None else [peer_id]
        return [await self._catch_up.with_peer(each, now) for each in wanted]

    async def resend(self, content_hash: str) -> None:
        """Send everything of ours about a contract again, also what was refused before. Raises `NotFound`."""
        await self._post.again(content_hash)

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
        known = self._book.known(content_hash)
        with self._database.read() as connection:
            deliveries = store.deliveries_of(connection, content_hash)
        return self._stored(known, deliveries, self._clock.now())

    def verdict(self, content_hash: str) -> Verdict:
        """Whether a contract passes a rule of automatic approval, as offered by who proposed it. Raises `NotFound`."""
        known = self._book.known(content_hash)
        offered = known.signatures.get((known.proposed_by, "accept"))
        if offered is None or known.proposed_by == self.peer_id:
            return Verdict(False)
        return self._approver.verdict(known.contract, offered, self._clock.now())

    def agreements(self) -> tuple[Agreement, ...]:
        """Every connection grant of every contract, in any state, as an agreement."""
        return self._memory.agreements(self._clock.now())

    def agreement(self, grant_hash: str) -> Agreement | None:
        """The agreement with this grant hash. Whether it authorises now: `Agreement.holds`."""
        return self._memory.agreement(grant_hash)

    @property
    def memory(self) -> Memory:
        """All contracts with their signatures, to look things up in: for the manager's listings."""
        return self._memory

    def key_set(self) -> dict[str, Any]:
        """The JSON Web Key Set of this peer, earlier certificates that signatures still need included (4.4.1.4)."""
        superseded = self._book.superseded(self._clock.now())
        return signatures.key_set(self._signer, self.keypair.chain, superseded, self.group.elements)

    def log_data(self, grant_hash: str) -> dict[str, Any]:
        """`additional_data` of log records under this grant (External Contract Reference 3.2); empty when none."""
        grant = self._memory.grant(grant_hash)
        return {} if grant is None else additional_data(grant.properties)

    def reference_decisions(self, content_hash: str) -> dict[str, float]:
        """What was decided here about the contract outside FSC that a contract rests on, and when (seconds)."""
        with self._database.read() as connection:
            return store.reference_decisions_of(connection, content_hash)

    def peer_names(self) -> dict[str, str]:
        """Names of the peers that were met, by peer id; hostile text until made inert."""
        return {peer.peer_id: peer.name for peer in self.listed_peers()}

    # --- tokens ----------------------------------------------------------------------------------------------------

    def issue_token(self, form: Mapping[str, str], certificate: Certificate) -> dict[str, Any]:
        """See `TokenDesk.issue`."""
        return self._desk.issue(form, certificate)

    def token_at_hand(self, grant_hash: str) -> Token | None:
        """See `TokenDesk.at_hand`."""
        return self._desk.at_hand(grant_hash)

    async def token(self, grant_hash: str) -> Token:
        """See `TokenDesk.get`."""
        return await self._desk.get(grant_hash, self._post.ask_token)

    def forget_token(self, grant_hash: str) -> None:
        """Ask a new token next time: the provider's inway did not take this one."""
        self._desk.forget(grant_hash)

    def verify_token(self, compact: str, thumbprint: str) -> TokenClaims:
        """See `TokenDesk.verify`."""
        return self._desk.verify(compact, thumbprint)

    def earlier_certificates(self) -> tuple[tuple[Certificate, float], ...]:
        """See `TokenCheck.earlier`."""
        return self._desk.check.earlier

    # --- peers and services ----------------------------------------------------------------------------------------

    def listed_peers(self) -> list[ListedPeer]:
        """The peers that this manager knows, itself among them (`/peers`)."""
        return self._peers.all()

    def versions(self) -> tuple[PeerVersion, ...]:
        """Which FSC the peers speak that were asked or heard since the start; `PeerVersion.differs` is trouble."""
        return self._peers.versions()

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
        if self._peers.keeps_directory:
            return directory.select(self.listed_services(), peer_id, name)
        return await self._peers.directory.services(peer_id, name)

    async def directory_peers(self) -> list[ListedPeer]:
        """The peers in the directory."""
        return self.listed_peers() if self._peers.keeps_directory else await self._peers.directory.peers()

    async def manager_address_of(self, peer_id: str, *, refresh: bool = False) -> str:
        """See `PeerBook.address_of`."""
        return await self._peers.address_of(peer_id, refresh=refresh)

    async def peer_client(self, peer_id: str) -> httpx.AsyncClient:
        """A client with mutual TLS that talks to this peer and no other, at any https address. Do not close it."""
        return self._clients.of(peer_id)

    async def pages(
        self, peer_id: str, path: str, member: str, query: dict[str, str], limit: int
    ) -> AsyncIterator[list[Any]]:
        """What the manager of a peer lists, page by page, oldest first; bounded as all its answers are.

        Raises `Unavailable`, `BadGateway` or `PeerRefused`.
        """
        address = await self._peers.address_of(peer_id)
        async for page in pages(self._clients, peer_id, address, path, member, query, limit):
            yield page

    def counterparties(self) -> set[str]:
        """The peers with which there is an agreement in force to call one another."""
        valid = (agreement for agreement in self.agreements() if agreement.state is State.VALID)
        return {peer for agreement in valid for peer in (agreement.consumer, agreement.provider)} - {self.peer_id}

    # --- what other peers do ---------------------------------------------------------------------------------------

    async def receive(self, submission: Submission) -> None:
        """Take in a contract or a signature of another peer. Raises the FSC fault that tells why not."""
        now = self._clock.now()
        certificate = submission.certificate
        try:
            contract, signature = await self._intake.judge(submission, self._gate, now)
        except UnknownFscVersion:
            self._peers.heard_version(certificate.peer_id, str(submission.content.get("fsc_version")))
            raise
        await self._book.take_in(contract, signature, now)
        await self.met(ListedPeer(certificate.peer_id, certificate.peer_name, submission.manager_address))

    async def met(self, peer: ListedPeer) -> None:
        """See `PeerBook.met`."""
        await self._peers.met(peer)

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _read_lists(self) -> None:
        """Read revocation lists that changed."""
        lists = self._anchors.revocations
        if lists is not None and lists.refresh() and lists.troubles:
            _log.warning("revocation lists cannot be used", troubles=list(lists.troubles))

    async def _catch_up_in_time(self) -> None:
        """Catch up with counterparties when it is time; sooner again when one did not answer."""
        if not self._catch_up_interval or self._clock.now() < self._catch_up_at:
            return
        trouble = any(caught.trouble for caught in await self.catch_up())
        wait = min(self._catch_up_interval, LONGEST_WAIT) if trouble else self._catch_up_interval
        # Not all at the same moment, though all may have started at one.
        self._catch_up_at = self._clock.now() + wait * _random.uniform(0.8, 1.2)

    async def _now_and_then(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - keeping up must outlive any mistake; it is logged
                _log.error("keeping up stumbled and goes on", exc_info=error)
            await asyncio.sleep(_TICK)

    async def _merge(self, listed: ListedSignature) -> None:
        now = self._clock.now()
        contract, signature = await self._intake.judge_listed(listed, self._gate, now)
        await self._book.take_in(contract, signature, now)

    async def _carry(self, delivery: Delivery) -> None:
        await self._post.carry(delivery)

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
