"""An agreement: a contract's connection grant together with its terms, as the rest of the house sees it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from stelsel.agreements.external_contract import ExternalContract
from stelsel.agreements.terms import Terms


class State(enum.StrEnum):
    """Where a contract is in its life (FSC Core 3.2.1)."""

    PROPOSED = "proposed"
    VALID = "valid"
    REJECTED = "rejected"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Agreement:
    """One connection grant of one contract. Only `State.VALID` within its validity authorises anything."""

    grant_hash: str
    content_hash: str
    consumer: str
    """Peer id of the outway's peer."""
    provider: str
    """Peer id of the service's peer."""
    service: str
    outway_key_thumbprint: str | None
    outway_domain_name: str | None
    terms: Terms | None
    not_before: int
    not_after: int
    created_at: int
    state: State
    consumer_delegator: str | None = None
    provider_delegator: str | None = None
    external_contract: ExternalContract | None = None
    """The contract outside FSC by which the consumer acts for an organisation without a manager."""
    signatures_hold_until: float = float("inf")
    """When the first certificate expires with which it was accepted; then it must be signed again (4.2.7)."""

    def holds(self, now: float) -> bool:
        """Whether this agreement authorises at `now` (seconds since the epoch)."""
        return self.state is State.VALID and self.not_before <= now < min(self.not_after, self.signatures_hold_until)
