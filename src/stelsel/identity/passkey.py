"""Passkeys (W3C Web Authentication, level 3): registering one after an activation code, and logging in with one.

A passkey proves that somebody is the same as before, not who they are. The level of assurance is that of the
enrolment: whoever gave out the activation code established it (eIDAS implementing regulation 2015/1502, 2.1).
User verification (PIN, fingerprint) is always required: something one has and something one knows or is.
The library is imported when the first passkey is used, not when a node starts.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from stelsel.base.canonical import b64url, parse_object, unb64url
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import BadRequest
from stelsel.identity.authenticators import Authenticated
from stelsel.identity.faults import LoginProblem
from stelsel.identity.store import Passkey, Store
from stelsel.identity.tokens import Account

_CEREMONY_LIFETIME = 300.0
_MOST_PASSKEYS = 20


class Passkeys:
    """Registers passkeys, and logs people in with them."""

    name = "passkey"

    def __init__(self, database: Database, store: Store, clock: Clock, *, issuer: str, site_name: str) -> None:
        self._database, self._store, self._clock = database, store, clock
        self._origin, self._site_name = issuer, site_name
        self._site = urlsplit(issuer).hostname or ""

    async def login_options(self, challenge: str) -> dict[str, Any]:
        """What the browser needs to log in (PublicKeyCredentialRequestOptionsJSON), for one login."""
        from webauthn import generate_authentication_options, options_to_json
        from webauthn.helpers.structs import UserVerificationRequirement

        options = generate_authentication_options(
            rp_id=self._site,
            challenge=await self._new_ceremony("login", challenge),
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return parse_object(options_to_json(options))

    async def authenticate(self, challenge: str, answer: Mapping[str, Any]) -> Authenticated:
        """Who made `answer`, an AuthenticationResponseJSON. Raises `LoginProblem`."""
        from webauthn import verify_authentication_response

        expected = await self._take_ceremony("login", challenge)
        try:
            credential_id = unb64url(str(answer.get("id", "")))
        except BadRequest as error:
            raise LoginProblem("passkey-refused", status=422) from error
        with self._database.read() as connection:
            passkey = self._store.passkey(connection, credential_id)
            account = None if passkey is None else self._store.account(connection, passkey.account_id)
        if passkey is None or account is None:
            raise LoginProblem("passkey-refused", status=422)
        self._check_owner(answer, account)
        verified = await _carefully(
            verify_authentication_response,
            credential=dict(answer),
            expected_challenge=expected,
            expected_rp_id=self._site,
            expected_origin=self._origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
        count: int = verified.new_sign_count
        if not await self._database.write(lambda connection: self._store.count_passkey(connection, passkey, count)):
            raise LoginProblem("passkey-refused", status=422)
        return Authenticated(account, passkey.level, {"authenticator": self.name, "user_verified": True})

    async def registration_options(self, ceremony: str, account: Account) -> dict[str, Any]:
        """What the browser needs to make a passkey (PublicKeyCredentialCreationOptionsJSON)."""
        from webauthn import generate_registration_options, options_to_json
        from webauthn.helpers.structs import (
            AuthenticatorSelectionCriteria,
            PublicKeyCredentialDescriptor,
            ResidentKeyRequirement,
            UserVerificationRequirement,
        )

        with self._database.read() as connection:
            known = self._store.passkeys_of(connection, account.account_id)
        options = generate_registration_options(
            rp_id=self._site,
            rp_name=self._site_name,
            user_name=account.display_name,
            user_id=user_handle(account),
            challenge=await self._new_ceremony("register", ceremony),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=passkey.credential_id) for passkey in known],
        )
        return parse_object(options_to_json(options))

    async def register(self, ceremony: str, answer: Mapping[str, Any], activation: Mapping[str, Any]) -> None:
        """Keep the passkey in `answer` (a RegistrationResponseJSON), and use the activation code up, both or neither.

        `activation` has `account_id`, `level` and `selector`. Raises `LoginProblem`.
        """
        from webauthn import verify_registration_response

        expected = await self._take_ceremony("register", ceremony)
        verified = await _carefully(
            verify_registration_response,
            credential=dict(answer),
            expected_challenge=expected,
            expected_rp_id=self._site,
            expected_origin=self._origin,
            require_user_verification=True,
        )
        account_id, now = str(activation["account_id"]), self._clock.now()
        passkey = Passkey(
            verified.credential_id,
            account_id,
            verified.credential_public_key,
            verified.sign_count,
            activation["level"],
        )

        def write(connection: Any) -> None:
            if not self._store.use_activation_code(connection, str(activation["selector"]), account_id, now):
                raise LoginProblem("code-refused", status=422)
            if len(self._store.passkeys_of(connection, account_id)) >= _MOST_PASSKEYS:
                raise LoginProblem("passkey-refused", status=422, detail=f"more than {_MOST_PASSKEYS} passkeys")
            if not self._store.add_passkey(connection, passkey, now):
                raise LoginProblem("passkey-refused", status=422)

        await self._database.write(write)

    async def _new_ceremony(self, purpose: str, key: str) -> bytes:
        """A new WebAuthn challenge; the one before it under the same key no longer counts."""
        fresh, now = secrets.token_bytes(32), self._clock.now()

        def write(connection: Any) -> None:
            self._store.take(connection, "passkey", f"{purpose} {key}", now)
            value = {"challenge": b64url(fresh)}
            self._store.put(connection, "passkey", f"{purpose} {key}", value, now + _CEREMONY_LIFETIME)

        await self._database.write(write)
        return fresh

    async def _take_ceremony(self, purpose: str, key: str) -> bytes:
        now = self._clock.now()
        found = await self._database.write(
            lambda connection: self._store.take(connection, "passkey", f"{purpose} {key}", now)
        )
        if found is None:
            raise LoginProblem("challenge-over", status=422)
        return unb64url(found["challenge"])

    def _check_owner(self, answer: Mapping[str, Any], account: Account) -> None:
        """A discoverable credential says whose it is; that must be whose we think (WebAuthn 7.2, step 6)."""
        response = answer.get("response")
        handle = response.get("userHandle") if isinstance(response, dict) else None
        if handle and handle != b64url(user_handle(account)):
            raise LoginProblem("passkey-refused", status=422)


def user_handle(account: Account) -> bytes:
    """How the authenticator knows the account: 32 bytes that tell nothing else (WebAuthn 5.4.3, user.id)."""
    return hashlib.sha256(b"stelsel user handle " + account.account_id.encode()).digest()


async def _carefully(verify: Any, **arguments: Any) -> Any:
    """Verify in a thread; whatever is wrong with what a browser sent is one and the same refusal."""
    from webauthn.helpers.exceptions import WebAuthnException

    try:
        return await asyncio.to_thread(verify, **arguments)
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise LoginProblem("passkey-refused", status=422) from error
