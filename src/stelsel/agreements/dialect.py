"""The dialect: what this node does where the standard contradicts itself. One setting for each question.

Every question is answered here and nowhere else; the rest of the room asks this module. What a node *writes* follows
its settings; in what it *reads* it takes either answer wherever that is safe, so nodes with different dialects work
together. The questions are explained in `docs/understand/dialects.md`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from stelsel.base.canonical import b64url
from stelsel.base.settings import Settings

FSC_VERSION = "2.0.0"
"""The version of FSC Core that this node speaks."""

PARTY_CODE = "ERROR_CODE_PEER_NOT_PART_OF_CONTRACT"
PARTY_CODES = frozenset(
    {"ERROR_CODE_SUBMITTING_PEER_NOT_PART_OF_CONTRACT", "ERROR_CODE_RECEIVING_PEER_NOT_PART_OF_CONTRACT"}
)

Version = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$")]


class Dialect(Settings):
    """How this node reads the standard where it says two things."""

    act_subject: Literal["delegator", "delegatee"] = Field(
        "delegator",
        description="whom `act.sub` of an access token names when a peer connects on behalf of another: the delegator "
        "(the field that FSC Core 4.3.1 names; `sub` stays the peer of the outway, as Logging 3.1.1 needs), or the "
        "delegatee (its example); both are understood",
    )
    delegation_claims: Literal["act", "act-and-cdi"] = Field(
        "act",
        description="whether access tokens carry the delegator in the claim `cdi` too, from which Logging 3.1.1 maps "
        "though Core has no such claim; both are understood",
    )
    missing_service_type: Literal["refuse", "accept"] = Field(
        "refuse",
        description="a connection grant without `service.type`: the OpenAPI requires it, the example in FSC Core 4.2 "
        "lacks it; accepted means that it is read from whether there is a delegator",
    )
    fsc_versions: tuple[Version, ...] = Field(
        (FSC_VERSION,),
        min_length=1,
        max_length=10,
        description="values of `content.fsc_version` that are taken in; the examples and the OpenAPI say 1.0.0, peers "
        "on FSC 2.0.0 say 2.0.0; our own contracts always say 2.0.0",
    )
    party_error_codes: Literal["apart", "one"] = Field(
        "apart",
        description="the error code when a peer is not part of a contract: SUBMITTING_ or RECEIVING_PEER_NOT_PART_OF_"
        "CONTRACT apart (FSC Core 4.4.5.3), or the one PEER_NOT_PART_OF_CONTRACT (the OpenAPI)",
    )
    thumbprints: Literal["any", "base64url"] = Field(
        "any",
        description="encodings of `x5t#S256` that are read: base64url only (RFC 7515), or also + and / and padding, "
        "as in the examples of FSC Core 4.3.1; we write base64url",
    )
    last_cursor: Literal["set", "empty"] = Field(
        "set",
        description="`next_cursor` of the last page that is not empty: set, since clients loop until a page is empty, "
        "or empty, as the OpenAPI says",
    )
    bearer_prefix: Literal["accept", "refuse"] = Field(
        "accept",
        description="the word Bearer before the token in Fsc-Authorization, which FSC Core 4.7.1.3 does not have but "
        "implementations send; we send none",
    )
    offered_by: Literal["signatory", "outway"] = Field(
        "signatory",
        description="who may offer a contract with a connection: any peer in it (FSC Core 3.2.1), or the peer of the "
        "outway alone (4.2.1.3); the signature of every peer in it is needed either way",
    )

    def subject_and_actor(self, consumer: str, delegator: str | None) -> dict[str, Any]:
        """The claims `sub`, `act` and `cdi` for these peers (FSC Core 4.3.1, Logging 3.1.1)."""
        if delegator is None:
            return {"sub": consumer}
        written: dict[str, Any] = (
            {"sub": consumer, "act": {"sub": delegator}}
            if self.act_subject == "delegator"
            else {"sub": delegator, "act": {"sub": consumer}}
        )
        return written | ({"cdi": delegator} if self.delegation_claims == "act-and-cdi" else {})

    def speaks(self, version: str) -> bool:
        """Whether contracts of this FSC version are taken in."""
        return version in self.fsc_versions

    def error_code(self, code: str) -> str:
        """The error code as this node writes it."""
        return PARTY_CODE if self.party_error_codes == "one" and code in PARTY_CODES else code

    def thumbprint(self, text: str) -> str:
        """A thumbprint that was read, as we write it ourselves. What is none, stays what it is and matches nothing."""
        if self.thumbprints == "base64url" or len(text) > 44:
            return text
        return text.rstrip("=").replace("+", "-").replace("/", "_")

    def next_cursor(self, last: str, *, more: bool) -> str:
        """`next_cursor` after a page that ended with the item of this key."""
        return b64url(last.encode()) if self.tells_cursor(more=more) else ""

    def tells_cursor(self, *, more: bool) -> bool:
        """Whether a page that is not empty has a `next_cursor`."""
        return more or self.last_cursor == "set"

    def token_in(self, header: str) -> str:
        """The access token in the header Fsc-Authorization."""
        if self.bearer_prefix == "accept" and header[:7].lower() == "bearer ":
            return header[7:].strip()
        return header

    def service_type(self, service: Any) -> str | None:
        """The type of a service in a connection grant (JSON as received); None where it is missing and must not be."""
        if not isinstance(service, dict):
            return None
        if "type" in service or self.missing_service_type == "refuse":
            found = service.get("type")
            return found if isinstance(found, str) else None
        return "SERVICE_TYPE_DELEGATED_SERVICE" if "delegator" in service else "SERVICE_TYPE_SERVICE"

    def may_offer(self, submitter: str, consumer: str | None, provider: str, receiver: str) -> bool:
        """Whether this peer may offer a connection between these to `receiver`, who did not have it yet."""
        return self.offered_by == "signatory" or receiver != provider or submitter == consumer


def settle_parties(
    subject: str, actor: str | None, consumer: str, delegator: str | None
) -> tuple[str, str | None] | None:
    """(consumer, delegator) of a token that names `subject` and `actor`, under a grant between these peers.

    Which of the two is the delegator is told by the grant, whatever dialect the token is written in. None when the
    token names other peers than the grant.
    """
    if (subject, actor) in {(consumer, delegator), (delegator, consumer)}:
        return consumer, delegator
    return None


USUAL = Dialect()
"""The safest answers."""
