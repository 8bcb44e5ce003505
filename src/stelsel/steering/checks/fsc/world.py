"""What a scenario has in its hands: the target's addresses, the tester's peers, and the moves that many make."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stelsel.base.certificates import TrustAnchors
from stelsel.base.errors import ConfigurationFault, Fault
from stelsel.base.ids import uuid7
from stelsel.steering.checks.fsc import contracts
from stelsel.steering.checks.fsc.client import SECONDS, Client
from stelsel.steering.checks.fsc.contracts import Json, Proposal
from stelsel.steering.checks.fsc.counterparty import Listener, Peer, echo, thumbprint_of
from stelsel.steering.checks.fsc.documents import Jws
from stelsel.steering.checks.fsc.hooks import Hooks
from stelsel.steering.checks.fsc.identities import VARIANTS, Identity, stranger
from stelsel.steering.checks.fsc.model import Answer, Failed, NotRun, expect, expect_status
from stelsel.steering.checks.fsc.settings import CheckTarget

T = TypeVar("T")
LAWFUL_PROPERTIES: Json = {"purpose": "proef", "nested": {"list": [3, 1, 2], "yes": True, "nothing": None}}


class World(Client):
    """Everything that a scenario may use. Open for as long as `opened` lasts."""

    def __init__(self, target: CheckTarget, hooks: Hooks, folder: Path) -> None:
        super().__init__(target.trust_anchors)
        self.settings = target
        self.hooks = hooks
        settings, tester = target.target, target.tester
        self.target_id = settings.peer_id
        self.manager = settings.manager.rstrip("/")
        self.identities = {name: Identity.load(tester.certificates, name) for name in VARIANTS}
        self.stranger = stranger(folder, self.identities["first"])
        self.signing = Identity.load(tester.certificates, settings.signing) if settings.signing else None
        self.anchors = _anchors(target.trust_anchors)
        self.first, self.second, self.third = (
            Peer(name, self.identities[name], address, tester.inway, self.transcript, group_id=target.group_id)
            for name, address in (("first", tester.first), ("second", tester.second), ("third", tester.third))
        )
        self.usual_identity = self.first.identity
        self.first.shown = [
            one for name, one in self.identities.items() if name.startswith("first-") and name != "first-hidden"
        ]
        self.peers = {peer.peer_id: peer for peer in (self.first, self.second, self.third)}
        self.inway = Listener("inway of the first peer", self.transcript, echo)
        self.echo = Listener("service behind the target's inway", self.transcript, echo)
        self._kept: dict[str, Proposal] = {}
        self._echoing = AsyncExitStack()
        self._inwaying = AsyncExitStack()
        self._thumbprint: str | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[World]:
        """All listeners of the tester, for as long as the context lasts."""
        tester, anchors = self.settings.tester, self.settings.trust_anchors
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            for peer in self.peers.values():
                tls = peer.identity.server_context(anchors)
                await stack.enter_async_context(peer.manager.open(peer.address, tester.bind, tls))
            await self.start_inway(self.inway, self.first.identity)
            await self.start_echo()
            yield self

    async def start_inway(self, listener: Listener, identity: Identity) -> None:
        """Let this listener be what answers at the address of the first peer's inway."""
        tester, tls = self.settings.tester, identity.server_context(self.settings.trust_anchors)
        await self._inwaying.enter_async_context(listener.open(tester.inway, tester.bind, tls))

    async def stop_inway(self) -> None:
        """Let nothing answer there."""
        await self._inwaying.aclose()

    @asynccontextmanager
    async def other_inway(self, listener: Listener | None, identity: Identity) -> AsyncIterator[None]:
        """Another listener (None: nothing) at the address of the first peer's inway, for a while."""
        await self.stop_inway()
        try:
            if listener is not None:
                await self.start_inway(listener, identity)
            yield
        finally:
            await self.stop_inway()
            await self.start_inway(self.inway, self.first.identity)

    async def start_echo(self) -> None:
        """Start the service behind the target's inway."""
        await self._echoing.enter_async_context(
            self.echo.open(self.settings.tester.echo, self.settings.tester.bind, None)
        )

    async def stop_echo(self) -> None:
        """Stop it, so that it cannot be reached."""
        await self._echoing.aclose()

    async def _close(self) -> None:
        await self._echoing.aclose()
        await self._inwaying.aclose()
        await self.close()

    def begin(self) -> None:
        """A clean slate for a scenario; contracts stay."""
        self.transcript.clear()
        self.inway.respond = self.echo.respond = echo
        self.inway.seen.clear()
        self.echo.seen.clear()
        self.first.refuse_tokens = False

    def lacks(self, need: str) -> str:
        """Why a scenario that needs this cannot run; empty when it can."""
        target = self.settings.target
        missing = {
            "inway": target.inway is None and "the target's file names no inway",
            "outway": target.outway is None and "the target's file names no outway",
            "break_log": not self.hooks.can_break_log and "the target's file has no commands.break_log and mend_log",
            "signing": self.signing is None and "the target's file has no target.signing",
        }
        return missing[need] or ""

    # -- talking to the target ----------------------------------------------------------------------------------------

    async def get(self, path: str, *, by: Peer | None = None, **query: str) -> Answer:
        """GET at the target's manager, as a peer."""
        identity = (by or self.first).identity
        return await self.call("GET", f"{self.manager}/v1{path}", identity=identity, params=query)

    async def listed(self, path: str, member: str, *, by: Peer | None = None, **query: str) -> list[Json]:
        """All items of a listing, page after page, until an empty page or no cursor."""
        found: list[Json] = []
        cursor = ""
        for _ in range(200):
            asked = query | ({"cursor": cursor} if cursor else {})
            page = expect_status(await self.get(path, by=by, **asked), 200).object()
            items, pagination = page.get(member), page.get("pagination")
            expect(isinstance(items, list), f"the answer has no list {member}")
            expect(isinstance(pagination, dict), "the answer has no pagination")
            found += items or []
            cursor = str((pagination or {}).get("next_cursor", ""))
            if not items or not cursor:
                return found
        raise Failed("the list has no end")

    # -- contracts ----------------------------------------------------------------------------------------------------

    def content(self, *grants: Json, **changes: Any) -> Json:
        """A contract's content in the group of the target."""
        return contracts.content(self.settings.group_id, *grants, **changes)

    def to_target(self, **options: Any) -> Json:
        """A connection of the first peer's outway to the service of the target."""
        consumer: Peer = options.pop("by", self.first)
        identification = options.pop("identification", contracts.by_key(consumer.identity.key_thumbprint))
        settings = self.settings.target
        usual = settings.service if options.get("service_delegator") is None else settings.delegated_service
        service = options.pop("service", usual)
        return contracts.connection(consumer.peer_id, identification, self.target_id, service, **options)

    def from_target(self, thumbprint: str, **options: Any) -> Json:
        """A connection of the target's outway (public key) to a service of the first peer."""
        service = options.pop("service", "fsc-check-of-tester")
        identification = contracts.by_key(thumbprint)
        return contracts.connection(self.target_id, identification, self.first.peer_id, service, **options)

    def sign(self, by: Peer | Identity, proposal: Proposal, kind: str, **changes: Any) -> str:
        """A signature on a contract (Core 4.2.3); `changes` replace members of the payload, `header` of the header."""
        identity = by.identity if isinstance(by, Peer) else by
        header = changes.pop("header", None)
        payload = {"contract_content_hash": proposal.hash, "type": kind, "signed_at": int(time.time()) - 1}
        return identity.sign(payload | changes, header=header)

    async def submit(self, by: Peer, proposal: Proposal, signature: str | None = None) -> Answer:
        """Submit a contract to the target, with the submitter's accept signature."""
        signed = self.sign(by, proposal, "accept") if signature is None else signature
        body = {"content": proposal.content, "signature": signed}
        return await self.put(by, "/contracts", body, method="POST")

    async def place(
        self, by: Peer, proposal: Proposal, kind: str, signature: str | None = None, *, path_hash: str | None = None
    ) -> Answer:
        """Place a signature on a contract at the target."""
        signed = self.sign(by, proposal, kind) if signature is None else signature
        body = {"content": proposal.content, "signature": signed}
        return await self.put(by, f"/contracts/{quote(path_hash or proposal.hash, safe='$')}/{kind}", body)

    async def put(self, by: Peer, path: str, body: Json | None = None, *, method: str = "PUT") -> Answer:
        """PUT or POST at the target's manager, as a peer (Core 4.4.4: with the address of its own manager)."""
        headers = {"Fsc-Manager-Address": by.address}
        return await self.call(
            method, f"{self.manager}/v1{path}", identity=by.identity, headers=headers, json=body or None
        )

    async def contract(self, proposal: Proposal, by: Peer) -> Json | None:
        """The contract as the target lists it for a peer; None when it does not."""
        listed = await self.listed("/contracts", "contracts", by=by, grant_hash=proposal.grant_hash)
        same = [one for one in listed if one.get("content") == proposal.content]
        return same[0] if same else None

    async def signature(self, proposal: Proposal, by: Peer, kind: str, signer: str) -> str | None:
        """A peer's signature on a contract, as the target lists it."""
        listed = await self.contract(proposal, by)
        signature = (listed or {}).get("signatures", {}).get(kind, {}).get(signer)
        return None if signature is None else str(signature)

    async def proposed(self, *grants: Json, by: Peer | None = None, **changes: Any) -> Proposal:
        """A contract that the target took in, with the accept signature of `by` alone."""
        proposal = Proposal.of(self.content(*grants, **changes))
        expect_status(await self.submit(by or self.first, proposal), 201)
        return proposal

    async def approve(self, proposal: Proposal, by: Peer) -> None:
        """Have the target accept, and wait until it shows so."""
        if await self.signature(proposal, by, "accept", self.target_id) is None:
            await self.hooks.approve(proposal.hash)
            await self.until(
                lambda: self.signature(proposal, by, "accept", self.target_id),
                "the target did not accept the contract",
                self.settings.approval.seconds,
            )

    async def valid(self, *grants: Json, by: Peer | None = None, **changes: Any) -> Proposal:
        """A contract that all its peers accepted, and the first peer gives tokens for."""
        submitter = by or self.first
        proposal = await self.proposed(*grants, by=submitter, **changes)
        for peer_id in sorted(proposal.signatories - {submitter.peer_id, self.target_id}):
            expect_status(await self.place(self.peers[peer_id], proposal, "accept"), 201)
        await self.approve(proposal, submitter)
        for hashed, grant in zip(proposal.grant_hashes, proposal.content["grants"], strict=True):
            if grant["data"]["service"]["peer_id"] == self.first.peer_id:
                self.first.grants[hashed] = grant["data"]
        return proposal

    async def kept(self, name: str, make: Callable[[], Any]) -> Proposal:
        """A contract that many scenarios use, made once."""
        if name not in self._kept:
            self._kept[name] = await make()
        return self._kept[name]

    async def usual(self) -> Proposal:
        """A valid contract by which the first peer's outway may connect to the target's service."""
        return await self.kept("usual", lambda: self.valid(self.to_target()))

    async def until(self, look: Callable[[], Any], otherwise: str, seconds: float = SECONDS) -> Any:
        """What `look` gives as soon as it gives something. Raises `Failed` when that takes too long."""
        deadline, pause = time.monotonic() + seconds, 0.01
        while True:
            found = look()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            if time.monotonic() > deadline:
                raise Failed(f"{otherwise} (within {seconds:.0f} seconds)")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    # -- tokens and calls ---------------------------------------------------------------------------------------------

    async def ask_token(self, grant_hash: str, *, identity: Identity | None = None, **changes: str | None) -> Answer:
        """A token request (Core 4.6.1.3); `changes` replace members of the form, None leaves one out."""
        who = identity or self.first.identity
        form = {"grant_type": "client_credentials", "scope": grant_hash, "client_id": who.peer_id} | changes
        data = {name: value for name, value in form.items() if value is not None}
        return await self.call("POST", f"{self.manager}/v1/token", identity=who, data=data)

    async def token(self, grant_hash: str, *, identity: Identity | None = None) -> str:
        """An access token of the target. Raises `Failed` when it gives none."""
        answer = expect_status(await self.ask_token(grant_hash, identity=identity), 200).object()
        expect(str(answer.get("token_type")).lower() == "bearer", f"token_type is {answer.get('token_type')!r}")
        expect(isinstance(answer.get("access_token"), str), "there is no access_token in the answer")
        return str(answer["access_token"])

    async def claims(self, compact: str) -> Json:
        """The claims of a token, its signature proven to be by a key in the target's key set (Core 4.3)."""
        try:
            token = Jws.read(compact)
        except ValueError:
            raise Failed("the access token is not a compact JWS") from None
        expect(await self.holds(token), "the access token's signature is not by a key that the target shows")
        return token.payload

    async def holds(self, token: Jws) -> bool:
        """Whether a JWS is by the certificate that its `x5t#S256` names, shown by the target, under the anchors."""
        keys = await self.key_set()
        chain = keys.get(str(token.header.get("x5t#S256")))
        if chain is None or not self.trusted(chain):
            return False
        public = x509.load_der_x509_certificate(chain[0]).public_key()
        return token.holds(public)  # type: ignore[arg-type]

    async def key_set(self) -> dict[str, tuple[bytes, ...]]:
        """Certificate chains (DER) that the target shows, by the thumbprint of the first."""
        document = expect_status(await self.get("/.well-known/jwks.json"), 200).object()
        found: dict[str, tuple[bytes, ...]] = {}
        for key in document.get("keys", []):
            try:
                chain = tuple(base64.b64decode(item, validate=True) for item in key["x5c"])
                found[thumbprint_of(chain[0])] = chain
            except (KeyError, TypeError, ValueError, IndexError):
                continue
        return found

    def trusted(self, chain: tuple[bytes, ...]) -> bool:
        """Whether a chain (leaf first, root left out) holds under the group's trust anchors, and is the target's."""
        try:
            return self.anchors.verify(chain, time.time()).peer_id == self.target_id
        except Fault:
            return False

    async def through_inway(
        self,
        token: str | None,
        *,
        path: str = "/",
        method: str = "GET",
        identity: Identity | None = None,
        client: httpx.AsyncClient | None = None,
        transaction_id: str | None = "",
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> Answer:
        """A request to the target's inway as an outway of the first peer; `transaction_id` None leaves it out."""
        own = dict(headers or {})
        if token is not None:
            own["Fsc-Authorization"] = token
        if transaction_id is not None:
            own["Fsc-Transaction-Id"] = transaction_id or uuid7()
        address = str(self.settings.target.inway).rstrip("/")
        return await self.call(method, address + path, identity=identity, client=client, headers=own, content=content)

    async def through_outway(
        self,
        grant_hash: str,
        *,
        path: str = "/",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> Answer:
        """A request of a client to the target's outway."""
        target = self.settings.target
        own = {target.grant_hash_header: grant_hash} | dict(headers or {})
        address = str(target.outway).rstrip("/")
        return await self.call(method, address + path, headers=own, content=content)

    async def outway_thumbprint(self) -> str:
        """Public key thumbprint of the target's outway: one that it shows, or signs with."""
        if self.settings.target.outway_key_thumbprint is not None:
            return self.settings.target.outway_key_thumbprint
        if self._thumbprint is None:
            chains = [chain for chain in (await self.key_set()).values() if self.trusted(chain)]
            expect(chains, "the target shows no certificate of its own in its key set")
            self._thumbprint = key_thumbprint(chains[0][0])
        return self._thumbprint

    async def log_record(self, transaction_id: str, direction: str, *, by: Peer | None = None) -> Json | None:
        """The target's log record of a transaction, as it shows it to a peer (Logging 3.2.1.1)."""
        records = await self.listed("/logs", "records", by=by, transaction_ids=transaction_id)
        same = [one for one in records if one.get("transaction_id") == transaction_id]
        found = [one for one in same if one.get("direction") == direction]
        return found[0] if found else None


def key_thumbprint(der: bytes) -> str:
    """SHA-256 of a certificate's public key (SPKI), hex (Core 4.1.6.2)."""
    public = x509.load_der_x509_certificate(der).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _anchors(path: Path) -> TrustAnchors:
    try:
        return TrustAnchors(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationFault(f"{path}: holds no trust anchors that can be read") from error


def missing(world: World, needs: tuple[str, ...]) -> None:
    """Raises `NotRun` when something that a scenario needs is not there."""
    for need in needs:
        why = world.lacks(need)
        if why:
            raise NotRun(why)
