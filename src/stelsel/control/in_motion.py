"""What only a running node can tell of itself: peers and their clocks, its own addresses, the outbox, the ledger."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from stelsel.agreements.agreement import State
from stelsel.agreements.dialect import FSC_VERSION
from stelsel.agreements.service import Agreements
from stelsel.agreements.stored import StoredContract
from stelsel.base.certificates import TrustAnchors, identify
from stelsel.base.clock import Clock
from stelsel.base.errors import BadRequest, Fault, Unauthenticated
from stelsel.base.text import inert
from stelsel.control.observation import Observation
from stelsel.ledger.service import Ledger

_PATIENCE = 5.0  # seconds for one peer to answer
_MOST_PEERS = 50
_AT_ONCE = 8
_MOST_BYTES = 64 * 1024
_STUCK = 5
"""Attempts after which a message counts as stuck: by then it has been tried for some seconds."""
_LOOKS, _LOOK_PAUSE = 20, 0.1  # the index may be a moment behind: it pauses between its rounds
_WORST_SKEW = 5.0
"""Seconds that a clock may be off without a remark; a `Date` is in whole seconds, so less says nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the manager of a peer said about itself, or why it did not."""

    peer_id: str
    version: str = ""
    skew: float | None = None
    """Seconds by which its clock is ahead of ours; None when it does not tell the time."""
    trouble: str = ""


async def examine(
    agreements: Agreements, ledger: Ledger, anchors: TrustAnchors, clock: Clock, inway_address: str | None
) -> list[Observation]:
    """What was seen. Asks at most 50 counterparties, each at most five seconds; records nothing."""
    now, names, group = clock.now(), agreements.peer_names(), agreements.group
    contracts = agreements.contracts()
    live = [stored for stored in contracts if stored.state in {State.VALID, State.PROPOSED}]
    others = sorted({peer for stored in live for peer in stored.others} - {group.directory_peer_id})
    asked = [group.directory_peer_id, agreements.peer_id, *(peer for peer in others if peer != agreements.peer_id)]
    slots = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(peer_id: str) -> Answer:
        async with slots:
            return await ask(agreements, peer_id, clock)

    directory, own, *answers = await asyncio.gather(*(in_turn(peer_id) for peer_id in asked[: _MOST_PEERS + 2]))
    seen = [judge_directory(directory, group.directory_address)]
    seen += [judge_clock(directory, answers, min(_WORST_SKEW, float(group.clock_skew)))]
    seen += [judge_own(own, agreements.manager_address)]
    if inway_address is not None:
        seen.append(await _inway(agreements, anchors, inway_address))
    seen += judge_peers(answers, names)
    if len(asked) > _MOST_PEERS + 2:
        seen.append(Observation("peers", None, f"{len(asked) - _MOST_PEERS - 2} more peers were not asked"))
    seen += judge_outbox(live, names, now)
    seen.append(await _ledger(ledger))
    return seen


async def ask(agreements: Agreements, peer_id: str, clock: Clock) -> Answer:
    """Ask the manager of a peer which FSC it speaks and what time it is (`GET /peer`)."""
    try:
        address = await agreements.manager_address_of(peer_id)
        client = await agreements.peer_client(peer_id)
        async with asyncio.timeout(_PATIENCE):
            before = clock.now()
            async with client.stream("GET", f"{address}/v1/peer") as response:
                after = clock.now()
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        return Answer(peer_id, trouble="its answer is too large")
    except TimeoutError:
        return Answer(peer_id, trouble=f"no answer within {_PATIENCE:.0f} seconds")
    except Fault as fault:
        return Answer(peer_id, trouble=inert(fault.detail))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ssl.SSLError) as error:
        return Answer(peer_id, trouble=f"no connection ({type(error).__name__})")
    if response.status_code != 200:
        return Answer(peer_id, trouble=f"it answers with status {response.status_code}")
    return Answer(peer_id, _version(bytes(body)), skew(response.headers.get("date", ""), (before + after) / 2))


def skew(date: str, now: float) -> float | None:
    """By how many seconds a `Date` header (RFC 9110, 6.6.1) is ahead of `now`; None when it cannot be read."""
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    # The header is cut off to whole seconds: half a second is added, so that the error is the least on average.
    return theirs.replace(tzinfo=theirs.tzinfo or UTC).timestamp() + 0.5 - now


def _version(body: bytes) -> str:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    version = told.get("fsc_version") if isinstance(told, dict) else None
    return inert(version, 40) if isinstance(version, str) else ""


def judge_directory(answer: Answer, address: str) -> Observation:
    """Whether the directory can be reached."""
    if answer.trouble:
        return Observation(
            "directory",
            False,
            f"{address}: {answer.trouble}",
            "see whether this machine may connect there, and whether directory_address is right",
        )
    return Observation("directory", True, f"{address} answers")


def judge_clock(directory: Answer, others: Iterable[Answer], allowed: float) -> Observation:
    """Whether this machine's clock agrees with the directory's, or else with the middle one of the other peers."""
    known = sorted(answer.skew for answer in others if answer.skew is not None)
    ahead = directory.skew if directory.skew is not None else known[len(known) // 2] if known else None
    if ahead is None:
        return Observation("clock", None, "no other peer tells the time")
    if abs(ahead) > allowed:
        which = "behind" if ahead > 0 else "ahead"
        return Observation(
            "clock",
            False,
            f"this machine is {abs(ahead):.0f} seconds {which}: contracts and tokens will be refused",
            "synchronise the clock of this machine (NTP)",
        )
    return Observation("clock", True, f"within {allowed:.0f} seconds of other peers")


def judge_own(answer: Answer, address: str) -> Observation:
    """Whether our manager can be reached by its own address, as far as can be seen from here."""
    if answer.trouble:
        return Observation(
            "manager reachable",
            False,
            f"{address}: {answer.trouble}",
            "see that the name leads to this machine and that no TLS terminator stands before it",
        )
    return Observation("manager reachable", True, f"{address} is ours, seen from this machine")


def judge_peers(answers: Iterable[Answer], names: dict[str, str]) -> Iterator[Observation]:
    """Whether the peers that we have agreements with can be reached, and speak the same FSC."""
    for answer in answers:
        title = f"peer {inert(names.get(answer.peer_id, ''), 60) or answer.peer_id}"
        if answer.trouble:
            yield Observation(
                title, False, answer.trouble, "ask whether its manager runs; what waits for it is kept and sent later"
            )
        elif answer.version != FSC_VERSION:
            told = f"it speaks FSC {answer.version or '(it does not say)'}, we speak {FSC_VERSION}"
            yield Observation(title, False, told, "agree when to move to the same version; contracts may be refused")
        else:
            yield Observation(title, True, f"answers, speaks FSC {answer.version}")


def judge_outbox(contracts: Iterable[StoredContract], names: dict[str, str], now: float) -> Iterator[Observation]:
    """Whether what we signed reaches the other peers."""
    stuck = refused = waiting = 0
    why: dict[str, str] = {}
    for stored in contracts:
        for delivery in stored.deliveries:
            if delivery.status == "refused":
                refused += 1
                why[delivery.peer_id] = delivery.reason
            elif delivery.status == "pending":
                waiting += 1
                if delivery.attempts >= _STUCK and delivery.next_attempt - now < 3600:
                    stuck += 1
                    why[delivery.peer_id] = delivery.reason
    shown = "; ".join(f"{inert(names.get(peer, peer), 60)}: {inert(reason, 200)}" for peer, reason in why.items())
    if stuck:
        step = "see that the peer can be reached; it is tried again, or at once with: stelsel agreement resend"
        yield Observation("outbox", False, f"{stuck} message(s) cannot be delivered ({shown})", step)
    if refused:
        step = "take away why, then: stelsel agreement resend, or revoke it with: stelsel agreement revoke"
        yield Observation("outbox", False, f"{refused} message(s) were refused ({shown})", step)
    if not stuck and not refused:
        yield Observation("outbox", True, f"{waiting} message(s) wait" if waiting else "nothing waits")


def judge_ledger(size: int, indexed: int, trouble: str, *, moves: bool = True, why: str = "") -> Observation:
    """Whether records are kept and can be found: `indexed` of the `size` records are, and that number `moves`.

    `why` not, if it is known.
    """
    if trouble:
        return Observation(
            "ledger", False, trouble, "look at the disk under the ledger's folder; until it is mended nothing passes"
        )
    if indexed >= size:
        return Observation("ledger", True, f"{size} records, all of them indexed")
    behind = f"the index is {size - indexed} records behind"
    if moves:
        return Observation("ledger", None, f"{behind} and catches up; searches wait for it")
    step = "look in the log of the node; else stop it, remove ledger/index.sqlite and start it: the index is made anew"
    return Observation("ledger", False, f"{behind} and does not move{f': {why}' if why else ''}", step)


async def _ledger(ledger: Ledger) -> Observation:
    try:
        size, before = ledger.size, ledger.indexed
        for _ in range(_LOOKS):
            if ledger.indexed >= size:
                break
            await asyncio.sleep(_LOOK_PAUSE)
        trouble = "" if ledger.writable else "the disk does not take records at this moment"
        building = ledger.building
        why = building.trouble or ("nobody builds it" if building.pid is None else "")
        return judge_ledger(size, building.size, trouble, moves=building.size > before, why=why)
    except Fault as fault:
        return judge_ledger(0, 0, inert(fault.detail))


async def _inway(agreements: Agreements, anchors: TrustAnchors, address: str) -> Observation:
    """Whether our inway can be reached by its own address and is ours, as far as can be seen from here."""
    title = "inway reachable"
    place = urlsplit(address)
    step = "see that the name leads to this machine and that no TLS terminator stands before it"
    try:
        async with asyncio.timeout(_PATIENCE):
            context = agreements.keypair.client_context(anchors)
            _, writer = await asyncio.open_connection(place.hostname, place.port or 443, ssl=context)
            try:
                found = identify(writer.get_extra_info("ssl_object")).peer_id
            finally:
                writer.close()
    except (OSError, ssl.SSLError, TimeoutError, BadRequest, Unauthenticated) as error:
        return Observation(title, False, f"{address}: no connection ({type(error).__name__})", step)
    if found != agreements.peer_id:
        return Observation(title, False, f"at {address} answers peer {found}, not we", step)
    return Observation(title, True, f"{address} is ours, seen from this machine")
