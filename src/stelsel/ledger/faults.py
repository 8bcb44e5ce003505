"""What can be wrong with a ledger or with a proof."""

from __future__ import annotations

from typing import Final

from stelsel.base.errors import Unavailable, Unprocessable

NEXT_STEP: Final = "try again; if it lasts, look at the disk under the ledger's folder"


class LedgerUnavailable(Unavailable):
    """Nothing can be recorded now, so nothing may be passed (FSC Logging 1.1.0, 3.3.1.1 and 3.4.1.1)."""

    kind, title = "ledger-unavailable", "The ledger cannot record this now"


class LedgerCorrupt(LedgerUnavailable):
    """What was acknowledged before cannot be read back. It takes a person to decide what to do."""

    kind, title = "ledger-corrupt", "The ledger is damaged"


class ProofInvalid(Unprocessable):
    """A receipt, checkpoint or proof does not prove what it says."""

    kind, title = "proof-invalid", "This does not prove what it says"


def unusable(mistake: Exception) -> LedgerUnavailable:
    """The refusal after a mistake of ours: whatever it is, nobody may be told that it was recorded."""
    return LedgerUnavailable(f"the ledger cannot be used: {type(mistake).__name__}", next_step=NEXT_STEP)
