"""The section `[portal]` of a node's file: the pages for people."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from stelsel.base.settings import Settings


class PortalSettings(Settings):
    """The pages that a node shows, and where people log in."""

    issuer: Annotated[str, StringConstraints(pattern=r"^https?://[^/\s?#]+$", max_length=255)] = Field(
        description="address of the OpenID Provider where people log in"
    )
    client_id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")] = Field(
        description="the id under which that provider knows this portal"
    )
    residents: bool = Field(
        False, description="whether residents can see here who used their data, at every source that agreed to show it"
    )
    demo: bool = Field(False, description="whether every page says that this is a demonstration with invented people")
