"""What clients get for a code: the token endpoint and UserInfo (OIDC-NLGOV provider profile; RFC 6749; RFC 7523)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import BadRequest, Unauthenticated
from stelsel.base.jose import peek
from stelsel.identity import tokens
from stelsel.identity.faults import ProtocolFault
from stelsel.identity.keys import TokenSigner, verify_assertion
from stelsel.identity.requests import BSN_CLAIM, Client, TokenRequest, check_assertion, check_code, read_token_request
from stelsel.identity.store import Store
from stelsel.identity.tokens import Account


class Redemption:
    """Redeems codes for tokens, and access tokens for UserInfo. `lifetime` is that of access tokens, in seconds."""

    def __init__(
        self,
        *,
        issuer: str,
        clients: Mapping[str, Client],
        database: Database,
        store: Store,
        clock: Clock,
        pairwise_key: bytes,
        lifetime: int,
    ) -> None:
        self._issuer, self._clients, self._database, self._store = issuer, clients, database, store
        self._clock, self._pairwise_key, self._lifetime = clock, pairwise_key, lifetime

    async def token(self, parameters: Iterable[tuple[str, str]], signer: TokenSigner) -> dict[str, Any]:
        """The token response. Raises `ProtocolFault`."""
        now = self._clock.now()
        request = read_token_request(parameters)
        client, assertion_key, assertion_end = self._authenticate(request, now)
        access_id = str(uuid.uuid4())
        redeemed = await self._database.write(
            lambda connection: self._redeem(connection, client, request, assertion_key, assertion_end, access_id, now)
        )
        if isinstance(redeemed, ProtocolFault):
            raise redeemed
        code, account = redeemed
        issued = int(now)
        subject = tokens.pairwise(self._pairwise_key, client.sector, account.account_id)
        id_token = tokens.id_token(
            issuer=self._issuer,
            client_id=client.client_id,
            subject=subject,
            account=account,
            level=code["level"],
            nonce=code["nonce"],
            identifier=str(uuid.uuid4()),
            authenticated_at=code["authenticated_at"],
            now=issued,
        )
        lifetime = self._lifetime
        access = tokens.access_token(
            issuer=self._issuer,
            client_id=client.client_id,
            subject=subject,
            identifier=access_id,
            lifetime=lifetime,
            now=issued,
        )
        return {
            "access_token": signer.sign(access, "at+jwt"),
            "token_type": "Bearer",
            "expires_in": lifetime,
            "id_token": signer.sign(id_token),
            "scope": "openid",
        }

    def _authenticate(self, request: TokenRequest, now: float) -> tuple[Client, str, float]:
        """(client, key under which its assertion counts as used, until when) by `private_key_jwt`."""
        try:
            claimed = peek(request.client_assertion)[1].get("iss")
            client = self._clients.get(claimed) if isinstance(claimed, str) else None
            if client is None or request.client_id not in ("", client.client_id):
                raise ProtocolFault("invalid_client", "the client is not known here", status=401)
            claims = verify_assertion(request.client_assertion, client.keys)
        except (Unauthenticated, BadRequest) as error:
            raise ProtocolFault("invalid_client", f"client assertion: {error.detail}", status=401) from error
        audiences = (self._issuer, f"{self._issuer}/oidc/token")
        identifier = check_assertion(claims, client.client_id, audiences, now)
        return client, f"{client.client_id}\0{identifier}", float(claims["exp"])

    def _redeem(
        self,
        connection: Any,
        client: Client,
        request: TokenRequest,
        assertion_key: str,
        assertion_end: float,
        access_id: str,
        now: float,
    ) -> tuple[dict[str, Any], Account] | ProtocolFault:
        """Use up the assertion and the code. A fault is returned, not raised: what was used up stays so."""
        store = self._store
        if not store.put(connection, "assertion", assertion_key, {}, assertion_end):
            return ProtocolFault("invalid_client", "this client assertion was used before (jti)", status=401)
        code = store.take(connection, "code", request.code, now)
        if code is None:
            # Somebody has a code that was redeemed: take back what it gave (RFC 6749, section 4.1.2).
            used = store.look(connection, "used-code", request.code, now)
            if used is not None:
                store.take(connection, "access", used["access"], now)
            return ProtocolFault("invalid_grant", "the code is unknown, was used before or has expired")
        try:
            check_code(code, client.client_id, request)
        except ProtocolFault as fault:
            return fault
        account = store.account(connection, code["account_id"])
        if account is None:
            return ProtocolFault("invalid_grant", "the account is gone")
        end = now + self._lifetime
        store.put(connection, "used-code", request.code, {"access": access_id}, end)
        access = {"account_id": account.account_id, "client_id": client.client_id, "wants_bsn": code["wants_bsn"]}
        store.put(connection, "access", access_id, access, end)
        return code, account

    async def userinfo(self, access_token: str, signer: TokenSigner) -> str:
        """The signed UserInfo response (a JWT) for an access token. Raises `Unauthenticated`."""
        now = self._clock.now()
        try:
            claims = signer.verify(access_token, "at+jwt")
        except BadRequest as error:
            raise Unauthenticated("the access token cannot be read") from error
        if claims["iss"] != self._issuer or claims["exp"] <= now:
            raise Unauthenticated("the access token has expired")
        with self._database.read() as connection:
            access = self._store.look(connection, "access", claims["jti"], now)
            client = self._clients.get(claims["azp"])
            account = None if access is None else self._store.account(connection, access["account_id"])
            if access is None or client is None or account is None or access["client_id"] != client.client_id:
                raise Unauthenticated("the access token was withdrawn")
            answer = {"iss": self._issuer, "aud": client.client_id, "sub": claims["sub"]}
            answer |= tokens.official_claims(account)
            if access["wants_bsn"] and client.may_see_bsn and account.kind == "resident":
                bsn = self._store.burgerservicenummer(connection, account.account_id)
                answer |= {BSN_CLAIM: bsn} if bsn is not None else {}
        return signer.sign(answer)
