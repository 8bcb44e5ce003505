"""A renewal is the same agreement anew: nothing in it is different but its time, its vector and a new outway key."""

from __future__ import annotations

import pytest
from agreements_peers import CONSUMER, PROVIDER
from managing_builders import DAY, NOW, connection, publication, terms_with

from stelsel.agreements.agreement import State
from stelsel.agreements.contract import parse
from stelsel.agreements.difference import changes
from stelsel.agreements.renewal import renew, what_follows
from stelsel.base.certificates import KeyPair
from stelsel.base.errors import BadRequest, Conflict

LATER = NOW + 90 * DAY


def test_a_renewal_differs_in_time_alone(keypairs: dict[str, KeyPair]) -> None:
    certificate = keypairs[CONSUMER].certificate
    old = connection(terms_with(), key=certificate.key_thumbprint)
    renewal = renew(old, State.VALID, certificate, LATER, keep_key=False)
    new = parse(renewal.content)
    assert new.iv != old.iv
    assert (new.not_before, new.not_after) == (int(LATER), int(LATER) + 100 * DAY)
    assert not renewal.new_key
    assert [change.what for change in changes((old, old.grants[0]), (new, new.grants[0]))] == ["validity"]


def test_the_consumer_renews_for_its_present_key(keypairs: dict[str, KeyPair]) -> None:
    certificate = keypairs[CONSUMER].certificate
    renewal = renew(connection(terms_with()), State.VALID, certificate, LATER, days=30, keep_key=False)
    new = parse(renewal.content)
    assert renewal.new_key
    assert new.grants[0].outway_key_thumbprint == certificate.key_thumbprint
    assert new.not_after - new.not_before == 30 * DAY


def test_an_outway_with_a_key_of_its_own_keeps_it(keypairs: dict[str, KeyPair]) -> None:
    old = connection(terms_with())
    for peer, keep in ((CONSUMER, True), (PROVIDER, False)):
        renewal = renew(old, State.VALID, keypairs[peer].certificate, LATER, keep_key=keep)
        assert parse(renewal.content).grants[0].outway_key_thumbprint == old.grants[0].outway_key_thumbprint


def test_the_contract_that_is_renewed_is_left_as_it_was(keypairs: dict[str, KeyPair]) -> None:
    old = connection(terms_with())
    renew(old, State.VALID, keypairs[CONSUMER].certificate, LATER, keep_key=False)
    assert parse(old.content).content_hash == old.content_hash


@pytest.mark.parametrize("state", [State.REJECTED, State.REVOKED, State.PROPOSED])
def test_what_does_not_hold_is_not_renewed(state: State, keypairs: dict[str, KeyPair]) -> None:
    with pytest.raises(Conflict):
        renew(connection(None), state, keypairs[CONSUMER].certificate, LATER, keep_key=False)


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_a_validity_without_measure_is_refused(days: int, keypairs: dict[str, KeyPair]) -> None:
    with pytest.raises(BadRequest):
        renew(connection(None), State.VALID, keypairs[CONSUMER].certificate, LATER, days=days, keep_key=False)


def test_it_says_what_follows(keypairs: dict[str, KeyPair]) -> None:
    old = connection(terms_with())
    renewal = renew(old, State.VALID, keypairs[CONSUMER].certificate, LATER, keep_key=False)
    said = " ".join(words.en for words in what_follows(old, renewal, ("Bevolkingsregister",), LATER))
    assert "Bevolkingsregister must sign" in said
    assert "stays in force until" in said
    assert "present key" in said
    over = " ".join(words.nl for words in what_follows(old, renewal, (), old.not_after + 1.0))
    assert "al voorbij" in over


def test_a_publication_is_renewed_too(keypairs: dict[str, KeyPair]) -> None:
    renewal = renew(publication(), State.EXPIRED, keypairs[PROVIDER].certificate, LATER, keep_key=False)
    assert parse(renewal.content).grants[0].service == "personen"
    assert renewal.days == 365
