"""Which headers pass, and which are ours alone. Pure.

Hop-by-hop headers concern one connection only (RFC 9110, section 7.6.1) and never pass. `Fsc-*` and `Stelsel-*` are
said by gateways only: what a client or a service sends under those names is dropped, so that nobody can speak for us.
"""

from __future__ import annotations

import re
from typing import Final

from stelsel.exchange.heads import (
    HOP_BY_HOP,
    OURS,
    FieldLine,
    RequestHead,
    ResponseHead,
    connection_options,
)

_USUAL: Final = frozenset((b"keep-alive", b"close"))

UUID7: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Rule:
    """Which field lines of a message pass."""

    __slots__ = ("dropped", "kept")

    def __init__(self, dropped: frozenset[bytes], kept: tuple[bytes, ...] = ()) -> None:
        self.dropped = dropped
        self.kept = kept
        """Of the names that are said by gateways only, those that pass all the same."""


REQUESTS: Final = Rule(HOP_BY_HOP | {b"host", b"content-length", b"expect", b"traceparent"})
"""Requests, without the lines that name their host, length and trace."""
REQUESTS_ABOUT_PEOPLE: Final = Rule(REQUESTS.dropped | {b"accept-encoding", b"range", b"if-range"})
"""The same; the guard must be able to read the whole answer."""
ANSWERS: Final = Rule(HOP_BY_HOP | {b"content-length"})
"""Answers, without their length."""
ANSWERS_OF_INWAYS: Final = Rule(ANSWERS.dropped, (b"fsc-error-code", b"stelsel-answer"))
"""The same; an outway lets through what an inway says, but its transaction id, which it adds itself."""


def fields_of(head: RequestHead | ResponseHead) -> list[FieldLine]:
    """All field lines of a message, in order."""
    return head.rest if head.run is None else head.run.fields + head.rest


def passing(head: RequestHead | ResponseHead, rule: Rule) -> bytes:
    """The header lines of a message that pass."""
    run, rest, values = head.run, head.rest, head.values
    if b"connection" in values and values[b"connection"].lower() not in _USUAL:
        named = connection_options(values)
        return _join([field for field in fields_of(head) if field.name not in named], rule)
    if run is None:
        return _join(rest, rule)
    begins = run.passing.get(rule)
    if begins is None:
        begins = run.passing[rule] = _join(run.fields, rule)
    return begins + _join(rest, rule) if rest else begins


def _join(fields: list[FieldLine], rule: Rule) -> bytes:
    dropped, kept = rule.dropped, rule.kept
    return b"".join(
        [
            field.line
            for field in fields
            if field.passes or (field.name not in dropped and (field.name in kept or not field.name.startswith(OURS)))
        ]
    )


def lines(values: dict[str, str]) -> bytes:
    """Header lines out of our own names and values; both are ours, or have been checked."""
    return "".join(f"{name}: {value}\r\n" for name, value in values.items()).encode("latin-1")
