"""The OpenAPI document of the open data API, after the API Design Rules."""

from __future__ import annotations

from typing import Any

from stelsel.opendata.query import DEFAULT_LIMIT, MAXIMUM_LIMIT
from stelsel.opendata.settings import Publisher

VERSION = "1.0.0"


def document(publisher: Publisher, base_url: str) -> dict[str, Any]:
    """OpenAPI 3.0.3 of everything under /data/."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": f"Open data van {publisher.name}",
            "description": "Tabellen over mensen waarin niemand te herkennen is. Een cel die te weinig mensen telt, of "
            "zo'n cel zou verraden, is onderdrukt: `aantal` is dan null en `status` is `suppressed`. Filteren gaat per "
            "kolom: `kolom=waarde`, of met een vergelijking: `kolom[gte]=waarde` (not, gt, gte, lt, lte).",
            "version": VERSION,
            "contact": {"name": publisher.contact_name, "email": publisher.contact_email, "url": publisher.uri},
        },
        "servers": [{"url": f"{base_url}/data"}],
        "security": [],
        "tags": [{"name": "catalogus"}, {"name": "gegevens"}],
        "paths": {
            "/": {"get": _get("getDatasets", "catalogus", "Alle datasets", {"application/json": _OBJECT})},
            "/catalog.ttl": {
                "get": _get(
                    "getCatalogTurtle", "catalogus", "De catalogus in DCAT-AP-NL (Turtle)", {"text/turtle": _TEXT}
                )
            },
            "/catalog.jsonld": {
                "get": _get(
                    "getCatalogJsonld",
                    "catalogus",
                    "De catalogus in DCAT-AP-NL (JSON-LD)",
                    {"application/ld+json": _OBJECT},
                )
            },
            "/openapi.json": {"get": _get("getOpenapi", "catalogus", "Dit document", {"application/json": _OBJECT})},
            "/{dataset}": {
                "get": _get(
                    "getDataset", "gegevens", "Wat een dataset is en hoe hij is gemaakt", {"application/json": _OBJECT}
                ),
                "parameters": [_DATASET],
            },
            "/{dataset}.json": {
                "get": _get("getRows", "gegevens", "Rijen, per bladzijde", {"application/json": _PAGE}, _QUESTION),
                "parameters": [_DATASET],
            },
            "/{dataset}.csv": {
                "get": _get("getRowsCsv", "gegevens", "Alle rijen van het antwoord", {"text/csv": _TEXT}, _QUESTION),
                "parameters": [_DATASET],
            },
            "/{dataset}.parquet": {
                "get": _get("getParquet", "gegevens", "De hele uitgave", {"application/vnd.apache.parquet": _BINARY}),
                "parameters": [_DATASET],
            },
        },
        "components": {"schemas": {"Problem": _PROBLEM}},
    }


_TEXT = {"schema": {"type": "string"}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_OBJECT = {"schema": {"type": "object"}}
_CELL = {"type": "object", "additionalProperties": True}
_PAGE = {
    "schema": {
        "type": "object",
        "required": ["dataset", "release", "data", "_links"],
        "properties": {
            "dataset": {"type": "string"},
            "release": {"type": "string"},
            "data": {"type": "array", "maxItems": MAXIMUM_LIMIT, "items": _CELL},
            "facets": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "object"}}},
            "_links": {"type": "object", "properties": {"self": _CELL, "next": _CELL}},
        },
    }
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "next_step": {"type": "string"},
    },
}
_DATASET = {"name": "dataset", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 64}}
_QUESTION = [
    {
        "name": "sort",
        "in": "query",
        "description": "kolom om op te sorteren; met een min ervoor van hoog naar laag",
        "schema": {"type": "string"},
    },
    {
        "name": "limit",
        "in": "query",
        "description": f"aantal rijen; zonder deze parameter {DEFAULT_LIMIT} (JSON) of alle (CSV)",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAXIMUM_LIMIT},
    },
    {
        "name": "next",
        "in": "query",
        "description": "volgende bladzijde",
        "schema": {"type": "string", "maxLength": 1000},
    },
    {
        "name": "facet",
        "in": "query",
        "description": "kolom waarvan geteld wordt hoeveel rijen elke waarde hebben",
        "schema": {"type": "string"},
    },
]
_HEADERS = {
    "API-Version": {"description": "versie van deze API", "schema": {"type": "string"}},
    "access-control-allow-origin": {"description": "alle herkomsten mogen lezen", "schema": {"type": "string"}},
    "ETag": {"description": "verandert met elke uitgave", "schema": {"type": "string"}},
}


def _get(
    name: str, tag: str, description: str, content: dict[str, Any], parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    problem = {
        "description": "er is iets mis met de vraag",
        "headers": {"API-Version": _HEADERS["API-Version"]},
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return {
        "operationId": name,
        "tags": [tag],
        "description": description,
        "parameters": parameters or [],
        "responses": {
            "200": {"description": description, "headers": _HEADERS, "content": content},
            "400": problem,
            "404": problem,
        },
    }
