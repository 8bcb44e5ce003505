"""The section `[opendata]` of a node's file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from stelsel.base.settings import Settings

WebAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^\s<>\"{}|\\^`]+$", max_length=300)]
EmailAddress = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$", max_length=200)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class Publisher(Settings):
    """Who publishes: DCAT-AP-NL asks it of the catalogue, of every dataset and of the data service."""

    name: Line = Field("Onbekende uitgever", description="name of the organisation that publishes")
    uri: WebAddress = Field(
        "https://example.org/uitgever", description="web address that identifies the publishing organisation"
    )
    contact_name: Line = Field("Team open data", description="team that answers questions about the data")
    contact_email: EmailAddress = Field("opendata@example.org", description="where to write to with questions")


class OpenDataSettings(Settings):
    """What a node publishes openly."""

    enabled: bool = Field(False, description="whether this node publishes open data under /data/ on its web listener")
    base_url: WebAddress = Field(
        "http://localhost", description="public address of the web listener, as it stands in the catalogue"
    )
    publisher: Publisher = Field(
        default_factory=lambda: Publisher.model_validate({}), description="who publishes, and how to reach them"
    )
    minimum_frequency: int = Field(
        10, ge=3, le=1000, description="no dataset may use a smaller minimum frequency than this number of people"
    )
