"""What a worker has in the place of the agreements: their port, at the far end of a link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from stelsel.agreements import tokens
from stelsel.agreements.agreement import Agreement
from stelsel.agreements.tokens import Token, TokenClaims
from stelsel.base.certificates import KeyPair
from stelsel.base.clock import Clock
from stelsel.base.errors import BadGateway, Fault, Unavailable
from stelsel.exchange.workers.link import Kind, Link
from stelsel.exchange.workers.messages import (
    fault_from_json,
    from_json,
    to_json,
)

_NEXT_STEP = "try again; if it lasts, the operator must look at the node: stelsel status"
_TOKEN_SECONDS = 15.0
"""That the house may take to get a token: its own limits on talking to another manager are shorter."""

Verify = Callable[[str, str], TokenClaims]


class RemoteAgreements:
    """The agreements of the house, as it pushed them."""

    def __init__(self, link: Link, *, keypair: KeyPair, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._all: dict[str, Agreement] = {}
        self._listed: tuple[Agreement, ...] | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._held: dict[str, Token] = {}
        self._asking: dict[str, asyncio.Future[Token]] = {}
        self._verify: Verify = _not_yet
        keypair.on_renewal(self._held_no_longer)

    def check_with(self, verify: Verify) -> None:
        """What checks tokens from now on."""
        self._verify = verify

    def put(self, agreements: Iterable[Agreement]) -> None:
        """These are new, or changed."""
        self._all.update((agreement.grant_hash, agreement) for agreement in agreements)
        self._listed = None
        for callback in self._callbacks:
            callback()

    # --- the port ---

    def agreements(self) -> tuple[Agreement, ...]:
        if self._listed is None:
            self._listed = tuple(self._all.values())
        return self._listed

    def agreement(self, grant_hash: str) -> Agreement | None:
        return self._all.get(grant_hash)

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def verify_token(self, compact: str, thumbprint: str) -> TokenClaims:
        return self._verify(compact, thumbprint)

    def token_at_hand(self, grant_hash: str) -> Token | None:
        now = self._clock.now()
        token, agreement = self._held.get(grant_hash), self._all.get(grant_hash)
        if token is not None and agreement is not None and agreement.holds(now) and now < _usable_until(token):
            return token
        return None

    async def token(self, grant_hash: str) -> Token:
        """The token at hand, or one that the house gets. Raises what the house said, or `Unavailable`."""
        token = self.token_at_hand(grant_hash)
        if token is not None:
            return token
        asked = self._asking.get(grant_hash)
        if asked is None:  # however many requests wait, the house is asked once
            asked = self._asking[grant_hash] = self._loop.create_future()
            asked.add_done_callback(_heard)
            self._link.send(Kind.ASK_TOKEN, grant_hash.encode("utf-8", "replace"))
            self._loop.call_later(_TOKEN_SECONDS, self._too_late, grant_hash, asked)
        return await asyncio.shield(asked)

    def forget_token(self, grant_hash: str) -> None:
        """The provider did not take the token at hand; the house hears which one that was."""
        token = self._held.pop(grant_hash, None)
        if token is not None:
            self._link.send(Kind.FORGET_TOKEN, to_json({"grant_hash": grant_hash, "token": token.compact}))

    # --- what the house says ---

    def token_came(self, payload: bytes) -> None:
        """The answer to a question for a token."""
        answer = from_json(payload)
        grant_hash = str(answer.get("grant_hash"))
        asked, agreement = self._asking.pop(grant_hash, None), self._all.get(grant_hash)
        if asked is None or asked.done():
            return
        try:
            if agreement is None or "compact" not in answer:
                raise fault_from_json(answer)
            compact = str(answer["compact"])
            token = Token(compact, tokens.read(compact).settled(agreement))
        except Fault as fault:
            asked.set_exception(fault)
            return
        self._held[grant_hash] = token
        asked.set_result(token)

    def close(self) -> None:
        """The house is gone: no token can be had."""
        asking, self._asking = self._asking, {}
        for asked in asking.values():
            if not asked.done():
                asked.set_exception(Unavailable("this node is stopping", next_step=_NEXT_STEP))

    def _too_late(self, grant_hash: str, asked: asyncio.Future[Token]) -> None:
        if self._asking.get(grant_hash) is asked and not asked.done():
            del self._asking[grant_hash]
            asked.set_exception(Unavailable("there was no access token in time", next_step=_NEXT_STEP))

    def _held_no_longer(self) -> None:
        """Tokens are bound to the certificate that they were asked with (RFC 8705, section 3)."""
        self._held.clear()


def _usable_until(token: Token) -> float:
    """As the house itself renews them: a little before they expire."""
    claims = token.claims
    return claims.expires - min(30.0, (claims.expires - claims.not_before) / 10)


def _heard(asked: asyncio.Future[Token]) -> None:
    """Nobody may be waiting any more for what went wrong."""
    if not asked.cancelled():
        asked.exception()


def _not_yet(compact: str, thumbprint: str) -> TokenClaims:
    del compact, thumbprint
    raise BadGateway("this worker has not begun")
