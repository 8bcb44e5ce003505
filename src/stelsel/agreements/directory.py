"""The directory: what it accepts by itself and what it lists (FSC Core 4.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stelsel.agreements.contract import PUBLICATIONS, Contract, Grant
from stelsel.agreements.group import Group
from stelsel.agreements.stored import ListedPeer, ListedService

LONGEST_PUBLICATION = 400 * 86_400
"""Seconds that a publication may run to be accepted without anyone looking: a year and some days to renew it."""


def accepts_by_itself(contract: Contract, peer_id: str, group: Group, now: float) -> bool:
    """Whether this peer, as directory, accepts a publication without anyone looking at it.

    Only what is certain to be harmless: one grant, that publishes one service in this directory, for a bounded time.
    A contract outside FSC must be looked at by people (External Contract Reference 2.1.2).
    """
    if peer_id != group.directory_peer_id or len(contract.grants) != 1:
        return False
    (grant,) = contract.grants
    return (
        grant.type in PUBLICATIONS
        and grant.directory == peer_id
        and contract.group_id == group.id
        and not contract.rests_outside
        and contract.not_after - contract.not_before <= LONGEST_PUBLICATION
        and contract.not_after <= now + LONGEST_PUBLICATION + group.clock_skew
    )


def listing(grant: Grant, peers: dict[str, ListedPeer]) -> ListedService:
    """A publication grant as it is listed; a peer that was never met has an empty name and address."""

    def peer(peer_id: str) -> ListedPeer:
        return peers.get(peer_id) or ListedPeer(peer_id, "", "")

    return ListedService(
        peer=peer(grant.provider),
        name=grant.service,
        protocol=grant.protocol or "",
        properties=grant.properties or {},
        delegator=None if grant.delegator is None else peer(grant.delegator),
    )


def select(services: Iterable[ListedService], peer_id: str | None, name: str | None) -> list[ListedService]:
    """The services of this peer or with this in their name; all when neither is asked (`/services`)."""
    if peer_id is None and name is None:
        return list(services)
    return [
        service
        for service in services
        if service.peer.peer_id == peer_id or (name is not None and name.casefold() in service.name.casefold())
    ]


def peer_to_json(peer: ListedPeer) -> dict[str, Any]:
    """`components/schemas/peer`."""
    return {"id": peer.peer_id, "name": peer.name, "manager_address": peer.manager_address}


def service_to_json(service: ListedService) -> dict[str, Any]:
    """`components/schemas/serviceListing`; the schema wants `type` both outside and inside `data`."""
    kind = "SERVICE_TYPE_SERVICE" if service.delegator is None else "SERVICE_TYPE_DELEGATED_SERVICE"
    data: dict[str, Any] = {
        "type": kind,
        "peer": peer_to_json(service.peer),
        "name": service.name,
        "protocol": service.protocol,
        "properties": service.properties,
    }
    if service.delegator is not None:
        data["delegator"] = {"peer_id": service.delegator.peer_id, "peer_name": service.delegator.name}
    return {"type": kind, "data": data}
