"""The catalogue in DCAT-AP-NL 3.0 (profile of DCAT-AP 3.0), as JSON-LD and as Turtle.

It is built once, as JSON-LD with every property that the profile makes mandatory and the recommended ones we know;
the Turtle is read from it, so the two cannot differ. Terms from code lists are described in the graph too (type and
label), so that the official range shapes can be checked without fetching anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stelsel.base.errors import NotFound
from stelsel.opendata.release import Release
from stelsel.opendata.schema import THEMES, Bilingual
from stelsel.opendata.settings import Publisher

PREFIXES = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dct": "http://purl.org/dc/terms/",
    "dcatap": "http://data.europa.eu/r5r/",
    "adms": "http://www.w3.org/ns/adms#",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "spdx": "http://spdx.org/rdf/terms#",
    "vcard": "http://www.w3.org/2006/vcard/ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_AUTHORITY = "http://publications.europa.eu/resource/authority"
_MEDIA = "https://www.iana.org/assignments/media-types"
_OPEN_API = "https://spec.openapis.org/oas/v3.0.3"
_FORMATS = {
    "csv": ("CSV", "text/csv"),
    "json": ("JSON", "application/json"),
    "parquet": ("PARQUET", "application/vnd.apache.parquet"),
}
Node = dict[str, Any]


def jsonld(releases: Sequence[Release], publisher: Publisher, base_url: str) -> Node:
    """The catalogue as a JSON-LD document. Raises `NotFound` while there is nothing to list: a catalogue without a
    dataset is not one (DCAT-AP-NL 3.0, Catalog.dataset 1..n)."""
    if not releases:
        raise NotFound("nothing has been published yet", next_step="publish a dataset with: stelsel publish")
    root = f"{base_url}/data"
    themes = sorted({release.schema.theme for release in releases})
    licences = sorted({release.schema.licence for release in releases})
    graph = [
        _catalog(releases, publisher, root),
        _service(releases, publisher, root, themes, licences),
        *(_dataset(release, publisher, root) for release in releases),
        *(_distribution(release, root, extension) for release in releases for extension in _FORMATS),
        _agent(publisher),
        _contact(publisher, root),
        *_terms(root, themes, licences),
    ]
    return {"@context": PREFIXES, "@graph": graph}


def turtle(document: Node) -> bytes:
    """The same catalogue as Turtle."""
    import pyoxigraph

    quads = pyoxigraph.parse(json.dumps(document), pyoxigraph.RdfFormat.JSON_LD)
    triples = [quad.triple for quad in quads]
    data = pyoxigraph.serialize(triples, format=pyoxigraph.RdfFormat.TURTLE, prefixes=PREFIXES)
    if data is None:
        raise TypeError("pyoxigraph wrote the Turtle nowhere")
    return data


def _catalog(releases: Sequence[Release], publisher: Publisher, root: str) -> Node:
    return {
        "@id": f"{root}/",
        "@type": "dcat:Catalog",
        "dct:title": [_text(f"Open data van {publisher.name}", "nl"), _text(f"Open data of {publisher.name}", "en")],
        "dct:description": [
            _text("Tabellen over mensen waarin niemand te herkennen is.", "nl"),
            _text("Tables about people in which nobody can be recognised.", "en"),
        ],
        "dct:publisher": _id(publisher.uri),
        "dct:creator": _id(publisher.uri),
        "dcat:contactPoint": _id(f"{root}/#contact"),
        "dct:language": _languages(),
        "dct:modified": _moment(max(release.created for release in releases)),
        "foaf:homepage": _id(f"{root}/#homepage"),
        "dcat:dataset": [_id(f"{root}/{release.dataset}") for release in releases],
        "dcat:service": _id(f"{root}/#service"),
    }


def _dataset(release: Release, publisher: Publisher, root: str) -> Node:
    schema = release.schema
    address = f"{root}/{release.dataset}"
    return {
        "@id": address,
        "@type": "dcat:Dataset",
        "dct:identifier": address,
        "dct:title": _both(schema.title),
        "dct:description": _both(schema.description),
        "dct:accessRights": _id(f"{_AUTHORITY}/access-right/{schema.access_rights}"),
        "dcat:contactPoint": _id(f"{root}/#contact"),
        "dct:creator": _id(publisher.uri),
        "dct:publisher": _id(publisher.uri),
        "dcat:theme": _id(f"{_AUTHORITY}/data-theme/{schema.theme}"),
        "dcat:keyword": [_text(word, "nl") for word in schema.keywords],
        "dct:language": _languages(),
        "dct:modified": _moment(release.created),
        "dcat:version": release.name,
        "dct:temporal": {
            "@type": "dct:PeriodOfTime",
            "dcat:startDate": _day(release.reference.isoformat()),
            "dcat:endDate": _day(release.reference.isoformat()),
        },
        "dct:conformsTo": _id(_OPEN_API),
        "foaf:page": _id(f"{address}.json#page"),
        "dcat:landingPage": _id(f"{address}#landing-page"),
        "dcat:distribution": [_id(f"{address}.{extension}#distribution") for extension in _FORMATS],
    }


def _distribution(release: Release, root: str, extension: str) -> Node:
    """A gate of our own beside the shapes: with a downloadURL go a mediaType and a format; a stored file has a size
    and a checksum."""
    name, media_type = _FORMATS[extension]
    address = f"{root}/{release.dataset}.{extension}"
    node: Node = {
        "@id": f"{address}#distribution",
        "@type": "dcat:Distribution",
        "dct:title": [
            _text(f"{release.schema.title.nl} ({name})", "nl"),
            _text(f"{release.schema.title.en} ({name})", "en"),
        ],
        "dcat:accessURL": _id(address),
        "dcat:downloadURL": _id(address),
        "dcat:accessService": _id(f"{root}/#service"),
        "dct:license": _id(f"{_AUTHORITY}/licence/{release.schema.licence}"),
        "dct:format": _id(f"{_AUTHORITY}/file-type/{name}"),
        "dcat:mediaType": _id(f"{_MEDIA}/{media_type}"),
        "dct:language": _languages(),
        "dct:conformsTo": _id(_OPEN_API),
        "dct:modified": _moment(release.created),
    }
    if extension == "parquet":
        node["dcat:byteSize"] = {"@value": str(release.size), "@type": "xsd:nonNegativeInteger"}
        node["spdx:checksum"] = {
            "@type": "spdx:Checksum",
            "spdx:algorithm": _id("http://spdx.org/rdf/terms#checksumAlgorithm_sha256"),
            "spdx:checksumValue": {"@value": release.sha256, "@type": "xsd:hexBinary"},
        }
    return node


def _service(
    releases: Sequence[Release], publisher: Publisher, root: str, themes: Sequence[str], licences: Sequence[str]
) -> Node:
    return {
        "@id": f"{root}/#service",
        "@type": "dcat:DataService",
        "dct:identifier": f"{root}/#service",
        "dct:title": [_text("API voor open data", "nl"), _text("Open data API", "en")],
        "dct:description": [
            _text("Filteren, sorteren en bladeren door de gepubliceerde tabellen.", "nl"),
            _text("Filter, sort and page through the published tables.", "en"),
        ],
        "dcat:endpointURL": _id(f"{root}/"),
        "dcat:endpointDescription": _id(f"{root}/openapi.json"),
        "dcat:servesDataset": [_id(f"{root}/{release.dataset}") for release in releases],
        "dct:accessRights": _id(f"{_AUTHORITY}/access-right/PUBLIC"),
        "dcat:contactPoint": _id(f"{root}/#contact"),
        "dct:license": _id(f"{_AUTHORITY}/licence/{licences[0]}"),
        "dct:publisher": _id(publisher.uri),
        "dct:creator": _id(publisher.uri),
        "dcat:theme": [_id(f"{_AUTHORITY}/data-theme/{theme}") for theme in themes],
        "dcat:keyword": [_text("open data", "nl")],
        "dct:language": _languages(),
        "dct:conformsTo": _id(_OPEN_API),
    }


def _agent(publisher: Publisher) -> Node:
    return {"@id": publisher.uri, "@type": "foaf:Agent", "foaf:name": _text(publisher.name, "nl")}


def _contact(publisher: Publisher, root: str) -> Node:
    return {
        "@id": f"{root}/#contact",
        "@type": ["vcard:Kind", "vcard:Organization"],
        "vcard:fn": publisher.contact_name,
        "vcard:hasEmail": _id(f"mailto:{publisher.contact_email}"),
    }


def _terms(root: str, themes: Sequence[str], licences: Sequence[str]) -> list[Node]:
    """What the code lists say of the terms used, as far as the range shapes of the profile look at it."""
    concepts = [(f"{_AUTHORITY}/data-theme/{theme}", "skos:Concept", THEMES[theme]) for theme in themes]
    documents: list[tuple[str, str, str]] = [
        (f"{root}/#homepage", "foaf:Document", "Open data"),
        (_OPEN_API, "dct:Standard", "OpenAPI 3.0.3"),
        (f"{_AUTHORITY}/access-right/PUBLIC", "dct:RightsStatement", "openbaar"),
        (f"{_AUTHORITY}/language/NLD", "dct:LinguisticSystem", "Nederlands"),
        (f"{_AUTHORITY}/language/ENG", "dct:LinguisticSystem", "Engels"),
        *((f"{_AUTHORITY}/licence/{licence}", "dct:LicenseDocument", licence) for licence in licences),
        *((f"{_AUTHORITY}/file-type/{name}", "dct:MediaTypeOrExtent", name) for name, _ in _FORMATS.values()),
        *((f"{_MEDIA}/{kind}", "dct:MediaType", kind) for _, kind in _FORMATS.values()),
    ]
    return [
        *({"@id": uri, "@type": kind, "skos:prefLabel": _text(label, "nl")} for uri, kind, label in concepts),
        *({"@id": uri, "@type": kind, "rdfs:label": _text(label, "nl")} for uri, kind, label in documents),
    ]


def _id(uri: str) -> Node:
    return {"@id": uri}


def _text(value: str, language: str) -> Node:
    return {"@value": value, "@language": language}


def _both(text: Bilingual) -> list[Node]:
    return [_text(text.nl, "nl"), _text(text.en, "en")]


def _languages() -> list[Node]:
    return [_id(f"{_AUTHORITY}/language/NLD"), _id(f"{_AUTHORITY}/language/ENG")]


def _moment(value: str) -> Node:
    return {"@value": value, "@type": "xsd:dateTime"}


def _day(value: str) -> Node:
    return {"@value": value, "@type": "xsd:date"}
