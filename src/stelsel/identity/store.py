"""The tables of identity, and everything that is read from and written to them.

Secrets are not kept: codes, session ids and identifiers of tokens as keyed hashes, a burgerservicenummer sealed. Every
function takes the connection of the caller's transaction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from stelsel.base.database import metadata
from stelsel.identity.assurance import Level
from stelsel.identity.keys import Vault
from stelsel.identity.tokens import Account

SingleUse = Literal[
    "login", "logout", "form", "passkey", "activation", "code", "used-code", "assertion", "access", "started"
]

_accounts = Table(
    "identity_accounts",
    metadata,
    Column("account_id", String(36), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("display_name", String(200), nullable=False),
    Column("reference", String(64), nullable=False, unique=True),
    Column("sealed_bsn", LargeBinary),
    Column("peer_id", String(20), nullable=False, default=""),
    Column("roles", String, nullable=False, default="[]"),
)
_passkeys = Table(
    "identity_passkeys",
    metadata,
    Column("credential_id", LargeBinary, primary_key=True),
    Column("account_id", ForeignKey("identity_accounts.account_id"), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", Integer, nullable=False),
    Column("level", String(12), nullable=False),
    Column("made_at", Float, nullable=False),
    Index("identity_passkeys_of", "account_id"),
)
_activation_codes = Table(
    "identity_activation_codes",
    metadata,
    Column("selector", String(8), primary_key=True),
    Column("hashed", String(64), nullable=False),
    Column("account_id", ForeignKey("identity_accounts.account_id"), nullable=False),
    Column("level", String(12), nullable=False),
    Column("attempts_left", Integer, nullable=False),
    Column("expires_at", Float, nullable=False),
)
_single_use = Table(
    "identity_single_use",
    metadata,
    Column("hashed", String(64), primary_key=True),
    Column("value", String, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("identity_single_use_expiry", "expires_at"),
)
_sessions = Table(
    "identity_sessions",
    metadata,
    Column("hashed", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("idle_until", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("identity_sessions_expiry", "idle_until"),
)


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey that somebody registered, and the level that their enrolment gave it."""

    credential_id: bytes
    account_id: str
    public_key: bytes
    sign_count: int
    level: Level


@dataclass(frozen=True, slots=True)
class ActivationCode:
    """An activation code as it is kept."""

    selector: str
    hashed: str
    account_id: str
    level: Level
    attempts_left: int


