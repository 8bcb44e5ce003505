"""A contract: what its content says, and the rules it must meet (FSC Core 4.2 and 4.2.1).

The content is kept as the JSON object that arrived, unknown members and the order of arrays included, because all
hashes are over it. What is read out of it here is a view.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
)

from stelsel.agreements import hashes
from stelsel.agreements.dialect import USUAL, Dialect
from stelsel.agreements.external_contract import ExternalContract, external_contract_in
from stelsel.agreements.fsc_errors import (
    ContractNotAcceptable,
    FscFault,
    GrantCombinationNotAllowed,
    IncorrectGroupId,
    IncorrectPublicKeyThumbprint,
    ReceivingPeerNotPartOfContract,
    RequestNotReadable,
    SubmittingPeerNotPartOfContract,
    UnknownFscVersion,
    UnknownHashAlgorithm,
)
from stelsel.agreements.group import Group, PeerId
from stelsel.agreements.services import ServiceName
from stelsel.agreements.terms import Terms, terms_of
from stelsel.base.canonical import canonical
from stelsel.base.errors import Unprocessable
from stelsel.base.ids import is_uuid
from stelsel.base.text import inert

MAXIMUM_PROPERTIES = 1024 * 1024
"""Bytes in a grant's properties, serialized (recommended in 4.2.2.2)."""

GrantType = Literal[
    "GRANT_TYPE_SERVICE_PUBLICATION",
    "GRANT_TYPE_SERVICE_CONNECTION",
    "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION",
    "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION",
]
PUBLICATIONS = frozenset({"GRANT_TYPE_SERVICE_PUBLICATION", "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION"})
CONNECTIONS = frozenset({"GRANT_TYPE_SERVICE_CONNECTION", "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION"})

LENIENT = Dialect.model_validate({"missing_service_type": "accept"})
"""Reads what this node once took in, whatever its settings are today."""

Seconds = Annotated[int, Field(ge=0, le=2**53 - 1)]


class _Read(BaseModel):
    # Members that we do not know are left alone: they are part of what was signed.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Peer(_Read):
    peer_id: PeerId


class _KeyThumbprint(_Read):
    type: Literal["OUTWAY_IDENTIFICATION_TYPE_PUBLIC_KEY_THUMBPRINT"]
    public_key_thumbprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _DomainName(_Read):
    type: Literal["OUTWAY_IDENTIFICATION_TYPE_DOMAIN_NAME"]
    domain_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?$")]


class _Outway(_Peer):
    identification: Annotated[_KeyThumbprint | _DomainName, Field(discriminator="type")]


class _Service(_Peer):
    type: Literal["SERVICE_TYPE_SERVICE"] = "SERVICE_TYPE_SERVICE"
    name: ServiceName


class _DelegatedService(_Peer):
    type: Literal["SERVICE_TYPE_DELEGATED_SERVICE"] = "SERVICE_TYPE_DELEGATED_SERVICE"
    name: ServiceName
    delegator: _Peer


def _service_type(service: Any, info: Any = None) -> str | None:
    del info
    return LENIENT.service_type(service)  # that it is missing and must not be, is told by `parse`


_AnyService = Annotated[
    Annotated[_Service, Tag("SERVICE_TYPE_SERVICE")]
    | Annotated[_DelegatedService, Tag("SERVICE_TYPE_DELEGATED_SERVICE")],
    Discriminator(_service_type),
]


class _PublishedService(_Peer):
    name: ServiceName
    protocol: Literal["PROTOCOL_TCP_HTTP_1.1", "PROTOCOL_TCP_HTTP_2"]


class _Publication(_Read):
    type: Literal["GRANT_TYPE_SERVICE_PUBLICATION"]
    directory: _Peer
    service: _PublishedService
    properties: dict[str, Any] = Field(default_factory=dict)


class _DelegatedPublication(_Read):
    type: Literal["GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION"]
    directory: _Peer
    service: _PublishedService
    delegator: _Peer
    properties: dict[str, Any] = Field(default_factory=dict)


class _Connection(_Read):
    type: Literal["GRANT_TYPE_SERVICE_CONNECTION"]
    outway: _Outway
    service: _AnyService
    properties: dict[str, Any] = Field(default_factory=dict)


class _DelegatedConnection(_Read):
    type: Literal["GRANT_TYPE_DELEGATED_SERVICE_CONNECTION"]
    outway: _Outway
    service: _AnyService
    delegator: _Peer
    properties: dict[str, Any] = Field(default_factory=dict)


_AnyGrant = _Publication | _DelegatedPublication | _Connection | _DelegatedConnection


class _Grant(_Read):
    data: Annotated[_AnyGrant, Field(discriminator="type")]


class _Validity(_Read):
    not_before: Seconds
    not_after: Seconds


