"""The section `[steering]` of a node's file: only the steward has one that is enabled."""

from __future__ import annotations

from pydantic import Field

from stelsel.base.settings import RelativePath, Settings


class SteeringSettings(Settings):
    """What the steward measures, and how often."""

    enabled: bool = Field(False, description="whether this node is the group's steward: it checks and keeps the board")
    obligations: RelativePath | None = Field(None, description="TOML file with the obligations of the group")
    goals: RelativePath | None = Field(None, description="TOML file with the goals and their indicators")
    interval: int = Field(
        3600, ge=0, le=7 * 86400, description="seconds between two runs of all checks; 0: only when asked"
    )
    local_addresses: bool = Field(
        False,
        description="whether peers may be probed on addresses that are not public (loopback, private networks): for a "
        "demo or a closed network; otherwise a peer could aim the probes at the steward's own network",
    )
