"""The sections `[inway]` and `[outway]` of a node's file."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from stelsel.base.settings import Settings

Listen = Annotated[str, StringConstraints(pattern=r"^(unix:/\S+|[^\s/]+:[0-9]{1,5})$", max_length=255)]
_ALIAS = re.compile(r"[A-Za-z0-9._~-]{1,100}")
_TARGET = re.compile(r"[0-9]{20}/[a-zA-Z0-9._-]{1,100}")


class ExchangeLimits(Settings):
    """What both gateways bound. Every limit is finite; the defaults suit a node of any size."""

    maximum_connections: int = Field(
        10_000, ge=1, le=1_000_000, description="connections of clients at one moment; more are closed at once"
    )
    maximum_in_flight: int = Field(
        2_000, ge=1, le=100_000, description="requests being carried at one moment; more get 503"
    )
    maximum_upstream: int = Field(
        256, ge=1, le=10_000, description="connections to one party behind us; more requests wait for one"
    )
    maximum_head: int = Field(
        64 * 1024, ge=4096, le=1024 * 1024, description="bytes in the head of a request; more get 431"
    )
    maximum_headers: int = Field(100, ge=10, le=1000, description="headers in one request; more get 431")
    maximum_body: int = Field(
        1024 * 1024 * 1024, ge=1024, le=2**40, description="bytes in a body that is passed on as a stream; more get 413"
    )
    maximum_read: int = Field(
        64 * 1024,
        ge=1024,
        le=1024 * 1024,
        description="bytes in the body of a request that is read whole, to see which data it asks; more get 413",
    )
    maximum_answer: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="bytes in an answer about people, which is checked whole before it is released; more is held back",
    )
    head_seconds: float = Field(10, gt=0, le=300, description="time for the head of a request to arrive")
    idle_seconds: float = Field(75, gt=0, le=3600, description="time that a client's connection may stay unused")
    silence_seconds: float = Field(
        30, gt=0, le=3600, description="time without a byte, of either side, after which an exchange is given up"
    )
    grace_seconds: float = Field(
        0.5,
        ge=0,
        le=60,
        description="when draining: time that an unused connection is kept, for a request that is on its way",
    )
    total_seconds: float = Field(300, gt=0, le=86_400, description="time that one exchange may take in all")
    connect_seconds: float = Field(5, gt=0, le=60, description="time to get a connection to the party behind us")


class InwaySettings(ExchangeLimits):
    """The inway: where other peers reach the services of this one."""

    listen: Listen = Field(description="where to listen, host:port")
    address: Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+:[0-9]{1,5}$", max_length=255)] = Field(
        description="the address by which other peers reach this inway, https://host:port"
    )
    maximum_connections_per_peer: int = Field(
        2_000, ge=1, le=1_000_000, description="connections of one peer at one moment; more are closed at once"
    )
    upstream_idle_seconds: float = Field(
        4, gt=0, le=300, description="time to keep an unused connection to a service; keep it below the service's own"
    )


class OutwaySettings(ExchangeLimits):
    """The outway: where the organisation's own applications reach the services of other peers."""

    listen: Listen = Field(description="where to listen, host:port; only the organisation itself may reach it")
    aliases: dict[str, str] = Field(
        default_factory=dict,
        description='readable first path segments for services: alias = "provider peer id/service name"',
    )
    upstream_idle_seconds: float = Field(30, gt=0, le=300, description="time to keep an unused connection to an inway")
    lanes: int = Field(
        64,
        ge=1,
        le=1000,
        description="exchanges at one moment over one connection to an inway that knows lanes; more take another one",
    )

    @field_validator("aliases")
    @classmethod
    def _readable(cls, aliases: dict[str, str]) -> dict[str, str]:
        for alias, target in aliases.items():
            if not _ALIAS.fullmatch(alias) or alias.isdigit():
                raise ValueError("an alias is made of letters, digits, dots, dashes and underscores, not digits alone")
            if not _TARGET.fullmatch(target):
                raise ValueError(f'the alias {alias} must point to "provider peer id/service name"')
        return aliases


class ExchangeSettings(Settings):
    """Both sections; a node has either, both or none."""

    inway: InwaySettings | None = Field(None, description="the inway of this node")
    outway: OutwaySettings | None = Field(None, description="the outway of this node")
