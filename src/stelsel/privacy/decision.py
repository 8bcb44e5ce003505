"""The one decision: may this consumer ask these fields, searched so, now? Pure, and deny by default.

Everything that says yes or no in a node comes through `decide`: the inway's gate, the AuthZEN endpoint, `stelsel
explain`. Its only source of authority is the agreement. Every answer is one of a closed set of reasons, each with words
for people.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.services import Service
from stelsel.agreements.terms import Terms
from stelsel.base.errors import Forbidden
from stelsel.base.text import Words as Words
from stelsel.privacy.paths import covered
from stelsel.privacy.request import DataRequest


class Reason(enum.StrEnum):
    """Why it was decided so, the more was in order the later. The values are what the ledger records."""

    AGREED = "agreed"
    NO_AGREEMENT = "no-agreement"
    OTHER_ACTIVITY = "other-activity"
    OTHER_SERVICE = "other-service"
    NOT_IN_FORCE = "not-in-force"
    REVOKED = "revoked"
    NOT_YET = "not-yet"
    EXPIRED = "expired"
    NO_TERMS = "no-terms"
    NO_FIELDS = "no-fields"
    UNAUTHORIZED_FIELD = "unauthorized-field"
    UNAUTHORIZED_PARAMETER = "unauthorized-parameter"
    UNREADABLE_REQUEST = "unreadable-request"
    OVERSUPPLIED = "oversupplied"
    UNREADABLE_ANSWER = "unreadable-answer"
    TOO_MANY_RESIDENTS = "too-many-residents"
    UNKNOWN_ACTION = "unknown-action"
    UNKNOWN_SERVICE = "unknown-service"


REASONS: dict[Reason, Words] = {
    Reason.AGREED: Words("Het past binnen de afspraak.", "It lies within the agreement."),
    Reason.NO_AGREEMENT: Words("Er is geen afspraak hierover.", "There is no agreement about this."),
    Reason.OTHER_SERVICE: Words("De afspraak gaat over een andere dienst.", "The agreement is about another service."),
    Reason.NOT_IN_FORCE: Words(
        "De afspraak geldt niet: nog niet iedereen heeft getekend, of iemand heeft geweigerd.",
        "The agreement is not in force: not everyone has signed, or someone has refused.",
    ),
    Reason.REVOKED: Words("De afspraak is ingetrokken.", "The agreement has been revoked."),
    Reason.NOT_YET: Words("De afspraak is nog niet ingegaan.", "The agreement has not begun yet."),
    Reason.EXPIRED: Words("De afspraak is verlopen.", "The agreement has expired."),
    Reason.NO_TERMS: Words(
        "De afspraak zegt niet welke gegevens gevraagd mogen worden, en de dienst gaat over mensen.",
        "The agreement does not say which data may be asked, and the service is about people.",
    ),
    Reason.NO_FIELDS: Words(
        "De vraag noemt niet welke gegevens nodig zijn.", "The request does not say which data it needs."
    ),
    Reason.UNAUTHORIZED_FIELD: Words(
        "Er is gevraagd om gegevens die niet in de afspraak staan.",
        "It asks for data that the agreement does not hold.",
    ),
    Reason.UNAUTHORIZED_PARAMETER: Words(
        "Er is gezocht op een manier die niet in de afspraak staat.",
        "It searches in a way that the agreement does not hold.",
    ),
    Reason.UNREADABLE_REQUEST: Words("De vraag is niet goed te lezen.", "The request cannot be read."),
    Reason.OVERSUPPLIED: Words(
        "De bron gaf meer gegevens dan gevraagd. Het antwoord is tegengehouden.",
        "The source gave more data than was asked. The answer was held back.",
    ),
    Reason.UNREADABLE_ANSWER: Words(
        "Het antwoord van de bron was niet te controleren. Het is tegengehouden.",
        "The answer of the source could not be checked. It was held back.",
    ),
    Reason.TOO_MANY_RESIDENTS: Words(
        "Het antwoord ging over te veel mensen tegelijk. Het is tegengehouden.",
        "The answer was about too many people at once. It was held back.",
    ),
    Reason.OTHER_ACTIVITY: Words(
        "De afspraak is voor een andere verwerking.", "The agreement is for another processing activity."
    ),
    Reason.UNKNOWN_ACTION: Words("Deze handeling bestaat hier niet.", "There is no such action here."),
    Reason.UNKNOWN_SERVICE: Words("Deze dienst bestaat hier niet.", "There is no such service here."),
}
"""The closed vocabulary of reasons, with their words."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer. `refused` names what was asked but not agreed; it is empty when `allowed`."""

    allowed: bool
    reason: Reason
    refused: tuple[str, ...] = ()


