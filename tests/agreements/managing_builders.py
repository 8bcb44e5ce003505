"""Contracts for the tests of what people who manage agreements see: made whole, judged without any network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agreements_peers import CONSUMER, DIRECTORY, OTHER, PROVIDER

from stelsel.agreements import lifecycle
from stelsel.agreements.contract import Contract, parse
from stelsel.agreements.proposals import ConnectionProposal, PublicationProposal, content_of
from stelsel.agreements.signatures import Signature
from stelsel.agreements.stored import StoredContract
from stelsel.agreements.terms import Terms

NOW = 1_800_000_000.0
DAY = 86_400
KEY = "a" * 64
NAMES = {DIRECTORY: "Regie", PROVIDER: "Bevolkingsregister", CONSUMER: "Gemeente", OTHER: "Bouwer"}


class GroupOf:
    """Only what the pure parts ask of a group."""

    id = "stelsel-test"
    directory_peer_id = DIRECTORY
    clock_skew = 60


def terms_with(**changes: Any) -> Terms:
    values: dict[str, Any] = {
        "purpose": "Parkeervergunning beoordelen",
        "legal_basis": {"article": "Parkeerverordening, artikel 4", "ground": "e"},
        "processing_activity": {"id": "https://gemeente.example/v/parkeren", "name": "Parkeren", "version": "1"},
        "fields": ["naam.geslachtsnaam", "leeftijd"],
        "search_parameters": ["burgerservicenummer"],
        "retention": "P1Y",
        "confidentiality": "confidential",
    }
    return Terms.model_validate(values | changes)


def connection(
    terms: Terms | None = None, *, now: float = NOW, days: int = 100, key: str = KEY, **changes: Any
) -> Contract:
    proposal = ConnectionProposal(PROVIDER, "personen", terms, days=days, outway_key_thumbprint=key)
    group: Any = GroupOf()
    content = content_of(replace(proposal, **changes), group, CONSUMER, key, now)
    return parse(content)


def publication(*, days: int = 365, now: float = NOW) -> Contract:
    group: Any = GroupOf()
    return parse(content_of(PublicationProposal("personen", days=days), group, PROVIDER, KEY, now))


def stored(
    contract: Contract, *, signed_by: tuple[str, ...] | None = None, until: float = NOW + 900 * DAY, now: float = NOW
) -> StoredContract:
    """The contract as it is kept, accepted by all its signatories unless told otherwise."""
    signers = sorted(contract.signatories) if signed_by is None else signed_by
    signatures = tuple(
        Signature(peer, "accept", f"{peer}.signature", int(contract.created_at), until) for peer in signers
    )
    return StoredContract(
        contract=contract,
        state=lifecycle.state(contract, signatures, now),
        proposed_by=CONSUMER,
        received_at=contract.created_at,
        signatures=signatures,
        others=tuple(sorted(contract.signatories - {PROVIDER})),
        deliveries=(),
        agreements=lifecycle.agreements_of(contract, signatures, now),
    )
