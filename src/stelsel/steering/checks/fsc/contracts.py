"""The contracts that scenarios propose: content, grants, and the hashes that follow."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stelsel.steering.checks.fsc.counterparty import FSC_VERSION
from stelsel.steering.checks.fsc.documents import HASH_TYPES, content_hash, grant_hash

Json = dict[str, Any]


@dataclass(frozen=True)
class Proposal:
    """A contract's content with its hashes, as the standard computes them."""

    content: Json
    hash: str
    grant_hashes: tuple[str, ...]

    @classmethod
    def of(cls, content: Json) -> Proposal:
        """Grants of a type that the standard does not know get no hash."""
        hashed = content_hash(content)
        known = [grant["data"] for grant in content["grants"] if grant["data"].get("type") in HASH_TYPES]
        return cls(content, hashed, tuple(grant_hash(hashed, data) for data in known))

    @property
    def grant_hash(self) -> str:
        """Of the first grant."""
        return self.grant_hashes[0]

    @property
    def grant(self) -> Json:
        """`data` of the first grant."""
        return dict(self.content["grants"][0]["data"])

    @property
    def signatories(self) -> frozenset[str]:
        """The peers whose signature is required (Core 4.2.1.1 to 4.2.1.4)."""
        found: set[str] = set()
        for grant in self.content["grants"]:
            data = grant["data"]
            for named in (
                data["service"],
                data["service"].get("delegator"),
                data.get("outway"),
                data.get("directory"),
                data.get("delegator"),
            ):
                if named is not None:
                    found.add(named["peer_id"])
        return frozenset(found)


def content(group: str, *grants: Json, **changes: Any) -> Json:
    """A contract's content with these grants; `changes` replace members."""
    now = int(time.time())
    made = {
        "fsc_version": FSC_VERSION,
        "iv": str(uuid.uuid4()),
        "group_id": group,
        "validity": {"not_before": now - 60, "not_after": now + 86_400},
        "grants": [{"data": data} for data in grants],
        "hash_algorithm": "HASH_ALGORITHM_SHA3_512",
        "created_at": now - 5,
    }
    return made | changes


def by_key(thumbprint: str) -> Json:
    """An outway's identification by public key."""
    return {"type": "OUTWAY_IDENTIFICATION_TYPE_PUBLIC_KEY_THUMBPRINT", "public_key_thumbprint": thumbprint}


def by_domain(name: str) -> Json:
    """An outway's identification by domain name."""
    return {"type": "OUTWAY_IDENTIFICATION_TYPE_DOMAIN_NAME", "domain_name": name}


def connection(
    consumer: str,
    identification: Mapping[str, Any],
    provider: str,
    service: str,
    *,
    delegator: str | None = None,
    service_delegator: str | None = None,
    properties: Json | None = None,
) -> Json:
    """A (Delegated)ServiceConnectionGrant's `data`."""
    offered: Json = {"type": "SERVICE_TYPE_SERVICE", "peer_id": provider, "name": service}
    if service_delegator is not None:
        offered |= {"type": "SERVICE_TYPE_DELEGATED_SERVICE", "delegator": {"peer_id": service_delegator}}
    data: Json = {
        "type": "GRANT_TYPE_SERVICE_CONNECTION",
        "outway": {"peer_id": consumer, "identification": dict(identification)},
        "service": offered,
    }
    if delegator is not None:
        data |= {"type": "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION", "delegator": {"peer_id": delegator}}
    if properties is not None:
        data["properties"] = properties
    return data


def publication(
    provider: str, directory: str, service: str, *, delegator: str | None = None, properties: Json | None = None
) -> Json:
    """A (Delegated)ServicePublicationGrant's `data`."""
    data: Json = {
        "type": "GRANT_TYPE_SERVICE_PUBLICATION",
        "directory": {"peer_id": directory},
        "service": {"peer_id": provider, "name": service, "protocol": "PROTOCOL_TCP_HTTP_1.1"},
    }
    if delegator is not None:
        data |= {"type": "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION", "delegator": {"peer_id": delegator}}
    if properties is not None:
        data["properties"] = properties
    return data