_ALLOWED = Decision(True, Reason.AGREED)
_NOT_IN_FORCE = {
    State.PROPOSED: Decision(False, Reason.NOT_IN_FORCE),
    State.REJECTED: Decision(False, Reason.NOT_IN_FORCE),
    State.REVOKED: Decision(False, Reason.REVOKED),
    State.EXPIRED: Decision(False, Reason.EXPIRED),
}


def decide(service: Service, agreement: Agreement | None, request: DataRequest, now: float) -> Decision:
    """Whether `agreement` allows `request` to `service` at `now` (seconds since the epoch).

    That the caller is the agreement's consumer is proved before, by the token and the certificate. Search parameters
    count as much as fields do: who may ask an address by citizen service number may not search people by name.
    """
    if agreement is None:
        return Decision(False, Reason.NO_AGREEMENT)
    if agreement.service != service.name:
        return Decision(False, Reason.OTHER_SERVICE)
    if agreement.state is not State.VALID:
        return _NOT_IN_FORCE.get(agreement.state, Decision(False, Reason.NOT_IN_FORCE))
    if now < agreement.not_before:
        return Decision(False, Reason.NOT_YET)
    if not agreement.holds(now):
        return Decision(False, Reason.EXPIRED)
    terms = agreement.terms
    if terms is None:
        return Decision(False, Reason.NO_TERMS) if service.personal else _ALLOWED
    if not service.personal and not terms.fields and not terms.search_parameters:
        return _ALLOWED  # nothing about people, and nothing was limited
    return _within(*_compiled(agreement.grant_hash, terms), request)


def forbidden(decision: Decision) -> Forbidden:
    """The 403 for a refusal, with the code and the names that Haal Centraal uses (`unauthorizedField`)."""
    words = REASONS[decision.reason]
    first, *others = decision.reason.value.split("-")
    extra = {"refused": list(decision.refused)} if decision.refused else {}
    named = f" ({', '.join(decision.refused)})" if decision.refused else ""
    return Forbidden(
        f"{words.en}{named}",
        next_step=_NEXT_STEPS.get(decision.reason, "see which agreement holds with: stelsel agreement list"),
        code=first + "".join(other.capitalize() for other in others),
        reason=decision.reason.value,
        detail_nl=f"{words.nl}{named}",
        **extra,
    )


_NEXT_STEPS = {
    Reason.UNAUTHORIZED_FIELD: "leave these fields out, or propose an agreement that holds them",
    Reason.UNAUTHORIZED_PARAMETER: "search by a parameter that was agreed, or propose an agreement that holds these",
    Reason.NO_FIELDS: 'add "fields": ["..."] to the request',
    Reason.NO_AGREEMENT: "propose one with: stelsel agreement propose",
    Reason.NO_TERMS: "propose an agreement with terms: stelsel agreement propose",
}

_Sets = tuple[frozenset[str], frozenset[str]]


def _within(fields: frozenset[str], parameters: frozenset[str], request: DataRequest) -> Decision:
    if not request.fields:
        return Decision(False, Reason.NO_FIELDS)
    refused = tuple(path for path in request.fields if path not in fields and not covered(path, fields))
    if refused:
        return Decision(False, Reason.UNAUTHORIZED_FIELD, refused)
    asked = request.search_parameters
    refused = tuple(path for path in asked if path not in parameters and not covered(path, parameters))
    if refused:
        return Decision(False, Reason.UNAUTHORIZED_PARAMETER, refused)
    return _ALLOWED


_MAXIMUM_COMPILED = 10_000
_compiled_terms: dict[str, tuple[Terms, _Sets]] = {}


def _compiled(grant_hash: str, terms: Terms) -> _Sets:
    """The terms as sets, remembered per grant.

    Hashing whole terms costs more than the decision does, so they are found by the grant's hash; but only the very
    same object is a hit, so nothing rests on that hash being right.
    """
    found = _compiled_terms.get(grant_hash)
    if found is not None and found[0] is terms:
        return found[1]
    sets = (frozenset(terms.fields), frozenset(terms.search_parameters))
    if len(_compiled_terms) >= _MAXIMUM_COMPILED:
        _compiled_terms.clear()
    _compiled_terms[grant_hash] = (terms, sets)
    return sets
