"""The life of a contract: which state it is in, given the signatures that are there (FSC Core 3.2.1).

The state follows from the set of signatures and the time alone, so it does not matter in which order, or how often,
they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.contract import CONNECTIONS, Contract, Grant
from stelsel.agreements.signatures import Signature
from stelsel.base.errors import Conflict


def state(contract: Contract, signatures: Iterable[Signature], now: float) -> State:
    """The state of `contract` at `now` (seconds since the epoch)."""
    known = [signature for signature in signatures if signature.peer_id in contract.signatories]
    if any(signature.type == "revoke" for signature in known):
        return State.REVOKED
    if any(signature.type == "reject" for signature in known):
        return State.REJECTED
    if now >= contract.not_after:
        return State.EXPIRED
    # A signature whose certificate has expired cannot be verified any more, so it counts no longer (4.2.7).
    accepted = {s.peer_id for s in known if s.type == "accept" and now < s.certificate_not_after}
    return State.VALID if accepted == contract.signatories else State.PROPOSED


def agreements_of(contract: Contract, signatures: Iterable[Signature], now: float) -> tuple[Agreement, ...]:
    """The contract's connection grants as agreements, as they stand at `now`."""
    known = tuple(signatures)
    current = state(contract, known, now)
    ends = [s.certificate_not_after for s in known if s.type == "accept" and s.peer_id in contract.signatories]
    return tuple(
        _agreement(contract, grant, current, min(ends, default=0.0))
        for grant in contract.grants
        if grant.type in CONNECTIONS
    )


def may_sign(contract: Contract, signatures: Iterable[Signature], kind: str, peer_id: str, now: float) -> None:
    """Whether `peer_id` can put this kind of signature on the contract now. Raises `Conflict` with the reason."""
    known = tuple(signatures)
    current = state(contract, known, now)
    if current in {State.REJECTED, State.REVOKED, State.EXPIRED}:
        raise Conflict(f"the contract is {current.value}; that cannot be changed", next_step="propose a new contract")
    if kind == "reject" and current is not State.PROPOSED:
        raise Conflict("the contract is valid already", next_step="revoke it instead")
    if kind == "revoke" and not any(s.peer_id == peer_id and s.type == "accept" for s in known):
        raise Conflict("this peer has not accepted the contract", next_step="reject it instead")


def _agreement(contract: Contract, grant: Grant, current: State, signatures_hold_until: float) -> Agreement:
    if grant.consumer is None:
        raise ValueError("a publication is no agreement")
    return Agreement(
        grant_hash=grant.grant_hash,
        content_hash=contract.content_hash,
        consumer=grant.consumer,
        provider=grant.provider,
        service=grant.service,
        outway_key_thumbprint=grant.outway_key_thumbprint,
        outway_domain_name=grant.outway_domain_name,
        terms=grant.terms(),
        not_before=contract.not_before,
        not_after=contract.not_after,
        created_at=contract.created_at,
        state=current,
        consumer_delegator=grant.delegator,
        provider_delegator=grant.service_delegator,
        external_contract=grant.external_contract(),
        signatures_hold_until=signatures_hold_until,
    )
