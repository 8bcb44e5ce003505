"""The rules of a group as a file: who is trusted, how peers are known, where the directory is (FSC Core 1.3.2)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from stelsel.base.settings import RelativePath, Settings

PeerId = Annotated[str, StringConstraints(pattern=r"^[0-9]{20}$")]
Address = Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+:[0-9]{1,5}$", max_length=255)]


class Group(Settings):
    """Group rules. Every node of a group reads the same file."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9./_-]{1,100}$")] = Field(
        description="the group's id (FSC Core 4.1.2)"
    )
    name: str = Field(description="what people call the group")
    trust_anchors: RelativePath = Field(description="PEM file with the root certificates that the group trusts")
    directory_peer_id: PeerId = Field(description="OIN of the peer that keeps the directory")
    directory_address: Address = Field(description="address of the directory's manager")
    maximum_grants: int = Field(10, ge=1, le=100, description="grants in one contract (Digikoppeling 3.4.3)")
    clock_skew: int = Field(60, ge=0, le=300, description="seconds by which clocks of peers may differ")
