"""The municipality's application, against a simulated outway that is a real HTTP server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from demo_client import AppClient

from stelsel.base.errors import ConfigurationFault
from stelsel.demo.parking import FIELD_TOO_MANY, FIELDS
from stelsel.demo.parking.app import make_app, new_client
from stelsel.demo.population_register.answer import FIELDS as KNOWN_FIELDS

_NUMBER = "999993653"
_FORM = {"content-type": "application/x-www-form-urlencoded"}


class Outway(ThreadingHTTPServer):
    """Answers what it was told to answer, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.status, self.body = 200, b"{}"

    def answers(self, status: int, value: Any) -> None:
        self.status = status
        self.body = value if isinstance(value, bytes) else json.dumps(value).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Outway

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.send_header("Fsc-Transaction-Id", "0190aaaa-0000-7000-8000-000000000001")
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def outway() -> Iterator[Outway]:
    server = Outway()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(outway: Outway) -> Iterator[AppClient]:
    http = new_client()
    app = make_app(http, f"http://127.0.0.1:{outway.server_port}", "0363", now=lambda: 1_800_000_000.0)
    client = AppClient(app, base_url="http://localhost:7390")
    yield client
    client.run(http.aclose())
    client.close()


def _person(code: str = "0363", name: str = "Vaaleman Kleilaar") -> dict[str, Any]:
    person = {
        "naam": {"volledigeNaam": name},
        "adressering": {"adresregel1": "Nergensweg 1", "adresregel2": "1234 AB Amsterdam"},
        "gemeenteVanInschrijving": {"code": code},
    }
    return {"type": "RaadpleegMetBurgerservicenummer", "personen": [person]}


def test_it_asks_exactly_the_agreed_fields_through_the_outway(client: AppClient, outway: Outway):
    outway.answers(200, _person())
    response = client.post("/", data={"burgerservicenummer": "9999 93.653"})
    assert outway.asked == [
        (
            "/personen/personen",
            {"type": "RaadpleegMetBurgerservicenummer", "burgerservicenummer": [_NUMBER], "fields": list(FIELDS)},
        )
    ]
    assert "Een vergunning kan<" in response.text
    assert "Vaaleman Kleilaar" in response.text
    assert "0190aaaa-0000-7000-8000-000000000001" in response.text
    assert _NUMBER not in response.text
    assert response.url.query == b""
    assert set(FIELDS) | {FIELD_TOO_MANY} <= set(KNOWN_FIELDS)


def test_who_lives_elsewhere_gets_no_permit(client: AppClient, outway: Outway):
    outway.answers(200, _person(code="0599"))
    assert "Een vergunning kan niet" in client.post("/", data={"burgerservicenummer": _NUMBER}).text
    assert "A permit is not possible" in client.post("/en", data={"burgerservicenummer": _NUMBER}).text


def test_nobody_found_is_said(client: AppClient, outway: Outway):
    outway.answers(200, {"type": "RaadpleegMetBurgerservicenummer", "personen": []})
    assert "Niemand gevonden" in client.post("/", data={"burgerservicenummer": _NUMBER}).text


def test_a_refusal_is_shown_in_plain_words_with_the_field(client: AppClient, outway: Outway):
    problem = {
        "title": "This is not allowed",
        "status": 403,
        "detail": "These fields were not agreed",
        "detail_nl": "Deze gegevens <b>staan niet</b> in de afspraak",
        "refused": [FIELD_TOO_MANY, "<script>"],
    }
    outway.answers(403, problem)
    response = client.post("/", data={"burgerservicenummer": _NUMBER, "one_more": "1"})
    assert outway.asked[0][1]["fields"] == [*FIELDS, FIELD_TOO_MANY]
    assert "Deze vraag mag niet" in response.text
    assert f"<li>geboortedatum <code>{FIELD_TOO_MANY}</code>" in response.text
    assert "<script>" not in response.text
    assert "<b>staan" not in response.text
    assert "These fields were not agreed" in client.post("/en", data={"burgerservicenummer": _NUMBER}).text


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"not json"),
        (200, []),
        (200, {}),
        (200, {"personen": [{}, {}]}),
        (200, b"[" * 300_000),
        (200, b"[" * 100_000),
        (502, {"title": "bad gateway"}),
        (503, b""),
        (301, b""),
    ],
)
def test_an_unusable_answer_is_told_and_nothing_breaks(client: AppClient, outway: Outway, status: int, body: Any):
    outway.answers(status, body)
    response = client.post("/", data={"burgerservicenummer": _NUMBER})
    assert response.status_code == 200
    assert "geeft nu geen antwoord" in response.text
    assert f"code {status}" in response.text


