"""Two steps that both gateways take: reading what is asked and about whom, and looking again before it is sent on.

What is compiled never waits while it handles an exception, here nor elsewhere: who handles one puts it aside, and waits
after that. In Python the exception being handled belongs to the coroutine; compiled, to the whole thread. Requests that
are refused at the same time would hang each other's faults together, and none would ever be let go of.
"""

from __future__ import annotations

from stelsel.agreements.services import Service
from stelsel.base.errors import Fault
from stelsel.exchange.call import Call
from stelsel.exchange.facts import Facts, Refused
from stelsel.exchange.faults import TransactionLogWriteError
from stelsel.exchange.ports import AgreementsPort, LedgerPort, write_down
from stelsel.privacy.decision import decide
from stelsel.privacy.request import read_request
from stelsel.privacy.subjects import SubjectReferences


async def read_question(
    call: Call,
    facts: Facts,
    service: Service,
    target: bytes,
    *,
    references: SubjectReferences | None,
    limit: int,
    in_force: bool,
) -> None:
    """Put into `facts` what the request asks and, with `references`, about whom. Raises a `Fault` if it cannot be read.

    The body is read up to `limit` bytes. With `in_force` False the request will be refused whatever it asks, and it is
    read for one purpose only: that a resident sees that someone tried to get her data without a right to them any more
    (GDPR article 15; a refusal that nobody can find is no safeguard). That is right only because of who is asking: a
    peer known by its certificate, with a token that the provider gave it under an agreement that the provider knows,
    or an application of the organisation itself. Nobody else gets this far, so strangers cannot fill a resident's list
    with attempts; and a former consumer can do so only under its own name, until its last token expires. What cannot
    be read is then left unread: the refusal stands and is recorded without a resident.
    """
    head = call.head
    try:
        body = await call.read_body(limit)
        facts.request = read_request(
            service,
            head.method.decode("ascii"),
            target.decode("ascii"),
            head.values.get(b"content-type", b"").decode("latin-1"),
            body,
        )
    except Fault:
        if in_force:
            raise
        return
    if references is not None:
        facts.subjects = tuple(references.of(number) for number in facts.request.subjects)


def still_holds(agreements: AgreementsPort, facts: Facts, now: float) -> bool:
    """Whether the agreement is the very one by which it was decided, and in force: then the decision is the same."""
    agreement = agreements.agreement(facts.grant_hash)
    return agreement is not None and agreement is facts.agreement and agreement.holds(now)


async def look_again(
    agreements: AgreementsPort,
    ledger: LedgerPort,
    facts: Facts,
    service: Service,
    now: float,
    unrecorded: type[TransactionLogWriteError],
) -> None:
    """Decide again, after waiting (for the disk, for a token) and before sending on, when not `still_holds`.

    A revocation counts from the moment it is known, also for a request that was already allowed and recorded. Raises
    `Refused`, with a record of that under the request, or `unrecorded` when it cannot be recorded.
    """
    decision = decide(service, agreements.agreement(facts.grant_hash), facts.request, now)
    if not decision.allowed:
        await write_down(ledger, (facts.stopped(now, decision.reason, decision.refused),), unrecorded)
        raise Refused(decision)
