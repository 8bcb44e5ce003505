"""Obligations: the agreements that bind all peers, or a class of them, declared as data.

Dates are whole days in UTC: an obligation applies from the start of `applies_from`, and `deadline` and an
explanation's `until` are last days, they end with that day.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stelsel.agreements.group import PeerId
from stelsel.base.canonical import canonical
from stelsel.base.settings import Settings, read_toml

EVERYONE = "all"
APPEAL_DAYS = 42
"""An appeal is timely within six weeks of what it is against (Algemene wet bestuursrecht, article 6:7)."""

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
CheckReference = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,40}@[0-9]{1,6}$")]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=1000, strip_whitespace=True)]


class Words(Settings):
    """One text in the two languages of the interface."""

    nl: Sentence = Field(description="in Dutch")
    en: Sentence = Field(description="in English")


class Obligation(Settings):
    """A mandatory agreement: a norm, how it is measured, from when, and what follows if it is not kept."""

    id: Identifier = Field(description="short name, never used again for something else")
    title: Words = Field(description="what it is called")
    norm: Words = Field(description="what must be so, in plain words")
    legal_basis: str = Field(
        "", max_length=500, description="the article that makes it binding; empty: it is advice, without a consequence"
    )
    checks: tuple[CheckReference, ...] = Field(
        min_length=1, max_length=20, description="checks that measure it, name@version; all must be met"
    )
    applies_to: tuple[str, ...] = Field(
        (EVERYONE,), min_length=1, description='classes of peers that it binds, or "all"'
    )
    applies_from: date = Field(description="the day from which it applies")
    deadline: date = Field(description="the last day on which not keeping it is without consequence")
    consequence: Literal["none", "refuse-new-contracts"] = Field(
        "none", description="what follows when it is not kept after the deadline"
    )
    notice_days: tuple[Annotated[int, Field(ge=1, le=3650)], ...] = Field(
        (90, 30, 7), description="days before the deadline on which a peer that does not keep it yet is told so"
    )
    fresh_days: int = Field(
        30, ge=1, le=3650, description="days after which a finding that it was met says nothing about today any more"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Obligation:
        if self.deadline < self.applies_from:
            raise ValueError("the deadline lies before applies_from")
        names = [reference.partition("@")[0] for reference in self.checks]
        if len(set(names)) != len(names):
            raise ValueError("checks names one check twice")
        return self

    @property
    def binding(self) -> bool:
        """Whether it can have a consequence: that takes a legal basis, otherwise it is advice."""
        return self.consequence != "none" and bool(self.legal_basis.strip())

    def applies(self, now: float) -> bool:
        """Whether it applies at `now`, consequence or not."""
        return now >= start_of(self.applies_from)

    def past_deadline(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return now >= end_of(self.deadline)

    @property
    def ruleset_hash(self) -> str:
        """SHA-256 (hex) of this declaration's canonical JSON: which version of the rule a finding was made under."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


class Obligations(Settings):
    """The file with the obligations of a group."""

    classes: dict[Identifier, tuple[PeerId, ...]] = Field(
        default_factory=dict, description="classes of peers by name: the OINs of their members"
    )
    obligations: tuple[Obligation, ...] = Field((), max_length=500, description="the obligations")

    @model_validator(mode="after")
    def _consistent(self) -> Obligations:
        ids = [obligation.id for obligation in self.obligations]
        if len(set(ids)) != len(ids):
            raise ValueError("two obligations have the same id")
        for obligation in self.obligations:
            for name in obligation.applies_to:
                if name != EVERYONE and name not in self.classes:
                    raise ValueError(f"obligation {obligation.id} applies to {name!r}, which is not one of the classes")
        return self

    def binding_on(self, peer_id: str) -> tuple[Obligation, ...]:
        """The obligations that this peer has, the steward's own included."""
        return tuple(
            obligation
            for obligation in self.obligations
            if any(name == EVERYONE or peer_id in self.classes[name] for name in obligation.applies_to)
        )

    def get(self, identifier: str) -> Obligation | None:
        """The obligation of this id."""
        return next((obligation for obligation in self.obligations if obligation.id == identifier), None)


def read_obligations(path: Path) -> Obligations:
    """The obligations in a TOML file. Raises `ConfigurationFault` that names the file, the key and the fix."""
    return read_toml(path, Obligations)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A temporary deviation that the steward approved: until and including a day the consequence waits."""

    id: str
    obligation: str
    peer: str
    text: str
    until: date
    approved_by: str
    approved_at: float

    def holds(self, now: float) -> bool:
        """Whether it is honoured at `now`. After its last day the obligation counts in full again."""
        return self.approved_at <= now < end_of(self.until)


@dataclass(frozen=True, slots=True)
class Appeal:
    """A peer's objection against what steering decided; a timely one pauses the consequence until it is decided."""

    id: str
    obligation: str
    peer: str
    text: str
    against_at: float
    """The moment of the decision that it is against."""
    filed_at: float
    decided_at: float | None = None
    granted: bool = False

    @property
    def timely(self) -> bool:
        """Whether it was filed within six weeks."""
        return self.filed_at <= self.against_at + APPEAL_DAYS * 86400

    def pauses(self, now: float) -> bool:
        """Whether the consequence waits for it at `now`."""
        return self.timely and self.filed_at <= now and (self.decided_at is None or now < self.decided_at)


def start_of(day: date) -> float:
    """The first second of a day, UTC, in seconds since the epoch."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def end_of(day: date) -> float:
    """The moment at which a day is over, UTC, in seconds since the epoch."""
    return start_of(day + timedelta(days=1))
