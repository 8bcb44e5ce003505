"""What this peer can propose, and the contract content that follows from it (FSC Core 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stelsel.agreements.group import Group
from stelsel.agreements.terms import Terms
from stelsel.base.ids import uuid7

FSC_VERSION = "2.0.0"
SERVICE_PROPERTY = "nl.stelsel.service"
"""The member of a publication grant's `properties` that tells people about the service."""

_DAY = 86_400
_BACK_DATED = 5  # seconds: `created_at` may not be in the future at a peer whose clock is behind (4.2.1)


@dataclass(frozen=True, slots=True)
class ConnectionProposal:
    """A connection from this peer's outway to a service of `provider`.

    Valid from `not_before` (default: now) to `not_after` (default: `days` later), seconds since the epoch.
    `outway_key_thumbprint` (lower-case hex SHA-256 of the public key) is this peer's own by default.
    """

    provider: str
    service: str
    terms: Terms | None = None
    days: int = 365
    not_before: int | None = None
    not_after: int | None = None
    outway_key_thumbprint: str | None = None


@dataclass(frozen=True, slots=True)
class PublicationProposal:
    """The publication of one of this peer's services in the directory."""

    service: str
    description: str = ""
    personal: bool = False
    protocol: str = "PROTOCOL_TCP_HTTP_1.1"
    days: int = 365
    not_before: int | None = None
    not_after: int | None = None


Proposal = ConnectionProposal | PublicationProposal


def content_of(proposal: Proposal, group: Group, peer_id: str, key_thumbprint: str, now: float) -> dict[str, Any]:
    """The contract content (JSON) that makes `proposal`, as proposed by `peer_id` at `now`."""
    if isinstance(proposal, ConnectionProposal):
        grant = _connection(proposal, peer_id, key_thumbprint)
    else:
        grant = _publication(proposal, peer_id, group.directory_peer_id)
    not_before = int(now) if proposal.not_before is None else proposal.not_before
    not_after = not_before + proposal.days * _DAY if proposal.not_after is None else proposal.not_after
    return {
        "fsc_version": FSC_VERSION,
        "iv": uuid7(now),
        "group_id": group.id,
        "validity": {"not_before": not_before, "not_after": not_after},
        "grants": [{"data": grant}],
        "hash_algorithm": "HASH_ALGORITHM_SHA3_512",
        "created_at": int(now) - _BACK_DATED,
    }


def _connection(proposal: ConnectionProposal, peer_id: str, key_thumbprint: str) -> dict[str, Any]:
    grant: dict[str, Any] = {
        "type": "GRANT_TYPE_SERVICE_CONNECTION",
        # The OpenAPI requires `type` here, though the example in 4.2 leaves it out.
        "service": {"type": "SERVICE_TYPE_SERVICE", "peer_id": proposal.provider, "name": proposal.service},
        "outway": {
            "peer_id": peer_id,
            "identification": {
                "type": "OUTWAY_IDENTIFICATION_TYPE_PUBLIC_KEY_THUMBPRINT",
                "public_key_thumbprint": proposal.outway_key_thumbprint or key_thumbprint,
            },
        },
    }
    if proposal.terms is not None:
        grant["properties"] = proposal.terms.to_properties()
    return grant


def _publication(proposal: PublicationProposal, peer_id: str, directory: str) -> dict[str, Any]:
    about = {"version": 1, "description": proposal.description, "personal": proposal.personal}
    return {
        "type": "GRANT_TYPE_SERVICE_PUBLICATION",
        "directory": {"peer_id": directory},
        "service": {"peer_id": peer_id, "name": proposal.service, "protocol": proposal.protocol},
        "properties": {SERVICE_PROPERTY: about},
    }
