"""Why would this call fail? Walks the way that a call goes, step by step, without making the call.

`judge` is pure: it says what follows from what is known. `explain` finds out what can only be found out by trying:
whether there is a token to be had, and whether the provider's inway can be reached. It records nothing and sends no
request to the service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.dialect import FSC_VERSION
from stelsel.agreements.services import Service
from stelsel.agreements.tokens import TokenClaims
from stelsel.base.certificates import Certificate
from stelsel.base.clock import Clock, moment
from stelsel.base.errors import Fault
from stelsel.base.text import inert
from stelsel.exchange.facts import limits_data
from stelsel.exchange.outway import Outway
from stelsel.exchange.ports import AgreementsPort
from stelsel.exchange.routing import Route, usable
from stelsel.privacy.decision import REASONS, Reason, decide, forbidden
from stelsel.privacy.request import DataRequest

_DAY = 86_400
_SOON = 30 * _DAY


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way. `ok` None: not looked at, because an earlier step does not hold."""

    name: str
    ok: bool | None
    detail: str
    next_step: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(route: Route, certificate: Certificate, asked: DataRequest, now: float) -> Iterator[Step]:
    """What can be said from here, of an outway with this certificate at `now` (seconds since the epoch)."""
    agreement = route.agreement
    if agreement is None:
        yield Step(
            "agreement",
            False,
            f"there is no agreement with {route.provider} about {inert(route.service)}",
            f"propose one: stelsel agreement propose {route.provider} {inert(route.service)}",
        )
        return
    yield Step("agreement", True, f"{agreement.grant_hash[:24]}… with {agreement.provider}, {inert(agreement.service)}")
    signed = _signatures(agreement, now)
    yield signed
    yield _state(agreement, now) if signed.ok else Step("in force", None, "not while it is not signed")
    yield _terms(agreement)
    yield _fields(agreement, asked, now)
    yield _key(agreement, certificate)
    yield _certificate(certificate, now)


def _signatures(agreement: Agreement, now: float) -> Step:
    """Whether every party's signature is there and can still be verified (FSC Core 3.2.1, 4.2.7)."""
    until, name = agreement.signatures_hold_until, "signatures"
    if agreement.state not in {State.PROPOSED, State.VALID}:
        return Step(name, True, "they do not matter any more")
    if 0 < until <= now:
        return Step(
            name,
            False,
            f"a certificate that it was signed with expired on {moment(until)}",
            "have that party renew its certificate and sign again (stelsel agreement sign-again at a Stelsel node); "
            "see who with: stelsel radar",
        )
    if agreement.state is State.PROPOSED:
        step = "see for whom it waits, or who refused it and why: stelsel agreement list"
        return Step(name, False, "not every party has signed", step)
    if until - now < _SOON:
        days = int((until - now) / _DAY)
        return Step(name, True, f"all are there; one cannot be verified any more in {days} days: see stelsel radar")
    return Step(name, True, "all are there, and can be verified")


def _state(agreement: Agreement, now: float) -> Step:
    """Whether it is in force: the same decision as on the way, asked about nothing else."""
    if agreement.holds(now):
        return Step("in force", True, f"until {moment(agreement.not_after)}")
    plain = Service.model_validate({"name": agreement.service, "endpoint": "http://outway"})
    decision = decide(plain, agreement, DataRequest((), (), ()), now)
    steps = {
        Reason.NOT_IN_FORCE: "ask why it was refused, and propose a new agreement: stelsel agreement propose",
        Reason.NOT_YET: f"wait until {moment(agreement.not_before)}",
    }
    return Step(
        "in force",
        False,
        REASONS[decision.reason].en,
        steps.get(decision.reason, "propose a new agreement: stelsel agreement propose"),
    )


def _terms(agreement: Agreement) -> Step:
    terms = agreement.terms
    if terms is None:
        return Step("terms", True, "there are none; a service about people refuses every call under this agreement")
    return Step("terms", True, f"for {inert(terms.purpose)}, on {inert(terms.legal_basis.article)}")


def _fields(agreement: Agreement, asked: DataRequest, now: float) -> Step:
    if not limits_data(agreement) or not agreement.holds(now):
        return Step("fields", None if not agreement.holds(now) else True, "the agreement does not limit which fields")
    if not asked.fields:
        terms = agreement.terms
        agreed = ", ".join(terms.fields) if terms is not None else ""
        return Step("fields", None, f"say which fields you would ask; agreed are: {agreed}")
    service = Service.model_validate({"name": agreement.service, "endpoint": "http://outway", "personal": True})
    decision = decide(service, agreement, asked, now)
    if decision.allowed:
        return Step("fields", True, "all that is asked was agreed")
    told = forbidden(decision)
    return Step("fields", False, inert(told.detail), told.next_step)


