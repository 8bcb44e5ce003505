"""The outbox: what other peers must hear from us is kept until they heard it (FSC Core 4.4.1.2 and 4.4.1.3).

Without it a contract would stay proposed for ever when a peer happens to be down as we sign. Messages may arrive twice
or in another order: the life of a contract does not depend on that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from stelsel.agreements import store
from stelsel.agreements.client import PeerRefused
from stelsel.agreements.stored import Delivery
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import Fault
from stelsel.base.log import logger
from stelsel.base.text import inert

LONGEST_WAIT = 300.0
"""Seconds between two attempts at most (Digikoppeling 3.4.3)."""
_FIRST_WAIT = 0.2
_PERHAPS_LATER = "SIGNATURE_VERIFICATION_FAILED"
"""End of the code of a refusal that need not be for good: the other side answers so too when it could not fetch our
certificates (the OpenAPI's own example of it), and we may just be starting, or the network be down that way."""
_PATIENCE = 300  # attempts, about a day, before such a refusal is taken to be for good
_PARTING = 1.0  # seconds that a message under way gets when we stop
_AT_ONCE = 16  # peers that are written to at the same time

_log = logger("agreements")
_random = random.SystemRandom()


def wait_after(attempts: int, spread: float) -> float:
    """Seconds to wait after so many failed attempts; `spread` in 0..1 keeps peers from retrying in step."""
    longest = min(LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(attempts - 1, 20))
    return longest * (0.5 + 0.5 * spread)


class Outbox:
    """Sends what is due, for as long as it runs. `send` delivers one message or raises a `Fault`."""

    def __init__(self, database: Database, clock: Clock, send: Callable[[Delivery], Awaitable[None]]) -> None:
        self._database = database
        self._clock = clock
        self._send = send
        self._awake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._stopped = False
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._failing: set[str] = set()

    async def start(self) -> None:
        """Begin sending; what was left from before goes first."""
        self._stopped = False
        self._awake.set()
        self._worker = asyncio.create_task(self._run(), name="agreements-outbox")

    async def stop(self) -> None:
        """Stop sending. What was not delivered stays in the outbox."""
        self._stopped = True
        self._awake.set()
        if self._worker is not None:
            await self._worker
            self._worker = None
        tasks = list(self._busy.values())
        if tasks:  # what is under way gets a moment to end well: a connection cut half-way may be left behind
            await asyncio.wait(tasks, timeout=_PARTING)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._awake.set()

    def waits_for(self, peer_id: str) -> bool:
        """Whether something for this peer could not be delivered at the last attempt."""
        return peer_id in self._failing

    async def _run(self) -> None:
        while not self._stopped:
            self._awake.clear()
            try:
                wait = await self._round()
            except Exception as error:  # noqa: BLE001 - the outbox must outlive any mistake; it is logged
                _log.error("the outbox stumbled and goes on", exc_info=error)
                wait = 1.0
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._awake.wait()

    async def _round(self) -> float | None:
        """Start sending what is due; seconds until there is more to do, None when nothing waits."""
        now = self._clock.now()
        with self._database.read() as connection:
            due = store.due(connection, now)
            following = store.next_due(connection)
        by_peer: dict[str, list[Delivery]] = {}
        for delivery in due:
            if delivery.peer_id not in self._busy:
                by_peer.setdefault(delivery.peer_id, []).append(delivery)
        for peer_id, messages in by_peer.items():
            if len(self._busy) >= _AT_ONCE:
                break
            task = asyncio.create_task(self._deliver_all(messages), name=f"agreements-outbox-{peer_id}")
            self._busy[peer_id] = task
            task.add_done_callback(lambda _, peer_id=peer_id: self._done(peer_id))  # type: ignore[misc]
        if by_peer:
            return LONGEST_WAIT if len(self._busy) >= _AT_ONCE else 1.0
        if following is None:
            return None
        # A peer being written to wakes us when done; the second is a floor against a clock that stands still.
        return max(following - now, 0.01) if not self._busy else 1.0

    def _done(self, peer_id: str) -> None:
        self._busy.pop(peer_id, None)
        self._awake.set()

    async def _deliver_all(self, messages: list[Delivery]) -> None:
        for delivery in messages:
            if self._stopped:
                return
            await self._deliver(delivery)

    async def _deliver(self, delivery: Delivery) -> None:
        attempts = delivery.attempts + 1
        try:
            await self._send(delivery)
            after = replace(delivery, status="delivered", attempts=attempts, reason="", evidence=[])
        except PeerRefused as refusal:
            code = refusal.extra.get("code", "")
            again = code.endswith(_PERHAPS_LATER) and attempts < _PATIENCE
            after = replace(
                delivery,
                status="pending" if again else "refused",
                attempts=attempts,
                next_attempt=self._clock.now() + wait_after(attempts, _random.random()),
                reason=refusal.detail,
                evidence=refusal.extra.get("evidence", []),
            )
            _log.warning("refused", peer=delivery.peer_id, kind=delivery.kind, code=code, again=again)
        except Fault as fault:
            following = self._clock.now() + wait_after(attempts, _random.random())
            after = replace(delivery, attempts=attempts, next_attempt=following, reason=inert(fault.detail))
        except Exception as error:  # noqa: BLE001 - one message that cannot be sent may not hold up the others
            following = self._clock.now() + LONGEST_WAIT
            after = replace(delivery, attempts=attempts, next_attempt=following, reason="we made a mistake")
            _log.error("a message cannot be sent", kind=delivery.kind, exc_info=error)
        if after.status == "pending":
            self._failing.add(delivery.peer_id)
        else:
            self._failing.discard(delivery.peer_id)
        await self._database.write(lambda connection: store.put_delivery(connection, after))
