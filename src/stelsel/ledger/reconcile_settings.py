"""The section `[reconciliation]` of a node's file."""

from __future__ import annotations

from pydantic import Field

from stelsel.base.settings import Settings


class ReconciliationSettings(Settings):
    """How our log is compared with those of counterparties."""

    interval: int = Field(
        default=3600,
        ge=0,
        le=604_800,
        description="seconds between two rounds in which the logs of counterparties are compared with ours, the first "
        "within a minute of the start; 0: only by command",
    )
    days: int = Field(
        default=30,
        ge=1,
        le=3660,
        description="days back that are compared, at most, and never longer than `ledger.keep_days`; keep it below the "
        "time that counterparties keep records, or what they no longer keep counts as missing",
    )
    settle: int = Field(
        default=120,
        ge=0,
        le=86_400,
        description="seconds before now that are left for the next round: what is under way is not in both logs yet",
    )
    patience: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="seconds for one counterparty in one round; the next goes on from there",
    )
