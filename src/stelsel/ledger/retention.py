"""Retention: records are erased when they are as old as the policy says, and every proof of the rest holds.

Once a day, and when the operator asks. What is erased is the record and its nonce (see `Journal.prune`); its leaf, the
tree, and what was counted stay. What was done is kept in `retention.json`: moments and counts, nothing of a record.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from stelsel.base import tasks
from stelsel.base.clock import Clock, moment
from stelsel.base.errors import BadRequest, Fault
from stelsel.base.log import logger
from stelsel.ledger.segment_files import sync_folder

_log = logger("ledger")

DAY = 86_400.0
_LOOK = 600.0
"""Seconds between two looks at the clock."""
_KEPT = 400
"""Prunes that are remembered."""


@dataclass(frozen=True, slots=True)
class Prune:
    """One prune, or what one would do."""

    time: int
    """When, seconds since the epoch."""
    before: int
    """Records made before this moment were due, seconds since the epoch."""
    records: int
    """So many were erased, or would be."""
    segments: int
    """So many files were written anew."""
    asked: bool
    """By the operator, not by the policy."""
    finished: bool = True
    """False: it was begun, and how much of it was done nobody knows; the next one does the rest."""


class Prunable(Protocol):
    """What this needs of a ledger."""

    async def due(self, before: float) -> int: ...

    async def prune(self, before: float) -> tuple[int, int]: ...


class Retention:
    """Prunes a ledger. `keep_days` 0: only when it is asked."""

    def __init__(self, *, ledger: Prunable, file: Path, clock: Clock, keep_days: int) -> None:
        self.keep_days = keep_days
        self._ledger = ledger
        self._file = file
        self._clock = clock
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Prune once a day from now on, if there is a policy."""
        if self.keep_days:
            self._task = asyncio.create_task(self._daily())

    async def stop(self) -> None:
        """Start nothing any more; what is being erased is erased whole, or again the next time."""
        task, self._task = self._task, None
        await tasks.end(task)

    async def prune(self, before: float, *, dry_run: bool = False, asked: bool = True) -> Prune:
        """Erase the records made before this moment (seconds since the epoch), or count them.

        Raises `BadRequest` for a moment that is not in the past, `LedgerUnavailable` when it cannot be done now.
        """
        now = self._clock.now()
        if not 0 < before <= now:
            raise BadRequest("only what lies in the past can be erased", next_step="give a date before today")
        if dry_run:
            return Prune(int(now), int(before), await self._ledger.due(before), 0, asked)
        async with self._turn:
            begun: Prune | None = None
            if due := await self._ledger.due(before):
                # Before the first record goes: who misses it after a crash is to be told that it was erased.
                begun = Prune(int(now), int(before), due, 0, asked, finished=False)
                await asyncio.to_thread(self._keep, begun)
            records, segments = await self._ledger.prune(before)
            # What was due here and is gone already, another host of this ledger erased.
            done = Prune(int(now), int(before), records or due, segments, asked)
            if records or asked or begun or not self.done():
                await asyncio.to_thread(self._keep, done, begun)
        if records:
            _log.info("records erased", records=records, segments=segments, before=moment(before), asked=asked)
        return done

    def done(self) -> list[Prune]:
        """The prunes that are remembered, the latest last."""
        try:
            return [Prune(**one) for one in json.loads(self._file.read_bytes())]
        except (OSError, ValueError, TypeError):
            return []

    def horizon(self) -> float:
        """Of before this moment records were erased, seconds since the epoch; 0: none ever were."""
        return max((one.before for one in self.done() if one.records), default=0)

    def status(self) -> dict[str, Any]:
        """What the operator is told."""
        return {
            "keep_days": self.keep_days,
            "erased_before": self.horizon(),
            "prunes": [asdict(x) for x in self.done()],
        }

    async def _daily(self) -> None:
        latest = 0.0
        while True:
            now = self._clock.now()
            if now - latest >= DAY:
                latest = now
                try:
                    await self.prune(now - self.keep_days * DAY, asked=False)
                except Fault as fault:
                    latest = now - DAY + 6 * _LOOK  # again within the hour
                    _log.warning("records are not erased", reason=fault.detail, next_step=fault.next_step)
                except Exception as error:  # noqa: BLE001 - a mistake here must not end the looking
                    _log.error("records are not erased", exc_info=error)
            await asyncio.sleep(_LOOK)

    def _keep(self, done: Prune, begun: Prune | None = None) -> None:
        """Remember it, in the place of what was said of it when it was `begun`; durable when this returns."""
        others = [one for one in self.done() if one != begun and (one.finished or one.before > done.before)]
        data = json.dumps([asdict(one) for one in [*others, done][-_KEPT:]]).encode("utf-8")
        draft = self._file.with_name(self._file.name + ".new")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as output:
            output.write(data)
            output.flush()
            os.fsync(output.fileno())
        draft.replace(self._file)
        sync_folder(self._file.parent)
