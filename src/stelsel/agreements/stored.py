"""What this room shows of a contract, a delivery, a peer and a published service: values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.contract import Contract
from stelsel.agreements.dialect import FSC_VERSION
from stelsel.agreements.signatures import Signature

DeliveryStatus = Literal["pending", "delivered", "refused"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one peer: the contract itself (`submit`), a signature of ours, or an announcement."""

    peer_id: str
    kind: str
    """submit, accept, reject, revoke or announce."""
    content_hash: str
    """Empty for an announcement."""
    status: DeliveryStatus
    attempts: int
    next_attempt: float
    """Seconds since the epoch; says something only while pending."""
    reason: str = ""
    """Why the last attempt failed or was refused, already inert."""
    evidence: list[dict[str, Any]] = field(default_factory=list)
    """What the refusing peer sent along to show why."""


@dataclass(frozen=True, slots=True)
class StoredContract:
    """A contract as this peer has it now."""

    contract: Contract
    state: State
    proposed_by: str
    received_at: float
    signatures: tuple[Signature, ...]
    others: tuple[str, ...]
    """Peer ids of the other signatories."""
    deliveries: tuple[Delivery, ...]
    agreements: tuple[Agreement, ...]

    @property
    def content(self) -> dict[str, Any]:
        """The content as it was received or proposed."""
        return self.contract.content

    @property
    def content_hash(self) -> str:
        return self.contract.content_hash

    @property
    def refused_by(self) -> dict[str, str]:
        """Peers that refused what we sent them, with the reason."""
        return {delivery.peer_id: delivery.reason for delivery in self.deliveries if delivery.status == "refused"}

    @property
    def unsigned(self) -> tuple[str, ...]:
        """Signatories whose accept signature is not here."""
        accepted = {signature.peer_id for signature in self.signatures if signature.type == "accept"}
        return tuple(sorted(self.contract.signatories - accepted))


@dataclass(frozen=True, slots=True)
class ListedPeer:
    """A peer as a manager lists it (`/peers`)."""

    peer_id: str
    name: str
    manager_address: str


@dataclass(frozen=True, slots=True)
class PeerVersion:
    """Which FSC a peer said that it speaks; already inert."""

    peer_id: str
    fsc_version: str
    extensions: dict[str, str]
    heard_at: float
    """Seconds since the epoch."""

    @property
    def differs(self) -> bool:
        """Whether it is another version than ours, so that contracts may be refused on either side."""
        return self.fsc_version != FSC_VERSION


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What came of catching up with one peer."""

    peer_id: str
    listed: int
    """Contracts that it lists."""
    taken_in: int
    """Signatures that were new here."""
    sent_again: int
    """Messages that it turned out to lack."""
    trouble: str
    """Why it did not work, already inert; empty when it did."""


@dataclass(frozen=True, slots=True)
class ListedService:
    """A service as the directory lists it (`/services`)."""

    peer: ListedPeer
    name: str
    protocol: str
    properties: dict[str, Any] = field(default_factory=dict)
    delegator: ListedPeer | None = None
    """The peer on whose behalf the service is offered; its manager address is not listed."""

    @property
    def description(self) -> str:
        """What the provider says it is for; hostile text until made inert."""
        about = self.properties.get("nl.stelsel.service")
        text = about.get("description") if isinstance(about, dict) else None
        return text if isinstance(text, str) else ""
