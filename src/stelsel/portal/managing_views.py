"""What ends soon, what a proposal changes, and what would break: as officials read it. Pure.

Which words go with what is decided in the rooms (`radar`, `difference`, `simulation`); here they get their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from stelsel.agreements.agreement import Agreement
from stelsel.agreements.difference import Difference, Effect
from stelsel.agreements.policy import Verdict
from stelsel.agreements.radar import Expiring
from stelsel.agreements.readable import named
from stelsel.agreements.renewal import LONGEST
from stelsel.agreements.stored import StoredContract
from stelsel.base.text import Words, inert
from stelsel.exchange.simulation import Flow, Outcome
from stelsel.exchange.uses import Foreseen
from stelsel.portal.contract_views import Field, Pair, shown_time, tail_of
from stelsel.privacy.fields import words

_DAY = 86_400
_MOST_LINKS = 3
_MOST_CHANGES = 200
_EFFECTS: dict[Effect, tuple[str, Pair]] = {
    "widens": ("wider", ("ruimer", "wider")),
    "differs": ("none", ("anders", "different")),
    "narrows": ("smaller", ("beperkter", "narrower")),
}
"""In the order in which they need attention: (tone, words)."""
_HOW: dict[str, Pair] = {
    "added": ("Erbij", "Added"),
    "removed": ("Eraf", "Removed"),
    "changed": ("Gewijzigd", "Changed"),
}
_OUTCOMES: dict[Outcome, tuple[str, Pair]] = {
    "breaks": ("bad", ("stopt", "stops")),
    "breaks in part": ("bad", ("stopt voor een deel", "stops in part")),
    "goes on": ("good", ("gaat door", "goes on")),
    "unused": ("none", ("niet gebruikt", "not used")),
    "ends before": ("none", ("is dan al voorbij", "is over by then")),
}


_LOOKED_AT: dict[str, Pair] = {
    "directory": ("De gids", "The directory"),
    "clock": ("De klok", "The clock"),
    "manager reachable": ("Onze manager is bereikbaar", "Our manager can be reached"),
    "inway reachable": ("Onze toegang (inway) is bereikbaar", "Our inway can be reached"),
    "peers": ("Andere organisaties", "Other organisations"),
    "outbox": ("Wat wij versturen", "What we send"),
    "ledger": ("De vastleggingen", "The log of exchanges"),
    "witnesses": ("Getuigen van onze vastleggingen", "Witnesses of our log"),
    "ledgers of others": ("Vastleggingen waarvan wij getuige zijn", "Logs that we witness"),
}


class Observed(Protocol):
    """One thing that a node looked at. `ok` None: not looked at, or not to be seen from there."""

    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool | None: ...
    @property
    def detail(self) -> str: ...
    @property
    def next_step(self) -> str: ...


@dataclass(frozen=True, slots=True)
class ObservationLine:
    """One thing that was looked at; `detail` and `next_step` are in English, as the machine says them."""

    order: int
    """0: not in order, 1: unknown, 2: in order."""
    what: Pair
    status: tuple[str, Pair]
    detail: str
    next_step: str


@dataclass(frozen=True, slots=True)
class RadarLine:
    """One thing that ends."""

    what: Pair
    until: float
    urgent: bool
    status: tuple[str, Pair]
    """(tone, how long it still holds)."""
    next_step: Pair
    agreements: tuple[str, ...]
    """Tails of the contracts that end by it, the first few."""
    more: int
    """How many more there are."""
    renewable: bool


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One change, and whether it allows more."""

    effect: tuple[str, Pair]
    said: Pair


@dataclass(frozen=True, slots=True)
class DifferenceView:
    """What one grant of a proposal changes."""

    service: str
    against: str
    """Tail of the contract that runs; empty when none does."""
    widens: int
    """How many changes allow more."""
    parts: tuple[tuple[Pair, tuple[ChangeLine, ...]], ...]
    """(added, removed or changed; those changes, what widens first); without what is empty."""
    left_out: int


@dataclass(frozen=True, slots=True)
class FlowLine:
    """What would become of what is asked under one agreement."""

    consumer: str
    provider: str
    service: str
    outcome: tuple[str, Pair]
    calls: int
    calls_a_day: float
    busiest_day: int
    breaking: int
    last_use: int | None
    """Milliseconds since the epoch."""
    instead: str
    """Tail of the contract that would take its place; empty when none would."""


@dataclass(frozen=True, slots=True)
class ForeseenView:
    """What would become of all that an event touches."""

    flows: tuple[FlowLine, ...]
    calls: int
    breaking: int
    complete: bool


@dataclass(frozen=True, slots=True)
class RenewalView:
    """The form with which an agreement is proposed anew."""

    days: str
    """As it was filled in, or as long as the agreement runs now."""
    longest: int
    waiting: str
    """Tail of a proposal that waits to take its place: then there is nothing to fill in. Else empty."""
    error: Pair | None = None


