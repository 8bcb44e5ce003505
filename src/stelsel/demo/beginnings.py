"""What happened before a visitor comes: uses of data to look at, a refusal, and a proposal that waits for an answer."""

from __future__ import annotations

import json

import httpx

from stelsel.agreements.terms import LegalBasis, ProcessingActivity, Terms
from stelsel.demo.cast import BENEFIT_TERMS, GEMEENTE, REGIE, REGISTER, UITKERING, Actor
from stelsel.demo.country import MUNICIPALITY, Country
from stelsel.demo.population_register.store import notable_people
from stelsel.demo.scenario import opendata

SCHOOL_BUS_TERMS = Terms(
    purpose="Beoordelen of een kind vervoer naar school kan krijgen",
    legal_basis=LegalBasis(article="Wet op het primair onderwijs, artikel 4", ground="e"),
    processing_activity=ProcessingActivity(
        id="https://gemeente.example/verwerkingen/leerlingenvervoer", name="Leerlingenvervoer", version="1"
    ),
    fields=("naam.volledigeNaam", "leeftijd", "verblijfplaats.verblijfadres.postcode"),
    search_parameters=("burgerservicenummer",),
    retention="P2Y",
    confidentiality="confidential",
)


def first_uses(country: Country, parking: Terms) -> None:
    """Some uses of data, a refusal and an open proposal; a country that had them keeps them as they are."""
    rows = country.control(GEMEENTE).get("/agreements")
    if any(row["grants"][0]["service"] == "personen" for row in rows):
        return
    country.agree(GEMEENTE, REGISTER, "personen", parking)
    for number, resident in enumerate(notable_people(country.folder / "people.sqlite", 6, MUNICIPALITY)):
        _ask(country, GEMEENTE, resident.burgerservicenummer, parking.fields)
        if number % 2 == 0:
            _ask(country, UITKERING, resident.burgerservicenummer, BENEFIT_TERMS.fields)
        if number == 0:
            _ask(country, GEMEENTE, resident.burgerservicenummer, (*parking.fields, "geboorte.datum"))
    body = {"peer_id": REGISTER.peer_id, "service": "personen", "days": 365}
    country.control(GEMEENTE).post("/agreements", body | {"properties": SCHOOL_BUS_TERMS.to_properties()})


def open_up(country: Country) -> None:
    """Let the steward check everybody twice, for a consequence takes two findings, and publish the first open data."""
    for _ in range(2):
        country.control(REGIE).post("/commands/check")
    if not (country.data(REGISTER) / "opendata" / opendata.DATASET / "current").exists():
        opendata.publish(country)


def _ask(country: Country, actor: Actor, number: str, fields: tuple[str, ...]) -> None:
    question = {
        "type": "RaadpleegMetBurgerservicenummer",
        "burgerservicenummer": [number],
        "fields": list(fields),
    }
    url = f"{country.outway(actor)}/personen/personen"
    headers = {"content-type": "application/json"}
    httpx.post(url, content=json.dumps(question), headers=headers, timeout=30, trust_env=False)
