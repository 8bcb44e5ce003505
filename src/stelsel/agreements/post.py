"""The post: puts messages in the outbox and carries each to the manager of its peer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from stelsel.agreements import store
from stelsel.agreements.book import ContractBook
from stelsel.agreements.client import PeerClients
from stelsel.agreements.outbox import Outbox
from stelsel.agreements.peers import PeerBook
from stelsel.agreements.stored import Delivery
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import BadGateway, Unavailable


class Post:
    """Messages of one peer to others: contracts, signatures, announcements, token requests."""

    def __init__(
        self,
        *,
        own: str,
        database: Database,
        clock: Clock,
        outbox: Outbox,
        clients: PeerClients,
        peers: PeerBook,
        book: ContractBook,
    ) -> None:
        self._own = own
        self._database = database
        self._clock = clock
        self._outbox = outbox
        self._clients = clients
        self._peers = peers
        self._book = book

    async def queue(self, peer_ids: Iterable[str], kinds: Iterable[str], content_hash: str = "") -> None:
        """Put messages in the outbox; one that was there starts again, also when it was refused."""
        to, what, now = sorted(peer_ids), list(kinds), self._clock.now()

        def write(connection: Connection) -> None:
            for kind in what:
                store.queue(connection, to, kind, content_hash, now)

        await self._database.write(write)
        self._outbox.wake()

    async def again(self, content_hash: str) -> None:
        """Queue everything of ours about a contract for all its peers. Raises `NotFound`."""
        known = self._book.known(content_hash)
        kinds = [kind for peer_id, kind in known.signatures if peer_id == self._own]
        if known.proposed_by == self._own:
            kinds = ["submit", *(kind for kind in kinds if kind != "accept")]
        await self.queue(known.contract.signatories - {self._own}, kinds, content_hash)

    async def again_unless_refused(self, peer_id: str, kind: str, content_hash: str) -> bool:
        """Queue a message that a peer turns out to lack; not one that waits already, or that it refused."""
        now = self._clock.now()

        def write(connection: Connection) -> bool:
            queued = {(each.peer_id, each.kind): each.status for each in store.deliveries_of(connection, content_hash)}
            if queued.get((peer_id, kind), "delivered") != "delivered":
                return False
            store.queue(connection, [peer_id], kind, content_hash, now)
            return True

        done = await self._database.write(write)
        self._outbox.wake()
        return done

    async def carry(self, delivery: Delivery) -> None:
        """Deliver one message. Raises `PeerRefused`, or another `Fault` when it did not arrive."""
        address = await self._peers.address_of(delivery.peer_id, refresh=delivery.attempts % 4 == 3)
        if delivery.kind == "announce":
            await self._clients.put(delivery.peer_id, address, "/v1/announce")
            return
        known = await self._book.settled(delivery.content_hash)
        kind = "accept" if delivery.kind == "submit" else delivery.kind
        body = {"content": known.contract.content, "signature": known.signatures[self._own, kind].compact}
        if delivery.kind == "submit":
            await self._clients.post(delivery.peer_id, address, "/v1/contracts", body)
        else:
            path = f"/v1/contracts/{quote(delivery.content_hash, safe='$')}/{kind}"
            await self._clients.put(delivery.peer_id, address, path, body)

    async def ask_token(self, provider: str, form: dict[str, str]) -> dict[str, Any]:
        """The answer of a provider's manager to a token request."""
        try:
            return await self._clients.form(provider, await self._peers.address_of(provider), "/v1/token", form)
        except (Unavailable, BadGateway):
            address = await self._peers.address_of(provider, refresh=True)  # it may have moved
            return await self._clients.form(provider, address, "/v1/token", form)
