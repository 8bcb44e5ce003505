"""Renewing a contract: the same grants anew, with a new initialization vector and validity (FSC Core 4.2, 4.2.7). Pure.

A contract cannot be prolonged, and an agreement does not follow a new outway key: both take a new contract.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stelsel.agreements.agreement import State
from stelsel.agreements.contract import Contract
from stelsel.agreements.dialect import FSC_VERSION
from stelsel.agreements.readable import date_in_words
from stelsel.base.certificates import Certificate
from stelsel.base.errors import BadRequest, Conflict
from stelsel.base.ids import uuid7
from stelsel.base.text import Words

LONGEST = 3650
"""Days."""
_DAY = 86_400
_BACK_DATED = 5  # seconds, as in `proposals`: `created_at` may not be in the future at a peer whose clock is behind


@dataclass(frozen=True, slots=True)
class Renewal:
    """The content of the contract to propose, and what is new in it."""

    content: dict[str, Any]
    days: int
    new_key: bool
    """Whether it is made out to another outway key than the contract that it renews."""


def renew(
    contract: Contract, state: State, certificate: Certificate, now: float, *, days: int | None = None, keep_key: bool
) -> Renewal:
    """The renewal of `contract` by the peer with this certificate, from `now` on.

    `days`: how long it is to run; as long as the old one did by default. The outway key becomes that of `certificate`
    where this peer is the consumer, unless `keep_key`: then the old grant's stays, of an outway with a key of its own.
    Raises `Conflict` when there is nothing to renew.
    """
    if state in {State.REJECTED, State.REVOKED}:
        raise Conflict(
            f"the agreement is {state.value}: what was refused or ended is not renewed",
            next_step="propose a new one: stelsel agreement propose",
        )
    if state is State.PROPOSED:
        raise Conflict("the agreement is not in force yet", next_step="wait until every party has signed it")
    wanted = -(-(contract.not_after - contract.not_before) // _DAY) if days is None else days
    if days is not None and not 1 <= days <= LONGEST:
        raise BadRequest(f"an agreement runs from 1 to {LONGEST} days")
    wanted = min(max(wanted, 1), LONGEST)
    content = copy.deepcopy(contract.content)
    new_key = False
    for grant, item in zip(contract.grants, content["grants"], strict=True):
        key = grant.outway_key_thumbprint
        if grant.consumer == certificate.peer_id and key not in {None, certificate.key_thumbprint} and not keep_key:
            item["data"]["outway"]["identification"]["public_key_thumbprint"] = certificate.key_thumbprint
            new_key = True
    begin = int(now)
    content |= {
        "fsc_version": FSC_VERSION,
        "iv": uuid7(now),
        "validity": {"not_before": begin, "not_after": begin + wanted * _DAY},
        "created_at": begin - _BACK_DATED,
    }
    return Renewal(content, wanted, new_key)


def what_follows(contract: Contract, renewal: Renewal, others: tuple[str, ...], now: float) -> Iterator[Words]:
    """What must happen after a renewal was proposed; `others` are the other signatories, inert, as people call them."""
    who_nl, who_en = " en ".join(others), " and ".join(others)
    if others:
        yield Words(
            f"Nu moet {who_nl} tekenen. Tot dan geldt de vernieuwing niet.",
            f"Now {who_en} must sign. Until then the renewal does not hold.",
        )
    if contract.not_after > now:
        until_nl, until_en = (date_in_words(contract.not_after, language) for language in ("nl", "en"))
        yield Words(
            f"De lopende afspraak blijft gelden tot {until_nl}; trek die in zodra de nieuwe geldt.",
            f"The running agreement stays in force until {until_en}; revoke it once the new one holds.",
        )
    else:
        yield Words(
            "De oude afspraak is al voorbij: tot er getekend is, wordt elke vraag geweigerd.",
            "The old agreement is over: until it is signed, every call is refused.",
        )
    if renewal.new_key:
        yield Words(
            "De vernieuwing staat op de nieuwe sleutel van deze node; de lopende op de oude.",
            "The renewal is made out to this node's present key; the running one to another.",
        )
    yield Words(
        "Toepassingen die het kenmerk van de afspraak meesturen (Fsc-Grant-Hash) moeten het nieuwe sturen.",
        "Applications that send the header Fsc-Grant-Hash must send the new hash.",
    )
