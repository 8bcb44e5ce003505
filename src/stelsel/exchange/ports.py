"""What this room needs of the rooms `agreements` and `ledger`, no more. They have it; tests may stand in for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from stelsel.agreements.agreement import Agreement
from stelsel.agreements.tokens import Token, TokenClaims
from stelsel.base.errors import Fault
from stelsel.base.moment import Moment
from stelsel.exchange.faults import TransactionLogWriteError
from stelsel.ledger.record import Record


class AgreementsPort(Protocol):
    """The agreements of this peer, in memory."""

    def agreements(self) -> tuple[Agreement, ...]: ...

    def agreement(self, grant_hash: str) -> Agreement | None: ...

    def on_change(self, callback: Callable[[], None]) -> None: ...

    def verify_token(self, compact: str, thumbprint: str) -> TokenClaims:
        """What the token in a header Fsc-Authorization says, proven to be for the certificate of `thumbprint`."""
        ...

    def token_at_hand(self, grant_hash: str) -> Token | None:
        """A token that can be used now, if there is one; no waiting."""
        ...

    async def token(self, grant_hash: str) -> Token: ...

    def forget_token(self, grant_hash: str) -> None:
        """The provider refused the token at hand: the next call gets a new one."""


class LedgerPort(Protocol):
    """The ledger of this peer."""

    def append_then(self, record: Record, moment: Moment) -> None:
        """Record it: `moment` comes, with the index, when it is durable. Raises a `Fault`, or the moment fails."""
        ...


async def write_down(ledger: LedgerPort, records: Sequence[Record], refusal: type[TransactionLogWriteError]) -> None:
    """Record all durably, or raise `refusal`: what cannot be recorded is not carried (FSC Logging 3.3.1.1, 3.4.1.1).

    They wait together, so that they share one sync of the disk.
    """
    try:
        moments: list[Moment] = []
        for record in records:
            moment = Moment()
            ledger.append_then(record, moment)
            moments.append(moment)
        for moment in moments:
            await moment
    except (Fault, OSError) as error:
        fault = refusal(
            "the transaction could not be recorded, so it was not carried",
            next_step="try again; if it lasts, the operator of this gateway must look at its ledger",
        )
        fault.__cause__ = error  # compiled, `raise ... from` would lose it
        raise fault  # noqa: B904
