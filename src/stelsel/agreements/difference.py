"""What a proposed contract changes against the one that runs for the same consumer, provider and service. Pure.

Every change is told in plain words and says what it does: it widens what may be done, narrows it, or is another thing
of which only a person can say that. What cannot be shown to be narrower is never called so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from stelsel.agreements.agreement import State
from stelsel.agreements.contract import Contract, Grant
from stelsel.agreements.durations import compare
from stelsel.agreements.fieldsets import within
from stelsel.agreements.readable import date_in_words, duration_in_words, field_in_words
from stelsel.agreements.stored import StoredContract
from stelsel.agreements.terms import PROPERTY, Terms
from stelsel.base.text import Words, inert

Effect = Literal["widens", "narrows", "differs"]
How = Literal["added", "removed", "changed"]
Relation = tuple[str | None, ...]

_LEVELS = ("secret", "confidential", "internal", "public")
"""From the most careful to the least."""
_LEVELS_NL = {"secret": "geheim", "confidential": "vertrouwelijk", "internal": "intern", "public": "openbaar"}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `before` and `after` are inert text; empty when it was not, or is no longer, there."""

    what: str
    """agreement, field, search parameter, terms, purpose, legal basis, processing activity, retention, confidentiality,
    validity, outway or property."""
    how: How
    effect: Effect
    before: str
    after: str
    words: Words

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "how": self.how,
            "effect": self.effect,
            "before": self.before,
            "after": self.after,
            "nl": self.words.nl,
            "en": self.words.en,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """What one grant changes. `against` is the content hash of the contract that runs; empty when none does."""

    grant_hash: str
    service: str
    against: str
    changes: tuple[Change, ...]

    @property
    def widens(self) -> bool:
        """Whether anything in it certainly allows more than before."""
        return any(change.effect == "widens" for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        return {
            "grant_hash": self.grant_hash,
            "service": self.service,
            "against": self.against,
            "widens": self.widens,
            "changes": [change.to_json() for change in self.changes],
        }


def relation(grant: Grant) -> Relation:
    """Between whom, about what, for what and on whose behalf a grant is; the same take each other's place.

    Two purposes at once are two agreements: what is asked for one processing activity does not replace the other.
    """
    return (
        _activity(grant),
        grant.type,
        grant.consumer,
        grant.provider,
        grant.service,
        grant.directory,
        grant.delegator,
        grant.service_delegator,
    )


def _activity(grant: Grant) -> str | None:
    """The id of the processing activity in the terms, whatever its version; read without judging the terms."""
    terms = (grant.properties or {}).get(PROPERTY)
    activity = terms.get("processing_activity") if isinstance(terms, dict) else None
    identifier = activity.get("id") if isinstance(activity, dict) else None
    return identifier if isinstance(identifier, str) else None


def running(grant: Grant, of: str, contracts: Iterable[StoredContract], now: float) -> tuple[Contract, Grant] | None:
    """The newest contract that holds at `now` with a grant of the same relation; not the one with content hash `of`."""
    wanted = relation(grant)
    found = [
        (stored.contract, other)
        for stored in contracts
        if stored.state is State.VALID and stored.content_hash != of and stored.contract.not_before <= now
        for other in stored.contract.grants
        if relation(other) == wanted
    ]
    return max(found, key=lambda pair: (pair[0].created_at, pair[0].content_hash), default=None)


def differences(proposed: StoredContract, contracts: Iterable[StoredContract], now: float) -> tuple[Difference, ...]:
    """What each grant of `proposed` changes against what runs now among `contracts`."""
    others = list(contracts)
    found = []
    for grant in proposed.contract.grants:
        before = running(grant, proposed.content_hash, others, now)
        found.append(
            Difference(
                grant_hash=grant.grant_hash,
                service=grant.service,
                against=before[0].content_hash if before is not None else "",
                changes=tuple(changes(before, (proposed.contract, grant))),
            )
        )
    return tuple(found)


def changes(before: tuple[Contract, Grant] | None, after: tuple[Contract, Grant]) -> Iterator[Change]:
    """Every change from one grant to another of the same relation; from nothing when `before` is None."""
    contract, grant = after
    if before is None:
        words = Words("Dit is nieuw: er loopt nog geen afspraak.", "This is new: no agreement runs yet.")
        yield Change("agreement", "added", "widens", "", "", words)
        yield from _terms(None, grant.terms())
        return
    old_contract, old = before
    yield from _terms(old.terms(), grant.terms(), of_both=True)
    yield from _outway(old, grant)
    yield from _properties(old.properties or {}, grant.properties or {})
    if old.protocol != grant.protocol:
        yield _changed(
            "protocol",
            "differs",
            old.protocol or "",
            grant.protocol or "",
            "Het protocol wordt",
            "The protocol becomes",
        )
    yield from _validity(old_contract, contract)


def _terms(before: Terms | None, after: Terms | None, *, of_both: bool = False) -> Iterator[Change]:
    if after is None:
        if before is not None:
            words = Words(
                "Er zijn geen voorwaarden meer: gegevens over mensen worden niet gegeven, andere zonder beperking.",
                "There are no terms any more: no data about people are given, and others without limit.",
            )
            yield Change("terms", "removed", "widens", inert(before.purpose), "", words)
        return
    if before is None and of_both:
        words = Words(
            "Er komen voorwaarden: er mogen nu gegevens over mensen worden gevraagd, binnen die voorwaarden.",
            "Terms are added: data about people may now be asked, within those terms.",
        )
        yield Change("terms", "added", "widens", "", inert(after.purpose), words)
    unlimited = before is not None and after.limits_nothing and not before.limits_nothing
    if unlimited:
        words = Words(
            "Er staat niet meer in wat gevraagd mag worden: van een dienst die niet over mensen gaat is dat alles.",
            "It no longer says which data may be asked: of a service that is not about people, all of them.",
        )
        yield Change("terms", "changed", "widens", "", "", words)
    fewer: Effect = "differs" if unlimited else "narrows"
    fields, parameters = (before.fields, before.search_parameters) if before else ((), ())
    yield from _paths("field", fields, after.fields, Words("het gegeven", "the field"), fewer)
    yield from _paths(
        "search parameter", parameters, after.search_parameters, Words("zoeken met", "searching by"), fewer
    )
    if before is not None:
        yield from _circumstances(before, after)


def _paths(what: str, before: tuple[str, ...], after: tuple[str, ...], kind: Words, fewer: Effect) -> Iterator[Change]:
    nl, en = kind.nl, kind.en
    for path in after:
        if path in before:
            continue
        said = field_in_words(path)
        if within(path, before):
            words = Words(
                f"Apart genoemd: {nl} ‘{said}’. Dat mocht al.", f"Named apart: {en} ‘{said}’. It was allowed."
            )
            yield Change(what, "added", "differs", "", path, words)
        else:
            yield Change(what, "added", "widens", "", path, Words(f"Erbij: {nl} ‘{said}’.", f"Added: {en} ‘{said}’."))
    for path in before:
        if path in after:
            continue
        said = field_in_words(path)
        if within(path, after):
            words = Words(
                f"Niet meer apart genoemd: {nl} ‘{said}’. Dat blijft mogen.",
                f"No longer named apart: {en} ‘{said}’. It stays allowed.",
            )
            yield Change(what, "removed", "differs", path, "", words)
        else:
            words = Words(f"Eraf: {nl} ‘{said}’.", f"Removed: {en} ‘{said}’.")
            yield Change(what, "removed", fewer, path, "", words)


def _circumstances(before: Terms, after: Terms) -> Iterator[Change]:
    if before.purpose != after.purpose:
        yield _changed("purpose", "differs", before.purpose, after.purpose, "Het doel wordt", "The purpose becomes")
    old, new = before.legal_basis, after.legal_basis
    if old != new:
        yield _changed(
            "legal basis",
            "differs",
            f"{old.article} ({old.ground})",
            f"{new.article} ({new.ground})",
            "De wettelijke grond wordt",
            "The legal basis becomes",
        )
    was, becomes = before.processing_activity, after.processing_activity
    if was != becomes:
        yield _changed(
            "processing activity",
            "differs",
            f"{was.name} ({was.version})",
            f"{becomes.name} ({becomes.version})",
            "De verwerking wordt",
            "The processing activity becomes",
        )
    yield from _retention(before.retention, after.retention)
    if before.confidentiality != after.confidentiality:
        less = _LEVELS.index(after.confidentiality) > _LEVELS.index(before.confidentiality)
        words = Words(
            f"De vertrouwelijkheid wordt: {_LEVELS_NL[after.confidentiality]}.",
            f"The confidentiality becomes: {after.confidentiality}.",
        )
        effect: Effect = "widens" if less else "narrows"
        yield Change("confidentiality", "changed", effect, before.confidentiality, after.confidentiality, words)


def _retention(before: str, after: str) -> Iterator[Change]:
    if before == after:
        return
    effects: dict[int | None, tuple[Effect, str, str]] = {
        1: ("widens", "langer bewaard", "longer"),
        -1: ("narrows", "korter bewaard", "shorter"),
        0: ("differs", "even lang bewaard", "as long"),
        None: ("differs", "ongeveer even lang bewaard", "about as long"),
    }
    effect, nl, en = effects[compare(after, before)]
    words = Words(
        f"De gegevens worden {nl}: {duration_in_words(after, 'nl')}, het was {duration_in_words(before, 'nl')}.",
        f"The data are kept {en}: {duration_in_words(after, 'en')}, it was {duration_in_words(before, 'en')}.",
    )
    yield Change("retention", "changed", effect, before, after, words)


def _outway(before: Grant, after: Grant) -> Iterator[Change]:
    old = before.outway_domain_name or before.outway_key_thumbprint or ""
    new = after.outway_domain_name or after.outway_key_thumbprint or ""
    if old != new:
        words = Words(
            "De afspraak komt op een andere sleutel of naam te staan: die van de nieuwe aansluiting, mits de "
            "organisatie dat bevestigt.",
            "The agreement is made out to another outway key or name; ask the consumer whether it is theirs.",
        )
        yield Change("outway", "changed", "differs", inert(old, 255), inert(new, 255), words)


def _properties(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    for name in sorted((before.keys() | after.keys()) - {PROPERTY}):
        if name in before and name in after and before[name] == after[name]:
            continue
        how: How = "changed" if name in before and name in after else "added" if name in after else "removed"
        said = inert(name, 100)
        nl, en = {"added": ("Erbij", "Added"), "removed": ("Eraf", "Removed"), "changed": ("Anders", "Changed")}[how]
        words = Words(f"{nl}: de eigenschap ‘{said}’.", f"{en}: the property ‘{said}’.")
        old, new = (inert(f"{name} = {side[name]!r}", 200) if name in side else "" for side in (before, after))
        yield Change("property", how, "differs", old, new, words)


def _validity(before: Contract, after: Contract) -> Iterator[Change]:
    if (before.not_before, before.not_after) == (after.not_before, after.not_after):
        return
    later = after.not_after - before.not_after
    effect: Effect = "differs" if later == 0 else "widens" if later > 0 else "narrows"
    if effect == "narrows" and after.not_before < before.not_before:
        effect = "differs"  # it ends sooner but began sooner too
    sides = {
        language: [
            (date_in_words(side.not_before, language), date_in_words(side.not_after, language))
            for side in (before, after)
        ]
        for language in ("nl", "en")
    }
    (old_nl, new_nl), (old_en, new_en) = sides["nl"], sides["en"]
    words = Words(
        f"De afspraak loopt van {new_nl[0]} tot {new_nl[1]}; het was van {old_nl[0]} tot {old_nl[1]}.",
        f"It runs from {new_en[0]} until {new_en[1]}; it was from {old_en[0]} until {old_en[1]}.",
    )
    yield Change("validity", "changed", effect, " – ".join(old_en), " – ".join(new_en), words)


def _changed(what: str, effect: Effect, before: str, after: str, nl: str, en: str) -> Change:
    old, new = inert(before, 1000), inert(after, 1000)
    words = Words(f"{nl}: ‘{new}’. Het was: ‘{old}’.", f"{en}: ‘{new}’. It was: ‘{old}’.")
    return Change(what, "changed", effect, old, new, words)
