"""Parking areas of the municipality: synthetic, and the same for everyone who asks in the same quarter of an hour."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from stelsel.demo.parking import API_VERSION

_NAMES = ("Stationsplein", "Marktgarage", "Havenkade", "Sportpark", "Ziekenhuis", "Zuiderpoort", "Theater", "Oosterhof")
_QUARTER = 15 * 60


def places(municipality: str, now: float) -> dict[str, Any]:
    """The parking areas with their capacity and the places free at `now` (seconds since the epoch)."""
    quarter = int(now // _QUARTER)
    areas = []
    for number, name in enumerate(_NAMES, start=1):
        seed = sha256(f"{municipality}:{name}".encode()).digest()
        capacity = 80 + 10 * (seed[0] % 60)
        moment = sha256(f"{municipality}:{name}:{quarter}".encode()).digest()
        areas.append(
            {
                "id": f"{municipality}-{number:02}",
                "naam": name,
                "gemeente": municipality,
                "capaciteit": capacity,
                "vrij": capacity * (10 + moment[0] % 80) // 100,
            }
        )
    return {"parkeerplaatsen": areas}


def document() -> dict[str, Any]:
    """The OpenAPI 3.0.3 document of the service."""
    version = {"API-Version": {"description": "Full version of the API", "schema": {"type": "string"}}}
    area = {
        "type": "object",
        "required": ["id", "naam", "gemeente", "capaciteit", "vrij"],
        "properties": {
            "id": {"type": "string"},
            "naam": {"type": "string"},
            "gemeente": {"type": "string", "pattern": "^[0-9]{4}$"},
            "capaciteit": {"type": "integer", "minimum": 0},
            "vrij": {"type": "integer", "minimum": 0},
        },
    }
    answer = {
        "type": "object",
        "required": ["parkeerplaatsen"],
        "properties": {"parkeerplaatsen": {"type": "array", "items": area}},
    }

    def get(tag: str, operation: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
        origin = {"access-control-allow-origin": {"description": "Every origin", "schema": {"type": "string"}}}
        ok = {"description": "OK", "headers": version | origin, "content": {"application/json": {"schema": schema}}}
        about = {"tags": [tag], "operationId": operation, "summary": summary, "description": summary}
        return {"get": about | {"responses": {"200": ok}}}

    return {
        "openapi": "3.0.3",
        "info": {
            "title": "parkeerplaatsen",
            "description": "Parking areas with their free places (synthetic). Holds nothing about people.",
            "version": API_VERSION,
            "contact": {
                "name": "Gemeente (demo)",
                "url": "https://gemeente.example",
                "email": "parkeren@gemeente.example",
            },
            "license": {"name": "EUPL-1.2", "url": "https://eupl.eu/1.2/en/"},
        },
        "servers": [{"url": "https://gemeente.example/v1", "description": "through an outway of the group"}],
        "security": [{"fsc": []}],
        "tags": [
            {"name": "parkeerplaatsen", "description": "Parking areas"},
            {"name": "openapi", "description": "This document"},
        ],
        "paths": {
            "/parkeerplaatsen": get("parkeerplaatsen", "getParkeerplaatsen", "All parking areas", answer),
            "/openapi.json": get("openapi", "getOpenapi", "This document", {"type": "object"}),
        },
        "components": {
            "securitySchemes": {
                "fsc": {"type": "http", "scheme": "bearer", "description": "FSC access token; an outway adds it"}
            }
        },
    }
