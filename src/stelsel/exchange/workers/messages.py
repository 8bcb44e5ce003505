"""What is in the frames of a link. Pure: values in, bytes out, and back; what does not read is `LinkBroken`.

What every request needs (records, and where they came to stand) is packed; the rest is JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from stelsel.agreements.agreement import Agreement, State
from stelsel.agreements.external_contract import ExternalContract
from stelsel.agreements.terms import Terms
from stelsel.base.errors import BadGateway, BadRequest, Fault, Forbidden, NotFound, Unavailable
from stelsel.exchange.workers.link import LinkBroken
from stelsel.ledger.batch import Named, Parcel, checked
from stelsel.ledger.faults import LedgerUnavailable
from stelsel.ledger.frames import Broken

Encoded = tuple[bytes, str]
"""(the frame of a record, the subject reference in it or nothing)."""
Run = tuple[int, int, int]
"""(number of the first record, how many, index of the first): records that came to stand in a row."""

_FIRST = struct.Struct("!QI")
_NAMED = struct.Struct("!IH")
_RUN = struct.Struct("!QQQ")
_REFUSAL = struct.Struct("!QQ")
_PIECE = 1024 * 1024
"""Bytes after which a new frame begins."""


# --- records --------------------------------------------------------------------------------------------------------


def pack_records(first: int, records: Sequence[Encoded]) -> Iterator[bytes]:
    """Frames of the link with records that a worker numbered `first` and on, as the journal will hold them.

    The number of the first, how many are about a resident, of each of these where it begins and about whom; then the
    frames of all.
    """
    frames: list[bytes] = []
    named: list[bytes] = []
    size = begin = 0
    for data, subject in records:
        if size > _PIECE:
            yield _pack(first + begin, named, frames)
            begin += len(frames)
            frames, named, size = [], [], 0
        if subject:
            about = subject.encode("ascii")
            named.append(_NAMED.pack(size, len(about)) + about)
        frames.append(data)
        size += len(data)
    yield _pack(first + begin, named, frames)


def _pack(first: int, named: list[bytes], frames: list[bytes]) -> bytes:
    return _FIRST.pack(first, len(named)) + b"".join(named) + b"".join(frames)


def unpack_records(payload: bytes, largest: int) -> tuple[int, Parcel]:
    """(number of the first, the records), none of them over `largest` bytes."""
    try:
        first, count = _FIRST.unpack_from(payload)
        at = _FIRST.size
        named: list[Named] = []
        for _ in range(count):
            place, size = _NAMED.unpack_from(payload, at)
            at += _NAMED.size
            named.append((place, payload[at : at + size].decode("ascii")))
            at += size
        return first, checked(payload[at:], named, largest)
    except (struct.error, UnicodeDecodeError, Broken) as error:
        broken = LinkBroken("records cannot be read")
        broken.__cause__ = error
        raise broken  # noqa: B904 - compiled, `raise ... from` would lose the cause


def runs(results: Iterable[Run]) -> list[Run]:
    """The same with those that go on where the one before ends made one."""
    found: list[Run] = []
    for number, count, index in results:
        if found:
            first, so_far, start = found[-1]
            if number == first + so_far and index == start + so_far:
                found[-1] = (first, so_far + count, start)
                continue
        found.append((number, count, index))
    return found


def pack_runs(found: Sequence[Run]) -> bytes:
    """The runs as bytes."""
    return b"".join(_RUN.pack(*run) for run in found)


def unpack_runs(payload: bytes) -> list[Run]:
    """What `pack_runs` packed."""
    if len(payload) % _RUN.size:
        raise LinkBroken("results cannot be read")
    return [(first, count, index) for first, count, index in _RUN.iter_unpack(payload)]


def pack_refusal(first: int, count: int, fault: Fault) -> bytes:
    """Why records were not kept."""
    return _REFUSAL.pack(first, count) + to_json(fault_to_json(fault))


def unpack_refusal(payload: bytes) -> tuple[int, int, Fault]:
    """What `pack_refusal` packed."""
    if len(payload) < _REFUSAL.size:
        raise LinkBroken("a refusal cannot be read")
    first, count = _REFUSAL.unpack_from(payload)
    return first, count, fault_from_json(from_json(payload[_REFUSAL.size :]))


# --- faults ---------------------------------------------------------------------------------------------------------

_FAULTS: dict[str, type[Fault]] = {
    kind.kind: kind for kind in (NotFound, Forbidden, BadGateway, BadRequest, Unavailable, LedgerUnavailable)
}


def fault_to_json(fault: Fault) -> dict[str, Any]:
    """A fault, to be raised again at the other side."""
    return {"kind": fault.kind, "status": fault.status, "detail": fault.detail, "next_step": fault.next_step}


def fault_from_json(value: dict[str, Any]) -> Fault:
    """The fault that it was, or the nearest to it that the link knows."""
    kind = _FAULTS.get(str(value.get("kind")))
    if kind is None:
        kind = BadGateway if value.get("status") == BadGateway.status else Unavailable
    return kind(str(value.get("detail")), next_step=str(value.get("next_step", "")))


# --- agreements -----------------------------------------------------------------------------------------------------


def pack_agreements(agreements: Iterable[Agreement]) -> Iterator[bytes]:
    """Frames of agreements."""
    parts: list[bytes] = []
    size = 0
    for agreement in agreements:
        part = to_json(agreement_to_json(agreement))
        parts.append(part)
        size += len(part)
        if size > _PIECE:
            yield b"[" + b",".join(parts) + b"]"
            parts, size = [], 0
    if parts:
        yield b"[" + b",".join(parts) + b"]"


def unpack_agreements(payload: bytes) -> list[Agreement]:
    """What is in one of those frames."""
    value = _json(payload)
    if not isinstance(value, list):
        raise LinkBroken("agreements cannot be read")
    return [agreement_from_json(each) for each in value]


def agreement_to_json(agreement: Agreement) -> dict[str, Any]:
    """An agreement as JSON; its times are whole, and no end is left out."""
    holds_until, outside = agreement.signatures_hold_until, agreement.external_contract
    return {
        "grant_hash": agreement.grant_hash,
        "content_hash": agreement.content_hash,
        "consumer": agreement.consumer,
        "provider": agreement.provider,
        "service": agreement.service,
        "outway_key_thumbprint": agreement.outway_key_thumbprint,
        "outway_domain_name": agreement.outway_domain_name,
        "terms": None if agreement.terms is None else agreement.terms.model_dump(mode="json"),
        "not_before": agreement.not_before,
        "not_after": agreement.not_after,
        "created_at": agreement.created_at,
        "state": agreement.state.value,
        "consumer_delegator": agreement.consumer_delegator,
        "provider_delegator": agreement.provider_delegator,
        "external_contract": None if outside is None else outside.model_dump(mode="json"),
        "signatures_hold_until": None if holds_until == float("inf") else holds_until,
    }


def agreement_from_json(value: dict[str, Any]) -> Agreement:
    """The agreement that it was."""
    try:
        members = dict(value)
        terms, outside, until = members["terms"], members["external_contract"], members["signatures_hold_until"]
        members["terms"] = None if terms is None else Terms.model_validate(terms)
        members["external_contract"] = None if outside is None else ExternalContract.model_validate(outside)
        members["signatures_hold_until"] = float("inf") if until is None else float(until)
        members["state"] = State(members["state"])
        return Agreement(**members)
    except (KeyError, TypeError, ValueError) as error:
        raise LinkBroken("an agreement cannot be read") from error


# --- JSON -----------------------------------------------------------------------------------------------------------


def to_json(value: dict[str, Any]) -> bytes:
    """A JSON object as bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def from_json(payload: bytes) -> dict[str, Any]:
    """The JSON object in these bytes. Raises `LinkBroken`."""
    value = _json(payload)
    if not isinstance(value, dict):
        raise LinkBroken("a message cannot be read")
    return value


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise LinkBroken("a message cannot be read") from error
