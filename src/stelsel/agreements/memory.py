"""All contracts of this peer in memory, so that authorising never asks the database.

Changed only in the event loop, after the change is durable. What a request needs is one look-up by grant hash.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from stelsel.agreements import lifecycle
from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.contract import Contract, Grant
from stelsel.agreements.signatures import Signature


@dataclass(slots=True)
class Known:
    """A contract and the signatures on it that are here."""

    contract: Contract
    proposed_by: str
    received_at: float
    signatures: dict[tuple[str, str], Signature] = field(default_factory=dict)
    """By (peer id, type)."""

    def state(self, now: float) -> State:
        return lifecycle.state(self.contract, self.signatures.values(), now)

    def is_news(self, signature: Signature) -> bool:
        """Whether this signature changes anything: a newer accept replaces an older (4.2.7); the rest is for ever.

        Of two of the same second the text decides, so that all peers keep the same one, in whatever order they hear.
        """
        here = self.signatures.get((signature.peer_id, signature.type))
        if here is None:
            return True
        newer = (signature.signed_at, signature.compact) > (here.signed_at, here.compact)
        return signature.type == "accept" and newer


class Memory:
    """The contracts, the agreements in them by grant hash, and the initialization vectors in use."""

    def __init__(self) -> None:
        self._contracts: dict[str, Known] = {}
        self._publications: dict[str, Known] = {}
        self._by_iv: dict[str, str] = {}
        self._agreements: dict[str, Agreement] = {}
        self._grants: dict[str, Grant] = {}
        self._grant_contracts: dict[str, Known] = {}
        self._all: tuple[Agreement, ...] | None = None
        self._judged_until = float("inf")
        self._proposals: dict[str, int] = {}
        self._listings: dict[tuple[str, str], list[str]] = {}
        """Keys of the contracts that a peer is in, by (peer id, grant type or nothing), in order of creation."""

    def put(
        self, contract: Contract, proposed_by: str, received_at: float, signatures: list[Signature], now: float
    ) -> None:
        """Take in a contract, or new signatures on one."""
        known = self._contracts.get(contract.content_hash)
        if known is None:
            known = Known(contract, proposed_by, received_at)
            self._contracts[contract.content_hash] = known
            self._by_iv[contract.iv] = contract.content_hash
            self._proposals[proposed_by] = self._proposals.get(proposed_by, 0) + 1
            self._grants.update((grant.grant_hash, grant) for grant in contract.grants)
            self._grant_contracts.update((grant.grant_hash, known) for grant in contract.grants)
            if contract.is_publication:
                self._publications[contract.content_hash] = known
            self._list(contract)
        for signature in signatures:
            known.signatures[signature.peer_id, signature.type] = signature
        self._judge(known, now)

    def get(self, content_hash: str) -> Known | None:
        return self._contracts.get(content_hash)

    def all(self) -> Iterator[Known]:
        """Every contract, oldest first."""
        return iter(self._contracts.values())

    def with_grant(self, grant_hash: str) -> Known | None:
        """The contract that has the grant with this hash."""
        return self._grant_contracts.get(grant_hash)

    def listing(self, peer_id: str, grant_type: str = "") -> list[str]:
        """Keys of the contracts that a peer is in, of one type of grant or all, oldest first; `at` finds them."""
        return self._listings.get((peer_id, grant_type), [])

    def peers(self) -> list[str]:
        """The peers that are in any contract, in order."""
        return sorted({peer_id for peer_id, _ in self._listings})

    def at(self, key: str) -> Known:
        """The contract with this key of a listing."""
        return self._contracts[key.partition(" ")[2]]

    def hash_with(self, iv: str) -> str | None:
        """The content hash of the contract that has this initialization vector."""
        return self._by_iv.get(iv)

    def proposed_by(self, peer_id: str) -> int:
        """How many contracts this peer brought in."""
        return self._proposals.get(peer_id, 0)

    def agreement(self, grant_hash: str) -> Agreement | None:
        return self._agreements.get(grant_hash)

    def grant(self, grant_hash: str) -> Grant | None:
        return self._grants.get(grant_hash)

    def agreements(self, now: float) -> tuple[Agreement, ...]:
        """Every connection grant as an agreement, with its state at `now`."""
        if now >= self._judged_until:
            self._judged_until = float("inf")
            for known in self._contracts.values():
                self._judge(known, now)
        if self._all is None:
            self._all = tuple(self._agreements.values())
        return self._all

    def published(self, now: float) -> Iterator[tuple[Known, Grant]]:
        """The publication grants of contracts that are valid now, oldest first."""
        for known in self._publications.values():
            if known.contract.not_before <= now and known.state(now) is State.VALID:
                for grant in known.contract.grants:
                    yield known, grant

    def _list(self, contract: Contract) -> None:
        key = f"{contract.created_at:016d} {contract.content_hash}"
        for peer_id in contract.signatories:
            for grant_type in {"", *(grant.type for grant in contract.grants)}:
                insort(self._listings.setdefault((peer_id, grant_type), []), key)

    def published_for(self, peer_id: str, now: float) -> dict[str, set[str | None]]:
        """On whose behalf each service of this peer is published now, by name; None: on its own."""
        found: dict[str, set[str | None]] = {}
        for _, grant in self.published(now):
            if grant.provider == peer_id:
                found.setdefault(grant.service, set()).add(grant.delegator)
        return found

    def _judge(self, known: Known, now: float) -> None:
        self._all = None
        for agreement in lifecycle.agreements_of(known.contract, known.signatures.values(), now):
            self._agreements[agreement.grant_hash] = agreement
            for end in (agreement.not_after, agreement.signatures_hold_until):
                if now < end < self._judged_until:
                    self._judged_until = end
