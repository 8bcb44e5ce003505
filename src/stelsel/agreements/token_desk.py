"""The token desk: gives out access tokens, gets them from other peers, and has them checked at the inway."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from stelsel.agreements import hashes, tokens
from stelsel.agreements.agreement import Agreement
from stelsel.agreements.client import PeerRefused
from stelsel.agreements.dialect import USUAL, Dialect
from stelsel.agreements.fsc_errors import TokenInvalid, TokenRequestFault
from stelsel.agreements.group import Group
from stelsel.agreements.memory import Memory
from stelsel.agreements.token_check import TokenCheck
from stelsel.agreements.tokens import Token, TokenClaims
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.errors import BadGateway, Forbidden, NotFound
from stelsel.base.jose import Signer


class TokenDesk:
    """Tokens of one peer, as provider and as consumer. Nothing here touches the database."""

    def __init__(
        self,
        *,
        memory: Memory,
        keypair: KeyPair,
        signer: Signer,
        group: Group,
        clock: Clock,
        inway_address: str | None,
        services: frozenset[str],
        lifetime: int,
        dialect: Dialect = USUAL,
        anchors: TrustAnchors | None = None,
    ) -> None:
        self._memory = memory
        self._keypair = keypair
        self._signer = signer
        self._group = group
        self._clock = clock
        self._inway_address = inway_address
        self._services = services
        self._lifetime = lifetime
        self._dialect = dialect
        self.check = TokenCheck(
            keypair=keypair,
            group_id=group.id,
            inway_address=inway_address,
            clock=clock,
            agreement=memory.agreement,
            lifetime=lifetime,
            dialect=dialect,
            anchors=anchors,
        )
        keypair.on_renewal(self._renewed)
        self._held: dict[str, Token] = {}
        self._asking: dict[str, asyncio.Task[Token]] = {}
        self._tasks: set[asyncio.Task[Token]] = set()

    @property
    def _certificate(self) -> Certificate:
        return self._keypair.certificate

    def _renewed(self) -> None:
        """Tokens are bound to the certificate that they were asked with (RFC 8705, section 3)."""
        self._held.clear()
        self._asking.clear()

    def issue(self, form: Mapping[str, str], certificate: Certificate) -> dict[str, Any]:
        """The answer to a token request (FSC Core 4.4.1.6). Raises `TokenRequestFault`."""
        now = self._clock.now()
        for name in ("grant_type", "scope", "client_id"):
            if not form.get(name):
                raise TokenRequestFault("invalid_request", f"{name} is missing")
        if form["grant_type"] != "client_credentials":
            raise TokenRequestFault("unsupported_grant_type", "only client_credentials is supported")
        if form["client_id"] != certificate.peer_id:
            raise TokenRequestFault("invalid_client", "client_id is not the peer in the client certificate")
        if not hashes.is_grant_hash(form["scope"]):
            raise TokenRequestFault("invalid_scope", "scope is not a grant hash")
        agreement, grant = self._memory.agreement(form["scope"]), self._memory.grant(form["scope"])
        if agreement is None or grant is None or agreement.consumer != certificate.peer_id:
            # The same answer whether it is unknown or another's: nobody learns of others' agreements.
            raise TokenRequestFault("invalid_scope", "there is no connection grant with this hash for this peer")
        if not agreement.holds(now):
            raise TokenRequestFault("invalid_grant", f"the contract does not hold now ({_why_not(agreement, now)})")
        if agreement.provider != self._certificate.peer_id:
            raise TokenRequestFault("invalid_grant", "another peer provides this service; ask the token there")
        if agreement.service not in self._services or self._inway_address is None:
            raise TokenRequestFault("invalid_grant", "no inway of this peer offers the service")
        _check_outway(agreement, certificate)
        claims = tokens.claims_for(
            agreement,
            grant.properties,
            group_id=self._group.id,
            audience=self._inway_address,
            certificate=certificate,
            now=now,
            lifetime=self._lifetime,
            clock_skew=self._group.clock_skew,
        )
        return {"access_token": tokens.sign(claims, self._signer, self._dialect), "token_type": "bearer"}

    def verify(self, compact: str, thumbprint: str) -> TokenClaims:
        """See `TokenCheck.verify`."""
        return self.check.verify(compact, thumbprint)

    def at_hand(self, grant_hash: str) -> Token | None:
        """The token at hand that `get` would give now, if there is one."""
        token = self._held.get(grant_hash)
        if token is None:
            return None
        now = self._clock.now()
        agreement = self._memory.agreement(grant_hash)
        if agreement is None or not agreement.holds(now) or now >= token.claims.expires - self._margin(token):
            return None
        return token

    async def get(self, grant_hash: str, ask: tokens.Ask) -> Token:
        """A token for one of this peer's agreements as consumer: the one at hand, or a new one through `ask`.

        Raises `NotFound` (no such agreement), `Forbidden` (it does not hold, or the provider refuses),
        `Unavailable` or `BadGateway` (the provider's manager).
        """
        now = self._clock.now()
        agreement = self._memory.agreement(grant_hash)
        if agreement is None or agreement.consumer != self._certificate.peer_id:
            raise NotFound("this peer has no such agreement", next_step="see: stelsel agreement list")
        if not agreement.holds(now):
            self._held.pop(grant_hash, None)
            raise Forbidden(f"the agreement does not hold now ({_why_not(agreement, now)})")
        token = self._held.get(grant_hash)
        if token is not None and now < token.claims.expires - self._margin(token):
            return token
        task = self._asking.get(grant_hash)
        if task is None:  # however many requests wait, the provider is asked once
            task = asyncio.create_task(self._get_new(agreement, ask))
            self._asking[grant_hash] = task
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._asked(grant_hash, done))
        return await asyncio.shield(task)

    def forget(self, grant_hash: str) -> None:
        """Let go of the token at hand for this agreement."""
        self._held.pop(grant_hash, None)

    def _asked(self, grant_hash: str, task: asyncio.Task[Token]) -> None:
        self._tasks.discard(task)
        if self._asking.get(grant_hash) is task:
            del self._asking[grant_hash]

    async def close(self) -> None:
        """Give up asking."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _get_new(self, agreement: Agreement, ask: tokens.Ask) -> Token:
        asked_with = self._certificate
        form = {"grant_type": "client_credentials", "scope": agreement.grant_hash, "client_id": agreement.consumer}
        try:
            if agreement.provider == self._certificate.peer_id:
                answer = self.issue(form, self._certificate)
            else:
                answer = await ask(agreement.provider, form)
        except (PeerRefused, TokenRequestFault) as refusal:
            raise Forbidden(f"the provider gives no access token: {refusal.detail}") from refusal
        if self._certificate is not asked_with:  # renewed meanwhile, so the answer is bound to the one before
            return await self._get_new(agreement, ask)
        compact = answer.get("access_token")
        if not isinstance(compact, str) or str(answer.get("token_type")).lower() != "bearer":
            raise BadGateway("the provider's answer holds no access token")
        try:
            token = Token(compact, tokens.read(compact).settled(agreement))
        except TokenInvalid as fault:
            raise BadGateway(f"the provider gave an access token that cannot be used: {fault.detail}") from fault
        self._check_own(token.claims, agreement)
        self._held[agreement.grant_hash] = token
        return token

    def _check_own(self, claims: TokenClaims, agreement: Agreement) -> None:
        expected = (agreement.grant_hash, self._group.id, agreement.provider, agreement.service)
        if (claims.grant_hash, claims.group_id, claims.provider, claims.service) != expected:
            raise BadGateway("the provider gave an access token for something else")
        thumbprint = self._dialect.thumbprint(claims.thumbprint)
        if thumbprint != self._certificate.thumbprint or not claims.audience.startswith("https://"):
            raise BadGateway("the provider gave an access token that cannot be used here")
        if not self._group.allows_port(claims.audience):
            raise BadGateway("the provider's inway has a port that the group does not allow (FSC Core 4.1.1)")

    def _margin(self, token: Token) -> float:
        return min(30.0, (token.claims.expires - token.claims.not_before) / 10)


def _check_outway(agreement: Agreement, certificate: Certificate) -> None:
    if agreement.outway_key_thumbprint is not None:
        allowed = certificate.key_thumbprint == agreement.outway_key_thumbprint
    elif agreement.outway_domain_name is not None:
        allowed = certificate.names(agreement.outway_domain_name)
    else:
        allowed = False
    if not allowed:
        raise TokenRequestFault("unauthorized_client", "the client certificate is not of the outway in the grant")


def _why_not(agreement: Agreement, now: float) -> str:
    if now < agreement.not_before:
        return "it has not begun"
    if now >= agreement.not_after:
        return "it has expired"
    if agreement.state.value == "valid" or now >= agreement.signatures_hold_until:
        return "a certificate it was signed with has expired; it must be signed again"
    return f"it is {agreement.state.value}"
