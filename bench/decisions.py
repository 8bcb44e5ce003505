"""Decisions a second on one core: the bare decision, with the request read, and AuthZEN with JSON in and out.

    python bench/decisions.py [--agreements 200] [--seconds 1]

Prints one JSON object. Every figure is of distinct requests taken in turn, the best of three runs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.services import Service
from stelsel.agreements.terms import LegalBasis, ProcessingActivity, Terms
from stelsel.base.canonical import parse_object
from stelsel.privacy.authzen import AgreementIndex, evaluate, read_question
from stelsel.privacy.decision import decide
from stelsel.privacy.guard import oversupplied
from stelsel.privacy.request import DataRequest, read_request

NOW = 1_000.0
SERVICE = Service(name="personen", endpoint="http://127.0.0.1:1", personal=True, records="personen")
FIELDS = (
    "naam",
    "leeftijd",
    "geboorte.datum",
    "verblijfplaats.verblijfadres.postcode",
    "verblijfplaats.verblijfadres.huisnummer",
    "verblijfplaats.verblijfadres.woonplaats",
    "gemeenteVanInschrijving",
    "nationaliteiten",
)
REQUESTS = (
    (("naam.voornamen", "leeftijd"), ("burgerservicenummer",)),
    (("naam.geslachtsnaam", "verblijfplaats.verblijfadres.postcode"), ("burgerservicenummer",)),
    (("geboorte.datum", "gemeenteVanInschrijving.code", "leeftijd", "naam"), ("burgerservicenummer",)),
    (("naam", "partners"), ("burgerservicenummer",)),
    (("leeftijd",), ("geslachtsnaam", "geboortedatum")),
)


def agreements(count: int) -> list[Agreement]:
    terms = [
        Terms(
            purpose="Meting",
            legal_basis=LegalBasis(article="Voorbeeldwet, artikel 1", ground="e"),
            processing_activity=ProcessingActivity(id=f"https://example.org/{place}", name="Meting", version="1"),
            fields=FIELDS,
            search_parameters=("burgerservicenummer",),
            retention="P1Y",
            confidentiality="internal",
        )
        for place in range(count)
    ]
    return [
        Agreement(
            grant_hash=f"$1$4${place}",
            content_hash=f"$1$1${place}",
            consumer=f"{place:020}",
            provider="9" * 20,
            service=SERVICE.name,
            outway_key_thumbprint=None,
            outway_domain_name=None,
            terms=one,
            not_before=0,
            not_after=10_000,
            created_at=0,
            state=State.VALID,
        )
        for place, one in enumerate(terms)
    ]


def rate(step: Callable[[int], object], seconds: float) -> int:
    best = 0.0
    for _ in range(3):
        done, begin = 0, time.perf_counter()
        while (spent := time.perf_counter() - begin) < seconds / 3:
            for number in range(1000):
                step(number)
            done += 1000
        best = max(best, done / spent)
    return round(best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agreements", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    all_agreements = agreements(options.agreements)
    index = AgreementIndex("9" * 20, all_agreements)
    asked = [DataRequest(*request) for request in REQUESTS]
    questions = [
        json.dumps(
            {
                "subject": {"type": "peer", "id": agreement.consumer},
                "action": {"name": "read"},
                "resource": {
                    "type": "service",
                    "id": "personen",
                    "properties": {"fields": fields, "search_parameters": parameters},
                },
            }
        ).encode()
        for agreement in all_agreements
        for fields, parameters in REQUESTS
    ]
    bodies = [
        json.dumps({"fields": fields, **dict.fromkeys(parameters, "999990019")}).encode()
        for fields, parameters in REQUESTS
    ]
    answer = json.dumps({"personen": [{"naam": {"voornamen": "Aa", "geslachtsnaam": "Bb"}, "leeftijd": 40}]}).encode()
    services = {SERVICE.name: SERVICE}

    def bare(number: int) -> object:
        return decide(SERVICE, all_agreements[number % len(all_agreements)], asked[number % len(asked)], NOW)

    def read_and_decide(number: int) -> object:
        request = read_request(SERVICE, "POST", "/personen", "application/json", bodies[number % len(bodies)])
        return decide(SERVICE, all_agreements[number % len(all_agreements)], request, NOW)

    def authzen(number: int) -> object:
        question = read_question(parse_object(questions[number % len(questions)]))
        return evaluate(question, services, index, NOW).to_bytes()

    def guard(_: int) -> object:
        return oversupplied(SERVICE, answer, ("naam", "leeftijd"))

    print(
        json.dumps(
            {
                "agreements": options.agreements,
                "decisions_per_second": rate(bare, options.seconds),
                "read_and_decide_per_second": rate(read_and_decide, options.seconds),
                "authzen_json_in_and_out_per_second": rate(authzen, options.seconds),
                "guarded_answers_per_second": rate(guard, options.seconds),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
