"""What would break is judged by what was really asked, under what would be left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.contract import parse
from stelsel.agreements.fieldsets import within
from stelsel.agreements.signatures import Signature
from stelsel.agreements.stored import StoredContract
from stelsel.agreements.terms import Terms
from stelsel.base.certificates import KeyPair
from stelsel.base.clock import SetClock
from stelsel.base.errors import Unprocessable
from stelsel.exchange.simulation import (
    Flow,
    Use,
    certificate_expiry,
    field_gone,
    revocation,
    simulate,
    tally,
)
from stelsel.exchange.uses import uses_of
from stelsel.ledger.record import Record
from stelsel.ledger.service import Ledger
from stelsel.privacy.paths import covered

NOW = 1_800_000_000.0
DAY = 86_400
US, THEM = "00000099000000002000", "00000099000000003000"
PLAIN: Any = parse(
    {
        "fsc_version": "2.0.0",
        "iv": "0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee",
        "group_id": "g",
        "validity": {"not_before": 1, "not_after": 2_000_000_000},
        "hash_algorithm": "HASH_ALGORITHM_SHA3_512",
        "created_at": 1,
        "grants": [
            {
                "data": {
                    "type": "GRANT_TYPE_SERVICE_CONNECTION",
                    "service": {"type": "SERVICE_TYPE_SERVICE", "peer_id": US, "name": "personen"},
                    "outway": {
                        "peer_id": THEM,
                        "identification": {
                            "type": "OUTWAY_IDENTIFICATION_TYPE_PUBLIC_KEY_THUMBPRINT",
                            "public_key_thumbprint": "a" * 64,
                        },
                    },
                }
            }
        ],
    }
)


def agreement(
    number: int = 1, fields: tuple[str, ...] = ("naam", "leeftijd"), *, limited: bool = True, **changes: Any
) -> Agreement:
    terms = Terms.model_validate(
        {
            "purpose": "Parkeren",
            "legal_basis": {"article": "artikel 4", "ground": "e"},
            "processing_activity": {"id": "urn:v", "name": "Parkeren", "version": "1"},
            "fields": fields,
            "search_parameters": ["burgerservicenummer"],
            "retention": "P1Y",
            "confidentiality": "confidential",
        }
    )
    plain = Agreement(
        grant_hash=f"$1$3${number}",
        content_hash=f"$1$1${number}",
        consumer=THEM,
        provider=US,
        service="personen",
        outway_key_thumbprint="a" * 64,
        outway_domain_name=None,
        terms=terms if limited else None,
        not_before=int(NOW) - 100 * DAY,
        not_after=int(NOW) + 100 * DAY,
        created_at=int(NOW) - 100 * DAY + number,
        state=State.VALID,
    )
    return replace(plain, **changes)


def contract(*agreements: Agreement, until: float = NOW + 50 * DAY, chain: bytes = b"certificate") -> StoredContract:
    signatures = tuple(Signature(peer, "accept", "s", 1, until, (chain,)) for peer in (US,))
    signatures += (Signature(THEM, "accept", "s", 1, NOW + 900 * DAY, (b"theirs",)),)
    return StoredContract(PLAIN, State.VALID, THEM, NOW, signatures, (THEM,), (), agreements)


def record(asked: tuple[str, ...] = ("leeftijd",), number: int = 1, days_ago: float = 1, **changes: Any) -> Record:
    plain = Record(
        transaction_id="t",
        trace_id="r",
        span_id="s",
        parent_span_id=None,
        time=int((NOW - days_ago * DAY) * 1000),
        direction="incoming",
        event="request",
        grant_hash=f"$1$3${number}",
        consumer=THEM,
        provider=US,
        service="personen",
        allowed=True,
        reason="agreed",
        fields=asked,
        search_parameters=("burgerservicenummer",) if asked else (),
    )
    return plain._replace(**changes)


def only(flows: tuple[Flow, ...]) -> Flow:
    assert len(flows) == 1
    return flows[0]


def test_uses_are_counted_by_day_and_by_what_was_asked() -> None:
    rows = [record(), record(), record(days_ago=3), record(allowed=False), record(event="response"), record(number=2)]
    uses = tally(rows, US)
    use = uses["$1$3$1"]
    assert (use.calls, use.refused, max(use.by_day.values())) == (3, 1, 2)
    assert use.last_ms == rows[0].time
    assert uses["$1$3$2"].calls == 1


def test_what_a_peer_asks_of_itself_is_counted_once() -> None:
    rows = [record(consumer=US), record(consumer=US, direction="outgoing")]
    assert tally(rows, US)["$1$3$1"].calls == 1


def test_a_revocation_breaks_what_was_used() -> None:
    one = agreement()
    flow = only(simulate(revocation(contract(one), NOW), [one], tally([record()] * 30, US), NOW, 30))
    assert (flow.outcome, flow.calls, flow.breaking, flow.calls_a_day, flow.instead) == ("breaks", 30, 30, 1.0, "")


def test_an_agreement_that_nobody_used_breaks_nothing() -> None:
    one = agreement()
    assert only(simulate(revocation(contract(one), NOW), [one], {}, NOW, 30)).outcome == "unused"


def test_an_agreement_that_holds_no_more_has_no_live_flow() -> None:
    one = agreement(state=State.REVOKED)
    assert simulate(revocation(contract(one), NOW), [one], tally([record()], US), NOW, 30) == ()


def test_another_agreement_takes_over_what_lies_within_it() -> None:
    one, other = agreement(1), agreement(2, ("leeftijd",))
    uses = tally([record(), record(), record(("naam.geslachtsnaam",))], US)
    flow = only(simulate(revocation(contract(one), NOW), [one, other], uses, NOW, 30))
    assert (flow.outcome, flow.breaking, flow.instead) == ("breaks in part", 1, other.grant_hash)
    wide = agreement(2, ("leeftijd", "naam"))
    assert only(simulate(revocation(contract(one), NOW), [one, wide], uses, NOW, 30)).outcome == "goes on"


@pytest.mark.parametrize(
    "unfit",
    [
        {"state": State.PROPOSED},
        {"not_before": int(NOW) + DAY},
        {"not_after": int(NOW)},
        {"outway_key_thumbprint": "b" * 64},
        {"service": "adressen"},
        {"consumer": US},
        {"consumer_delegator": US},
        {"signatures_hold_until": NOW},
    ],
)
def test_what_could_not_carry_the_calls_does_not_take_over(unfit: dict[str, Any]) -> None:
    one, other = agreement(1), agreement(2, **unfit)
    flow = only(simulate(revocation(contract(one), NOW), [one, other], tally([record()], US), NOW, 30))
    assert (flow.outcome, flow.instead) == ("breaks", "")


def test_a_field_that_goes_breaks_the_calls_that_asked_it_or_what_holds_it() -> None:
    one = agreement()
    asked = [("leeftijd",), ("naam",), ("naam.geslachtsnaam",), ("leeftijd", "naam.voornamen")]
    uses = tally([record(fields) for fields in asked], US)
    assert only(simulate(field_gone(contract(one), "leeftijd", NOW), [one], uses, NOW, 30)).breaking == 2
    assert only(simulate(field_gone(contract(one), "naam", NOW), [one], uses, NOW, 30)).breaking == 3
    assert only(simulate(field_gone(contract(one), "naam.voornamen", NOW), [one], uses, NOW, 30)).breaking == 2


def test_a_field_that_is_not_in_the_agreement_cannot_go() -> None:
    with pytest.raises(Unprocessable):
        field_gone(contract(agreement()), "partners", NOW)


def test_a_certificate_takes_along_all_that_was_signed_with_it() -> None:
    one, same, other = agreement(1), agreement(2), agreement(3, ("leeftijd",), not_after=int(NOW) + 90 * DAY)
    first = contract(one)
    every = [first, contract(same), contract(other, chain=b"newer")]
    event = certificate_expiry(first, every, NOW)
    assert event.at == NOW + 50 * DAY
    uses = tally([record(number=1), record(("naam",), number=2)], US)
    flows = {flow.grant_hash: flow for flow in simulate(event, [one, same, other], uses, NOW, 30)}
    assert flows.keys() == {one.grant_hash, same.grant_hash}
    assert (flows[one.grant_hash].outcome, flows[one.grant_hash].instead) == ("goes on", other.grant_hash)
    assert flows[same.grant_hash].outcome == "breaks"


def test_what_ends_before_the_certificate_is_told_apart() -> None:
    one = agreement(not_after=int(NOW) + 10 * DAY)
    event = certificate_expiry(contract(one), [contract(one)], NOW)
    flow = only(simulate(event, [one], tally([record()], US), NOW, 30))
    assert (flow.outcome, flow.breaking, flow.calls) == ("ends before", 0, 1)


def test_a_call_without_fields_goes_on_under_an_agreement_that_limits_nothing() -> None:
    one, other = agreement(1, limited=False), agreement(2, limited=False)
    uses = tally([record(())], US)
    assert only(simulate(revocation(contract(one), NOW), [one, other], uses, NOW, 30)).outcome == "goes on"
    limited = agreement(2)
    assert only(simulate(revocation(contract(one), NOW), [one, limited], uses, NOW, 30)).outcome == "breaks"


def test_more_ways_of_asking_than_are_told_apart_count_as_breaking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stelsel.exchange.simulation._MOST_WAYS", 1)
    one = agreement()
    uses = tally([record(("naam",)), record(("leeftijd",))], US)
    assert only(simulate(field_gone(contract(one), "naam", NOW), [one], uses, NOW, 30)).breaking == 2


def test_more_records_than_are_read_are_told_and_the_newest_count(
    tmp_path: Path, new_keypair: Callable[..., KeyPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stelsel.exchange.uses._PAGE", 10)

    async def scenario() -> None:
        ledger = Ledger(folder=tmp_path, keypair=new_keypair(US), clock=SetClock(NOW))
        await ledger.start()
        try:
            for number in range(40):
                await ledger.append(record(("leeftijd",) if number < 15 else ("naam",), days_ago=20 - number / 4))
            await ledger.append(record(days_ago=31))
            whole = await uses_of(ledger, ["$1$3$1", "$1$3$1"], US, NOW, 30)
            assert (whole.by_grant["$1$3$1"].calls, whole.complete) == (40, True)
            part = await uses_of(ledger, ["$1$3$1"], US, NOW, 30, most=25)
            assert not part.complete
            assert part.by_grant["$1$3$1"].calls == 25
            assert (await uses_of(ledger, [], US, NOW, 30)).by_grant == {}
        finally:
            await ledger.stop()

    asyncio.run(scenario())


_STEPS = st.sampled_from(["a", "b", "c"])
_PATH = st.lists(_STEPS, min_size=1, max_size=3).map(".".join)


@given(path=_PATH, agreed=st.lists(_PATH, max_size=4))
def test_rules_and_diffs_mean_by_within_what_the_decision_means(path: str, agreed: list[str]) -> None:
    assert within(path, agreed) == covered(path, set(agreed))


@given(asked=st.lists(st.lists(_PATH, min_size=1, max_size=3, unique=True), max_size=6), gone=_PATH)
def test_calls_that_do_not_break_ask_nothing_of_the_field_that_went(asked: list[list[str]], gone: str) -> None:
    one = agreement(fields=("a", "b", "c"))
    uses: dict[str, Use] = tally([record(tuple(fields)) for fields in asked], US)
    flow = only(simulate(field_gone(contract(one), gone, NOW), [one], uses, NOW, 30))
    hit = sum(any(f"{p}.".startswith(f"{gone}.") or f"{gone}.".startswith(f"{p}.") for p in way) for way in asked)
    assert flow.breaking == hit
    assert flow.calls == len(asked)
