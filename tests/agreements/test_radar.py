"""The radar sees what ends before it does, says what to do, and cries wolf about nothing that was renewed."""

from __future__ import annotations

from dataclasses import replace

from agreements_peers import CONSUMER, PROVIDER
from managing_builders import DAY, NAMES, NOW, connection, publication, stored, terms_with

from stelsel.agreements.radar import Dated, Expiring, Own, expiring
from stelsel.agreements.stored import StoredContract
from stelsel.base.revocation import RevocationList

FAR = NOW + 3000 * DAY
OWN = Own(PROVIDER, Dated("Bevolkingsregister", FAR), (Dated("CN=Uitgever", FAR),), (Dated("CN=Anker", FAR),))


def seen(*contracts: StoredContract, own: Own = OWN, lists: tuple[RevocationList, ...] = ()) -> list[Expiring]:
    return list(expiring(contracts, own, lists, NAMES, NOW, days=90))


def test_what_ends_far_away_is_not_shown() -> None:
    assert seen(stored(connection(terms_with(), days=91))) == []


def test_a_contract_that_ends_soon_is_shown_with_how_to_renew_it() -> None:
    contract = stored(connection(terms_with(), days=20))
    (found,) = seen(contract)
    assert (found.kind, found.urgent, found.days_left(NOW)) == ("contract", True, 20)
    assert "Gemeente" in found.what.nl
    assert "stelsel agreement renew" in found.next_step.en
    assert found.contracts == (contract.content_hash,)
    (later,) = seen(stored(publication(days=60)))
    assert not later.urgent


def test_a_contract_that_was_renewed_asks_for_nothing() -> None:
    old, new = stored(connection(terms_with(), days=5)), stored(connection(terms_with(fields=["leeftijd"])))
    (found,) = seen(old, new)
    assert not found.urgent
    assert "Nothing" in found.next_step.en


def test_a_renewal_that_waits_for_a_signature_stays_urgent() -> None:
    old = stored(connection(terms_with(), days=5))
    new = stored(connection(terms_with()), signed_by=(CONSUMER,))
    (found,) = seen(old, new)
    assert found.urgent
    assert "renewal waits" in found.next_step.en


def test_the_certificate_under_signatures_is_seen_once_with_all_that_it_carries() -> None:
    both = [stored(connection(terms_with(), days=days), until=NOW + 10 * DAY) for days in (100, 200)]
    found = [item for item in seen(*both) if item.kind == "signature"]
    assert len(found) == 2  # one for each of the two peers that signed
    assert all(len(item.contracts) == 2 and item.urgent for item in found)
    steps = {item.next_step.en for item in found}
    assert "Ask Gemeente to renew its certificate and sign again." in steps
    assert any("There is a newer certificate" in step for step in steps)


def test_a_certificate_that_ended_and_left_contracts_void_is_still_seen() -> None:
    (one, two) = seen(stored(connection(terms_with(), days=300), until=NOW - DAY))
    assert {one.kind, two.kind} == {"signature"}
    assert one.days_left(NOW) == -1


def test_a_certificate_that_outlives_its_contracts_is_not_about_them() -> None:
    found = seen(stored(connection(terms_with(), days=10), until=NOW + 20 * DAY))
    assert [item.kind for item in found] == ["contract"]


def test_own_certificate_issuer_and_anchor_are_seen() -> None:
    soon = Dated("CN=x\n\u202ey", NOW + 8 * DAY)
    found = seen(own=Own(PROVIDER, soon, (soon,), (soon,)))
    assert [item.kind for item in found] == ["certificate", "issuer", "trust anchor"]
    assert all(item.urgent and item.what.nl.isprintable() for item in found)


def test_own_certificate_that_ends_is_renewed_before_signing_again() -> None:
    own = replace(OWN, certificate=Dated("Bevolkingsregister", NOW + 10 * DAY))
    found = [
        item.next_step.en
        for item in seen(stored(connection(terms_with()), until=NOW + 10 * DAY), own=own)
        if item.kind == "signature" and "Bevolkingsregister" in item.what.en
    ]
    assert found == ["Renew the certificate with the same key and restart the node; it then signs again."]


def test_a_revocation_list_is_urgent_on_its_last_day_only() -> None:
    def ends(days: float) -> RevocationList:
        return RevocationList(b"", "CN=Anker", NOW - 10 * DAY, NOW + days * DAY, frozenset())

    week, hours, past = seen(lists=(ends(7), ends(0.5), ends(-1)))[::-1]
    assert [week.urgent, hours.urgent, past.urgent] == [False, True, True]


def test_what_ends_first_comes_first() -> None:
    found = seen(stored(connection(terms_with(), days=50)), stored(publication(days=3)))
    assert [item.until for item in found] == sorted(item.until for item in found)
