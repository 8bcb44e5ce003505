"""The catalogue, held against the official shapes of DCAT-AP-NL 3.0 and DCAT-AP 3.0.1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from opendata_samples import document, people

from stelsel.opendata import catalogue
from stelsel.opendata.schema import Schema
from stelsel.opendata.service import OpenData

_SHAPES = (
    "nl-3.0/dcat-ap-nl-SHACL.ttl",
    "nl-3.0/dcat-ap-nl-SHACL-aanbevolen.ttl",
    "nl-3.0/dcat-ap-nl-SHACL-klassebereik.ttl",
    "nl-3.0/dcat-ap-nl-SHACL-klassebereik-codelijsten.ttl",
    "ap-3.0.1/shapes.ttl",
)


@pytest.fixture
def turtle(new_service: Callable[..., OpenData]) -> str:
    service = new_service()
    service.publish(Schema.model_validate(document()), people())
    service.publish(
        Schema.model_validate(document(id="tweede", population="anderen", theme="REGI", licence="CC_BY_4_0")),
        people(seed=2),
    )
    return catalogue.turtle(catalogue.jsonld(service.datasets(), service.publisher, service.base_url)).decode()


@pytest.mark.external
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pyshacl uses what rdflib is leaving behind
@pytest.mark.parametrize("shapes", _SHAPES)
def test_the_catalogue_conforms_to_the_official_shapes(turtle: str, external_data: Path, shapes: str) -> None:
    from pyshacl import validate

    conforms, _, text = validate(turtle, shacl_graph=str(external_data / "dcat" / shapes), data_graph_format="turtle")
    assert conforms, text


@pytest.mark.external
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pyshacl uses what rdflib is leaving behind
def test_the_shapes_do_fire(turtle: str, external_data: Path) -> None:
    """An exam that passes everything proves nothing: without its theme a dataset must fail."""
    from pyshacl import validate

    broken = "\n".join(line.replace("dcat:theme", "dcat:keyword") for line in turtle.splitlines())
    conforms, _, _ = validate(broken, shacl_graph=str(external_data / "dcat" / _SHAPES[0]), data_graph_format="turtle")
    assert not conforms


def test_a_distribution_with_a_download_has_a_kind_and_a_format(turtle: str) -> None:
    import pyoxigraph

    store = pyoxigraph.Store()
    store.load(turtle, pyoxigraph.RdfFormat.TURTLE)
    found = store.query(
        "PREFIX dcat: <http://www.w3.org/ns/dcat#> PREFIX dct: <http://purl.org/dc/terms/> "
        "SELECT ?d ?kind ?format ?licence WHERE { ?d dcat:downloadURL ?u "
        "OPTIONAL { ?d dcat:mediaType ?kind } OPTIONAL { ?d dct:format ?format } OPTIONAL { ?d dct:license ?licence } }"
    )
    rows = [tuple(solution) for solution in found]  # type: ignore[union-attr]
    assert len(rows) == 6
    assert all(None not in row for row in rows)


def test_hostile_texts_stay_texts(new_service: Callable[..., OpenData]) -> None:
    import pyoxigraph

    service = new_service()
    hostile = {"nl": 'a" . <urn:x> <urn:y> <urn:z> . # \\ \u202e', "en": "x"}
    service.publish(Schema.model_validate(document(title=hostile)), people())
    data = catalogue.turtle(catalogue.jsonld(service.datasets(), service.publisher, service.base_url))
    triples = list(pyoxigraph.parse(data, pyoxigraph.RdfFormat.TURTLE))
    assert not [quad for quad in triples if quad.subject == pyoxigraph.NamedNode("urn:x")]
