"""A service that this peer offers to the group through its inway: declared once, in the node's file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from stelsel.base.settings import Settings

ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,100}$")]
"""FSC Core 4.2.1.1."""


class Service(Settings):
    """An HTTP API behind the inway."""

    name: ServiceName = Field(description="name in the directory, unique for this peer")
    endpoint: Annotated[str, StringConstraints(pattern=r"^(http://[^/\s]+|unix:/\S+)$")] = Field(
        description="where the API listens: http://host:port or unix:/path"
    )
    description: str = Field("", description="what it is for, in one sentence")
    personal: bool = Field(
        False,
        description="whether answers are about people: then an agreement must have terms, requests must name `fields`, "
        "and whom an answer is about is recorded",
    )
    subject_parameter: str = Field(
        "burgerservicenummer", description="member of the request that identifies the resident"
    )
    records: str = Field(
        "",
        description="member of the JSON answer that holds the list of records; empty: the answer itself is the record",
    )