def radar_line(item: Expiring, now: float) -> RadarLine:
    """One line of the radar at `now`."""
    tails = tuple(tail_of(content_hash) for content_hash in item.contracts)
    return RadarLine(
        what=_pair(item.what),
        until=shown_time(item.until),
        urgent=item.urgent,
        status=("bad" if item.until <= now else "wait" if item.urgent else "none", _left(item.days_left(now))),
        next_step=("Verleng de afspraak.", "Renew the agreement.") if item.renewable else _pair(item.next_step),
        agreements=tails[:_MOST_LINKS],
        more=len(tails[_MOST_LINKS:]),
        renewable=item.renewable,
    )


def _left(days: int) -> Pair:
    if days < 0:
        return "verlopen", "ended"
    if days == 0:
        return "nog minder dan een dag", "less than a day left"
    return ("nog 1 dag", "1 day left") if days == 1 else (f"nog {days} dagen", f"{days} days left")


def difference_view(difference: Difference) -> DifferenceView:
    """What a grant changes, in the order in which it needs attention."""
    shown = difference.changes[:_MOST_CHANGES]
    order = list(_EFFECTS)
    parts = []
    for how, heading in _HOW.items():
        changes = sorted((change for change in shown if change.how == how), key=lambda one: order.index(one.effect))
        lines = tuple(ChangeLine(_EFFECTS[change.effect], _pair(change.words)) for change in changes)
        if lines:
            parts.append((heading, lines))
    return DifferenceView(
        service=inert(difference.service, 100),
        against=tail_of(difference.against),
        widens=sum(change.effect == "widens" for change in difference.changes),
        parts=tuple(parts),
        left_out=len(difference.changes) - len(shown),
    )


def objection_lines(verdict: Verdict) -> tuple[Pair, ...]:
    """Why no rule accepts a contract by itself, each reason once."""
    found = []
    for one in verdict.objections[:_MOST_CHANGES]:
        rule = inert(one.rule, 60)
        dutch, english = _pair(one.words)
        found.append((f"Regel ‘{rule}’: {dutch}", f"Rule ‘{rule}’: {english}") if rule else (dutch, english))
    return tuple(dict.fromkeys(found))


def _flow_line(flow: Flow, names: Mapping[str, str], agreement_of: Callable[[str], Agreement | None]) -> FlowLine:
    """One flow, with the peers by name."""
    instead = agreement_of(flow.instead) if flow.instead else None
    return FlowLine(
        consumer=named(flow.consumer, names),
        provider=named(flow.provider, names),
        service=inert(flow.service, 100),
        outcome=_OUTCOMES[flow.outcome],
        calls=flow.calls,
        calls_a_day=flow.calls_a_day,
        busiest_day=flow.busiest_day,
        breaking=flow.breaking,
        last_use=flow.last_use,
        instead=tail_of(instead.content_hash) if instead is not None else "",
    )


def foreseen_view(
    foreseen: Foreseen, names: Mapping[str, str], agreement_of: Callable[[str], Agreement | None]
) -> ForeseenView:
    """All flows together."""
    return ForeseenView(
        flows=tuple(_flow_line(flow, names, agreement_of) for flow in foreseen.flows),
        calls=sum(flow.calls for flow in foreseen.flows),
        breaking=sum(flow.breaking for flow in foreseen.flows),
        complete=foreseen.complete,
    )


def renewal_view(
    stored: StoredContract, waiting: StoredContract | None, filled_in: str = "", error: Pair | None = None
) -> RenewalView:
    """The form for this contract."""
    contract = stored.contract
    days = min(max(-(-(contract.not_after - contract.not_before) // _DAY), 1), LONGEST)
    return RenewalView(
        days=inert(filled_in, 20) if error is not None else str(days),
        longest=LONGEST,
        waiting=tail_of(waiting.content_hash) if waiting is not None else "",
        error=error,
    )


def fields_of(stored: StoredContract) -> tuple[Field, ...]:
    """The fields that a contract's terms name, each once, for a choice among them."""
    return tuple(_fields(stored.agreements))


def _fields(agreements: Iterable[Agreement]) -> Iterable[Field]:
    paths = (path for one in agreements if one.terms is not None for path in one.terms.fields)
    for path in dict.fromkeys(paths):
        yield Field((words(path).nl, words(path).en), inert(path, 200))


def observation_line(seen: Observed) -> ObservationLine:
    """One thing that was looked at."""
    name, peer = inert(seen.name, 100), seen.name.startswith("peer ")
    organisation = name.removeprefix("peer ")
    order, tone, said = {
        False: (0, "bad", ("niet in orde", "not in order")),
        None: (1, "none", ("onbekend", "unknown")),
        True: (2, "good", ("in orde", "in order")),
    }[seen.ok]
    return ObservationLine(
        order=order,
        what=(f"Organisatie {organisation}", f"Organisation {organisation}")
        if peer
        else _LOOKED_AT.get(seen.name, (name, name)),
        status=(tone, said),
        detail=inert(seen.detail, 1000),
        next_step=inert(seen.next_step, 500),
    )


def _pair(said: Words) -> Pair:
    return said.nl, said.en
