"""The peer book: who the other peers are, where their managers are, and which FSC they speak (FSC Core 4.4.1.9)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from stelsel.agreements import store
from stelsel.agreements.client import PeerClients
from stelsel.agreements.dialect import FSC_VERSION
from stelsel.agreements.directory_reader import DirectoryReader
from stelsel.agreements.group import Group
from stelsel.agreements.outbox import Outbox
from stelsel.agreements.stored import ListedPeer, PeerVersion
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import BadGateway, Fault, Unavailable
from stelsel.base.log import logger
from stelsel.base.text import inert

_log = logger("agreements")
_MOST_EXTENSIONS = 50


class PeerBook:
    """The peers that this manager knows."""

    def __init__(
        self, *, own: ListedPeer, database: Database, clients: PeerClients, outbox: Outbox, group: Group, clock: Clock
    ) -> None:
        self._own = own
        self._database = database
        self._clients = clients
        self._outbox = outbox
        self._group = group
        self._clock = clock
        self.directory = DirectoryReader(clients, group)
        self._peers: dict[str, ListedPeer] = {}
        self._told: ListedPeer | None = None
        """What was last said of this peer itself; kept in the same table."""
        self._versions: dict[str, PeerVersion] = {}

    @property
    def keeps_directory(self) -> bool:
        """Whether this peer is the directory of the group."""
        return self._own.peer_id == self._group.directory_peer_id

    def load(self, connection: Connection) -> None:
        """Take what is stored into memory."""
        self._peers = {peer.peer_id: peer for peer in store.load_peers(connection)}
        self._told = self._peers.pop(self._own.peer_id, None)

    def all(self) -> list[ListedPeer]:
        """The peers that are known, this one among them, by peer id."""
        return sorted({**self._peers, self._own.peer_id: self._own}.values(), key=lambda peer: peer.peer_id)

    async def moved(self) -> bool:
        """Whether this peer's own address is another than at the last call, ever; remembered from now on."""
        before, self._told, now = self._told, self._own, self._clock.now()
        if before == self._own:
            return False
        await self._database.write(lambda connection: store.put_peer(connection, self._own, now))
        return before is not None and before.manager_address != self._own.manager_address

    async def met(self, peer: ListedPeer) -> None:
        """Remember who a peer is and where its manager is; what waits for it is sent at once."""
        if peer.peer_id == self._own.peer_id:
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

    async def address_of(self, peer_id: str, *, refresh: bool = False) -> str:
        """Address of a peer's manager, from memory or from the directory. Raises `Unavailable` while unknown."""
        if peer_id == self._own.peer_id:
            return self._own.manager_address
        if peer_id == self._group.directory_peer_id:
            return self._group.directory_address
        known = self._peers.get(peer_id)
        if known is not None and not refresh:
            return known.manager_address
        if not self.keeps_directory:
            try:
                listed = [peer for peer in await self.directory.peers(peer_id) if peer.peer_id == peer_id]
                if listed and self._group.allows_port(listed[0].manager_address):
                    await self.met(listed[0])
                    return listed[0].manager_address
            except (Fault, ValueError) as fault:
                if known is None:
                    raise Unavailable(f"the directory cannot tell where peer {peer_id} is: {fault}") from fault
        if known is not None:
            return known.manager_address
        raise Unavailable(f"peer {peer_id} is not in the directory yet", next_step="it should announce itself there")

    # --- which FSC they speak ----------------------------------------------------------------------------------------

    async def ask_version(self, peer_id: str) -> PeerVersion:
        """What a peer's manager says that it speaks (`/peer`). Raises `Unavailable`, `BadGateway` or `PeerRefused`."""
        told = await self._clients.get(peer_id, await self.address_of(peer_id), "/v1/peer")
        version, extensions = told.get("fsc_version"), told.get("enabled_extensions")
        if told.get("peer_id") != peer_id or not isinstance(version, str):
            raise BadGateway(f"the manager of peer {peer_id} does not say which FSC it speaks")
        return self.heard_version(peer_id, version, extensions if isinstance(extensions, dict) else {})

    def heard_version(self, peer_id: str, version: str, extensions: dict[str, Any] | None = None) -> PeerVersion:
        """Remember which FSC a peer speaks, and say so in the log when it differs from ours."""
        listed = sorted((extensions or {}).items())[:_MOST_EXTENSIONS]
        found = PeerVersion(
            peer_id=peer_id,
            fsc_version=inert(version, 40),
            extensions={inert(name, 100): inert(str(value), 40) for name, value in listed},
            heard_at=self._clock.now(),
        )
        before = self._versions.get(peer_id)
        self._versions[peer_id] = found
        if found.differs and (before is None or before.fsc_version != found.fsc_version):
            _log.warning(
                "a peer speaks another version of FSC: what it proposes may be refused here, and ours there",
                peer=peer_id,
                theirs=found.fsc_version,
                ours=FSC_VERSION,
            )
        return found

    def versions(self) -> tuple[PeerVersion, ...]:
        """What is known of the versions that peers speak, by peer id."""
        return tuple(self._versions[peer_id] for peer_id in sorted(self._versions))
