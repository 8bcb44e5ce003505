"""The UNSAFE demo login: anyone may choose to be one of a few invented people. Never more than level low.

It exists only where `unsafe_demo_login_file` names a file: a JSON list of residents
`{"name": ..., "burgerservicenummer": ...}` and officials `{"name": ..., "peer_id": ..., "roles": [...]}`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stelsel.base.canonical import parse_json
from stelsel.base.database import Database
from stelsel.base.errors import BadRequest, ConfigurationFault
from stelsel.base.ids import is_oin
from stelsel.base.text import inert
from stelsel.identity.authenticators import Authenticated
from stelsel.identity.faults import LoginProblem
from stelsel.identity.pages import DemoPerson
from stelsel.identity.store import Store
from stelsel.identity.tokens import Account
from stelsel.privacy import bsn as citizen_number

_MOST = 500
_LONGEST = 200


class DemoChoice:
    """Logs anybody in as whomever they choose from a file."""

    name = "unsafe-demo-choice"

    def __init__(self, path: Path, database: Database, store: Store) -> None:
        self._database, self._store = database, store
        self._people = tuple(_read(path))

    def people(self, kinds: tuple[str, ...]) -> tuple[DemoPerson, ...]:
        """Who can be chosen, of these kinds."""
        return tuple(person for person, _ in self._people if person.kind in kinds)

    async def authenticate(self, challenge: str, answer: Mapping[str, Any]) -> Authenticated:
        """The person whose handle is in `answer["person"]`."""
        del challenge
        for person, bsn in self._people:
            if person.handle == answer.get("person"):
                wanted = Account(str(uuid.uuid4()), person.kind, person.name, person.peer_id, person.roles)
                account = await self._database.write(
                    lambda connection: self._store.keep_account(connection, wanted, bsn)  # noqa: B023
                )
                return Authenticated(account, "low", {"authenticator": self.name})
        raise LoginProblem("person-unknown", status=422)


def _read(path: Path) -> list[tuple[DemoPerson, str | None]]:
    fix = 'use a JSON list of {"name", "burgerservicenummer"} and {"name", "peer_id", "roles"}'
    try:
        listed = parse_json(path.read_bytes())
    except (OSError, BadRequest) as error:
        raise ConfigurationFault(
            f"{path}: cannot be read as JSON (key identity.unsafe_demo_login_file)", next_step=fix
        ) from error
    if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST:
        raise ConfigurationFault(f"{path}: must be a list of 1 to {_MOST} people", next_step=fix)
    people = []
    for number, entry in enumerate(listed):
        person = _person(number, entry)
        if person is None:
            raise ConfigurationFault(f"{path}: entry {number + 1} cannot be used", next_step=fix)
        people.append(person)
    return people


def _person(number: int, entry: Any) -> tuple[DemoPerson, str | None] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        return None
    handle, name = f"p{number}", inert(entry["name"], _LONGEST)
    if set(entry) == {"name", "burgerservicenummer"}:
        bsn = entry["burgerservicenummer"]
        return (
            (DemoPerson(handle, name, "resident"), bsn) if isinstance(bsn, str) and citizen_number.valid(bsn) else None
        )
    if set(entry) == {"name", "peer_id", "roles"}:
        peer_id, roles = entry["peer_id"], entry["roles"]
        if isinstance(peer_id, str) and is_oin(peer_id) and _are_roles(roles):
            return DemoPerson(handle, name, "official", peer_id, tuple(roles)), None
    return None


def _are_roles(roles: Any) -> bool:
    return isinstance(roles, list) and len(roles) <= 20 and all(isinstance(r, str) and 0 < len(r) <= 50 for r in roles)
