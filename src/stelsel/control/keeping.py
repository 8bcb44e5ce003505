"""What the operator asks about retention: erase what is older, and see what was erased."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from stelsel.base.errors import BadRequest
from stelsel.control.api import Command, Json
from stelsel.ledger.retention import Retention


class Keeping:
    """The commands about retention."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention

    def commands(self) -> dict[str, Command]:
        """For the operator's socket."""
        return {"prune": self._prune, "retention": self._retention}

    async def _prune(self, body: Json) -> Any:
        before, dry_run = body.get("before"), body.get("dry_run", False)
        if isinstance(before, bool) or not isinstance(before, int | float) or not isinstance(dry_run, bool):
            raise BadRequest("say before which moment: `before`, seconds since the epoch")
        return asdict(await self.retention.prune(float(before), dry_run=dry_run))

    async def _retention(self, body: Json) -> Any:
        del body
        return self.retention.status()
