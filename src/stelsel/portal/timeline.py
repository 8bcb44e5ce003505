"""What the sources told, as one list: latest first, each exchange once, in our own words. Pure.

A source gives its words along, but what can be said in words of our own is: a row says what was asked, not what the
source would have us read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from stelsel.portal.sources import Answer, Source
from stelsel.privacy.decision import REASONS, Reason, Words
from stelsel.privacy.fields import words
from stelsel.privacy.uses import GROUNDS, Use

_SHORT = 8


@dataclass(frozen=True, slots=True)
class Sighting:
    """One organisation's own record of an exchange."""

    source: Source
    use: Use


@dataclass(frozen=True, slots=True)
class Line:
    """One exchange, as one or both of the parties recorded it."""

    sightings: tuple[Sighting, ...]

    @property
    def use(self) -> Use:
        """The record to go by: the refusal if one of them refused, else that of who gave the data."""
        return min((sighting.use for sighting in self.sightings), key=lambda use: use.allowed)

    @property
    def differs(self) -> bool:
        """Whether two parties recorded that other data were given."""
        return len({(use.fields, use.search_parameters) for use in self._uses() if use.allowed}) > 1

    @property
    def key(self) -> str:
        """Names the line within its page."""
        first = self.sightings[0]
        return f"{first.source.peer_id}-{first.use.index}"

    @property
    def agreement_short(self) -> str:
        """The first characters of the agreement's hash, without the part that all of them share."""
        return self.use.agreement.rpartition("$")[2][:_SHORT]

    @property
    def reason(self) -> tuple[str, str]:
        """Why it was allowed or refused, (Dutch, English)."""
        try:
            known = REASONS[Reason(self.use.reason)]
        except ValueError:
            return self.use.reason_nl, self.use.reason_en
        return known.nl, known.en

    @property
    def ground(self) -> tuple[str, str]:
        """The ground of GDPR article 6(1) in plain words, (Dutch, English)."""
        known = GROUNDS.get(self.use.ground, Words("", ""))
        return known.nl, known.en

    @property
    def law(self) -> tuple[str, str] | None:
        """(address, host) of the text of the law, when it is an address of the web."""
        try:
            address = urlsplit(self.use.law)
            host = address.hostname
        except ValueError:
            return None
        return (self.use.law, host) if address.scheme in ("http", "https") and host else None

    def fields(self) -> list[tuple[str, str]]:
        return _in_words(self.use.fields)

    def searched(self) -> list[tuple[str, str]]:
        return _in_words(self.use.search_parameters)

    def refused(self) -> list[tuple[str, str]]:
        return _in_words(self.use.refused)

    def _uses(self) -> Iterable[Use]:
        return (sighting.use for sighting in self.sightings)


@dataclass(frozen=True, slots=True)
class Asker:
    """How often one organisation asked, in the lines shown."""

    peer_id: str
    times: int
    refused: int


def merge(answers: Iterable[Answer]) -> list[Line]:
    """The lines of all answers, latest first.

    The provider's and the consumer's record of one exchange become one line. Within one source two records never do:
    what happened twice is shown twice, even under one transaction id.
    """
    giving: dict[tuple[str, ...], list[Sighting]] = {}
    asking: dict[tuple[str, ...], list[Sighting]] = {}
    for answer in answers:
        for use in answer.rows:
            key = (use.transaction_id, use.consumer, use.provider, use.service)
            side = giving if answer.source.peer_id == use.provider else asking
            side.setdefault(key, []).append(Sighting(answer.source, use))
    lines: list[Line] = []
    for exchange in giving.keys() | asking.keys():
        given, asked = giving.get(exchange, []), asking.get(exchange, [])
        length = max(len(given), len(asked))
        lines += (Line((*given[place : place + 1], *asked[place : place + 1])) for place in range(length))
    return sorted(lines, key=lambda line: (-line.sightings[0].use.time, line.key))


def of_kind(lines: Iterable[Line], kind: str) -> list[Line]:
    """The lines of this kind: `use`, or `insight` when somebody looked at this list."""
    return [line for line in lines if line.use.kind == kind]


def chosen(lines: Iterable[Line], organisation: str, *, refused_only: bool) -> list[Line]:
    """The lines in which this organisation (peer id, empty: any) had a part; the refused ones only, if asked."""
    return [
        line
        for line in lines
        if organisation in ("", line.use.consumer, line.use.provider) and not (refused_only and line.use.allowed)
    ]


def askers(lines: Sequence[Line]) -> list[Asker]:
    """Who asked how often, most often first."""
    by_peer: dict[str, list[Line]] = {}
    for line in lines:
        by_peer.setdefault(line.use.consumer, []).append(line)
    counted = [Asker(peer, len(some), sum(not line.use.allowed for line in some)) for peer, some in by_peer.items()]
    return sorted(counted, key=lambda asker: (-asker.times, asker.peer_id))


def organisations(lines: Iterable[Line], name_of: Callable[[Use, str], str]) -> list[tuple[str, str]]:
    """(peer id, name) of every organisation in the lines, by name."""
    found = {peer: name_of(line.use, peer) for line in lines for peer in (line.use.consumer, line.use.provider) if peer}
    return sorted(found.items(), key=lambda pair: (pair[1], pair[0]))


def _in_words(paths: Iterable[str]) -> list[tuple[str, str]]:
    known = [words(path) for path in paths]
    return list(dict.fromkeys((one.nl, one.en) for one in known))
