"""Contracts as officials read them: which wait for whom, what is asked, who signed, what was refused. Pure.

Everything that comes out of a contract or from another peer is hostile text: it is made inert here, and the templates
escape it besides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stelsel.agreements.agreement import State
from stelsel.agreements.contract import PUBLICATIONS, Grant
from stelsel.agreements.readable import duration_in_words, named, sentences
from stelsel.agreements.stored import Delivery, StoredContract
from stelsel.agreements.terms import Terms
from stelsel.base.text import inert
from stelsel.portal.pages import when
from stelsel.portal.words import Language
from stelsel.privacy.fields import words

Pair = tuple[str, str]
"""A text in Dutch and in English."""

_DAY = 86_400.0
_MOST_EVIDENCE = 20
_LONGEST_NUMBER = 15
_STATUS: dict[State, tuple[str, str, str]] = {
    State.PROPOSED: ("wait", "Nog niet getekend", "Not signed yet"),
    State.VALID: ("good", "Geldig", "In force"),
    State.REJECTED: ("bad", "Afgewezen", "Rejected"),
    State.REVOKED: ("bad", "Ingetrokken", "Revoked"),
    State.EXPIRED: ("none", "Voorbij", "Over"),
}
_SENT: dict[str, Pair] = {
    "submit": ("het voorstel", "the proposal"),
    "accept": ("onze handtekening", "our signature"),
    "reject": ("onze afwijzing", "our rejection"),
    "revoke": ("onze intrekking", "our revocation"),
}
_SIGNED: dict[str, Pair] = {
    "accept": ("tekende voor akkoord", "signed to accept"),
    "reject": ("wees af", "rejected"),
    "revoke": ("trok in", "revoked"),
}
_VERBS: dict[State, Pair] = {
    State.PROPOSED: ("wil", "wants"),
    State.VALID: ("gebruikt", "uses"),
    State.REJECTED: ("wilde", "wanted"),
    State.REVOKED: ("gebruikte", "used"),
    State.EXPIRED: ("gebruikte", "used"),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """A finding on which a peer refused us, as it told it."""

    obligation: str
    at: Pair
    check: str
    number: str
    """Number of the finding in the steward's log, or empty when what was told is no number."""
    reasons: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """What became of one message to one peer."""

    peer: str
    what: Pair
    status: str
    """pending, delivered or refused."""
    tone: str
    said: Pair
    attempts: int
    reason: Pair
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One contract in a list."""

    tail: str
    """The last part of the content hash, for addresses."""
    heading: Pair
    purpose: str
    status: tuple[str, Pair]
    """(tone, words)."""
    fields: int
    publication: bool
    not_after: float
    days_left: int
    waiting_for: tuple[str, ...]
    """Names of the peers whose signature is not here."""
    messages: tuple[Message, ...]
    """Of these the ones that tell something: pending or refused."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The contracts of this peer, in the order in which they need attention."""

    for_us: tuple[Row, ...]
    for_others: tuple[Row, ...]
    in_force: tuple[Row, ...]
    published: tuple[Row, ...]
    past: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A field, in words and as the machines write it."""

    said: Pair
    path: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One grant of a contract, in words and exactly."""

    lines: tuple[str, ...]
    fields: tuple[Field, ...]
    search: tuple[Field, ...]
    terms: Terms | None
    article_link: str
    retention: str
    grant_hash: str
    outway: str


@dataclass(frozen=True, slots=True)
class Signed:
    """What one peer did with a contract."""

    peer: str
    peer_id: str
    said: Pair
    at: float | None
    """Seconds since the epoch; None while it has not signed."""
    tone: str


@dataclass(frozen=True, slots=True)
class Detail:
    """All of one contract."""

    row: Row
    content_hash: str
    asked: tuple[Asked, ...]
    signed: tuple[Signed, ...]
    messages: tuple[Message, ...]
    proposed_by: str
    received_at: float
    not_before: float
    can: frozenset[str]
    """What this peer may do now: accept, reject, revoke, resend."""
    raw: str
    """The content as JSON, every character outside ASCII written as an escape."""


