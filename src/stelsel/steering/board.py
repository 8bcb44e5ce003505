"""The board: per peer and per obligation where it stands today, with dates and evidence, in plain words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from stelsel.base.clock import moment
from stelsel.steering.findings import Notice, Reason, Standing, State, Tally, notice, tally
from stelsel.steering.gate import evidence, refusal

_SAID: dict[State, Reason] = {
    State.NOT_YET: Reason("geldt nog niet", "does not apply yet"),
    State.MET: Reason("voldoet", "met"),
    State.TO_CONFIRM: Reason("voldeed bij de laatste toets niet; een tweede toets volgt", "not met; to be confirmed"),
    State.FAILING: Reason("voldoet niet", "not met"),
    State.EXPLAINED: Reason("voldoet niet, met goedgekeurde uitleg", "not met, with an approved explanation"),
    State.APPEALED: Reason("voldoet niet, bezwaar loopt", "not met, appeal pending"),
    State.UNKNOWN: Reason("niet bekend", "unknown"),
    State.NOT_APPLICABLE: Reason("niet van toepassing", "not applicable"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One obligation of one peer."""

    obligation: str
    title: Reason
    norm: Reason
    legal_basis: str
    state: str
    said: Reason
    """The state in words."""
    consequence: Reason
    """What follows from it, in words."""
    due: bool
    refuses: bool
    deadline: str
    since: str
    """RFC 3339, or empty."""
    measured_at: str
    reasons: tuple[Reason, ...]
    advice: tuple[Reason, ...]
    evidence: tuple[dict[str, Any], ...]
    interrupted: tuple[Reason, ...]
    """Why the newest measurement decides nothing, if so."""
    explanation: str
    explained_until: str
    notice: Notice | None


@dataclass(frozen=True, slots=True)
class PeerBoard:
    """One peer: its lines and the only sum there is."""

    peer_id: str
    name: str
    tally: Tally
    said: Reason
    refusal: str
    """Why it gets no new contracts; empty when it does."""
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """What the steward's board shows."""

    at: str
    peers: tuple[PeerBoard, ...]

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Which peers have to be told today that a deadline nears."""
        return tuple(line.notice for peer in self.peers for line in peer.lines if line.notice is not None)

    def to_json(self) -> dict[str, Any]:
        """The board as JSON."""
        return asdict(self) | {"notices": [asdict(one) for one in self.notices]}


def board(peers: Iterable[tuple[str, str, tuple[Standing, ...]]], now: float) -> Board:
    """The board at `now` of peers given as (peer id, name, standings)."""
    return Board(moment(now), tuple(_peer(peer_id, name, standings, now) for peer_id, name, standings in peers))


def _peer(peer_id: str, name: str, standings: tuple[Standing, ...], now: float) -> PeerBoard:
    counted = tally(standings)
    refused = refusal(standings)
    return PeerBoard(
        peer_id=peer_id,
        name=name,
        tally=counted,
        said=Reason(
            f"voldoet aan {counted.met} van de {counted.due} verplichte afspraken die vandaag gelden",
            f"meets {counted.met} of {counted.due} obligations due today",
        ),
        refusal=refused.reason if refused is not None else "",
        lines=tuple(_line(standing, now) for standing in standings),
    )


def _line(standing: Standing, now: float) -> Line:
    obligation = standing.obligation
    explanation = standing.explanation
    return Line(
        obligation=obligation.id,
        title=Reason(obligation.title.nl, obligation.title.en),
        norm=Reason(obligation.norm.nl, obligation.norm.en),
        legal_basis=obligation.legal_basis,
        state=standing.state.value,
        said=_SAID[standing.state],
        consequence=_consequence(standing),
        due=standing.due,
        refuses=standing.refuses,
        deadline=obligation.deadline.isoformat(),
        since=moment(standing.since) if standing.since is not None else "",
        measured_at=moment(standing.measured_at) if standing.measured_at is not None else "",
        reasons=tuple(dict.fromkeys(reason for finding in standing.findings for reason in finding.reasons)),
        advice=tuple(dict.fromkeys(reason for finding in standing.findings for reason in finding.advice)),
        evidence=tuple(evidence(standing)),
        interrupted=standing.interrupted.reasons if standing.interrupted is not None else (),
        explanation=explanation.text if explanation is not None else "",
        explained_until=explanation.until.isoformat() if explanation is not None else "",
        notice=notice(standing, now),
    )


def _consequence(standing: Standing) -> Reason:
    obligation, day = standing.obligation, standing.obligation.deadline.isoformat()
    if not obligation.binding:
        return Reason("dit is een advies, zonder gevolg", "this is advice, without a consequence")
    if standing.refuses:
        return Reason("krijgt geen nieuwe contracten; lopende gaan door", "gets no new contracts; running ones go on")
    if standing.state is State.EXPLAINED and standing.explanation is not None:
        until = standing.explanation.until.isoformat()
        return Reason(f"uitstel tot en met {until}", f"postponed until and including {until}")
    if standing.state is State.APPEALED:
        return Reason("het gevolg wacht op het besluit op bezwaar", "the consequence waits for the appeal's decision")
    if not standing.due and standing.state is not State.MET:
        return Reason(
            f"na {day} geen nieuwe contracten als niet wordt voldaan", f"no new contracts after {day} if not met"
        )
    return Reason("geen", "none")
