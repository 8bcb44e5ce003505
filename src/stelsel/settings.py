"""A node's file: every section, put together from the rooms that declare them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from stelsel.agreements.dialect import Dialect
from stelsel.agreements.group import Address
from stelsel.agreements.services import Service
from stelsel.agreements.settings import AgreementsSettings
from stelsel.base.settings import RelativePath, Settings
from stelsel.exchange.settings import InwaySettings, Listen, OutwaySettings
from stelsel.identity.settings import IdentitySettings
from stelsel.ledger.reconcile_settings import ReconciliationSettings
from stelsel.ledger.settings import LedgerSettings
from stelsel.opendata.settings import OpenDataSettings
from stelsel.portal.settings import PortalSettings
from stelsel.steering.settings import SteeringSettings


class PeerSettings(Settings):
    """Who this node is."""

    certificate: RelativePath = Field(description="PEM file with the peer's certificate chain, leaf first")
    key: RelativePath = Field(description="PEM file with its private key, unencrypted, readable by the node alone")


class ManagerSettings(Settings):
    """Where peers make agreements with this one."""

    listen: Listen = Field(description="where to listen, host:port")
    address: Address = Field(description="the address by which peers reach it, https://host:port")
    token_lifetime: int = Field(
        300, ge=10, le=3600, description="seconds that an access token lives that we give; revoking acts at once anyhow"
    )
    catch_up_interval: int = Field(
        3600,
        ge=0,
        le=86_400,
        description="seconds between two rounds in which counterparties are asked what they have that we lack, the "
        "first at the start; 0: only by command",
    )


class WebSettings(Settings):
    """Pages and public data."""

    listen: Listen = Field(description="where to listen, host:port; put a TLS terminator before it outside a demo")
    address: Annotated[str, StringConstraints(pattern=r"^https?://[^/\s?#]+$", max_length=255)] = Field(
        description="the address by which browsers reach it"
    )
    security_contact: Annotated[str, StringConstraints(pattern=r"^(mailto:|https://|tel:)[!-~]+$")] | None = Field(
        None, description="where to report a leak; published as /.well-known/security.txt (RFC 9116)"
    )


class NodeSettings(Settings):
    """A node's file."""

    data: RelativePath = Field(description="folder for all that the node keeps")
    group: RelativePath = Field(description="file with the rules of the group")
    peer: PeerSettings = Field(description="who this node is")
    manager: ManagerSettings = Field(description="where peers make agreements with us")
    dialect: Dialect = Field(default_factory=Dialect, description="what to do where the standard contradicts itself")
    inway: InwaySettings | None = Field(None, description="where peers call our services")
    outway: OutwaySettings | None = Field(None, description="where our own applications call services of peers")
    workers: int = Field(
        0,
        ge=0,
        le=256,
        description="processes that carry the traffic of inway and outway; 0: the node's own process does it all",
    )
    processors: tuple[int, ...] = Field(
        (),
        max_length=256,
        description="numbers of the processors on which the traffic stays: the node's own process on the first, or the "
        "workers each on one of them, in turn; empty: wherever the system puts them",
    )
    drain_seconds: float = Field(
        5,
        ge=0,
        le=300,
        description="when stopping or restarting: time for requests under way to finish; then they are broken off. New "
        "connections wait meanwhile, so keep it below the time that other peers wait for one",
    )
    services: tuple[Service, ...] = Field((), description="the services that we offer", max_length=1000)
    agreements: AgreementsSettings = Field(default_factory=AgreementsSettings, description="how agreements are managed")
    web: WebSettings | None = Field(None, description="pages and public data")
    ledger: LedgerSettings = Field(default_factory=LedgerSettings, description="limits of the ledger")
    reconciliation: ReconciliationSettings = Field(
        default_factory=ReconciliationSettings, description="how our log is compared with those of counterparties"
    )
    portal: PortalSettings | None = Field(None, description="pages for people")
    identity: IdentitySettings | None = Field(None, description="an OpenID Provider")
    opendata: OpenDataSettings = Field(default_factory=OpenDataSettings, description="open data")
    steering: SteeringSettings = Field(default_factory=SteeringSettings, description="the steward's work")
