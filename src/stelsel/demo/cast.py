"""Who plays in the small country: five peers, their applications, and what they agree on."""

from __future__ import annotations

from dataclasses import dataclass

from stelsel.agreements.terms import LegalBasis, ProcessingActivity, Terms
from stelsel.demo import parking

GROUP_ID = "stelsel-demo"


@dataclass(frozen=True, slots=True)
class Actor:
    """A peer of the demo. `number` gives its ports: base + 100 * number + 43 (manager), 44 (inway), 80, 0."""

    key: str
    number: int
    peer_id: str
    name: str
    role: str

    def port(self, base: int, kind: str) -> int:
        """The port of one of its listeners: manager, inway, outway, web or application."""
        return base + 100 * self.number + {"manager": 43, "inway": 44, "outway": 80, "web": 0, "application": 90}[kind]


REGIE = Actor("regie", 1, "00000099000000001000", "Regie", "stuurt op de verplichte afspraken; houdt de gids bij")
REGISTER = Actor("register", 2, "00000099000000002000", "Bevolkingsregister", "bron van persoonsgegevens")
GEMEENTE = Actor("gemeente", 3, "00000099000000003000", "Gemeente", "behandelt parkeervergunningen")
UITKERING = Actor("uitkering", 4, "00000099000000004000", "Uitkeringsdienst", "stelt uitkeringen vast")
BOUWER = Actor("bouwer", 5, "00000099000000005000", "Bouwer", "bedrijf dat met open data bouwt")
ACTORS = (REGIE, REGISTER, GEMEENTE, UITKERING, BOUWER)

PARKING_TERMS = Terms(
    purpose="Beoordelen of u een parkeervergunning kunt krijgen",
    legal_basis=LegalBasis(
        article="Gemeentewet, artikel 225; Parkeerverordening, artikel 3",
        ground="e",
        uri="https://wetten.overheid.nl/BWBR0005416",
    ),
    processing_activity=ProcessingActivity(
        id="https://gemeente.example/verwerkingen/parkeervergunning", name="Parkeervergunning", version="1"
    ),
    fields=parking.FIELDS,
    search_parameters=parking.SEARCH_PARAMETERS,
    retention="P5Y",
    confidentiality="confidential",
)

BENEFIT_TERMS = Terms(
    purpose="Vaststellen of u recht hebt op een uitkering",
    legal_basis=LegalBasis(article="Wet structuur uitvoeringsorganisatie werk en inkomen, artikel 54", ground="e"),
    processing_activity=ProcessingActivity(
        id="https://uitkeringsdienst.example/verwerkingen/uitkering", name="Uitkering", version="2"
    ),
    fields=("naam.volledigeNaam", "leeftijd", "gemeenteVanInschrijving"),
    search_parameters=("burgerservicenummer", "geslachtsnaam", "geboortedatum"),
    retention="P10Y",
    confidentiality="confidential",
)

INSIGHT_TERMS = Terms(
    purpose="U laten zien wie welke gegevens van u heeft gebruikt",
    legal_basis=LegalBasis(article="Algemene verordening gegevensbescherming, artikel 15", ground="c"),
    processing_activity=ProcessingActivity(
        id="https://regie.example/verwerkingen/inzage", name="Inzage voor inwoners", version="1"
    ),
    fields=("gebruik", "bewijs"),
    search_parameters=("burgerservicenummer", "index"),
    retention="P1D",
    confidentiality="confidential",
)