def tail_of(content_hash: str) -> str:
    """The last part of a hash `$1$1$<base64url>`: what is used in addresses."""
    return content_hash.rpartition("$")[2]


def groups(contracts: Iterable[StoredContract], peer_id: str, names: Mapping[str, str], now: float) -> Groups:
    """The contracts, newest first as given, sorted by what they wait for."""
    found: dict[str, list[Row]] = {"us": [], "others": [], "force": [], "published": [], "past": []}
    for stored in contracts:
        if stored.state is State.PROPOSED:
            group = "us" if peer_id in stored.unsigned else "others"
        elif stored.state is State.VALID:
            group = "published" if stored.contract.is_publication else "force"
        else:
            group = "past"
        found[group].append(row(stored, names, now))
    return Groups(*(tuple(found[name]) for name in ("us", "others", "force", "published", "past")))


def row(stored: StoredContract, names: Mapping[str, str], now: float) -> Row:
    """One contract for a list."""
    tone, dutch, english = _STATUS[stored.state]
    if stored.state is State.PROPOSED and _refused(stored):
        tone, dutch, english = "bad", "Geweigerd", "Refused"
    contract = stored.contract
    terms = [agreement.terms for agreement in stored.agreements if agreement.terms is not None]
    return Row(
        tail=tail_of(stored.content_hash),
        heading=_heading(stored, names),
        purpose=inert(terms[0].purpose, 300) if terms else "",
        status=(tone, (dutch, english)),
        fields=sum(len(one.fields) for one in terms),
        publication=contract.is_publication,
        not_after=shown_time(contract.not_after),
        days_left=max(0, math.floor((contract.not_after - now) / _DAY)),
        waiting_for=tuple(named(peer, names) for peer in stored.unsigned),
        messages=tuple(_message(one, names) for one in stored.deliveries if one.status != "delivered"),
    )


def detail(stored: StoredContract, peer_id: str, names: Mapping[str, str], language: Language, now: float) -> Detail:
    """All of one contract, in the reader's language."""
    return Detail(
        row=row(stored, names, now),
        content_hash=stored.content_hash,
        asked=tuple(_asked(grant, stored, language, names) for grant in stored.contract.grants),
        signed=tuple(_signed(stored, names)),
        messages=tuple(_message(one, names) for one in stored.deliveries),
        proposed_by=named(stored.proposed_by, names),
        received_at=stored.received_at,
        not_before=shown_time(stored.contract.not_before),
        can=_can(stored, peer_id),
        raw=json.dumps(stored.content, indent=2, ensure_ascii=True),
    )


def _can(stored: StoredContract, peer_id: str) -> frozenset[str]:
    again = {"resend"} if _refused(stored) else set()
    if peer_id not in stored.contract.signatories or stored.state not in (State.PROPOSED, State.VALID):
        return frozenset(again)
    return frozenset(again | ({"accept", "reject"} if peer_id in stored.unsigned else {"revoke"}))


def _refused(stored: StoredContract) -> bool:
    """Whether a peer did not take what we sent it about this contract."""
    return any(delivery.status == "refused" for delivery in stored.deliveries)


def _heading(stored: StoredContract, names: Mapping[str, str]) -> Pair:
    grants = stored.contract.grants
    first, more = grants[0], len(grants) - 1
    provider, service = named(first.provider, names), inert(first.service, 100)
    if first.type in PUBLICATIONS:
        directory = named(first.directory or "", names)
        dutch, english = (
            f"{provider}: ‘{service}’ in de gids van {directory}",
            f"{provider}: ‘{service}’ in the directory of {directory}",
        )
    else:
        consumer = named(first.consumer or "", names)
        wants, verb = _VERBS[stored.state]
        dutch, english = (
            f"{consumer} {wants} ‘{service}’ van {provider}",
            f"{consumer} {verb} ‘{service}’ from {provider}",
        )
        terms = next((one.terms for one in stored.agreements if one.terms is not None), None)
        if terms is not None:
            activity = inert(terms.processing_activity.name, 100)
            dutch, english = f"{activity}: {dutch}", f"{activity}: {english}"
    return (f"{dutch}, en nog {more}", f"{english}, and {more} more") if more else (dutch, english)


