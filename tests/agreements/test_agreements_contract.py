"""Every validation rule of FSC Core 4.2.1, by a contract that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agreements_peers import CONSUMER, DIRECTORY, OTHER, PROVIDER, make_group

from stelsel.agreements import policy
from stelsel.agreements.contract import check, check_offered, check_parties, parse
from stelsel.agreements.fsc_errors import (
    ContractNotAcceptable,
    FscFault,
    GrantCombinationNotAllowed,
    IncorrectGroupId,
    IncorrectPublicKeyThumbprint,
    ReceivingPeerNotPartOfContract,
    RequestNotReadable,
    SubmittingPeerNotPartOfContract,
    UnknownFscVersion,
    UnknownHashAlgorithm,
)
from stelsel.agreements.group import Group
from stelsel.agreements.proposals import ConnectionProposal, PublicationProposal, content_of
from stelsel.agreements.terms import Terms
from stelsel.demo.authority import Authority

NOW = 1_800_000_000.0
KEY = "ab" * 32
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def group(tmp_path: Path, authority: Authority) -> Group:
    return make_group(tmp_path, authority, 7143)


@pytest.fixture
def connection(group: Group, terms: Terms) -> dict[str, Any]:
    return content_of(ConnectionProposal(PROVIDER, "personen", terms), group, CONSUMER, KEY, NOW)


@pytest.fixture
def publication(group: Group) -> dict[str, Any]:
    return content_of(PublicationProposal("personen", "Personen"), group, PROVIDER, KEY, NOW)


def _grant(content: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = content["grants"][0]["data"]
    return data


def test_what_we_propose_keeps_the_rules(
    connection: dict[str, Any], publication: dict[str, Any], group: Group, terms: Terms
) -> None:
    contract = parse(connection)
    check(contract, group, NOW)
    assert contract.signatories == {CONSUMER, PROVIDER}
    assert contract.grants[0].terms() == terms
    assert contract.created_at < NOW
    assert _grant(connection)["service"]["type"] == "SERVICE_TYPE_SERVICE"
    contract = parse(publication)
    check(contract, group, NOW)
    assert contract.signatories == {DIRECTORY, PROVIDER}


UNREADABLE: dict[str, Change] = {
    "no iv": lambda c: c.pop("iv"),
    "an iv that is no UUID": lambda c: c.update(iv="z" * 36),
    "an iv that is too short": lambda c: c.update(iv="1"),
    "no group": lambda c: c.pop("group_id"),
    "no validity": lambda c: c.pop("validity"),
    "no not_before": lambda c: c["validity"].pop("not_before"),
    "no not_after": lambda c: c["validity"].pop("not_after"),
    "a date that is a text": lambda c: c["validity"].update(not_after="2027-01-01"),
    "a date that is a float": lambda c: c["validity"].update(not_after=1.5),
    "a date that is true": lambda c: c["validity"].update(not_before=True),
    "a date before 1970": lambda c: c.update(created_at=-1),
    "no hash algorithm": lambda c: c.pop("hash_algorithm"),
    "no version": lambda c: c.pop("fsc_version"),
    "no grants": lambda c: c.update(grants=[]),
    "grants that are no list": lambda c: c.update(grants={}),
    "a grant without data": lambda c: c.update(grants=[{}]),
    "a grant of an unknown type": lambda c: _grant(c).update(type="GRANT_TYPE_ALL\x1b[2J<script>"),
    "a service without a name": lambda c: _grant(c)["service"].pop("name"),
    "a service without a type": lambda c: _grant(c)["service"].pop("type"),
    "a service with a name out of bounds": lambda c: _grant(c)["service"].update(name="a/b"),
    "a service with a name on two lines": lambda c: _grant(c)["service"].update(name="personen\n"),
    "a service with a long name": lambda c: _grant(c)["service"].update(name="a" * 101),
    "a provider that is no OIN": lambda c: _grant(c)["service"].update(peer_id="1"),
    "no outway": lambda c: _grant(c).pop("outway"),
    "no thumbprint": lambda c: _grant(c)["outway"]["identification"].pop("public_key_thumbprint"),
    "a short thumbprint": lambda c: _grant(c)["outway"]["identification"].update(public_key_thumbprint="ab"),
    "no domain name": lambda c: _grant(c)["outway"].update(
        identification={"type": "OUTWAY_IDENTIFICATION_TYPE_DOMAIN_NAME"}
    ),
    "properties that are a list": lambda c: _grant(c).update(properties=[]),
    "properties that are null": lambda c: _grant(c).update(properties=None),
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_content_with_a_fault_in_its_form_is_refused(fault: str, connection: dict[str, Any]) -> None:
    UNREADABLE[fault](connection)
    with pytest.raises((RequestNotReadable, IncorrectPublicKeyThumbprint)) as raised:
        parse(connection)
    assert "\x1b" not in raised.value.detail
    assert "\n" not in raised.value.detail


@pytest.mark.parametrize("content", [None, [], "x", 1, True])
def test_content_that_is_no_object_is_refused(content: Any) -> None:
    with pytest.raises(RequestNotReadable):
        parse(content)


def test_another_version_of_fsc_hears_so_first(connection: dict[str, Any]) -> None:
    with pytest.raises(UnknownFscVersion):
        parse({"fsc_version": "1.0.0"})
    with pytest.raises(UnknownHashAlgorithm):
        parse(connection | {"hash_algorithm": "HASH_ALGORITHM_MD5"})


UNACCEPTABLE: dict[str, tuple[Change, type[FscFault]]] = {
    "another group": (lambda c: c.update(group_id="other"), IncorrectGroupId),
    "made in the future": (lambda c: c.update(created_at=int(NOW) + 61), ContractNotAcceptable),
    "ends before it begins": (lambda c: c["validity"].update(not_before=int(NOW) + 9**9), ContractNotAcceptable),
    "over already": (lambda c: c["validity"].update(not_before=1, not_after=int(NOW)), ContractNotAcceptable),
    "too many grants": (lambda c: c.update(grants=c["grants"] * 11), ContractNotAcceptable),
    "too large properties": (lambda c: _grant(c).update(properties={"a": "x" * 2**20}), ContractNotAcceptable),
    "terms half understood": (
        lambda c: _grant(c)["properties"]["nl.stelsel.terms"].update(also="\x1b[2J"),
        ContractNotAcceptable,
    ),
    "terms of another version": (
        lambda c: _grant(c)["properties"]["nl.stelsel.terms"].update(version=2),
        ContractNotAcceptable,
    ),
}


@pytest.mark.parametrize("fault", UNACCEPTABLE)
def test_a_contract_that_breaks_a_rule_is_refused(fault: str, connection: dict[str, Any], group: Group) -> None:
    change, expected = UNACCEPTABLE[fault]
    change(connection)
    with pytest.raises(expected) as raised:
        check(parse(connection), group, NOW)
    assert raised.value.status == 422
    assert "\x1b" not in raised.value.detail


def test_clocks_of_peers_may_differ_a_little(connection: dict[str, Any], group: Group) -> None:
    connection["created_at"] = int(NOW) + group.clock_skew
    check(parse(connection), group, NOW)


def test_a_publication_is_not_mixed_with_other_grants(connection: dict[str, Any], publication: dict[str, Any]) -> None:
    publication["grants"] += connection["grants"]
    with pytest.raises(GrantCombinationNotAllowed):
        parse(publication)
    publication["grants"][1] = _delegated_publication(publication)["grants"][0]
    with pytest.raises(GrantCombinationNotAllowed):
        parse(publication)


def test_only_peers_in_the_contract_submit_and_receive_it(connection: dict[str, Any], group: Group) -> None:
    contract = parse(connection)
    check_parties(contract, submitter=CONSUMER, receiver=PROVIDER, group=group)
    with pytest.raises(SubmittingPeerNotPartOfContract):
        check_parties(contract, submitter=OTHER, receiver=PROVIDER, group=group)
    with pytest.raises(ReceivingPeerNotPartOfContract):
        check_parties(contract, submitter=CONSUMER, receiver=OTHER, group=group)


def test_who_is_not_the_directory_publishes_nothing(publication: dict[str, Any], group: Group) -> None:
    _grant(publication)["directory"]["peer_id"] = OTHER
    with pytest.raises(ContractNotAcceptable):
        check_parties(parse(publication), submitter=PROVIDER, receiver=OTHER, group=group)


def test_a_service_that_is_not_offered_cannot_be_connected_to(connection: dict[str, Any]) -> None:
    check_offered(parse(connection), PROVIDER, {"personen"})
    check_offered(parse(connection), CONSUMER, set())
    with pytest.raises(ContractNotAcceptable):
        check_offered(parse(connection), PROVIDER, {"adressen"})


def test_unknown_members_and_their_order_are_kept(connection: dict[str, Any]) -> None:
    connection["extension"] = {"b": [2, 1], "a": None}
    _grant(connection)["extra"] = "é\u202e"
    before = copy.deepcopy(connection)
    contract = parse(connection)
    assert contract.content == before
    assert list(contract.content) == list(before)
    without = copy.deepcopy(before)
    del without["extension"]
    assert parse(without).content_hash != contract.content_hash


def _delegated_publication(publication: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(publication)
    _grant(changed).update(type="GRANT_TYPE_DELEGATED_SERVICE_PUBLICATION", delegator={"peer_id": OTHER})
    return changed


def test_delegated_grants_are_read_hashed_and_signed_by_all_concerned(
    connection: dict[str, Any], publication: dict[str, Any]
) -> None:
    contract = parse(_delegated_publication(publication))
    assert contract.signatories == {PROVIDER, DIRECTORY, OTHER}
    assert contract.grants[0].grant_hash.startswith("$1$5$")

    _grant(connection).update(type="GRANT_TYPE_DELEGATED_SERVICE_CONNECTION", delegator={"peer_id": OTHER})
    _grant(connection)["service"].update(type="SERVICE_TYPE_DELEGATED_SERVICE", delegator={"peer_id": DIRECTORY})
    contract = parse(connection)
    assert contract.signatories == {PROVIDER, CONSUMER, OTHER, DIRECTORY}
    assert contract.grants[0].grant_hash.startswith("$1$4$")
    assert (contract.grants[0].delegator, contract.grants[0].service_delegator) == (OTHER, DIRECTORY)


def test_a_connection_to_a_delegated_service_needs_its_delegator(connection: dict[str, Any]) -> None:
    _grant(connection)["service"].update(type="SERVICE_TYPE_DELEGATED_SERVICE", delegator={"peer_id": OTHER})
    assert parse(connection).signatories == {PROVIDER, CONSUMER, OTHER}
    del _grant(connection)["service"]["delegator"]
    with pytest.raises(RequestNotReadable):
        parse(connection)


def test_the_directory_accepts_by_itself_only_what_is_certain_to_be_harmless(
    connection: dict[str, Any], publication: dict[str, Any], group: Group
) -> None:
    def by_itself(content: dict[str, Any], peer_id: str = DIRECTORY) -> bool:
        rules = policy.rules_of(peer_id, group, ())
        return policy.judge(parse(content), "ES256", rules, peer_id=peer_id, group=group, now=NOW).accepted

    assert by_itself(publication)
    assert not by_itself(connection)
    assert not by_itself(publication, PROVIDER)
    assert not by_itself(publication | {"group_id": "other"})
    assert not by_itself(publication | {"grants": publication["grants"] * 2})
    begin, year = int(NOW), 86_400
    long = {"not_before": begin, "not_after": begin + 401 * year}
    assert not by_itself(publication | {"validity": long})
    late = {"not_before": begin + 300 * year, "not_after": begin + 500 * year}
    assert not by_itself(publication | {"validity": late})
