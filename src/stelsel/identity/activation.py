"""Activation codes: how an operator who has established who somebody is lets them make a passkey.

A code is sixteen characters: six that find it, ten (50 bits) that prove it. It is kept as a keyed hash only. Every try
counts before it is judged; after five the code is dead.
"""

from __future__ import annotations

import hmac
import secrets
from functools import partial
from typing import Any

from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import NotFound, Unavailable
from stelsel.identity.assurance import Level
from stelsel.identity.faults import LoginProblem
from stelsel.identity.keys import Vault
from stelsel.identity.store import ActivationCode, Store

ATTEMPTS = 5

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: nothing that is read as something else
_READ_AS = str.maketrans("OIL", "011", " -\t\r\n")
_SELECTOR, _SECRET = 6, 10


class ActivationCodes:
    """Gives out activation codes and judges them."""

    def __init__(self, database: Database, store: Store, vault: Vault, clock: Clock, lifetime: float) -> None:
        self._database, self._store, self._vault, self._clock = database, store, vault, clock
        self._lifetime = lifetime

    async def issue(self, account_id: str, level: Level) -> str:
        """A new code, shown once, `XXXX-XXXX-XXXX-XXXX`; an older one of the same account dies.

        `level` is how surely the operator established who it is for. Raises `NotFound` without such an account.
        """
        for _ in range(5):
            text = "".join(secrets.choice(_ALPHABET) for _ in range(_SELECTOR + _SECRET))
            selector = text[:_SELECTOR]
            code = ActivationCode(selector, self._hash(text), account_id, level, ATTEMPTS)
            if await self._database.write(partial(self._add, code)):
                return "-".join(text[start : start + 4] for start in range(0, len(text), 4))
        raise Unavailable("no activation code could be made", next_step="try again")

    async def judge(self, text: str) -> ActivationCode:
        """The living code that somebody typed; it is used up only when the passkey is kept. Raises `LoginProblem`."""
        typed = text.upper().translate(_READ_AS)
        if len(typed) != _SELECTOR + _SECRET or any(character not in _ALPHABET for character in typed):
            raise LoginProblem("code-refused", status=422)
        now = self._clock.now()
        code = await self._database.write(
            lambda connection: self._store.try_activation_code(connection, typed[:_SELECTOR], now)
        )
        # Without such a code a comparison is made all the same: the time taken does not tell which it was.
        if not hmac.compare_digest(self._hash(typed), code.hashed if code else "0" * 64) or code is None:
            raise LoginProblem("code-refused", status=422)
        return code

    def _add(self, code: ActivationCode, connection: Any) -> bool:
        if self._store.account(connection, code.account_id) is None:
            raise NotFound("there is no such account")
        return self._store.add_activation_code(connection, code, self._clock.now() + self._lifetime)

    def _hash(self, text: str) -> str:
        return self._vault.hashed("activation code", text)
