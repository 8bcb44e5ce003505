"""An agreement in plain words, Dutch and English (level B1): who may ask what of whom, why, and until when.

Everything that comes out of a contract is hostile text: it is made inert here; pages escape it besides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Literal

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.contract import PUBLICATIONS, Grant
from stelsel.agreements.external_contract import ExternalContract
from stelsel.agreements.terms import Terms
from stelsel.base.text import inert

Language = Literal["nl", "en"]

_DUTCH_MONTHS = "januari februari maart april mei juni juli augustus september oktober november december"
_ENGLISH_MONTHS = "January February March April May June July August September October November December"
_MONTHS = {"nl": _DUTCH_MONTHS.split(), "en": _ENGLISH_MONTHS.split()}
_GROUNDS = {
    "nl": {
        "a": "de persoon geeft toestemming",
        "b": "het is nodig voor een contract met de persoon",
        "c": "het moet van de wet",
        "d": "het is nodig om iemands leven of gezondheid te beschermen",
        "e": "het is nodig voor een taak van de overheid",
        "f": "de organisatie heeft er een goede reden voor, die zwaarder weegt dan de privacy",
    },
    "en": {
        "a": "the person gives consent",
        "b": "it is needed for a contract with the person",
        "c": "the law demands it",
        "d": "it is needed to protect someone's life or health",
        "e": "it is needed for a task of the government",
        "f": "the organisation has a good reason, which weighs more than the privacy",
    },
}
_CONFIDENTIALITY = {
    "nl": {"public": "openbaar", "internal": "alleen voor intern gebruik", "confidential": "vertrouwelijk"}
    | {"secret": "geheim"},
    "en": {"public": "public", "internal": "for internal use only", "confidential": "confidential"}
    | {"secret": "secret"},
}
_UNITS = {
    "nl": {"Y": ("jaar", "jaar"), "M": ("maand", "maanden"), "D": ("dag", "dagen")},
    "en": {"Y": ("year", "years"), "M": ("month", "months"), "D": ("day", "days")},
}
_OPENINGS = {
    "nl": {
        State.PROPOSED: "{consumer} vraagt om gegevens van {provider}, uit de dienst ‘{service}’.",
        State.VALID: "{consumer} mag gegevens vragen aan {provider}, uit de dienst ‘{service}’.",
    },
    "en": {
        State.PROPOSED: "{consumer} asks for data from {provider}, out of the service ‘{service}’.",
        State.VALID: "{consumer} may ask data from {provider}, out of the service ‘{service}’.",
    },
}
_OVER = {
    "nl": "{consumer} mag geen gegevens (meer) vragen aan {provider}, uit de dienst ‘{service}’.",
    "en": "{consumer} may not (or no longer) ask data from {provider}, out of the service ‘{service}’.",
}
_STATES = {
    "nl": {
        State.PROPOSED: "De afspraak geldt pas als alle organisaties hebben getekend.",
        State.VALID: "Alle organisaties hebben getekend.",
        State.REJECTED: "De afspraak is afgewezen en geldt niet.",
        State.REVOKED: "De afspraak is ingetrokken en geldt niet meer.",
        State.EXPIRED: "De afspraak is voorbij en geldt niet meer.",
    },
    "en": {
        State.PROPOSED: "The agreement holds only when all organisations have signed.",
        State.VALID: "All organisations have signed.",
        State.REJECTED: "The agreement was rejected and does not hold.",
        State.REVOKED: "The agreement was revoked and holds no longer.",
        State.EXPIRED: "The agreement is over and holds no longer.",
    },
}
_NO_TERMS = {
    "nl": "Er staan geen voorwaarden in. Gegevens over personen worden daarom niet gegeven.",
    "en": "There are no terms in it. So data about people are not given.",
}


def sentences(
    subject: Agreement | Terms | Grant,
    language: Language = "nl",
    peer_names: Mapping[str, str] | None = None,
    say_field: Callable[[str], str] | None = None,
) -> list[str]:
    """What an agreement asks, one thought a sentence, each inert.

    `subject` is an agreement, bare terms (then who and until when are left out), or a grant out of a contract;
    `peer_names` gives names by peer id, where they are known; `say_field` the words of a field, inert, for whoever
    knows better ones than `field_in_words`.
    """
    names, say = peer_names or {}, say_field or field_in_words
    if isinstance(subject, Terms):
        return _terms(subject, language, "De organisatie" if language == "nl" else "The organisation", say)
    if isinstance(subject, Grant):
        return _grant(subject, language, names, say)
    consumer = named(subject.consumer, names)
    told = {"consumer": consumer, "provider": named(subject.provider, names), "service": inert(subject.service, 100)}
    opening = _OPENINGS[language].get(subject.state, _OVER[language])
    terms = [_NO_TERMS[language]] if subject.terms is None else _terms(subject.terms, language, consumer, say)
    return [
        opening.format(**told),
        *_on_behalf(subject.consumer_delegator, subject.provider_delegator, language, names, told),
        *_outside(subject.external_contract, consumer, language),
        *terms,
        _period(subject.not_before, subject.not_after, language),
        _STATES[language][subject.state],
    ]


def named(peer_id: str, peer_names: Mapping[str, str]) -> str:
    """A peer by its name if that is known, else by its number; inert."""
    name = inert(peer_names.get(peer_id, ""), 120).strip()
    return name or inert(peer_id, 20)


def field_in_words(path: str) -> str:
    """A field as people say it: `verblijfplaats.datumVan` becomes "datum van (verblijfplaats)"."""
    *parents, last = (re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", part).lower() for part in inert(path, 200).split("."))
    return f"{last} ({', '.join(parents)})" if parents else last


def duration_in_words(duration: str, language: Language = "nl") -> str:
    """An ISO 8601 duration of years, months and days: `P1Y6M` becomes "1 jaar en 6 maanden"."""
    parts = []
    for count, unit in re.findall(r"(\d+)([YMD])", duration):
        one, more = _UNITS[language][unit]
        parts.append(f"{int(count)} {one if int(count) == 1 else more}")
    return _listed(parts, language)


def date_in_words(seconds: float, language: Language = "nl") -> str:
    """A day (UTC) as people write it: "1 januari 2027"."""
    day = datetime.fromtimestamp(min(max(seconds, 0), 253402300799), tz=UTC)
    return f"{day.day} {_MONTHS[language][day.month - 1]} {day.year}"


def _terms(terms: Terms, language: Language, consumer: str, say: Callable[[str], str]) -> list[str]:
    fields = _listed([say(path) for path in terms.fields], language)
    search = _listed([say(path) for path in terms.search_parameters], language)
    purpose, article = _sentence_end(terms.purpose), _sentence_end(terms.legal_basis.article)
    activity, version = inert(terms.processing_activity.name), inert(terms.processing_activity.version, 30)
    retention = duration_in_words(terms.retention, language)
    ground = terms.legal_basis.ground
    if language == "nl":
        return [
            f"Het doel is: {purpose}",
            f"{consumer} krijgt alleen deze gegevens: {fields}." if fields else f"{consumer} krijgt geen gegevens.",
            f"{consumer} mag alleen zoeken met: {search}." if search else f"{consumer} mag nergens op zoeken.",
            f"Dit mag volgens: {article}",
            f"De grond is: {_GROUNDS['nl'][ground]} (AVG, artikel 6, lid 1, onder {ground}).",
            f"Het hoort bij de verwerking ‘{activity}’ (versie {version}).",
            f"{consumer} bewaart de gegevens hoogstens {retention}.",
            f"De gegevens zijn {_CONFIDENTIALITY['nl'][terms.confidentiality]}.",
        ]
    return [
        f"The purpose is: {purpose}",
        f"{consumer} gets these data only: {fields}." if fields else f"{consumer} gets no data.",
        f"{consumer} may search only by: {search}." if search else f"{consumer} may not search by anything.",
        f"This is allowed by: {article}",
        f"The ground is: {_GROUNDS['en'][ground]} (GDPR, article 6(1)({ground})).",
        f"It belongs to the processing activity ‘{activity}’ (version {version}).",
        f"{consumer} keeps the data for at most {retention}.",
        f"The data are {_CONFIDENTIALITY['en'][terms.confidentiality]}.",
    ]


def _grant(grant: Grant, language: Language, names: Mapping[str, str], say: Callable[[str], str]) -> list[str]:
    provider, service = named(grant.provider, names), inert(grant.service, 100)
    if grant.type in PUBLICATIONS:
        directory = named(grant.directory or "", names)
        puts = (
            "{} zet de dienst ‘{}’ in de gids van {}."
            if language == "nl"
            else ("{} puts the service ‘{}’ in the directory of {}.")
        )
        return [
            puts.format(provider, service, directory),
            *_on_behalf(grant.delegator, None, language, names, {"consumer": provider, "provider": provider}),
            *_outside(grant.external_contract(), provider, language),
        ]
    consumer = named(grant.consumer or "", names)
    told = {"consumer": consumer, "provider": provider, "service": service}
    terms = grant.terms()
    return [
        _OPENINGS[language][State.PROPOSED].format(**told),
        *_on_behalf(grant.delegator, grant.service_delegator, language, names, told),
        *_outside(grant.external_contract(), consumer, language),
        *([_NO_TERMS[language]] if terms is None else _terms(terms, language, consumer, say)),
    ]


def _on_behalf(
    consumer_delegator: str | None,
    provider_delegator: str | None,
    language: Language,
    names: Mapping[str, str],
    told: Mapping[str, str],
) -> list[str]:
    template = "{} doet dit namens {}." if language == "nl" else "{} does this on behalf of {}."
    pairs = ((told["consumer"], consumer_delegator), (told["provider"], provider_delegator))
    return [template.format(who, named(delegator, names)) for who, delegator in pairs if delegator is not None]


def _outside(contract: ExternalContract | None, who: str, language: Language) -> list[str]:
    """That a peer says to act for another by a contract that no machine can check."""
    if contract is None:
        return []
    delegator, reference = inert(contract.delegator_name, 120), inert(contract.reference, 300)
    number = inert(contract.delegator_id, 40)
    if language == "nl":
        return [
            f"{who} zegt dit te doen namens {delegator} ({number}), volgens het contract ‘{reference}’.",
            "Een mens moet nagaan of dat contract er is en dit toestaat, voordat de afspraak wordt aanvaard.",
        ]
    return [
        f"{who} says to do this on behalf of {delegator} ({number}), by the contract ‘{reference}’.",
        "A person must see that this contract exists and allows it, before the agreement is accepted.",
    ]


def _period(not_before: float, not_after: float, language: Language) -> str:
    begin, end = date_in_words(not_before, language), date_in_words(not_after, language)
    return f"De afspraak loopt van {begin} tot {end}." if language == "nl" else f"It runs from {begin} until {end}."


def _listed(parts: list[str], language: Language) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {'en' if language == 'nl' else 'and'} {parts[-1]}"


def _sentence_end(text: str) -> str:
    shown = inert(text, 1000).strip()
    return shown if shown.endswith((".", "!", "?")) else f"{shown}."
