"""Upkeep of a running node: certificates, trust anchors and revocation lists that change, workers that are replaced."""

from __future__ import annotations

import asyncio
from typing import Any

from stelsel.agreements.service import Agreements
from stelsel.base.certificates import TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.errors import Fault, Unavailable
from stelsel.base.log import logger
from stelsel.base.renewal import Renewal, Renewed
from stelsel.control.observation import Observation
from stelsel.exchange.workers.traffic import Traffic

_log = logger("control")
_TICK = 0.5
"""Seconds between two looks at the files."""
_BUSY = 3
"""Restarts of one worker within an hour that are worth a word."""


class Upkeep:
    """Looks after what may change while a node runs. `start` begins looking, `stop` ends it."""

    def __init__(
        self,
        *,
        renewal: Renewal,
        agreements: Agreements,
        traffic: Traffic,
        anchors: TrustAnchors,
        clock: Clock,
    ) -> None:
        self._renewal = renewal
        self._agreements = agreements
        self._traffic = traffic
        self._anchors = anchors
        self._clock = clock
        self._generation = self._lists_generation()
        self._keeper: asyncio.Task[None] | None = None
        self._signing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        tasks = [*self._signing, *([self._keeper] if self._keeper is not None else [])]
        for task in tasks:
            task.cancel()  # what is not signed again now is at the next start
        await asyncio.gather(*tasks, return_exceptions=True)

    async def reload(self, *, keep_workers: bool = False) -> dict[str, Any]:
        """Take the files into use as they are now, and replace the workers one by one unless they are to be kept.

        Raises `ConfigurationFault` when the files cannot be used: then everything stays as it was; `Unavailable` while
        the node is starting, for it takes the files as they are anyhow.
        """
        if self._keeper is None:
            raise Unavailable("the node is starting", next_step="try again in a moment")
        renewed = self._renewal.take(self._clock.now())
        self._follow(renewed)
        return {
            "certificate": renewed.certificate,
            "trust_anchors": renewed.trust_anchors,
            "revocation_lists": renewed.revocation_lists,
            "certificate_until": int(self._agreements.keypair.certificate.not_after),
            "workers": 0 if keep_workers else await self._traffic.roll(),
        }

    async def reload_or_say_why(self) -> None:
        """`reload`, where nobody waits for its answer."""
        try:
            told = await self.reload()
        except Fault as fault:
            _log.error("not reloaded", reason=fault.detail, next_step=fault.next_step)
        else:
            _log.info("reloaded", workers=told["workers"], certificate=told["certificate"])

    def examine(self) -> list[Observation]:
        """What the doctor sees of it."""
        trouble = self._renewal.trouble
        seen = []
        if trouble is not None:
            seen.append(Observation("renewal", False, f"not in use: {trouble.detail}", trouble.next_step))
        workers = self._traffic.workers()
        if not workers:
            return seen
        down = [worker for worker in workers if not worker["serving"]]
        restarts = sum(worker["restarts"] for worker in workers)
        if down:
            step = "the lines of the log say why they end; until they run, connections to them wait"
            seen.append(Observation("workers", False, f"{len(down)} of {len(workers)} do not run", step))
        else:
            well = all(worker["restarts_last_hour"] < _BUSY for worker in workers)
            detail = f"{len(workers)} run, {self._traffic.in_flight()} requests in flight, replaced {restarts} times"
            seen.append(Observation("workers", well, detail, "" if well else "the lines of the log say why they ended"))
        return seen

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            try:
                self._follow(self._renewal.look(self._clock.now()))
            except Exception as error:  # noqa: BLE001 - looking must outlive any mistake; it is logged
                _log.error("looking after certificates stumbled and goes on", exc_info=error)

    def _follow(self, renewed: Renewed) -> None:
        """What must be done once new files are in use."""
        generation = self._lists_generation()
        if generation != self._generation:  # others read lists too, so it does not matter who saw the change
            self._generation = generation
            self._traffic.lists_changed()
        if renewed.certificate:
            # Apart: there may be very many, and revocation lists wait for nobody.
            task = asyncio.create_task(self._sign_again())
            self._signing.add(task)
            task.add_done_callback(self._signing.discard)

    async def _sign_again(self) -> None:
        try:
            again = await self._agreements.sign_again()
        except Fault as fault:
            step = "stelsel agreement sign-again"
            _log.error("not all agreements were signed again", reason=fault.detail, next_step=step)
        else:
            _log.info("signed again with the new certificate", contracts=len(again))

    def _lists_generation(self) -> int:
        lists = self._anchors.revocations
        return lists.generation if lists is not None else 0