class _Content(_Read):
    fsc_version: str
    iv: Annotated[str, StringConstraints(min_length=36, max_length=36)]
    group_id: Annotated[str, StringConstraints(max_length=255)]
    validity: _Validity
    grants: Annotated[list[_Grant], Field(min_length=1, max_length=1000)]
    hash_algorithm: str
    created_at: Seconds

    @field_validator("iv")
    @classmethod
    def _is_uuid(cls, value: str) -> str:
        if not is_uuid(value.lower()):
            raise ValueError("must be a UUID")
        return value


@dataclass(frozen=True, slots=True)
class Grant:
    """One grant, whatever its type. What a type does not have is None."""

    type: GrantType
    grant_hash: str
    data: dict[str, Any]
    provider: str
    """Peer that offers the service (`service.peer_id`)."""
    service: str
    directory: str | None = None
    protocol: str | None = None
    consumer: str | None = None
    """Peer of the outway."""
    outway_key_thumbprint: str | None = None
    outway_domain_name: str | None = None
    delegator: str | None = None
    """Peer on whose behalf the connection or publication is made."""
    service_delegator: str | None = None
    """Peer on whose behalf the service that is connected to is offered."""

    @property
    def properties(self) -> dict[str, Any] | None:
        """The grant's properties, as they are."""
        return self.data.get("properties")

    @property
    def signatories(self) -> frozenset[str]:
        """The peers that must sign (the signature requirements under 4.2.1)."""
        named = (self.provider, self.directory, self.consumer, self.delegator, self.service_delegator)
        return frozenset(peer for peer in named if peer is not None)

    def external_contract(self) -> ExternalContract | None:
        """The contract outside FSC on which it rests; None when there is none. Raises `Unprocessable`."""
        return external_contract_in(self.type, self.properties)

    def terms(self) -> Terms | None:
        """Stelsel's terms in it; None when there are none. Raises `Unprocessable`."""
        return terms_of(self.properties)


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract's content, read."""

    content: dict[str, Any]
    content_hash: str
    iv: str
    group_id: str
    not_before: int
    not_after: int
    created_at: int
    grants: tuple[Grant, ...]

    @property
    def signatories(self) -> frozenset[str]:
        """Every peer that must sign before the contract is valid."""
        return frozenset().union(*(grant.signatories for grant in self.grants))

    @property
    def is_publication(self) -> bool:
        """Whether this contract publishes services."""
        return any(grant.type in PUBLICATIONS for grant in self.grants)

    @property
    def rests_outside(self) -> bool:
        """Whether a grant rests on a contract outside FSC, which somebody must look at before it is accepted."""
        return any(grant.external_contract() is not None for grant in self.grants)


def parse(content: Any, dialect: Dialect = USUAL) -> Contract:
    """Read a contract's content. Raises the FSC fault that tells what is wrong with it."""
    if not isinstance(content, dict):
        raise RequestNotReadable("the contract's content must be a JSON object")
    _check_version(content, dialect)
    return _read(content, dialect)


def reread(content: dict[str, Any]) -> Contract:
    """Read what was taken in before: of whatever version and dialect it was allowed to be then."""
    return _read(content, LENIENT)


def _read(content: dict[str, Any], dialect: Dialect) -> Contract:
    try:
        read = _Content.model_validate(content)
    except ValidationError as error:
        raise _not_readable(error) from None
    for index, grant in enumerate(content["grants"]):
        data = grant["data"]
        if data["type"] in CONNECTIONS and dialect.service_type(data["service"]) is None:
            raise RequestNotReadable(f"content.grants.{index}.data.service.type is missing (the OpenAPI requires it)")
    kinds = {grant.data.type for grant in read.grants}
    if kinds & PUBLICATIONS and len(kinds) > 1:
        raise GrantCombinationNotAllowed("a service publication grant cannot be combined with another grant type")
    content_hash = hashes.content_hash(content)
    grants = tuple(
        _grant(grant.data, raw["data"], content_hash) for grant, raw in zip(read.grants, content["grants"], strict=True)
    )
    return Contract(
        content=content,
        content_hash=content_hash,
        iv=read.iv.lower(),
        group_id=read.group_id,
        not_before=read.validity.not_before,
        not_after=read.validity.not_after,
        created_at=read.created_at,
        grants=grants,
    )


def check(contract: Contract, group: Group, now: float) -> None:
    """The rules of 4.2.1 that need no more than the content, the group and the time. Raises an FSC fault."""
    if contract.group_id != group.id:
        raise IncorrectGroupId("the contract is of another group")
    if contract.created_at > now + group.clock_skew:
        raise ContractNotAcceptable("content.created_at lies in the future", next_step="set the clock right")
    if contract.not_after <= contract.not_before:
        raise ContractNotAcceptable("content.validity.not_after must be later than not_before")
    if contract.not_after <= now:
        raise ContractNotAcceptable("content.validity.not_after has passed already")
    if len(contract.grants) > group.maximum_grants:
        raise ContractNotAcceptable(f"a contract of this group has at most {group.maximum_grants} grants")
    for grant in contract.grants:
        if grant.properties is not None and len(canonical(grant.properties)) > MAXIMUM_PROPERTIES:
            raise ContractNotAcceptable(f"properties are larger than {MAXIMUM_PROPERTIES} bytes")
        if grant.type in CONNECTIONS or grant.properties:
            try:
                grant.external_contract()
                if grant.type in CONNECTIONS:
                    grant.terms()
            except Unprocessable as error:
                raise ContractNotAcceptable(inert(error.detail)) from None


