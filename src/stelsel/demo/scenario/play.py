"""Runs steps one after another; a step that is not as told stops the story."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stelsel.agreements.terms import Terms
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.demo.cast import PARKING_TERMS, Actor
from stelsel.demo.country import Country
from stelsel.demo.population_register.store import Notable


class NotAsTold(Exception):
    """A step found something else than the story says."""


@dataclass
class Story:
    """What the steps hand on to each other."""

    country: Country
    resident: Notable
    terms: Terms = PARKING_TERMS
    content_hash: str = ""
    grant_hash: str = ""
    transaction_id: str = ""
    receipt: bytes = b""

    def keypair(self, actor: Actor) -> KeyPair:
        """An actor's keys, for a step that does what only that actor can."""
        folder = self.country.folder / actor.key
        return KeyPair.load(folder / "certificate.pem", folder / "key.pem")

    @property
    def anchors(self) -> TrustAnchors:
        """The group's trust anchors."""
        return TrustAnchors.load(self.country.folder / "trust-anchors.pem")


Evidence = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A step: its number and title in the story, and what plays it and gives the evidence."""

    number: int
    title: str
    play: Callable[[Story], Evidence]


@dataclass(frozen=True)
class Played:
    """How a step went."""

    step: Step
    seconds: float
    evidence: Evidence = field(default_factory=dict)
    failure: str = ""


def play(story: Story, steps: tuple[Step, ...]) -> Iterator[Played]:
    """Play the steps in order; stops after the first that is not as told."""
    for step in steps:
        begin = time.perf_counter()
        try:
            evidence = step.play(story)
        except Exception as error:  # noqa: BLE001  (whatever goes wrong is how the step went)
            detail = str(error) or type(error).__name__
            yield Played(step, time.perf_counter() - begin, failure=detail)
            return
        yield Played(step, time.perf_counter() - begin, evidence)


def expect(condition: object, told: str, found: object = "") -> None:
    """The story goes on only when `condition` holds."""
    if not condition:
        raise NotAsTold(f"told: {told}; found: {found}"[:2000])