def test_odd_members_in_an_answer_do_not_break_the_page(client: AppClient, outway: Outway):
    outway.answers(200, {"personen": [{"naam": 7, "adressering": [], "gemeenteVanInschrijving": {"code": None}}]})
    response = client.post("/", data={"burgerservicenummer": _NUMBER})
    assert "Een vergunning kan niet" in response.text
    assert "niet bekend" in response.text


def test_an_outway_that_is_not_there_is_told():
    http = new_client()
    client = AppClient(make_app(http, "http://127.0.0.1:1", "0363"), base_url="http://localhost:7390")
    assert "geeft nu geen antwoord" in client.post("/", data={"burgerservicenummer": _NUMBER}).text
    client.run(http.aclose())
    client.close()


@pytest.mark.parametrize("number", ["", "12", "999993654", "abc", "９９９９９３６５３"])
def test_a_wrong_number_is_not_asked_and_not_echoed(client: AppClient, outway: Outway, number: str):
    response = client.post("/", data={"burgerservicenummer": number})
    assert response.status_code == 400
    assert 'role="alert"' in response.text
    assert 'aria-invalid="true"' in response.text
    assert number == "" or number not in response.text.replace("12px", "")
    assert outway.asked == []


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"origin": "http://elders.example"}, b"burgerservicenummer=999993653", 403),
        ({"origin": "null"}, b"burgerservicenummer=999993653", 403),
        ({"sec-fetch-site": "cross-site"}, b"burgerservicenummer=999993653", 403),
        ({"host": "elders.example"}, b"burgerservicenummer=999993653", 403),
        ({"content-type": "application/json"}, b"{}", 400),
        ({}, b"\xff", 400),
        ({}, b"a=1&" * 11 + b"b=2", 400),
        ({}, b"a" * 5000, 413),
    ],
)
def test_what_another_site_or_a_broken_client_sends_is_refused(
    client: AppClient, outway: Outway, headers: dict[str, str], content: bytes, status: int
):
    response = client.post("/", content=content, headers=_FORM | headers)
    assert response.status_code == status
    assert outway.asked == []


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize(("path", "language"), [("/", "nl"), ("/en", "en")])
def test_the_page_has_what_assistive_technology_needs(client: AppClient, path: str, language: str):
    for response in (client.get(path), client.post(path, data={"burgerservicenummer": "1"})):
        tags = _Page(response.text).tags
        names = [tag for tag, _ in tags]
        assert dict(tags)["html"] == {"lang": language}
        assert all(names.count(tag) == 1 for tag in ("main", "h1", "header", "footer", "title", "form"))
        labelled = {attributes.get("for") for tag, attributes in tags if tag == "label"}
        assert {attributes["id"] for tag, attributes in tags if tag == "input"} == labelled
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        for _, attributes in tags:
            for name in ("aria-describedby", "aria-labelledby"):
                assert set((attributes.get(name) or "").split()) <= set(ids)
        assert "script" not in names
        assert not any("style" in attributes for _, attributes in tags)
        assert "default-src 'none'" in response.headers["content-security-policy"]
    assert client.get("/permit.css").headers["content-type"].startswith("text/css")


def test_parking_places_are_the_same_for_everyone_and_hold_nothing_about_people(client: AppClient):
    response = client.get("/parkeerplaatsen")
    areas = response.json()["parkeerplaatsen"]
    assert areas == client.get("/v1/parkeerplaatsen").json()["parkeerplaatsen"]
    assert len(areas) == 8
    for area in areas:
        assert 0 <= area["vrij"] <= area["capaciteit"]
        assert area["gemeente"] == "0363"
    assert response.headers["api-version"] == "1.0.0"
    assert client.get("/openapi.json").json()["info"]["title"] == "parkeerplaatsen"


@pytest.mark.parametrize(
    ("outway", "municipality"), [("http://127.0.0.1:1", "9999"), ("https://elders.example", "0363")]
)
def test_a_set_up_that_cannot_be_is_refused(outway: str, municipality: str):
    with pytest.raises(ConfigurationFault):
        make_app(new_client(), outway, municipality)
