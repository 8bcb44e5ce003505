"""The published OpenAPI documents of FSC Core 2.0.0 and Logging 1.1.0, with what is wrong in them put right.

Each correction says what is wrong and why we know. Nothing is left out because our manager answers otherwise: where a
document and the text of the standard differ, the text decides; where the text is silent, the group's rules
(Digikoppeling 3.4.3) do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
_LARGEST = 2**53 - 1
PEER_ID = "^[0-9]{20}$"


@dataclass(frozen=True)
class Correction:
    """One defect of a document: why it is one, and what puts it right."""

    reason: str
    apply: Callable[[Document], None]


def corrected(path: Path, corrections: tuple[Correction, ...]) -> Document:
    """The document as it should read. Fails when a defect is no longer there: then its correction must go."""
    document: Document = yaml.safe_load(path.read_text())
    document["info"]["version"] = str(document["info"]["version"])
    for correction in corrections:
        before = yaml.safe_dump(document)
        correction.apply(document)
        assert yaml.safe_dump(document) != before, f"no longer needed: {correction.reason}"
    return document


def _schemas(document: Document) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"]
    return found


def _operations(document: Document) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, found) for path, item in document["paths"].items() for method, found in item.items()]


def _update(schema: str, **members: Any) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        _schemas(document)[schema].update(members)

    return apply


def _replace(schema: str, **members: Any) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        _schemas(document)[schema] = members

    return apply


def _member(schema: str, member: str, **members: Any) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        _schemas(document)[schema]["properties"][member] = members

    return apply


def _types(**schema_to_type: str) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        for schema, value in schema_to_type.items():
            _schemas(document)[schema]["properties"]["type"] = {"type": "string", "enum": [value]}

    return apply


def _error_codes(document: Document) -> None:
    codes = _schemas(document)["managerErrorCode"]["enum"]
    codes.remove("ERROR_CODE_PEER_NOT_PART_OF_CONTRACT")
    codes += [
        "ERROR_CODE_SUBMITTING_PEER_NOT_PART_OF_CONTRACT",
        "ERROR_CODE_RECEIVING_PEER_NOT_PART_OF_CONTRACT",
        "ERROR_CODE_UNKNOWN_FSC_VERSION",
    ]


def _own_codes(document: Document) -> None:
    own = {"type": "string", "pattern": "^STELSEL_[A-Z_]+$"}
    _schemas(document)["errorCode"]["oneOf"].append(own)


def _thumbprint_name(document: Document) -> None:
    members = _schemas(document)["jwk"]["properties"]
    members["x5t#S256"] = members.pop("x5t#s256")


def _key_length(document: Document) -> None:
    coordinate = _schemas(document)["ecPublicKey"]["properties"]["y"]
    del coordinate["minLength"], coordinate["maxLength"]


def _key_members(document: Document) -> None:
    _schemas(document)["ecPublicKey"]["required"] = ["crv", "x", "y"]
    _schemas(document)["rsaPublicKey"]["required"] = ["n", "e"]


def _listing(document: Document) -> None:
    _schemas(document)["serviceListing"]["required"] = ["data"]


def _grants(document: Document) -> None:
    _schemas(document)["contractContent"]["properties"]["grants"].update(minItems=1, maxItems=10)


def _whole_numbers(document: Document) -> None:
    def bound(part: Any) -> None:
        if isinstance(part, dict):
            if part.get("format") == "int64":
                part["maximum"] = _LARGEST
            for each in part.values():
                bound(each)
        elif isinstance(part, list):
            for each in part:
                bound(each)

    bound(document)


def _address(document: Document) -> None:
    parameter = document["components"]["parameters"]["headerFscManagerAddress"]
    parameter["schema"] = {"type": "string", "pattern": r"^https://[a-z][a-z0-9-]{0,40}\.example:(443|8443)$"}


def _hash_in_path(document: Document) -> None:
    parameter = document["components"]["parameters"]["pathContractContentHash"]
    parameter["schema"] = {"type": "string", "pattern": r"^\$1\$1\$[A-Za-z0-9_-]{86}$"}


def _cursor(document: Document) -> None:
    document["components"]["parameters"]["queryPaginationCursor"]["schema"] = {"type": "string", "enum": [""]}


def _filters(document: Document) -> None:
    for path, _, operation in _operations(document):
        for parameter in operation.get("parameters", []):
            schema = parameter.get("schema", {})
            if schema.get("type") == "array" and parameter["name"] != "peer_id":
                schema["items"] = {"type": "string"}
            elif parameter.get("name") in {"peer_name", "service_name"} or (path, parameter.get("name")) == (
                "/services",
                "peer_id",
            ):
                parameter["schema"] = {"type": "string"}


def _token_object(document: Document) -> None:
    token = document["paths"]["/token"]["post"]
    token["requestBody"]["required"] = True
    token["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]["type"] = "object"


def _told_errors(document: Document) -> None:
    error = {"$ref": "#/components/schemas/error"}
    told = {
        "description": "refused",
        "headers": {"Fsc-Error-Code": {"$ref": "#/components/headers/FscErrorCode"}},
        "content": {"application/json": {"schema": error}},
    }
    for path, _, operation in _operations(document):
        if path != "/token":
            operation["responses"].setdefault(400, told)


def _logging_errors(document: Document) -> None:
    _schemas(document)["error"] = {
        "type": "object",
        "required": ["message", "domain", "code"],
        "properties": {
            "message": {"type": "string"},
            "domain": {"type": "string", "enum": ["ERROR_DOMAIN_MANAGER"]},
            "code": {"type": "string", "pattern": "^(ERROR_CODE|STELSEL)_[A-Z_]+$"},
        },
    }
    for _, _, operation in _operations(document):
        operation["responses"][400] = {
            "description": "refused",
            "headers": {"Fsc-Error-Code": {"schema": {"type": "string"}, "required": True}},
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}},
        }


_SERVICE_NAME = "^[a-zA-Z0-9._-]{1,100}$"

BOTH = (
    Correction(
        "a peer id is an OIN of 20 digits in this group; the documents say 3..255 and 1..20",
        _update("peerID", pattern=PEER_ID, minLength=20, maxLength=20),
    ),
    Correction(
        "4.2.1.1 gives a pattern of 1 to 100 characters for a service's name, the documents say 3..255",
        _update("serviceName", pattern=_SERVICE_NAME, minLength=1, maxLength=100),
    ),
    Correction("contracts are hashed as I-JSON (RFC 8785), which knows no whole numbers over 2^53", _whole_numbers),
    Correction("a cursor is opaque: only those that the manager gave are valid, and a first page has none", _cursor),
    Correction("a filter that no name or hash can meet finds nothing; a part of a name need not be a name", _filters),
)

MANAGER = (
    *BOTH,
    Correction("the codes of 4.4.5 in the text: one was split in two, and one for the version was added", _error_codes),
    Correction("rules without a code of their own need one; 4.4.5 does not forbid others", _own_codes),
    Correction("the version is 2.0.0 (4.1.1); the document says 1.0.0 in /peer", _update("fscVersion", enum=["2.0.0"])),
    Correction(
        "the version in a contract must be 2.0.0 (4.2.1); the document allows any text",
        _member("contractContent", "fsc_version", type="string", enum=["2.0.0"]),
    ),
    Correction(
        "an iv must be a UUID (4.2.1); the document only counts its characters",
        _member("contractContent", "iv", type="string", format="uuid"),
    ),
    Correction(
        "a group id has a form (4.1.2)",
        _member("contractContent", "group_id", type="string", pattern="^[a-zA-Z0-9./_-]{1,100}$"),
    ),
    Correction("a contract has at least one grant, and at most ten (Digikoppeling 3.4.3)", _grants),
    Correction(
        "each grant has its own type; that any may say any, makes `oneOf` fail where two match",
        _types(
            grantServicePublication="GRANT_TYPE_SERVICE_PUBLICATION",
            grantServiceConnection="GRANT_TYPE_SERVICE_CONNECTION",
            grantDelegatedServiceConnection="GRANT_TYPE_DELEGATED_SERVICE_CONNECTION",
            grantDelegatedServicePublication="GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION",
            service="SERVICE_TYPE_SERVICE",
            delegatedService="SERVICE_TYPE_DELEGATED_SERVICE",
            serviceListingService="SERVICE_TYPE_SERVICE",
            serviceListingDelegatedService="SERVICE_TYPE_DELEGATED_SERVICE",
            outwayIdentificationPublicKeyThumbprint="OUTWAY_IDENTIFICATION_TYPE_PUBLIC_KEY_THUMBPRINT",
            outwayIdentificationDomainName="OUTWAY_IDENTIFICATION_TYPE_DOMAIN_NAME",
        ),
    ),
    Correction("`type` is a member of `data` in a listed service, yet asked beside it", _listing),
    Correction(
        "a thumbprint is 64 hexadecimal digits (4.1.6.2)", _update("publicKeyThumbprint", pattern="^[0-9a-f]{64}$")
    ),
    Correction(
        "a domain name has a form (RFC 1035)",
        _replace("domainName", type="string", pattern="^[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{2,10})$"),
    ),
    Correction(
        "the header must be https with a port of the group (4.4.4; 4.1.1); the document allows any text", _address
    ),
    Correction("the hash in the path has a form (4.2.4)", _hash_in_path),
    Correction("RFC 7517 4.9: the member is x5t#S256, the document says x5t#s256", _thumbprint_name),
    Correction(
        "base64url of a P-256 coordinate is 43 characters, not 66: that is the size of P-521's in bytes", _key_length
    ),
    Correction("without required members every key is both EC and RSA, and `oneOf` fails", _key_members),
    Correction("RFC 6749 4.4.2: the form is required, and an object", _token_object),
    Correction(
        "4.4.5: every refusal has the form of an error; the document names them for three calls only", _told_errors
    ),
)

LOGGING = (
    *BOTH,
    Correction(
        "each kind of source and destination has its own type, else `oneOf` fails where two match",
        _types(
            source="SOURCE_TYPE_SOURCE",
            sourceDelegated="SOURCE_TYPE_DELEGATED_SOURCE",
            destination="DESTINATION_TYPE_DESTINATION",
            destinationDelegated="DESTINATION_TYPE_DELEGATED_DESTINATION",
        ),
    ),
    Correction("the document names no refusals; errors of a manager have one form (FSC Core 4.4.5)", _logging_errors),
)
