"""What every way of logging in answers with: an account, a level of assurance, and on what grounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stelsel.identity.assurance import Level
from stelsel.identity.tokens import Account


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Somebody showed who they are."""

    account: Account
    level: Level
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """On what grounds, without personal data: it may be logged. It never goes into a token (no `amr`)."""


class Authenticator(Protocol):
    """A way of logging in."""

    name: str

    async def authenticate(self, challenge: str, answer: Mapping[str, Any]) -> Authenticated:
        """Who answered the login `challenge`. Raises `LoginProblem` that says what to tell the person."""
        ...
