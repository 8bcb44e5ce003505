"""The book: every change of this peer's contracts, one after another, durable before it is seen.

A signature and the messages that follow from it are stored in one transaction; then memory shows it; then whoever
listens is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from sqlalchemy import Connection

from stelsel.agreements import lifecycle, signatures, store
from stelsel.agreements.agreement import State
from stelsel.agreements.contract import Contract
from stelsel.agreements.memory import Known, Memory
from stelsel.agreements.outbox import Outbox
from stelsel.agreements.signatures import Signature, SignatureType
from stelsel.base.certificates import KeyPair
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import NotFound
from stelsel.base.jose import Signer
from stelsel.base.log import logger

_log = logger("agreements")


class ContractBook:
    """Changes the contracts of one peer."""

    def __init__(
        self,
        *,
        database: Database,
        memory: Memory,
        outbox: Outbox,
        keypair: KeyPair,
        signer: Signer,
        clock: Clock,
        check_iv: Callable[[Contract], None],
        approves: Callable[[Contract, Signature, float], bool],
    ) -> None:
        """`approves` tells whether a new contract, offered with this signature, is accepted without anyone looking."""
        self._database = database
        self._memory = memory
        self._outbox = outbox
        self._keypair = keypair
        self._peer_id = keypair.certificate.peer_id
        self._signer = signer
        self._clock = clock
        self._check_iv = check_iv
        self._approves = approves
        self._callbacks: list[Callable[[], None]] = []
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()

    def load(self, connection: Connection, now: float) -> None:
        """Take all that is stored into memory."""
        for contract, proposed_by, received_at, on_it in store.load_contracts(connection):
            self._memory.put(contract, proposed_by, received_at, on_it, now)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this in the event loop after each change."""
        self._callbacks.append(callback)

    async def finish(self) -> None:
        """Wait until what is being stored is stored."""
        await asyncio.gather(*self._changes, return_exceptions=True)

    def known(self, content_hash: str) -> Known:
        """The contract with this hash. Raises `NotFound`."""
        known = self._memory.get(content_hash)
        if known is None:
            raise NotFound("this peer has no contract with this hash", next_step="see: stelsel agreement list")
        return known

    async def settled(self, content_hash: str) -> Known:
        """As `known`, once what was being changed is in memory: the outbox may be a moment ahead of it."""
        async with self._changing:
            return self.known(content_hash)

    async def sign(self, contract: Contract, kind: SignatureType, message: str | None = None) -> None:
        """Put this peer's signature on a contract and send it to the others. Raises `Conflict` when it cannot be."""
        await self._in_order(self._sign(contract, kind, message))

    async def take_in(self, contract: Contract, signature: Signature, now: float) -> None:
        """Take in a verified signature of another peer, and the contract when it is new."""
        await self._in_order(self._take_in(contract, signature, now))

    async def sign_again(self) -> list[str]:
        """Accept again, with the present certificate, what was accepted with another (FSC Core 4.2.7).

        Content hashes of what was signed again. Rejected, revoked and expired contracts are left as they are.
        """
        now, signed = self._clock.now(), []
        for known in list(self._memory.all()):
            here = known.signatures.get((self._peer_id, "accept"))
            if here is None or here.chain == self._keypair.chain:
                continue
            if known.state(now) in {State.PROPOSED, State.VALID}:
                await self._in_order(self._sign(known.contract, "accept", None))
                signed.append(known.contract.content_hash)
        return signed

    def superseded(self, now: float) -> set[tuple[bytes, ...]]:
        """Chains of earlier certificates of this peer with which signatures were made that still count."""
        return {
            signature.chain
            for known in self._memory.all()
            if known.contract.not_after > now
            for signature in known.signatures.values()
            if signature.peer_id == self._peer_id
            and signature.chain != self._keypair.chain
            and signature.certificate_not_after > now
        }

    async def _in_order(self, change: Coroutine[Any, Any, None]) -> None:
        """Run one change after another, to the end, even when the caller goes away half-way."""

        async def run() -> None:
            async with self._changing:
                await change

        task = asyncio.create_task(run())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    async def _sign(self, contract: Contract, kind: SignatureType, message: str | None) -> None:
        now = self._clock.now()
        known = self._memory.get(contract.content_hash)
        on_it = known.signatures if known else {}
        lifecycle.may_sign(contract, on_it.values(), kind, self._peer_id, now)
        here = on_it.get((self._peer_id, kind))
        if here is not None and here.chain == self._keypair.chain:
            return  # signed already with this certificate; `resend` sends it again
        after = here.signed_at if here is not None else 0
        signature = signatures.sign(contract, kind, self._signer, self._keypair, now, after)
        await self._keep(contract, [signature], proposed_by=self._peer_id, send=message or kind, now=now)

    async def _take_in(self, contract: Contract, signature: Signature, now: float) -> None:
        self._check_iv(contract)
        known = self._memory.get(contract.content_hash)
        if known is not None and not known.is_news(signature):
            return  # heard before
        kept, send = [signature], ""
        new = known is None and signature.type == "accept"
        if new and self._approves(contract, signature, now):
            kept.append(signatures.sign(contract, "accept", self._signer, self._keypair, now))
            send = "accept"
        await self._keep(contract, kept, proposed_by=signature.peer_id, send=send, now=now)

    async def _keep(
        self, contract: Contract, kept: list[Signature], *, proposed_by: str, send: str, now: float
    ) -> None:
        content_hash, others = contract.content_hash, contract.signatories - {self._peer_id}

        def write(connection: Connection) -> None:
            store.add_contract(connection, contract, proposed_by, now)
            for signature in kept:
                store.put_signature(connection, content_hash, signature)
                if signature.peer_id == self._peer_id and contract.rests_outside:
                    store.add_reference_decision(connection, content_hash, signature.type, now)
            if send:
                store.queue(connection, others, send, content_hash, now)

        await self._database.write(write)
        self._memory.put(contract, proposed_by, now, kept, now)
        if send:
            self._outbox.wake()
        for callback in self._callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - a listener's mistake may not undo what is stored
                _log.error("a listener for changed agreements failed", exc_info=error)
