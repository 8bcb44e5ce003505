"""Automatic approval: which contracts this peer accepts without anyone looking at them. Pure, and none by default.

Only what is certain to be safe. A contract passes a rule when it is of this group and this hash algorithm, holds
exactly one grant, of the type that the rule names, for at most so many days, by and for peers and services that it
names, with terms that lie wholly within what it names. Whatever a rule does not name, it does not accept; a contract
that passes no rule waits for a person, with the reasons. The directory takes publications by a rule of this same kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stelsel.agreements.contract import CONNECTIONS, Contract, Grant
from stelsel.agreements.durations import compare
from stelsel.agreements.fieldsets import beyond
from stelsel.agreements.group import Group
from stelsel.agreements.hashes import HASH_ALGORITHM
from stelsel.agreements.readable import field_in_words
from stelsel.agreements.settings import ApprovalRule, GrantKind
from stelsel.agreements.terms import PROPERTY, Terms
from stelsel.base.errors import Unprocessable
from stelsel.base.text import Words, inert

_DAY = 86_400
_KINDS: dict[GrantKind, str] = {
    "connection": "GRANT_TYPE_SERVICE_CONNECTION",
    "delegated_connection": "GRANT_TYPE_DELEGATED_SERVICE_CONNECTION",
    "publication": "GRANT_TYPE_SERVICE_PUBLICATION",
    "delegated_publication": "GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION",
}

DIRECTORY_RULES = tuple(
    ApprovalRule(
        name="directory",
        grant=kind,
        peers=("*",),
        services=("*",),
        delegators=("*",) if kind == "delegated_publication" else (),
        maximum_days=400,  # a year, and some days to renew it
        other_properties=True,  # what a publication says about its service is listed, never obeyed
    )
    for kind in ("publication", "delegated_publication")
)
"""What a directory accepts by itself: one service published in it, for a bounded time (FSC Core 3.3)."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a rule does not accept a contract."""

    rule: str
    """Name of the rule; empty when it is about the contract, whatever the rules."""
    words: Words

    def to_json(self) -> dict[str, Any]:
        return {"rule": self.rule, "nl": self.words.nl, "en": self.words.en}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a contract is accepted without anyone looking. `rule` is the one that accepts it, else empty."""

    accepted: bool
    rule: str = ""
    objections: tuple[Objection, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "rule": self.rule,
            "objections": [objection.to_json() for objection in self.objections],
        }


def rules_of(peer_id: str, group: Group, rules: Iterable[ApprovalRule]) -> tuple[ApprovalRule, ...]:
    """The rules in force at this peer: those of its file and, at the directory, those for publications."""
    return (*rules, *(DIRECTORY_RULES if peer_id == group.directory_peer_id else ()))


def judge(
    contract: Contract,
    algorithm: str,
    rules: Iterable[ApprovalRule],
    *,
    peer_id: str,
    group: Group,
    now: float,
) -> Verdict:
    """Whether `peer_id` accepts this contract, signed with `algorithm` (JWS), at `now` without anyone looking at it."""
    general = tuple(Objection("", words) for words in _general(contract, group))
    if general:
        return Verdict(False, objections=general)
    (grant,) = contract.grants
    found: list[Objection] = []
    for rule in rules:
        objections = [
            Objection(rule.name, words) for words in _objections(contract, grant, algorithm, rule, peer_id, group, now)
        ]
        if not objections:
            return Verdict(True, rule.name)
        found += objections
    if not found:
        found.append(Objection("", Words("Er is geen regel voor automatisch akkoord.", "There is no approval rule.")))
    return Verdict(False, objections=tuple(found))


def _general(contract: Contract, group: Group) -> Iterator[Words]:
    if len(contract.grants) != 1:
        count = len(contract.grants)
        yield Words(f"Er staan {count} toestemmingen in; dat moet er precies één zijn.", f"It holds {count} grants.")
    if contract.group_id != group.id:
        yield Words("Het contract is van een ander stelsel.", "The contract is of another group.")
    if contract.content.get("hash_algorithm") != HASH_ALGORITHM:
        yield Words("Het contract heeft een ander hash-algoritme.", "The contract has another hash algorithm.")
    if contract.rests_outside:  # people must look at that contract (External Contract Reference 2.1.2)
        yield Words("Het rust op een contract buiten het stelsel.", "It rests on a contract outside the group.")


def _objections(
    contract: Contract, grant: Grant, algorithm: str, rule: ApprovalRule, peer_id: str, group: Group, now: float
) -> Iterator[Words]:
    if grant.type != _KINDS[rule.grant]:
        yield Words("De regel is voor een ander soort toestemming.", "The rule is for another type of grant.")
        return  # what follows would be about something else
    yield from _who(grant, rule, peer_id)
    if algorithm not in rule.signature_algorithms:
        shown = inert(algorithm, 20)
        yield Words(f"Er is getekend met {shown}; dat staat de regel niet toe.", f"It is signed with {shown}.")
    longest = rule.maximum_days * _DAY
    if contract.not_after - contract.not_before > longest or contract.not_after > now + longest + group.clock_skew:
        days = rule.maximum_days
        yield Words(f"Het loopt langer dan {days} dagen.", f"It runs longer than {days} days.")
    yield from _what(grant, rule)


def _who(grant: Grant, rule: ApprovalRule, peer_id: str) -> Iterator[Words]:
    connection = grant.type in CONNECTIONS
    # A connection is only taken for a service of our own: then accepting it gives nothing but what the rule names.
    ours = grant.provider if connection else grant.directory
    if ours != peer_id:
        yield Words("Het gaat niet over een dienst van ons.", "It is not about a service of ours.")
    if not connection and grant.provider == peer_id:
        # One signature of ours would count for the directory and for the provider.
        yield Words("Wij zouden zelf de aanbieder zijn.", "We would be the provider ourselves.")
    asks = grant.consumer if connection else grant.provider
    if "*" not in rule.peers and asks not in rule.peers:
        yield Words("De organisatie die erom vraagt staat niet in de regel.", "The rule does not name who asks it.")
    if "*" not in rule.services and grant.service not in rule.services:
        yield Words("De dienst staat niet in de regel.", "The rule does not name the service.")
    if grant.service_delegator is not None:
        yield Words(
            "De dienst wordt namens een ander aangeboden.", "The service is offered on behalf of another organisation."
        )
    if grant.delegator is not None and "*" not in rule.delegators and grant.delegator not in rule.delegators:
        yield Words(
            "Het is namens een organisatie die niet in de regel staat.",
            "It is on behalf of an organisation that the rule does not name.",
        )


def _what(grant: Grant, rule: ApprovalRule) -> Iterator[Words]:
    others = sorted(set(grant.properties or {}) - {PROPERTY})
    if others and not rule.other_properties:
        shown = ", ".join(inert(name, 60) for name in others[:5])
        yield Words(f"Er staat meer in dan voorwaarden: {shown}.", f"It holds more than terms: {shown}.")
    if grant.type not in CONNECTIONS:
        return  # a publication gives nobody any data
    try:
        terms = grant.terms()
    except Unprocessable:
        yield Words("De voorwaarden zijn niet te begrijpen.", "The terms cannot be understood.")
        return
    if terms is not None:
        yield from _terms(terms, rule)
    if not rule.without_terms:
        if terms is None:
            yield Words("Er staan geen voorwaarden in.", "There are no terms in it.")
        elif terms.limits_nothing:
            yield Words("De voorwaarden beperken niets.", "The terms limit nothing.")


def _terms(terms: Terms, rule: ApprovalRule) -> Iterator[Words]:
    if terms.purpose not in rule.purposes:
        yield Words("Het doel staat niet in de regel.", "The rule does not name the purpose.")
    for asked, allowed, nl, en in (
        (terms.fields, rule.fields, "gegevens", "data"),
        (terms.search_parameters, rule.search_parameters, "zoekingangen", "search parameters"),
    ):
        more = beyond(asked, allowed)
        if more:
            shown = ", ".join(field_in_words(path) for path in more[:10]) + (" …" if len(more) > 10 else "")
            yield Words(f"Deze {nl} staan niet in de regel: {shown}.", f"The rule does not name these {en}: {shown}.")
    # Deny unless it is certainly no longer: a month may be 28 days or 31.
    if compare(terms.retention, rule.longest_retention) not in {-1, 0}:
        yield Words("De gegevens worden te lang bewaard.", "The data are kept too long.")
    if terms.confidentiality not in rule.confidentiality:
        yield Words("De vertrouwelijkheid past niet bij de regel.", "The confidentiality does not fit the rule.")
