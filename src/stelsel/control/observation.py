"""What `stelsel doctor` sees: one thing looked at, whether it is in order, and what to do when it is not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Observation:
    """`ok` None: not looked at, or not to be seen from here."""

    name: str
    ok: bool | None
    detail: str
    """Inert text."""
    next_step: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