def _asked(grant: Grant, stored: StoredContract, language: Language, names: Mapping[str, str]) -> Asked:
    agreement = next((one for one in stored.agreements if one.grant_hash == grant.grant_hash), None)
    terms = agreement.terms if agreement is not None else None
    uri = terms.legal_basis.uri if terms is not None else None
    return Asked(
        lines=tuple(
            sentences(
                agreement if agreement is not None else grant,
                language,
                names,
                lambda path: words(path).in_language(language),
            )
        ),
        fields=_fields(terms.fields if terms is not None else ()),
        search=_fields(terms.search_parameters if terms is not None else ()),
        terms=terms,
        article_link=uri if uri is not None and uri.startswith(("https://", "http://")) else "",
        retention=duration_in_words(terms.retention, language) if terms is not None else "",
        grant_hash=grant.grant_hash,
        outway=grant.outway_key_thumbprint or inert(grant.outway_domain_name or "", 255),
    )


def _fields(paths: Iterable[str]) -> tuple[Field, ...]:
    return tuple(Field((words(path).nl, words(path).en), inert(path, 200)) for path in paths)


def _signed(stored: StoredContract, names: Mapping[str, str]) -> Iterable[Signed]:
    for signature in sorted(stored.signatures, key=lambda one: (one.signed_at, one.type)):
        yield Signed(
            peer=named(signature.peer_id, names),
            peer_id=inert(signature.peer_id, 20),
            said=_SIGNED[signature.type],
            at=shown_time(signature.signed_at),
            tone="good" if signature.type == "accept" else "bad",
        )
    if stored.state is State.PROPOSED:
        for peer_id in stored.unsigned:
            yield Signed(
                named(peer_id, names),
                inert(peer_id, 20),
                ("heeft nog niet getekend", "has not signed yet"),
                None,
                "wait",
            )


def _message(delivery: Delivery, names: Mapping[str, str]) -> Message:
    tone, said = {
        "pending": ("wait", ("wordt verstuurd", "being sent")),
        "delivered": ("good", ("aangekomen", "delivered")),
        "refused": ("bad", ("geweigerd", "refused")),
    }[delivery.status]
    return Message(
        peer=named(delivery.peer_id, names),
        what=_SENT.get(delivery.kind, (inert(delivery.kind, 20), inert(delivery.kind, 20))),
        status=delivery.status,
        tone=tone,
        said=said,
        attempts=delivery.attempts,
        reason=in_both(inert(delivery.reason, 2000)),
        evidence=tuple(_evidence(item) for item in delivery.evidence[:_MOST_EVIDENCE]),
    )


def in_both(reason: str) -> Pair:
    """The two languages of a reason that carries both, as the gate writes them: "Dutch / English"."""
    dutch, apart, english = reason.partition(" / ")
    return (dutch.strip(), english.strip()) if apart and english.strip() else (reason, reason)


def _evidence(item: dict[str, Any]) -> Evidence:
    def text(name: str) -> str:
        value = item.get(name)
        return inert(value, 200) if isinstance(value, str) else ""

    told = item.get("reasons")
    reasons = [one for one in told[:_MOST_EVIDENCE] if isinstance(one, dict)] if isinstance(told, list) else []
    number = text("finding")
    return Evidence(
        obligation=text("obligation"),
        at=_told_moment(text("at")),
        check=text("check"),
        number=number if number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER else "",
        reasons=tuple((inert(str(one.get("nl", "")), 500), inert(str(one.get("en", "")), 500)) for one in reasons),
    )


def _told_moment(text: str) -> Pair:
    """A moment that another peer told, in words; as it was told when it is no moment."""
    try:
        seconds = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return text, text
    return when(seconds, "nl"), when(seconds, "en")


def shown_time(seconds: float) -> float:
    """A moment that a calendar can show: contracts may name any number of seconds."""
    return min(max(float(seconds), 0.0), 253_402_214_400.0)
