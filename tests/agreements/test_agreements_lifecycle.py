"""The life of a contract follows from the set of signatures, not from the order in which they come."""

from __future__ import annotations

from pathlib import Path

import pytest
from agreements_peers import CONSUMER, OTHER, PROVIDER, make_group
from hypothesis import given
from hypothesis import strategies as st

from stelsel.agreements import lifecycle
from stelsel.agreements.agreement import State
from stelsel.agreements.contract import Contract, parse
from stelsel.agreements.memory import Memory
from stelsel.agreements.proposals import ConnectionProposal, content_of
from stelsel.agreements.signatures import Signature
from stelsel.base.errors import Conflict
from stelsel.demo.authority import Authority

NOW = 1_800_000_000.0
END = int(NOW) + 1000


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Contract:
    folder: Path = tmp_path_factory.mktemp("group")
    proposal = ConnectionProposal(PROVIDER, "personen", not_before=int(NOW), not_after=END)
    return parse(content_of(proposal, make_group(folder, authority, 7143), CONSUMER, "ab" * 32, NOW))


def _signed(peer_id: str, kind: str, until: float = 2e9, at: int = int(NOW)) -> Signature:
    return Signature(peer_id, kind, f"{peer_id}.{kind}.{at}", at, until)  # type: ignore[arg-type]


_signatures = st.lists(
    st.builds(
        _signed,
        st.sampled_from([CONSUMER, PROVIDER, OTHER]),
        st.sampled_from(["accept", "reject", "revoke"]),
        st.sampled_from([2e9, NOW + 10]),
    ),
    max_size=8,
)


@given(_signatures, st.randoms(use_true_random=False))
def test_order_and_repetition_of_signatures_do_not_matter(
    contract: Contract, signatures: list[Signature], random: object
) -> None:
    turned = [*signatures, *signatures[:2]]
    random.shuffle(turned)  # type: ignore[attr-defined]
    now = NOW + 1
    assert lifecycle.state(contract, turned, now) == lifecycle.state(contract, signatures, now)


@given(_signatures)
def test_only_signatures_of_all_signatories_make_it_valid(contract: Contract, signatures: list[Signature]) -> None:
    valid = lifecycle.state(contract, signatures, NOW + 1) is State.VALID
    accepted = {s.peer_id for s in signatures if s.type == "accept" and s.peer_id != OTHER}
    ended = any(s.type != "accept" and s.peer_id != OTHER for s in signatures)
    assert valid == (accepted == {CONSUMER, PROVIDER} and not ended)


@given(_signatures, _signatures)
def test_rejected_and_revoked_are_for_ever(contract: Contract, first: list[Signature], more: list[Signature]) -> None:
    state = lifecycle.state(contract, first, NOW + 1)
    later = lifecycle.state(contract, first + more, NOW + 1)
    if state is State.REVOKED:
        assert later is State.REVOKED
    if state is State.REJECTED:
        assert later in {State.REJECTED, State.REVOKED}


@given(_signatures, st.floats(0, 2000))
def test_an_agreement_authorises_only_while_its_contract_is_valid(
    contract: Contract, signatures: list[Signature], later: float
) -> None:
    memory = Memory()
    memory.put(contract, CONSUMER, NOW, signatures, NOW)
    agreement = memory.agreement(contract.grants[0].grant_hash)
    assert agreement is not None
    known = memory.get(contract.content_hash)
    assert known is not None
    if agreement.holds(NOW + later):  # judged from what was in memory, without looking at the contract again
        assert known.state(NOW + later) is State.VALID
    (again,) = memory.agreements(NOW + later)
    assert again.state is known.state(NOW + later)


def test_it_holds_from_the_first_second_until_the_last(contract: Contract) -> None:
    both = [_signed(CONSUMER, "accept"), _signed(PROVIDER, "accept")]
    (agreement,) = lifecycle.agreements_of(contract, both, NOW)
    assert not agreement.holds(NOW - 1)
    assert agreement.holds(NOW)
    assert agreement.holds(END - 1)
    assert not agreement.holds(END)
    assert lifecycle.state(contract, both, END) is State.EXPIRED


def test_a_signature_whose_certificate_expired_counts_no_longer_until_signed_again(contract: Contract) -> None:
    both = [_signed(CONSUMER, "accept", until=NOW + 10), _signed(PROVIDER, "accept")]
    (agreement,) = lifecycle.agreements_of(contract, both, NOW)
    assert agreement.holds(NOW + 9)
    assert not agreement.holds(NOW + 10)
    assert lifecycle.state(contract, both, NOW + 10) is State.PROPOSED
    memory = Memory()
    memory.put(contract, CONSUMER, NOW, both, NOW)
    again = _signed(CONSUMER, "accept", at=int(NOW) + 11)
    known = memory.get(contract.content_hash)
    assert known is not None
    assert known.is_news(again)
    memory.put(contract, CONSUMER, NOW, [again], NOW + 11)
    assert not known.is_news(both[0])
    assert known.state(NOW + 11) is State.VALID


@pytest.mark.parametrize(
    ("there", "kind", "allowed"),
    [
        ([], "accept", True),
        ([(CONSUMER, "accept")], "accept", True),
        ([(CONSUMER, "accept")], "reject", True),
        ([(CONSUMER, "accept")], "revoke", False),
        ([(PROVIDER, "accept")], "revoke", True),
        ([(CONSUMER, "accept"), (PROVIDER, "accept")], "reject", False),
        ([(CONSUMER, "accept"), (PROVIDER, "accept")], "revoke", True),
        ([(CONSUMER, "reject")], "accept", False),
        ([(CONSUMER, "revoke")], "accept", False),
        ([(CONSUMER, "accept"), (PROVIDER, "accept"), (CONSUMER, "revoke")], "revoke", False),
    ],
)
def test_what_the_provider_may_sign(contract: Contract, there: list[tuple[str, str]], kind: str, allowed: bool) -> None:
    signatures = [_signed(*one) for one in there]
    if allowed:
        lifecycle.may_sign(contract, signatures, kind, PROVIDER, NOW)
    else:
        with pytest.raises(Conflict):
            lifecycle.may_sign(contract, signatures, kind, PROVIDER, NOW)
    with pytest.raises(Conflict):
        lifecycle.may_sign(contract, signatures, kind, PROVIDER, END)