def _key(agreement: Agreement, certificate: Certificate) -> Step:
    if usable(agreement, certificate):
        return Step("outway key", True, "the agreement is made out to this outway")
    return Step(
        "outway key",
        False,
        "the agreement is made out to an outway with another key or name",
        "call through that outway, or propose an agreement for this one (an agreement does not follow a new key)",
    )


def _certificate(certificate: Certificate, now: float) -> Step:
    until = moment(certificate.not_after)
    if now >= certificate.not_after:
        return Step("certificate", False, f"this outway's certificate expired on {until}", "install a new certificate")
    if now < certificate.not_before:
        return Step(
            "certificate",
            False,
            f"this outway's certificate is valid from {moment(certificate.not_before)}",
            "look at the clock of this machine",
        )
    if certificate.not_after - now < _SOON:
        days = int((certificate.not_after - now) / _DAY)
        return Step(
            "certificate", True, f"it expires in {days} days, on {until}", "ask a new one now, for the same key"
        )
    return Step("certificate", True, f"valid until {until}")


def judge_clock(claims: TokenClaims, now: float) -> Step:
    """Whether provider and outway agree on what time it is, as far as the token shows."""
    if claims.not_before <= now < claims.expires:
        return Step("clock", True, "the token holds by the clock of this machine")
    return Step(
        "clock",
        False,
        f"the token holds from {moment(claims.not_before)} to {moment(claims.expires)}, but here it is {moment(now)}",
        "synchronise the clocks of both organisations (NTP)",
    )


AskVersion = Callable[[str], Awaitable[str]]
"""Which FSC the manager of a peer says that it speaks, by peer id. Raises a `Fault` when it cannot be asked."""


async def _version(provider: str, ask: AskVersion) -> Step:
    """Another version does not stop a call by itself, but it is why tokens and contracts are refused."""
    try:
        theirs = inert(await ask(provider), 40)
    except Fault as fault:
        return Step("version", None, f"the provider's manager cannot be asked: {inert(fault.detail)}")
    if theirs != FSC_VERSION:
        return Step(
            "version",
            None,
            f"the provider speaks FSC {theirs}, we speak {FSC_VERSION}: it may refuse tokens and contracts",
            "agree with the provider when to move to the same version",
        )
    return Step("version", True, f"both speak FSC {theirs}")


_LATER = ("token", "clock", "provider reachable")


async def explain(
    *,
    outway: Outway,
    agreements: AgreementsPort,
    certificate: Certificate,
    clock: Clock,
    where: str,
    fields: tuple[str, ...] = (),
    search_parameters: tuple[str, ...] = (),
    ask_version: AskVersion | None = None,
) -> list[Step]:
    """Every step of the way to `where` (an alias, `provider peer id/service`, or a grant hash), until one fails."""
    now = clock.now()
    try:
        route = outway.route(where, now)
    except Fault as fault:
        return [Step("agreement", False, fault.detail, fault.next_step), *_not_reached(_LATER)]
    steps = list(judge(route, certificate, DataRequest(fields, search_parameters), now))
    if any(step.ok is False for step in steps) or route.agreement is None:
        return [*steps, *_not_reached(_LATER)]
    if ask_version is not None:
        steps.append(await _version(route.provider, ask_version))
    try:
        token = await agreements.token(route.agreement.grant_hash)
    except Fault as fault:
        advice = fault.next_step or "ask the provider whether its manager runs and can be reached"
        return [*steps, Step("token", False, inert(fault.detail), advice), *_not_reached(_LATER[1:])]
    steps += [Step("token", True, f"the provider gives one, until {moment(token.claims.expires)}")]
    steps += [judge_clock(token.claims, now)]
    try:
        await outway.reach(token.claims)
    except Fault as fault:
        steps.append(Step("provider reachable", False, inert(fault.detail), fault.next_step))
    else:
        steps.append(Step("provider reachable", True, f"the inway at {inert(token.claims.audience)} is the provider's"))
    return steps


def _not_reached(names: tuple[str, ...]) -> list[Step]:
    return [Step(name, None, "not looked at: mend the step before first") for name in names]
