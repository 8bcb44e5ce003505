"""External Contract Reference 1.0.0: acting for an organisation that has no manager, on a contract outside FSC.

The reference is an assertion of the delegatee that no component of FSC can check. So whoever receives it must look at
that contract (2.1.2), nothing with a reference is ever accepted without anyone looking, and who accepted or rejected it
and when is kept (2.2.2).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from stelsel.base.errors import Unprocessable

CONNECTION = "delegation.connection.external_contract_reference"
PUBLICATION = "delegation.publication.external_contract_reference"
_BY_GRANT = {"GRANT_TYPE_SERVICE_CONNECTION": CONNECTION, "GRANT_TYPE_SERVICE_PUBLICATION": PUBLICATION}
"""The extension adds to these two types of grant only (3.1)."""


class ExternalContract(BaseModel):
    """A contract outside FSC, and the organisation that let another act for it. Hostile text until made inert."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    reference: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """An address or any other name of the contract."""
    delegator_id: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    delegator_name: Annotated[str, StringConstraints(min_length=1, max_length=255)]

    def to_properties(self, grant_type: str) -> dict[str, Any]:
        """The member of `properties` that carries it, in a grant of this type."""
        return {_BY_GRANT[grant_type]: self.model_dump(mode="json")}


def external_contract_in(grant_type: str, properties: dict[str, Any] | None) -> ExternalContract | None:
    """The reference in a grant's properties; None when there is none. Raises `Unprocessable` when it is not whole."""
    name = _BY_GRANT.get(grant_type)
    if name is None or not properties or name not in properties:
        return None
    try:
        return ExternalContract.model_validate(properties[name])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in (name, *first["loc"]))
        raise Unprocessable(f"the external contract reference is not whole: {where}: {first['msg']}") from None


def additional_data(properties: dict[str, Any] | None) -> dict[str, Any]:
    """The part of a grant's or token's properties that belongs in each transaction log record (3.2, 3.4, 3.5)."""
    return {name: properties[name] for name in (CONNECTION, PUBLICATION) if properties and name in properties}
