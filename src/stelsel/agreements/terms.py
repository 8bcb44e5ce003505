"""Terms: the part of a grant's `properties` that is Stelsel's own (FSC Core 4.2.2).

They travel under one namespaced member, in a closed and versioned vocabulary, so they are signed with the contract,
hashed into the grant hash and carried inside the access token (`prp`). Other members of `properties` are kept and
left alone.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from stelsel.base.errors import Unprocessable

PROPERTY = "nl.stelsel.terms"
"""The one member of `properties` that holds the terms."""

FieldPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*$", max_length=200)
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000, strip_whitespace=True)]
Uri = Annotated[str, StringConstraints(pattern=r"^(https?://|urn:)[!-~]+$", max_length=500)]

_DURATION = re.compile(r"P(?=.)(\d{1,4}Y)?(\d{1,4}M)?(\d{1,5}D)?")


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LegalBasis(_Closed):
    """Why this is allowed: the article of law, and the ground of GDPR article 6(1), a to f."""

    article: Text
    ground: Literal["a", "b", "c", "d", "e", "f"]
    uri: Uri | None = None


class ProcessingActivity(_Closed):
    """The entry in the consumer's register of processing activities (GDPR article 30), by version."""

    id: Uri
    name: Text
    version: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.-]{1,30}$")]


class Terms(_Closed):
    """What was agreed about the data: purpose, basis, activity, and exactly which fields may be asked how."""

    version: Literal[1] = 1
    purpose: Text
    legal_basis: LegalBasis
    processing_activity: ProcessingActivity
    fields: Annotated[tuple[FieldPath, ...], Field(max_length=500, strict=False)]
    search_parameters: Annotated[tuple[FieldPath, ...], Field(max_length=50, strict=False)]
    retention: str
    confidentiality: Literal["public", "internal", "confidential", "secret"]

    @field_validator("retention")
    @classmethod
    def _duration(cls, value: str) -> str:
        if not _DURATION.fullmatch(value):
            raise ValueError("must be an ISO 8601 duration of years, months or days, such as P5Y")
        return value

    @field_validator("fields", "search_parameters")
    @classmethod
    def _unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names the same thing twice")
        return value

    @property
    def limits_nothing(self) -> bool:
        """Whether they name no field and no search parameter: a service that is not about people then gives all."""
        return not self.fields and not self.search_parameters

    def to_properties(self) -> dict[str, Any]:
        """The `properties` object that carries these terms."""
        return {PROPERTY: self.model_dump(mode="json", exclude_none=True)}


def terms_of(properties: dict[str, Any] | None) -> Terms | None:
    """The terms in a grant's `properties` or a token's `prp`; None when there are none.

    Raises `Unprocessable`, naming the member at fault, when there is something that we do not understand in full:
    half-understood terms must never authorise.
    """
    if not properties or PROPERTY not in properties:
        return None
    try:
        return Terms.model_validate(properties[PROPERTY])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (PROPERTY, *first["loc"]))
        raise Unprocessable(f"the terms are not acceptable: {where}: {first['msg']}") from error
