"""The gate: whether new contracts of a peer are taken at all, given the mandatory agreements it must keep.

This room asks; who answers is given from outside (the room `steering` has one). Not knowing never refuses: a gate
that cannot be reached, or that errs, lets pass, because a fault of the steward may not stop the country.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from stelsel.base.errors import Fault
from stelsel.base.log import logger

_log = logger("agreements")
_PATIENCE = 5.0  # seconds to wait for the gate's answer


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a peer's new contracts are refused, in a sentence, with the findings that show it (JSON objects)."""

    reason: str
    evidence: list[dict[str, Any]] = field(default_factory=list)


class Gate(Protocol):
    """Answers whether new contracts of a peer must be refused at `now` (seconds since the epoch)."""

    async def refuse_reason(self, peer_id: str, now: float) -> Refusal | None: ...


async def ask(gate: Gate | None, peer_id: str, now: float) -> Refusal | None:
    """The gate's answer; None, so pass, where there is no gate or it gives no answer in time."""
    if gate is None:
        return None
    try:
        async with asyncio.timeout(_PATIENCE):
            return await gate.refuse_reason(peer_id, now)
    except (Fault, OSError, TimeoutError) as error:
        _log.warning("the gate gave no answer, so it does not refuse", peer=peer_id, error=type(error).__name__)
        return None
