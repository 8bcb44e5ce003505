"""The directory: what it publishes by itself, what it lists, and how another peer reads it (FSC Core 4.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stelsel.agreements.client import PeerClients
from stelsel.agreements.contract import PUBLICATIONS, Contract, Grant
from stelsel.agreements.group import Group
from stelsel.agreements.stored import ListedPeer, ListedService
from stelsel.base.errors import BadGateway

LONGEST_PUBLICATION = 400 * 86_400
"""Seconds that a publication may run to be accepted without anyone looking: a year and some days to renew it."""
_MOST_PAGES = 100


def accepts_by_itself(contract: Contract, peer_id: str, group: Group, now: float) -> bool:
    """Whether this peer, as directory, accepts a publication without anyone looking at it.

    Only what is certain to be harmless: one grant, that publishes one service in this directory, for a bounded time.
    """
    if peer_id != group.directory_peer_id or len(contract.grants) != 1:
        return False
    (grant,) = contract.grants
    return (
        grant.type in PUBLICATIONS
        and grant.directory == peer_id
        and contract.group_id == group.id
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


class DirectoryReader:
    """Reads the group's directory over mutual TLS. Raises `Unavailable`, `BadGateway` or `PeerRefused`."""

    def __init__(self, clients: PeerClients, group: Group) -> None:
        self._clients = clients
        self._group = group

    async def peers(self, peer_id: str | None = None) -> list[ListedPeer]:
        """All peers, or the one with this id if the directory knows it."""
        found = await self._pages("/v1/peers", "peers", {} if peer_id is None else {"peer_id": peer_id}, peer_id)
        return [_peer_from_json(item) for item in found]

    async def services(self, peer_id: str | None, name: str | None) -> list[ListedService]:
        """The services of this peer or with this in their name; all when neither is given."""
        query = {key: value for key, value in (("peer_id", peer_id), ("service_name", name)) if value is not None}
        return [_service_from_json(item) for item in await self._pages("/v1/services", "services", query)]

    async def _pages(self, path: str, member: str, query: dict[str, str], single: str | None = None) -> list[Any]:
        found: list[Any] = []
        cursor = ""
        for _ in range(_MOST_PAGES):
            asked = (
                query | {"limit": "1000", "sort_order": "SORT_ORDER_ASCENDING"} | ({"cursor": cursor} if cursor else {})
            )
            page = await self._clients.get(
                self._group.directory_peer_id, self._group.directory_address, path, query if single else asked
            )
            items, pagination = page.get(member), page.get("pagination")
            if not isinstance(items, list) or not isinstance(pagination, dict):
                raise BadGateway("the directory's answer is not in the form that FSC asks")
            found += items
            following = pagination.get("next_cursor")
            # Some set the cursor on the last page too: an empty page or the same cursor ends it as well.
            if single or not items or not isinstance(following, str) or following in {"", cursor}:
                return found
            cursor = following
        raise BadGateway("the directory's list has no end")


def _text(item: Any, name: str) -> str:
    value = item.get(name) if isinstance(item, dict) else None
    if not isinstance(value, str) or len(value) > 500:
        raise BadGateway(f"the directory's answer lacks {name}")
    return value


def _peer_from_json(item: Any) -> ListedPeer:
    return ListedPeer(_text(item, "id"), _text(item, "name"), _text(item, "manager_address"))


def _service_from_json(item: Any) -> ListedService:
    data = item.get("data") if isinstance(item, dict) else None
    if not isinstance(data, dict):
        raise BadGateway("the directory's answer lacks data")
    properties, delegator = data.get("properties"), data.get("delegator")
    return ListedService(
        peer=_peer_from_json(data.get("peer")),
        name=_text(data, "name"),
        protocol=_text(data, "protocol"),
        properties=properties if isinstance(properties, dict) else {},
        delegator=None
        if delegator is None
        else ListedPeer(_text(delegator, "peer_id"), _text(delegator, "peer_name"), ""),
    )
