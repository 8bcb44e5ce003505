"""The plain words: everything that is asked is in them, and hostile text stays inert."""

from __future__ import annotations

import re
from typing import Any

import pytest
from agreements_peers import CONSUMER, DIRECTORY, OTHER, PROVIDER
from hypothesis import given
from hypothesis import strategies as st

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.contract import parse
from stelsel.agreements.external_contract import ExternalContract
from stelsel.agreements.group import Group
from stelsel.agreements.proposals import (
    ConnectionProposal,
    DelegatedPublicationProposal,
    PublicationProposal,
    content_of,
)
from stelsel.agreements.readable import duration_in_words, field_in_words, sentences
from stelsel.agreements.terms import Terms

NAMES = {CONSUMER: "Gemeente Zilverdam", PROVIDER: "Bevolkingsregister"}


def _agreement(terms: Terms | None, state: State = State.VALID, **changes: Any) -> Agreement:
    values: dict[str, Any] = {
        "grant_hash": "$1$3$x",
        "content_hash": "$1$1$x",
        "consumer": CONSUMER,
        "provider": PROVIDER,
        "service": "personen",
        "outway_key_thumbprint": "ab" * 32,
        "outway_domain_name": None,
        "terms": terms,
        "not_before": 1_798_761_600,
        "not_after": 1_830_297_600,
        "created_at": 1_798_761_600,
        "state": state,
    }
    return Agreement(**(values | changes))


def test_an_agreement_reads_as_a_story_in_dutch(terms: Terms) -> None:
    assert sentences(_agreement(terms), "nl", NAMES) == [
        "Gemeente Zilverdam mag gegevens vragen aan Bevolkingsregister, uit de dienst ‘personen’.",
        "Het doel is: Bepalen of iemand een parkeervergunning kan krijgen.",
        "Gemeente Zilverdam krijgt alleen deze gegevens: geslachtsnaam (naam) en postcode (verblijfplaats).",
        "Gemeente Zilverdam mag alleen zoeken met: burgerservicenummer.",
        "Dit mag volgens: Parkeerverordening 2026, artikel 4.",
        "De grond is: het is nodig voor een taak van de overheid (AVG, artikel 6, lid 1, onder e).",
        "Het hoort bij de verwerking ‘Parkeervergunningen’ (versie 1).",
        "Gemeente Zilverdam bewaart de gegevens hoogstens 1 jaar en 6 maanden.",
        "De gegevens zijn vertrouwelijk.",
        "De afspraak loopt van 1 januari 2027 tot 1 januari 2028.",
        "Alle organisaties hebben getekend.",
    ]


def test_and_in_english(terms: Terms) -> None:
    told = sentences(_agreement(terms), "en", NAMES)
    assert told[0] == "Gemeente Zilverdam may ask data from Bevolkingsregister, out of the service ‘personen’."
    assert "It runs from 1 January 2027 until 1 January 2028." in told


@pytest.mark.parametrize("language", ["nl", "en"])
def test_each_state_is_told_apart(terms: Terms, language: Any) -> None:
    assert len({sentences(_agreement(terms, state), language)[-1] for state in State}) == len(State)
    over = {sentences(_agreement(terms, state), language)[0] for state in (State.REVOKED, State.EXPIRED)}
    assert over != {sentences(_agreement(terms), language)[0]}


def test_without_terms_it_says_that_nothing_about_people_is_given() -> None:
    assert any("niet gegeven" in sentence for sentence in sentences(_agreement(None)))


def test_who_acts_for_whom_is_told(terms: Terms) -> None:
    told = sentences(_agreement(terms, consumer_delegator=OTHER, provider_delegator=DIRECTORY), "nl", NAMES)
    assert f"Gemeente Zilverdam doet dit namens {OTHER}." in told
    assert f"Bevolkingsregister doet dit namens {DIRECTORY}." in told


def test_grants_and_bare_terms_read_too(terms: Terms, group: Group) -> None:
    assert len(sentences(terms)) == 8
    content = content_of(ConnectionProposal(PROVIDER, "personen", terms), group, CONSUMER, "ab" * 32, 1.8e9)
    assert sentences(parse(content).grants[0], "nl", NAMES)[0].startswith("Gemeente Zilverdam vraagt om gegevens")
    content = content_of(PublicationProposal("personen"), group, PROVIDER, "", 1.8e9)
    assert sentences(parse(content).grants[0], "nl", NAMES) == [
        f"Bevolkingsregister zet de dienst ‘personen’ in de gids van {DIRECTORY}."
    ]


@given(st.text(min_size=1, max_size=200).filter(str.strip))
def test_hostile_text_stays_inert_and_on_its_line(terms: Terms, text: str) -> None:
    hostile = terms.model_copy(update={"purpose": text})
    for sentence in sentences(_agreement(hostile), "nl", {CONSUMER: text, PROVIDER: text}):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", sentence)


def test_fields_and_durations_are_said_as_people_say_them() -> None:
    assert field_in_words("datumEersteInschrijvingGBA") == "datum eerste inschrijving gba"
    assert field_in_words("verblijfplaats.adres.datum_van") == "datum van (verblijfplaats, adres)"
    assert duration_in_words("P1Y") == "1 jaar"
    assert duration_in_words("P2Y6M1D") == "2 jaar, 6 maanden en 1 dag"
    assert duration_in_words("P2Y6M1D", "en") == "2 years, 6 months and 1 day"


HOSTILE = ExternalContract(reference="x\x1b[2J\u202e", delegator_id="9\n", delegator_name="<b>\nKlein")


@pytest.mark.parametrize("language", ["nl", "en"])
def test_who_acts_for_another_by_a_contract_outside_says_so_and_asks_for_a_person(
    language: Any, terms: Terms, group: Group
) -> None:
    told = sentences(_agreement(terms, external_contract=HOSTILE), language, NAMES)
    assert len(told) == len(sentences(_agreement(terms), language, NAMES)) + 2
    assert any("Gemeente Zilverdam" in line and "<b>" in line for line in told)
    for proposal in (
        PublicationProposal("personen", external_contract=HOSTILE),
        ConnectionProposal(PROVIDER, "personen", external_contract=HOSTILE),
    ):
        (grant,) = parse(content_of(proposal, group, PROVIDER, "0" * 64, 1_800_000_000)).grants
        lines = sentences(grant, language, NAMES)
        assert any("<b>" in line for line in lines)
        assert not any(re.search(r"[\x00-\x1f\u202e]", line) for line in lines + told)


def test_a_publication_on_behalf_of_another_says_so(group: Group) -> None:
    proposal = DelegatedPublicationProposal("personen", delegator=CONSUMER)
    (grant,) = parse(content_of(proposal, group, PROVIDER, "0" * 64, 1_800_000_000)).grants
    assert "Bevolkingsregister doet dit namens Gemeente Zilverdam." in sentences(grant, "nl", NAMES)
    assert "Bevolkingsregister does this on behalf of Gemeente Zilverdam." in sentences(grant, "en", NAMES)
