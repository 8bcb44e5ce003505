"""What a scenario is, what comes of it, and what was sent and received meanwhile."""

from __future__ import annotations

import enum
import json
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stelsel.base.text import inert

if TYPE_CHECKING:
    from stelsel.steering.checks.fsc.world import World

Run = Callable[["World"], Awaitable[None]]

LONGEST_SHOWN = 1500
_MOST_ENTRIES = 40
_JWS = re.compile(r"(eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_SECRET_HEADERS = frozenset({"authorization", "cookie", "set-cookie", "proxy-authorization"})


class Outcome(enum.StrEnum):
    """What came of a scenario."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


class Failed(Exception):
    """What the target did is not what the standard asks."""


class NotRun(Exception):
    """The scenario needs something that the target's file does not offer."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to try. `extra`: not in the published suite."""

    id: str
    title: str
    clause: str
    """Where the standard asks this: `Core 4.2.1`, `Logging 3.3.1.1`."""
    run: Run
    needs: tuple[str, ...] = ()
    """What `World.lacks` must find: inway, outway, break_log, signing."""
    note: str = ""
    """Where the suite's own words are not followed, and why."""

    @property
    def extra(self) -> bool:
        return self.id.startswith("Extra-")

    @property
    def component(self) -> str:
        return self.id.removeprefix("Extra-").partition("-")[0]


@dataclass(frozen=True, slots=True)
class Entry:
    """One message: `direction` is `sent`, `received` or `note`."""

    direction: str
    what: str
    body: str = ""

    def to_json(self) -> dict[str, str]:
        return {"direction": self.direction, "what": self.what} | ({"body": self.body} if self.body else {})


class Transcript:
    """What was sent and received in one scenario: inert, without signatures of tokens, within limits."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, direction: str, what: str, headers: Mapping[str, str] | None = None, body: bytes | str = b"") -> None:
        """Add a message."""
        if len(self.entries) >= _MOST_ENTRIES:
            del self.entries[0]
        told = "".join(
            f"\n{name}: {'(withheld)' if name.lower() in _SECRET_HEADERS else value}"
            for name, value in (headers or {}).items()
        )
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        self.entries.append(Entry(direction, safe(what + told), safe(text)))

    def clear(self) -> None:
        self.entries.clear()


def safe(text: str) -> str:
    """Foreign text as it may be shown: inert, line by line, bounded, signatures of tokens withheld."""
    without = _JWS.sub(r"\1.(withheld)", text[: 8 * LONGEST_SHOWN])
    shown = "\n".join(inert(line, LONGEST_SHOWN) for line in without[:LONGEST_SHOWN].split("\n"))
    return shown if len(without) <= LONGEST_SHOWN else shown + "…"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one scenario."""

    scenario: Scenario
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0
    transcript: tuple[Entry, ...] = ()

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "id": self.scenario.id,
            "title": self.scenario.title,
            "clause": self.scenario.clause,
            "component": self.scenario.component,
            "origin": "extra" if self.scenario.extra else "suite",
            "outcome": self.outcome.value,
            "seconds": round(self.seconds, 3),
        }
        if self.scenario.note:
            document["note"] = self.scenario.note
        if self.detail:
            document["detail"] = self.detail
        if self.outcome is Outcome.FAILED:
            document["messages"] = [entry.to_json() for entry in self.transcript]
        return document


@dataclass(frozen=True)
class Answer:
    """What the target answered; header names in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The JSON in it. Raises `Failed`."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Failed(f"the answer (status {self.status}) is not JSON") from None

    def object(self) -> dict[str, Any]:
        """The JSON object in it. Raises `Failed`."""
        value = self.json()
        expect(isinstance(value, dict), "the answer is not a JSON object")
        return dict(value)


def expect(condition: object, otherwise: str) -> None:
    """Raises `Failed` with `otherwise` unless the condition holds."""
    if not condition:
        raise Failed(safe(otherwise))


def expect_status(answer: Answer, *statuses: int) -> Answer:
    """Raises `Failed` unless the status is one of these."""
    wanted = " or ".join(map(str, statuses))
    expect(answer.status in statuses, f"status {answer.status} instead of {wanted}: {answer.body[:300]!r}")
    return answer


def expect_error(
    answer: Answer, domain: str, *, code: str | Collection[str] = (), status: int | Collection[int] = (400, 422)
) -> None:
    """Raises `Failed` unless it is FSC's error object with this status, domain and code (Core 4.1.7, 4.4.5.2).

    Without `code` any code will do: the standard has none for it.
    """
    expect_status(answer, *((status,) if isinstance(status, int) else status))
    told = answer.object()
    expect(told.get("domain") == domain, f"domain {told.get('domain')!r} instead of {domain}")
    expect(isinstance(told.get("message"), str), "the error object has no message")
    given = told.get("code")
    expect(isinstance(given, str) and given, "the error object has no code")
    wanted = (code,) if isinstance(code, str) else tuple(code)
    if wanted:
        expect(given in wanted, f"code {given!r} instead of {' or '.join(wanted)}")
    expect(
        answer.headers.get("fsc-error-code") == given,
        f"header Fsc-Error-Code is {answer.headers.get('fsc-error-code')!r} instead of {given!r}",
    )


def expect_record(record: Mapping[str, Any], wanted: Mapping[str, object]) -> None:
    """This log record holds what is `wanted`, and was made just now."""
    for name, value in wanted.items():
        expect(record.get(name) == value, f"the record's {name} is {record.get(name)!r} instead of {value!r}")
    made = record.get("created_at")
    expect(isinstance(made, int) and abs(made - time.time()) < 300, f"created_at is {made!r}")


def expect_refused(answer: Answer, code: str | Collection[str] = (), status: int | Collection[int] = ()) -> None:
    """Raises `Failed` unless the manager refused, with this code; a code of the standard is a 422 (Core 4.4.5.3)."""
    expect_error(answer, "ERROR_DOMAIN_MANAGER", code=code, status=status or (422 if code else (400, 422)))


def expect_token_error(answer: Answer, *errors: str) -> None:
    """Raises `Failed` unless it is an error as RFC 6749, section 5.2 has it, one of these if any are named."""
    expect_status(answer, 400, 401)
    told = answer.object()
    known = (
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    )
    expect(
        told.get("error") in (errors or known), f"error {told.get('error')!r} instead of {' or '.join(errors or known)}"
    )
    expect("access_token" not in told, "an access token came with the error")
    expect(answer.status == 400 or told.get("error") == "invalid_client", "only invalid_client may have status 401")


REGISTRY: list[Scenario] = []


def scenario(
    identifier: str, title: str, clause: str, *, needs: tuple[str, ...] = (), note: str = ""
) -> Callable[[Run], Run]:
    """Registers a function as the scenario with this id."""

    def register(run: Run) -> Run:
        REGISTRY.append(Scenario(identifier, title, clause, run, needs, note))
        return run

    return register