class Store:
    """Identity's tables, with the vault that hashes and seals what goes in."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    # Accounts

    def keep_account(self, connection: Connection, account: Account, bsn: str | None) -> Account:
        """Keep an account, or update the one of the same person; gives it with the id under which it is kept.

        A resident is one account by burgerservicenummer, an official by organisation and name.
        """
        what = f"resident\0{bsn}" if bsn is not None else f"official\0{account.peer_id}\0{account.display_name}"
        reference = self._vault.hashed("account", what)
        known = connection.execute(
            select(_accounts.c.account_id).where(_accounts.c.reference == reference)
        ).scalar_one_or_none()
        account_id = known or account.account_id
        values: dict[str, Any] = {
            "display_name": account.display_name,
            "peer_id": account.peer_id,
            "roles": json.dumps(list(account.roles)),
        }
        if known:
            connection.execute(update(_accounts).where(_accounts.c.account_id == known).values(values))
        else:
            sealed = None if bsn is None else self._vault.seal(bsn.encode(), f"bsn {account_id}")
            values |= {"account_id": account_id, "kind": account.kind, "reference": reference, "sealed_bsn": sealed}
            connection.execute(insert(_accounts).values(values))
        return Account(account_id, account.kind, account.display_name, account.peer_id, account.roles)

    def account(self, connection: Connection, account_id: str) -> Account | None:
        """The account by its id."""
        row = connection.execute(select(_accounts).where(_accounts.c.account_id == account_id)).one_or_none()
        if row is None:
            return None
        return Account(row.account_id, row.kind, row.display_name, row.peer_id, tuple(json.loads(row.roles)))

    def burgerservicenummer(self, connection: Connection, account_id: str) -> str | None:
        """The resident's burgerservicenummer, unsealed: only for UserInfo and for the source that is asked."""
        sealed = connection.execute(
            select(_accounts.c.sealed_bsn).where(_accounts.c.account_id == account_id)
        ).scalar_one_or_none()
        return None if sealed is None else self._vault.open_sealed(sealed, f"bsn {account_id}").decode()

    # Passkeys

    def add_passkey(self, connection: Connection, passkey: Passkey, now: float) -> bool:
        """Keep a new passkey; False when its credential id is already known."""
        return _insert_once(
            connection,
            _passkeys,
            credential_id=passkey.credential_id,
            account_id=passkey.account_id,
            public_key=passkey.public_key,
            sign_count=passkey.sign_count,
            level=passkey.level,
            made_at=now,
        )

    def passkey(self, connection: Connection, credential_id: bytes) -> Passkey | None:
        """The passkey by its credential id."""
        row = connection.execute(select(_passkeys).where(_passkeys.c.credential_id == credential_id)).one_or_none()
        return None if row is None else _passkey(row)

    def passkeys_of(self, connection: Connection, account_id: str) -> list[Passkey]:
        """The passkeys of an account."""
        rows = connection.execute(select(_passkeys).where(_passkeys.c.account_id == account_id).limit(50))
        return [_passkey(row) for row in rows]

    def count_passkey(self, connection: Connection, passkey: Passkey, sign_count: int) -> bool:
        """Move the sign count on, unless somebody else moved it meanwhile: then False."""
        done = connection.execute(
            update(_passkeys)
            .where(
                _passkeys.c.credential_id == passkey.credential_id,
                _passkeys.c.sign_count == passkey.sign_count,
            )
            .values(sign_count=sign_count)
        )
        return done.rowcount == 1

    # Activation codes

    def add_activation_code(self, connection: Connection, code: ActivationCode, expires_at: float) -> bool:
        """Keep a new code; False when its selector is taken. An account has one code: older ones die."""
        if connection.execute(
            select(_activation_codes.c.selector).where(_activation_codes.c.selector == code.selector)
        ).first():
            return False
        connection.execute(delete(_activation_codes).where(_activation_codes.c.account_id == code.account_id))
        connection.execute(
            insert(_activation_codes).values(
                selector=code.selector,
                hashed=code.hashed,
                account_id=code.account_id,
                level=code.level,
                attempts_left=code.attempts_left,
                expires_at=expires_at,
            )
        )
        return True

    def try_activation_code(self, connection: Connection, selector: str, now: float) -> ActivationCode | None:
        """The living code by its selector, one attempt taken from it; the attempt counts before it is judged."""
        row = connection.execute(
            update(_activation_codes)
            .where(
                _activation_codes.c.selector == selector,
                _activation_codes.c.attempts_left > 0,
                _activation_codes.c.expires_at > now,
            )
            .values(attempts_left=_activation_codes.c.attempts_left - 1)
            .returning(*_activation_codes.c)
        ).one_or_none()
        if row is None:
            return None
        return ActivationCode(row.selector, row.hashed, row.account_id, row.level, row.attempts_left)

    def use_activation_code(self, connection: Connection, selector: str, account_id: str, now: float) -> bool:
        """Use a code up; False when it is no longer there."""
        done = connection.execute(
            delete(_activation_codes).where(
                _activation_codes.c.selector == selector,
                _activation_codes.c.account_id == account_id,
                _activation_codes.c.expires_at > now,
            )
        )
        return done.rowcount == 1

    # Single-use records

    def put(self, connection: Connection, kind: SingleUse, key: str, value: dict[str, Any], expires_at: float) -> bool:
        """Keep a record that can be taken once; False when there is one under this key already."""
        hashed = self._vault.hashed(kind, key)
        return _insert_once(connection, _single_use, hashed=hashed, value=json.dumps(value), expires_at=expires_at)

    def take(self, connection: Connection, kind: SingleUse, key: str, now: float) -> dict[str, Any] | None:
        """The record, which is then gone; None when it is not there, was taken or has expired."""
        row = connection.execute(
            delete(_single_use)
            .where(_single_use.c.hashed == self._vault.hashed(kind, key))
            .returning(_single_use.c.value, _single_use.c.expires_at)
        ).one_or_none()
        return None if row is None or row.expires_at <= now else json.loads(row.value)

    def look(self, connection: Connection, kind: SingleUse, key: str, now: float) -> dict[str, Any] | None:
        """The record, left where it is."""
        row = connection.execute(
            select(_single_use.c.value, _single_use.c.expires_at).where(
                _single_use.c.hashed == self._vault.hashed(kind, key)
            )
        ).one_or_none()
        return None if row is None or row.expires_at <= now else json.loads(row.value)

    # Sessions

    def add_session(
        self, connection: Connection, key: str, value: dict[str, Any], now: float, idle: float, expires_at: float
    ) -> None:
        """Keep a new session under the hash of its id."""
        hashed = self._vault.hashed("session", key)
        connection.execute(
            insert(_sessions).values(
                hashed=hashed,
                sealed=self._vault.seal(json.dumps(value).encode(), f"session {hashed}"),
                seen_at=now,
                idle_until=min(now + idle, expires_at),
                expires_at=expires_at,
            )
        )

    def session(self, connection: Connection, key: str, now: float) -> tuple[dict[str, Any], float] | None:
        """(value, when it was last noted as seen) of a living session."""
        hashed = self._vault.hashed("session", key)
        row = connection.execute(select(_sessions).where(_sessions.c.hashed == hashed)).one_or_none()
        if row is None or now >= row.idle_until or now >= row.expires_at:
            return None
        return json.loads(self._vault.open_sealed(row.sealed, f"session {hashed}")), row.seen_at

    def touch_session(self, connection: Connection, key: str, now: float, idle: float) -> None:
        """Note that a session was used."""
        connection.execute(
            update(_sessions)
            .where(_sessions.c.hashed == self._vault.hashed("session", key), _sessions.c.idle_until > now)
            .values(seen_at=now, idle_until=now + idle)
        )

    def end_session(self, connection: Connection, key: str) -> None:
        """Forget a session."""
        connection.execute(delete(_sessions).where(_sessions.c.hashed == self._vault.hashed("session", key)))

    def sweep(self, connection: Connection, now: float) -> None:
        """Forget what has expired."""
        connection.execute(delete(_single_use).where(_single_use.c.expires_at <= now))
        connection.execute(delete(_sessions).where(_sessions.c.idle_until <= now))
        connection.execute(delete(_activation_codes).where(_activation_codes.c.expires_at <= now))


def _insert_once(connection: Connection, table: Table, **values: Any) -> bool:
    """Insert a row; False when its key is taken. An error would end the transaction on PostgreSQL."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    done = connection.execute(dialect.insert(table).values(**values).on_conflict_do_nothing())
    return done.rowcount == 1


def _passkey(row: Any) -> Passkey:
    return Passkey(row.credential_id, row.account_id, row.public_key, row.sign_count, row.level)
