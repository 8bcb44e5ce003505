"""The OpenAPI 3.0.3 document of `personen`, made from the same lists that the code obeys (API Design Rules)."""

from __future__ import annotations

from functools import cache
from typing import Any

from stelsel.demo.population_register import API_VERSION
from stelsel.demo.population_register.answer import FIELDS
from stelsel.demo.population_register.question import MAXIMUM_FIELDS, MAXIMUM_NUMBERS, MAXIMUM_RESULTS

_VERSION = {
    "API-Version": {"description": "Full version of the API", "schema": {"type": "string", "example": API_VERSION}}
}


@cache
def document() -> dict[str, Any]:
    """The document as a JSON value."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "personen",
            "description": "Searches the (synthetic) population register, in the manner of Haal Centraal BRP bevragen. "
            "`fields` is mandatory, and the answer holds those fields only.",
            "version": API_VERSION,
            "contact": {
                "name": "Bevolkingsregister (demo)",
                "url": "https://bevolkingsregister.example",
                "email": "personen@bevolkingsregister.example",
            },
            "license": {"name": "EUPL-1.2", "url": "https://eupl.eu/1.2/en/"},
        },
        "servers": [{"url": "https://bevolkingsregister.example/v1", "description": "through an outway of the group"}],
        "security": [{"fsc": []}],
        "tags": [{"name": "personen", "description": "People"}, {"name": "openapi", "description": "This document"}],
        "paths": {"/personen": {"post": _ask()}, "/openapi.json": {"get": _document()}},
        "components": {
            "securitySchemes": {
                "fsc": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "FSC access token bound to the caller's certificate; an outway adds it",
                }
            },
            "schemas": _questions() | {"Personen": _people(), "Persoon": _person(), "Probleem": _problem()},
        },
    }


def _ask() -> dict[str, Any]:
    kinds = list(_questions())
    return {
        "tags": ["personen"],
        "operationId": "bevraagPersonen",
        "summary": "Look up or search people",
        "description": "A question in the body, so that nothing personal is in a URL.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [{"$ref": f"#/components/schemas/{kind}"} for kind in kinds],
                        "discriminator": {
                            "propertyName": "type",
                            "mapping": {kind: f"#/components/schemas/{kind}" for kind in kinds},
                        },
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "The people found, with the fields asked",
                "headers": _VERSION,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Personen"}}},
            },
            "400": _fault("The question is not right; `invalidParams` says where"),
            "413": _fault("The question is larger than 32 KiB"),
            "500": _fault("A mistake on our side"),
        },
    }


def _document() -> dict[str, Any]:
    return {
        "tags": ["openapi"],
        "operationId": "getOpenapi",
        "summary": "This document",
        "description": "The OpenAPI document of this API.",
        "responses": {
            "200": {
                "description": "OK",
                "headers": _VERSION
                | {"access-control-allow-origin": {"description": "Every origin", "schema": {"type": "string"}}},
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "500": _fault("A mistake on our side"),
        },
    }


def _fault(description: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Probleem"}}}
    return {"description": description, "headers": _VERSION, "content": content}


def _questions() -> dict[str, Any]:
    fields = {
        "type": "array",
        "minItems": 1,
        "maxItems": MAXIMUM_FIELDS,
        "items": {"type": "string", "enum": sorted(FIELDS)},
    }
    number = {"type": "string", "pattern": "^[0-9]{9}$"}
    deceased = {"type": "boolean", "default": False}

    def question(kind: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": False,
            "required": ["type", *required, "fields"],
            "properties": {
                "type": {"type": "string", "enum": [kind]},
                **required,
                **(optional or {}),
                "fields": fields,
            },
        }

    def text(limit: int, minimum: int = 0) -> dict[str, Any]:
        return {"type": "string", "minLength": minimum, "maxLength": limit}

    return {
        "RaadpleegMetBurgerservicenummer": question(
            "RaadpleegMetBurgerservicenummer",
            {
                "burgerservicenummer": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAXIMUM_NUMBERS,
                    "items": number,
                }
            },
        ),
        "ZoekMetPostcodeEnHuisnummer": question(
            "ZoekMetPostcodeEnHuisnummer",
            {
                "postcode": {"type": "string", "pattern": "^[1-9][0-9]{3} ?[A-Za-z]{2}$"},
                "huisnummer": {"type": "integer", "minimum": 1, "maximum": 99999},
            },
            {"huisletter": text(1), "huisnummertoevoeging": text(4), "inclusiefOverledenPersonen": deceased},
        ),
        "ZoekMetGeslachtsnaamEnGeboortedatum": question(
            "ZoekMetGeslachtsnaamEnGeboortedatum",
            {"geslachtsnaam": text(200, 1), "geboortedatum": {"type": "string", "format": "date"}},
            {
                "voornamen": text(200),
                "voorvoegsel": text(10),
                "geslacht": {"type": "string", "enum": ["M", "V", "O"]},
                "inclusiefOverledenPersonen": deceased,
            },
        ),
    }


def _people() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "personen"],
        "properties": {
            "type": {"type": "string", "enum": list(_questions())},
            "personen": {
                "type": "array",
                "maxItems": MAXIMUM_RESULTS,
                "items": {"$ref": "#/components/schemas/Persoon"},
            },
        },
    }


def _person() -> dict[str, Any]:
    """The nesting of the fields as a schema; every leaf may be absent."""
    root: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": {}}
    for field, leaves in FIELDS.items():
        if leaves != (field,):
            continue
        *groups, name = field.split(".")
        place = root["properties"]
        for group in groups:
            place = place.setdefault(group, {"type": "object", "additionalProperties": False, "properties": {}})
            place = place["properties"]
        place[name] = _leaf(field, name)
    return root


def _leaf(field: str, name: str) -> dict[str, Any]:
    if name in {"leeftijd", "huisnummer", "jaar", "maand"}:
        return {"type": "integer"}
    if name in {"onbekend", "geheimhoudingPersoonsgegevens"}:
        return {"type": "boolean"}
    if field.endswith("datum.datum") or name == "datum":
        return {"type": "string", "format": "date"}
    return {"type": "string"}


def _problem() -> dict[str, Any]:
    wrong = {"name": {"type": "string"}, "reason": {"type": "string"}}
    return {
        "type": "object",
        "required": ["title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string"},
            "invalidParams": {"type": "array", "items": {"type": "object", "properties": wrong}},
        },
    }
