"""The open data API under /data/: the catalogue, what each dataset is, and its rows as JSON and CSV.

Read-only and open to everyone: any origin may read it, a release's hash is the ETag, and every error is a problem
document (RFC 9457) that names what does exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from stelsel.base.canonical import canonical
from stelsel.base.errors import Fault
from stelsel.base.web import problem_response
from stelsel.opendata import catalogue, openapi
from stelsel.opendata.release import Release, check, column_names
from stelsel.opendata.schema import WOO_GROUNDS
from stelsel.opendata.service import OpenData

_HEADERS = {
    "API-Version": openapi.VERSION,
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "API-Version, ETag, Link",
    "X-Content-Type-Options": "nosniff",
}
Handler = Callable[[OpenData, Request], Response]


def routes(service: OpenData) -> list[BaseRoute]:
    """Everything under /data/."""

    def route(path: str, handler: Handler) -> Route:
        return Route(path, _endpoint(service, handler), methods=["GET"])

    return [
        route("/data/", _datasets),
        route("/data/catalog.ttl", _turtle),
        route("/data/catalog.jsonld", _jsonld),
        route("/data/openapi.json", _openapi),
        route("/data/{dataset}.json", _rows),
        route("/data/{dataset}.csv", _csv),
        route("/data/{dataset}.parquet", _parquet),
        route("/data/{dataset}", _dataset),
    ]


def _endpoint(service: OpenData, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            response = await run_in_threadpool(handler, service, request)
        except Fault as fault:
            response = problem_response(fault)
        response.headers.update(_HEADERS)
        return response

    return endpoint


def describe(release: Release, base_url: str) -> dict[str, Any]:
    """What a dataset is, for readers: its columns, how people are protected, and where to get it."""
    schema, address = release.schema, f"{base_url}/data/{release.dataset}"
    texts = {"title": schema.title.model_dump(), "description": schema.description.model_dump()}
    return {
        "id": release.dataset,
        **texts,
        "theme": schema.theme,
        "licence": schema.licence,
        "release": release.name,
        "reference": release.reference.isoformat(),
        "created": release.created,
        "columns": list(column_names(schema)),
        "dimensions": [
            {"name": one.name, "title": one.title.model_dump(), "total": one.total, "column": one.column}
            for one in schema.dimensions
        ],
        "closed_columns": [
            {"name": column.name, "ground": column.ground, "protects": WOO_GROUNDS[column.ground]}
            for column in schema.columns
            if column.ground
        ],
        "rows": release.document["rows"],
        "method": release.document["method"],
        "audit": release.document["audit"],
        "sha256": release.sha256,
        "_links": {
            "self": {"href": address},
            **{kind: {"href": f"{address}.{kind}"} for kind in ("json", "csv", "parquet")},
        },
    }


def _datasets(service: OpenData, request: Request) -> Response:
    releases = service.datasets()
    document = {
        "publisher": {"name": service.publisher.name, "uri": service.publisher.uri},
        "datasets": [describe(release, service.base_url) for release in releases],
        "_links": {
            "self": {"href": f"{service.base_url}/data/"},
            "dcat": {"href": f"{service.base_url}/data/catalog.ttl"},
            "describedby": {"href": f"{service.base_url}/data/openapi.json"},
        },
    }
    return _cached(request, releases, lambda: JSONResponse(document))


def _turtle(service: OpenData, request: Request) -> Response:
    releases = service.datasets()
    document = catalogue.jsonld(releases, service.publisher, service.base_url)
    return _cached(
        request, releases, lambda: Response(catalogue.turtle(document), media_type="text/turtle; charset=utf-8")
    )


def _jsonld(service: OpenData, request: Request) -> Response:
    releases = service.datasets()
    document = catalogue.jsonld(releases, service.publisher, service.base_url)
    return _cached(request, releases, lambda: JSONResponse(document, media_type="application/ld+json"))


def _openapi(service: OpenData, request: Request) -> Response:
    return _cached(request, [], lambda: JSONResponse(openapi.document(service.publisher, service.base_url)))


def _dataset(service: OpenData, request: Request) -> Response:
    release = service.dataset(request.path_params["dataset"])
    return _cached(request, [release], lambda: JSONResponse(describe(release, service.base_url)))


def _rows(service: OpenData, request: Request) -> Response:
    parameters = request.query_params.multi_items()
    page = service.rows(request.path_params["dataset"], parameters)
    release = page.release
    address = f"{service.base_url}/data/{release.dataset}.json"
    links = {"self": {"href": _address(address, parameters)}}
    headers = {}
    if page.next is not None:
        others = [(name, value) for name, value in parameters if name.removeprefix("_") != "next"]
        links["next"] = {"href": _address(address, [*others, ("next", page.next)])}
        headers["Link"] = f'<{links["next"]["href"]}>; rel="next"'
    document: dict[str, Any] = {
        "dataset": release.dataset,
        "release": release.name,
        "data": [dict(zip(page.columns, row, strict=True)) for row in page.rows],
        "_links": links,
    }
    if page.facets:
        document["facets"] = {
            column: [{"value": value, "rows": number} for value, number in found]
            for column, found in page.facets.items()
        }
    return _cached(request, [release], lambda: JSONResponse(document, headers=headers))


def _csv(service: OpenData, request: Request) -> Response:
    dataset = request.path_params["dataset"]
    release = service.dataset(dataset)
    lines = service.csv(dataset, request.query_params.multi_items())
    headers = {"Content-Disposition": f'attachment; filename="{release.dataset}.csv"'}
    return _cached(
        request,
        [release],
        lambda: StreamingResponse(lines, media_type="text/csv; charset=utf-8; header=present", headers=headers),
    )


def _parquet(service: OpenData, request: Request) -> Response:
    release = service.dataset(request.path_params["dataset"])
    check(release)
    return _cached(
        request,
        [release],
        lambda: FileResponse(
            release.parquet, media_type="application/vnd.apache.parquet", filename=f"{release.dataset}.parquet"
        ),
    )


def _address(address: str, parameters: Iterable[tuple[str, str]]) -> str:
    question = urlencode(list(parameters))
    return f"{address}?{question}" if question else address


def _cached(request: Request, releases: list[Release], make: Callable[[], Response]) -> Response:
    """The answer with an ETag of the releases it was made of and the address; 304 when the caller has it already."""
    parts = [request.url.path, request.url.query, [release.sha256 for release in releases], openapi.VERSION]
    etag = f'"{hashlib.sha256(canonical(parts)).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "public, max-age=60"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "")[:2000].split(",")]
    response = Response(status_code=304) if etag in known or "*" in known else make()
    response.headers.update(headers)
    return response
