"""The section `[agreements]` of a node's file: which contracts are accepted without anyone looking at them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from stelsel.agreements.durations import is_duration
from stelsel.agreements.group import PeerId
from stelsel.agreements.services import ServiceName
from stelsel.agreements.terms import FieldPath
from stelsel.base.settings import Settings

GrantKind = Literal["connection", "delegated_connection", "publication", "delegated_publication"]
SignatureAlgorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
Confidentiality = Literal["public", "internal", "confidential", "secret"]
Anyone = Literal["*"]


class ApprovalRule(Settings):
    """One kind of contract that is accepted by itself. What a rule does not name, it does not accept."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 ._-]{1,60}$")] = Field(
        description="what this rule is called in the log and in what is shown of it"
    )
    grant: GrantKind = Field("connection", description="the type of the one grant that the contract may hold")
    peers: tuple[PeerId | Anyone, ...] = Field(
        description='OINs of the peers that may use the service (of those that may publish, for a publication); "*": '
        "any peer of the group, which only a rule without fields may say",
        min_length=1,
        max_length=1000,
    )
    services: tuple[ServiceName | Anyone, ...] = Field(
        description='names of our services that may be used; "*": any, for publications only',
        min_length=1,
        max_length=1000,
    )
    delegators: tuple[PeerId | Anyone, ...] = Field(
        (), description="OINs of the peers on whose behalf it may be, for a delegated grant", max_length=1000
    )
    maximum_days: int = Field(description="days that the contract may run, and may end from now, at most", ge=1, le=400)
    signature_algorithms: tuple[SignatureAlgorithm, ...] = Field(
        ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512"),
        min_length=1,
        description="algorithms that the other peer may sign with",
    )
    without_terms: bool = Field(
        False,
        description="whether a grant may pass whose terms are absent or limit nothing: then anything may be asked of a "
        "service that is not about people",
    )
    purposes: tuple[str, ...] = Field((), description="purposes that the terms may name, word for word", max_length=100)
    fields: tuple[FieldPath, ...] = Field((), description="fields that the terms may name at most", max_length=500)
    search_parameters: tuple[FieldPath, ...] = Field(
        (), description="search parameters that the terms may name at most", max_length=50
    )
    longest_retention: str = Field("P1Y", description="the longest retention that the terms may ask, such as P5Y")
    confidentiality: tuple[Confidentiality, ...] = Field(
        ("confidential", "secret"), description="levels of confidentiality that the terms may name"
    )
    other_properties: bool = Field(
        False, description="whether the grant may hold properties other than terms, which this node does not understand"
    )

    @field_validator("longest_retention")
    @classmethod
    def _duration(cls, value: str) -> str:
        if not is_duration(value):
            raise ValueError("must be an ISO 8601 duration of years, months or days, such as P5Y")
        return value

    @model_validator(mode="after")
    def _safe(self) -> ApprovalRule:
        connection = self.grant in {"connection", "delegated_connection"}
        if connection and "*" in self.services:
            raise ValueError("services: name each service that may be used without anyone looking")
        if self.fields and "*" in self.peers:
            raise ValueError("peers: a rule that names fields must name the peers that may ask them")
        if self.fields and not self.purposes:
            raise ValueError("purposes: a rule that names fields must name the purposes for which they may be asked")
        if self.grant.startswith("delegated") and not self.delegators:
            raise ValueError("delegators: a delegated grant is on behalf of a peer; name which")
        if self.delegators and not self.grant.startswith("delegated"):
            raise ValueError("delegators: this type of grant is on behalf of nobody; remove them")
        return self


class AgreementsSettings(Settings):
    """How this peer manages its agreements."""

    approve: tuple[ApprovalRule, ...] = Field(
        (), description="contracts that are accepted without anyone looking; none by default", max_length=100
    )
