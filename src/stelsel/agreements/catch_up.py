"""Catching up: asking counterparties what they have, so that no contract strands when messages were lost for good.

Every peer sends what it signs (the outbox). A peer that was away longer than others kept trying, or that lost its
disk, also *asks*: each counterparty lists the contracts that both are in (`GET /contracts`, FSC Core 4.4.1.5). What is
new is verified as if it had been sent; what the other lacks of ours is sent again, once. Merging is idempotent, so it
does not matter how often, or with whom first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from stelsel.agreements import hashes
from stelsel.agreements.agreement import State
from stelsel.agreements.client import PeerClients
from stelsel.agreements.directory_reader import pages
from stelsel.agreements.memory import Known, Memory
from stelsel.agreements.peers import PeerBook
from stelsel.agreements.stored import CaughtUp
from stelsel.base.errors import BadRequest, Fault
from stelsel.base.log import logger
from stelsel.base.text import inert

_log = logger("agreements")
_PAGE = 50
"""Contracts in a page: with properties of up to 1 MB each, more could be too large an answer."""
_KINDS = ("accept", "reject", "revoke")
_MOST_REMEMBERED = 100_000
_AT_ONCE = 500
"""Contracts that are looked at before others get a turn."""


@dataclass(frozen=True, slots=True)
class ListedSignature:
    """A signature out of another manager's list, not verified."""

    content: Any
    peer_id: str
    kind: str
    compact: str


class Merge(Protocol):
    """Verifies and takes in a listed signature. Raises an FSC fault when it is not acceptable."""

    async def __call__(self, listed: ListedSignature) -> None: ...


class CatchUp:
    """Compares what counterparties have with what is here."""

    def __init__(
        self,
        *,
        own: str,
        memory: Memory,
        clients: PeerClients,
        peers: PeerBook,
        merge: Merge,
        send_again: Callable[[str, str, str], Awaitable[bool]],
    ) -> None:
        """`send_again(peer id, kind, content hash)` queues a message, unless it waits already or was refused."""
        self._own = own
        self._memory = memory
        self._clients = clients
        self._peers = peers
        self._merge = merge
        self._send_again = send_again
        self._sent: set[tuple[str, str, str]] = set()
        self._refused: set[tuple[str, str]] = set()

    async def counterparties(self, now: float) -> list[str]:
        """The peers with which there are contracts that are alive."""
        found = []
        for peer_id in self._memory.peers():
            if peer_id == self._own:
                continue
            for at, key in enumerate(reversed(list(self._memory.listing(peer_id)))):  # the newest lives most likely
                if self._memory.at(key).state(now) in {State.PROPOSED, State.VALID}:
                    found.append(peer_id)
                    break
                if at % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)
        return found

    async def with_peer(self, peer_id: str, now: float) -> CaughtUp:
        """Catch up with one peer. Whatever goes wrong with it is told in the answer."""
        taken = sent = seen = 0
        try:
            await self._peers.ask_version(peer_id)
            address = await self._peers.address_of(peer_id)
            there: dict[str, dict[str, Any]] = {}
            async for page in pages(self._clients, peer_id, address, "/v1/contracts", "contracts", {}, _PAGE):
                for item in page:
                    seen += 1
                    content_hash, signed = _listed(item)
                    there[content_hash] = signed
                    taken += await self._take_in(peer_id, item["content"], content_hash, signed)
                await asyncio.sleep(0)  # a long list may not keep others waiting
            for at, key in enumerate(list(self._memory.listing(peer_id))):
                known = self._memory.at(key)
                sent += await self._give(peer_id, known, there.get(known.contract.content_hash), now)
                if at % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)
        except (Fault, OSError) as fault:
            return CaughtUp(peer_id, seen, taken, sent, inert(str(fault)) or type(fault).__name__)
        if taken or sent:
            _log.info("caught up with a peer", peer=peer_id, taken_in=taken, sent_again=sent)
        return CaughtUp(peer_id, seen, taken, sent, "")

    async def _take_in(self, source: str, content: Any, content_hash: str, signed: dict[str, Any]) -> int:
        known = self._memory.get(content_hash)
        here = {} if known is None else {key: each.compact for key, each in known.signatures.items()}
        taken = 0
        for kind, peer_id, compact in _signatures(signed, source):
            if here.get((peer_id, kind)) == compact or (content_hash, compact) in self._refused:
                continue
            try:
                await self._merge(ListedSignature(content, peer_id, kind, compact))
            except Fault as fault:
                # Not asked again of the same signature: it would not become better, and may cost a fetch each time.
                if fault.status < 500 and len(self._refused) < _MOST_REMEMBERED:
                    self._refused.add((content_hash, compact))
                _log.warning(
                    "a listed signature is not taken in", source=source, signer=inert(peer_id, 20), why=str(fault)
                )
                if known is None and self._memory.get(content_hash) is None:
                    return taken  # the contract itself is not acceptable
            else:
                taken += 1
        return taken

    async def _give(self, peer_id: str, known: Known, there: dict[str, Any] | None, now: float) -> int:
        """Send what the other lacks of our own signatures; the contract itself when it lacks that."""
        if known.state(now) is State.EXPIRED:
            return 0
        mine = [kind for kind in _KINDS if (self._own, kind) in known.signatures]
        if there is not None:
            kinds = [kind for kind in mine if self._lacks(known, kind, _of(there, kind).get(self._own))]
        else:
            kinds = ["submit" if kind == "accept" else kind for kind in mine]
        sent = 0
        for kind in kinds:
            key = (peer_id, kind, known.contract.content_hash)
            if key not in self._sent and await self._send_again(*key):
                self._sent.add(key)
                sent += 1
        return sent

    def _lacks(self, known: Known, kind: str, theirs: Any) -> bool:
        # An accept signature may have been made again since (4.2.7); the others are for ever.
        return theirs is None or (kind == "accept" and theirs != known.signatures[self._own, kind].compact)


def _listed(item: Any) -> tuple[str, dict[str, Any]]:
    """(content hash, signatures) of a listed contract. Raises `BadRequest`."""
    content = item.get("content") if isinstance(item, dict) else None
    signed = item.get("signatures") if isinstance(item, dict) else None
    if not isinstance(content, dict) or not isinstance(signed, dict):
        raise BadRequest("the other manager's list holds something that is no contract")
    return hashes.content_hash(content), signed


def _of(signed: dict[str, Any], kind: str) -> dict[str, Any]:
    found = signed.get(kind)
    return found if isinstance(found, dict) else {}


def _signatures(signed: dict[str, Any], source: str) -> Iterator[tuple[str, str, str]]:
    """(kind, peer id, compact), accepts first and of those the lister's own, for a contract comes with an accept."""
    for kind in _KINDS:
        listed = sorted(_of(signed, kind).items(), key=lambda item: (item[0] != source, item[0]))
        for peer_id, compact in listed[:1000]:
            if isinstance(compact, str):
                yield kind, peer_id, compact
