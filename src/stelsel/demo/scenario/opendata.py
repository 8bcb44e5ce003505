"""The step of the builder: data about everybody, in which nobody can be recognised."""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import closing

import httpx

from stelsel.demo.cast import REGISTER
from stelsel.demo.country import Country
from stelsel.demo.scenario.play import Evidence, Story, expect

DATASET = "inwoners-per-gemeente-en-leeftijd"
_RESIDENTS = "FROM persons WHERE suspension = '' AND municipality_code <> '1999'"
"""Who lives in a municipality: not who died or left (element 07.67.20), nor who is registered abroad (RNI, 1999)."""


def publish(country: Country) -> Evidence:
    """Let the register make a release; gives what the node said of it."""
    made: Evidence = country.control(REGISTER).post(
        "/commands/publish",
        {
            "schema": str(country.folder / REGISTER.key / "residents.toml"),
            "source": str(country.folder / "people.sqlite"),
            "query": f"SELECT * {_RESIDENTS}",
        },
    )
    return made


def release(story: Story) -> Evidence:
    """The register releases residents by municipality and age group; small cells are protected for good."""
    country = story.country
    made = publish(country)
    base = f"{country.web(REGISTER)}/data"
    whole = _get(f"{base}/{DATASET}.csv").text
    rows = list(csv.DictReader(io.StringIO(whole)))
    expect(len(rows) == made["rows"], "the CSV holds every row", (len(rows), made["rows"]))
    catalogue = _get(f"{base}/catalog.ttl").text
    expect(DATASET in catalogue and "dcat:" in catalogue, "the catalogue lists it as DCAT", catalogue[:200])

    with closing(sqlite3.connect(f"file:{country.folder / 'people.sqlite'}?mode=ro", uri=True)) as database:
        biggest, people = database.execute(
            f"SELECT municipality_code, count(*) {_RESIDENTS} GROUP BY 1 ORDER BY 2 DESC LIMIT 1"
        ).fetchone()
        small = database.execute(
            f"SELECT count(*) FROM (SELECT 1 {_RESIDENTS} GROUP BY municipality_code HAVING count(*) < 10)"  # noqa: S608
        ).fetchone()[0]
    answer = _get(f"{base}/{DATASET}.json?gemeente=GM{biggest}&leeftijd=totaal").json()
    expect(len(answer["data"]) == 1, "a filtered query gives that one row", answer)
    expect(answer["data"][0]["aantal"] == people, "a published cell is the true count", (people, answer["data"]))
    audit = made["audit"]
    expect(made["suppressed"] > 0 and audit["failed"] == 0, "small cells are suppressed and the audit passed", made)
    return {
        "rows": made["rows"],
        "suppressed": made["suppressed"],
        "municipalities with fewer than 10 people": small,
        "audited cells": audit["checked"],
        "narrowest interval that a reader can compute": audit["narrowest_proven_width"],
        "release": made["release"],
    }


def _get(url: str) -> httpx.Response:
    answer = httpx.get(url, timeout=60, trust_env=False)
    expect(answer.status_code == 200, f"{url} answers", f"{answer.status_code} {answer.text[:300]}")
    return answer
