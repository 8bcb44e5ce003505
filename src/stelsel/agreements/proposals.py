"""What this peer can propose, and the contract content that follows from it (FSC Core 4.2).

Each of the four grant types has a proposal. Who proposes is any peer in it, as in the flows of FSC Core 3.5 and 3.6:
by default the one that this node is of, so a proposal names the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stelsel.agreements.dialect import FSC_VERSION
from stelsel.agreements.external_contract import ExternalContract
from stelsel.agreements.group import Group
from stelsel.agreements.terms import Terms
from stelsel.base.errors import Unprocessable
from stelsel.base.ids import uuid7

SERVICE_PROPERTY = "nl.stelsel.service"
"""The member of a publication grant's `properties` that tells people about the service."""

_DAY = 86_400
_BACK_DATED = 5  # seconds: `created_at` may not be in the future at a peer whose clock is behind (4.2.1)


@dataclass(frozen=True, slots=True)
class ConnectionProposal:
    """A connection from an outway to a service of `provider` (ServiceConnectionGrant).

    Valid from `not_before` (default: now) to `not_after` (default: `days` later), seconds since the epoch.
    """

    provider: str
    service: str
    terms: Terms | None = None
    days: int = 365
    not_before: int | None = None
    not_after: int | None = None
    outway_key_thumbprint: str | None = None
    """Lower-case hex SHA-256 of the outway's public key; this peer's own by default. Survives a renewed certificate."""
    outway_domain_name: str | None = None
    """Identifies the outway by a domain name in its certificate instead. Survives a new key too."""
    service_delegator: str | None = None
    """Peer on whose behalf the service is offered; it must sign as well (`service.delegator`)."""
    consumer: str | None = None
    """Peer of the outway; this peer by default. Of another's outway the identification must be given."""
    external_contract: ExternalContract | None = None
    """What makes the consumer act for an organisation without a manager."""


@dataclass(frozen=True, slots=True)
class DelegatedConnectionProposal(ConnectionProposal):
    """A connection on behalf of `delegator`, that must sign as well (DelegatedServiceConnectionGrant)."""

    delegator: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class PublicationProposal:
    """The publication of a service in the directory (ServicePublicationGrant)."""

    service: str
    description: str = ""
    personal: bool = False
    protocol: str = "PROTOCOL_TCP_HTTP_1.1"
    days: int = 365
    not_before: int | None = None
    not_after: int | None = None
    provider: str | None = None
    """Peer that offers it; this peer by default."""
    external_contract: ExternalContract | None = None
    """What makes the provider act for an organisation without a manager."""


@dataclass(frozen=True, slots=True)
class DelegatedPublicationProposal(PublicationProposal):
    """The publication of a service on behalf of `delegator`, that must sign too (DelegatedServicePublicationGrant)."""

    delegator: str = field(kw_only=True)


Proposal = ConnectionProposal | PublicationProposal


def content_of(
    proposal: Proposal,
    group: Group,
    peer_id: str,
    key_thumbprint: str,
    now: float,
    together: Sequence[Proposal] = (),
) -> dict[str, Any]:
    """The contract content (JSON) that makes `proposal`, as proposed by `peer_id` at `now`.

    Those `together` with it become further grants of the one contract, which has the validity of the first.
    """
    not_before = int(now) if proposal.not_before is None else proposal.not_before
    not_after = not_before + proposal.days * _DAY if proposal.not_after is None else proposal.not_after
    return {
        "fsc_version": FSC_VERSION,
        "iv": uuid7(now),
        "group_id": group.id,
        "validity": {"not_before": not_before, "not_after": not_after},
        "grants": [{"data": _grant(each, group, peer_id, key_thumbprint)} for each in (proposal, *together)],
        "hash_algorithm": "HASH_ALGORITHM_SHA3_512",
        "created_at": int(now) - _BACK_DATED,
    }


def _grant(proposal: Proposal, group: Group, peer_id: str, key_thumbprint: str) -> dict[str, Any]:
    if isinstance(proposal, ConnectionProposal):
        return _connection(proposal, peer_id, key_thumbprint)
    return _publication(proposal, peer_id, group.directory_peer_id)


def _connection(proposal: ConnectionProposal, peer_id: str, key_thumbprint: str) -> dict[str, Any]:
    delegator = proposal.delegator if isinstance(proposal, DelegatedConnectionProposal) else None
    kind = "GRANT_TYPE_SERVICE_CONNECTION" if delegator is None else "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION"
    service: dict[str, Any] = {
        # The OpenAPI requires `type` here, though the example in 4.2 leaves it out.
        "type": "SERVICE_TYPE_SERVICE",
        "peer_id": proposal.provider,
        "name": proposal.service,
    }
    if proposal.service_delegator is not None:
        service |= {"type": "SERVICE_TYPE_DELEGATED_SERVICE", "delegator": {"peer_id": proposal.service_delegator}}
    grant: dict[str, Any] = {
        "type": kind,
        "service": service,
        "outway": {
            "peer_id": proposal.consumer or peer_id,
            "identification": _identification(proposal, peer_id, key_thumbprint),
        },
    }
    if delegator is not None:
        grant["delegator"] = {"peer_id": delegator}
    properties = {} if proposal.terms is None else proposal.terms.to_properties()
    properties |= _external(proposal.external_contract, kind)
    if properties:
        grant["properties"] = properties
    return grant


def _identification(proposal: ConnectionProposal, peer_id: str, key_thumbprint: str) -> dict[str, str]:
    if proposal.outway_domain_name is not None:
        if proposal.outway_key_thumbprint is not None:
            raise Unprocessable(
                "an outway is identified by its key or by a domain name, not by both",
                next_step="leave one of the two out",
            )
        return {"type": "OUTWAY_IDENTIFICATION_TYPE_DOMAIN_NAME", "domain_name": proposal.outway_domain_name}
    if proposal.consumer not in {None, peer_id} and proposal.outway_key_thumbprint is None:
        raise Unprocessable(
            "it is not known which outway of the other peer is meant",
            next_step="give the thumbprint of its key, or a domain name in its certificate",
        )
    return {
        "type": "OUTWAY_IDENTIFICATION_TYPE_PUBLIC_KEY_THUMBPRINT",
        "public_key_thumbprint": proposal.outway_key_thumbprint or key_thumbprint,
    }


def _publication(proposal: PublicationProposal, peer_id: str, directory: str) -> dict[str, Any]:
    delegator = proposal.delegator if isinstance(proposal, DelegatedPublicationProposal) else None
    kind = "GRANT_TYPE_SERVICE_PUBLICATION" if delegator is None else "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION"
    about = {"version": 1, "description": proposal.description, "personal": proposal.personal}
    grant: dict[str, Any] = {
        "type": kind,
        "directory": {"peer_id": directory},
        "service": {
            "peer_id": proposal.provider or peer_id,
            "name": proposal.service,
            "protocol": proposal.protocol,
        },
        "properties": {SERVICE_PROPERTY: about} | _external(proposal.external_contract, kind),
    }
    if delegator is not None:
        grant["delegator"] = {"peer_id": delegator}
    return grant


def _external(contract: ExternalContract | None, kind: str) -> dict[str, Any]:
    if contract is None:
        return {}
    if "DELEGATED" in kind:
        raise Unprocessable(
            "a grant has a delegator in the group, or one by an external contract, not both",
            next_step="leave one of the two out (External Contract Reference 3.1)",
        )
    return contract.to_properties(kind)
