"""The directory: what it lists (FSC Core 4.5). What it accepts by itself is in `policy`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stelsel.agreements.contract import Grant
from stelsel.agreements.stored import ListedPeer, ListedService


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