def check_parties(contract: Contract, *, submitter: str, receiver: str, group: Group) -> None:
    """Whether these two peers have to do with this contract (4.2.3). Raises an FSC fault.

    A publication comes to the directory from its provider, or from the delegator in it (4.2.1.1, 4.2.1.2): no other
    peer is in it. Who may offer a connection is a question of dialect, see `check_offerer`.
    """
    if submitter not in contract.signatories:
        raise SubmittingPeerNotPartOfContract("the peer that submits is in none of the contract's grants")
    if receiver not in contract.signatories:
        raise ReceivingPeerNotPartOfContract("this peer is in none of the contract's grants")
    for grant in contract.grants:
        if grant.directory == receiver != group.directory_peer_id:
            raise ContractNotAcceptable("this peer keeps no directory of the group")


def check_offerer(contract: Contract, *, submitter: str, receiver: str, dialect: Dialect) -> None:
    """Whether this peer may offer the connections in it to the peer that provides them (4.2.1.3)."""
    for grant in contract.grants:
        if grant.type in CONNECTIONS and not dialect.may_offer(submitter, grant.consumer, grant.provider, receiver):
            raise ContractNotAcceptable("a connection is offered to its provider by the peer of the outway only")


def check_offered(
    contract: Contract,
    peer_id: str,
    services: Collection[str],
    published: Mapping[str, Collection[str | None]] = MappingProxyType({}),
) -> None:
    """Whether this peer offers what the contract connects to at this peer (4.2.1.3, 4.2.1.4). Raises an FSC fault.

    `published`: on whose behalf each service is published now (None: on its own); what is not in it is unpublished.
    """
    for grant in contract.grants:
        if grant.provider != peer_id:
            continue
        if grant.service not in services:
            raise ContractNotAcceptable(f"this peer offers no service named {inert(grant.service, 100)}")
        if grant.type in CONNECTIONS and grant.service_delegator not in published.get(
            grant.service, (grant.service_delegator,)
        ):
            raise ContractNotAcceptable("the service is not published on behalf of the delegator in the grant")


def _not_readable(error: ValidationError) -> FscFault:
    first = error.errors(include_url=False, include_input=False)[0]
    where = inert(".".join(str(part) for part in ("content", *first["loc"])), 200)
    if first["loc"][-1:] == ("public_key_thumbprint",) and first["type"] != "missing":
        return IncorrectPublicKeyThumbprint(f"{where}: must be the SHA-256 of a public key, 64 lower-case hex digits")
    return RequestNotReadable(f"{where}: {inert(first['msg'], 200)}")


def _check_version(content: dict[str, Any], dialect: Dialect) -> None:
    # First of all: a peer on another version must hear so, not get a list of members that it cannot know.
    version = content.get("fsc_version")
    if isinstance(version, str) and not dialect.speaks(version):
        spoken = ", ".join(dialect.fsc_versions)
        raise UnknownFscVersion(f"only FSC version {spoken} is spoken here, not {inert(version, 20)}")
    algorithm = content.get("hash_algorithm")
    if isinstance(algorithm, str) and algorithm != hashes.HASH_ALGORITHM:
        raise UnknownHashAlgorithm(f"only {hashes.HASH_ALGORITHM} is supported")


def _grant(read: _AnyGrant, data: dict[str, Any], content_hash: str) -> Grant:
    grant_hash = hashes.grant_hash(content_hash, data)
    delegator = read.delegator.peer_id if isinstance(read, _DelegatedPublication | _DelegatedConnection) else None
    if isinstance(read, _Publication | _DelegatedPublication):
        return Grant(
            type=read.type,
            grant_hash=grant_hash,
            data=data,
            provider=read.service.peer_id,
            service=read.service.name,
            directory=read.directory.peer_id,
            protocol=read.service.protocol,
            delegator=delegator,
        )
    outway, service = read.outway.identification, read.service
    return Grant(
        type=read.type,
        grant_hash=grant_hash,
        data=data,
        provider=service.peer_id,
        service=service.name,
        consumer=read.outway.peer_id,
        outway_key_thumbprint=outway.public_key_thumbprint if isinstance(outway, _KeyThumbprint) else None,
        outway_domain_name=outway.domain_name if isinstance(outway, _DomainName) else None,
        delegator=delegator,
        service_delegator=service.delegator.peer_id if isinstance(service, _DelegatedService) else None,
    )
