"""The log of steering: everything it did as a chain of signed entries that a third party can verify offline. Pure.

An entry is one JSON object (one line of NDJSON):
`index` (from 0), `previous` (hash of the entry before, 64 zeros for the first), `kind` (obligation, finding,
explanation or appeal), `at` (seconds), `body`; then `hash` = SHA-256 (hex) of the canonical JSON of these, and
`signature` = JWS by the steward over `{"index", "hash"}`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from stelsel.base import jose
from stelsel.base.canonical import canonical, parse_object
from stelsel.base.certificates import Certificate
from stelsel.base.errors import BadRequest, Unauthenticated
from stelsel.steering.findings import Finding, Outcome, Reason, Standing, standings
from stelsel.steering.obligations import Appeal, Explanation, Obligation, Obligations

FIRST = "0" * 64
KINDS = ("obligation", "finding", "explanation", "appeal")
_COVERED = ("index", "previous", "kind", "at", "body")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log."""

    index: int
    previous: str
    kind: str
    at: float
    body: dict[str, Any]
    hash: str
    signature: str

    def to_json(self) -> dict[str, Any]:
        """The entry as it is published."""
        return asdict(self)


def hash_of(entry: dict[str, Any]) -> str:
    """The hash (hex) that an entry with these members must have."""
    return hashlib.sha256(canonical({name: entry[name] for name in _COVERED})).hexdigest()


def make_entry(previous: Entry | None, kind: str, at: float, body: dict[str, Any], signer: jose.Signer) -> Entry:
    """The entry that comes after `previous`, signed."""
    index = 0 if previous is None else previous.index + 1
    before = FIRST if previous is None else previous.hash
    digest = hash_of({"index": index, "previous": before, "kind": kind, "at": at, "body": body})
    signature = signer.sign(canonical({"hash": digest, "index": index}))
    return Entry(index, before, kind, at, body, digest, signature)


def verify_findings(lines: Iterable[bytes | str], certificate: Certificate) -> list[Entry]:
    """The entries of a published log (NDJSON, from its first line), proven whole and made by this certificate's key.

    Raises `BadRequest` (not a log) or `Unauthenticated` (altered, left out, moved, or signed by someone else), with
    the number of the line. That the end was not cut off is shown only by comparing with what others have.
    """
    entries: list[Entry] = []
    for number, line in enumerate(lines):
        value = parse_object(line)
        if set(value) != {*_COVERED, "hash", "signature"} or not all(
            isinstance(value[name], str) for name in ("previous", "kind", "hash", "signature")
        ):
            raise BadRequest(f"line {number + 1} is not an entry of the steward's log")
        previous = entries[-1].hash if entries else FIRST
        if value["index"] != number or not hmac.compare_digest(value["previous"].encode(), previous.encode()):
            raise Unauthenticated(f"line {number + 1} does not follow on the line before it")
        if not hmac.compare_digest(hash_of(value).encode(), value["hash"].encode()):
            raise Unauthenticated(f"line {number + 1} was altered: its hash does not match")
        try:
            signed = jose.verify(value["signature"], certificate)
        except (BadRequest, Unauthenticated) as error:
            raise Unauthenticated(f"line {number + 1}: {error.detail}") from error
        if signed != {"hash": value["hash"], "index": number}:
            raise Unauthenticated(f"line {number + 1}: the signature is of another entry")
        evidence = value["body"].get("evidence") if isinstance(value["body"], dict) else None
        if evidence is not None:
            found = hashlib.sha256(canonical(evidence)).hexdigest()
            if found != value["body"].get("evidence_hash"):
                raise Unauthenticated(f"line {number + 1}: the evidence is not what the finding rests on")
        entries.append(Entry(**value))
    return entries


def replay(entries: Iterable[Entry], obligations: Obligations, peer: str, now: float) -> tuple[Standing, ...]:
    """Where `peer` stood at `now` by the log alone: how a third party checks a refusal, or its absence."""
    known = [entry for entry in entries if entry.at <= now]
    findings = [finding_of(entry) for entry in known if entry.kind == "finding"]
    explanations = [explanation_of(entry.body) for entry in known if entry.kind == "explanation"]
    appeals = {entry.body["id"]: appeal_of(entry.body) for entry in known if entry.kind == "appeal"}
    return standings(obligations.binding_on(peer), peer, findings, explanations, list(appeals.values()), now)


def obligations_of(entries: Iterable[Entry], now: float) -> dict[str, Obligation]:
    """The obligations as the log declared them, by id, as they were at `now`."""
    return {
        entry.body["obligation"]["id"]: Obligation.model_validate(entry.body["obligation"])
        for entry in entries
        if entry.kind == "obligation" and entry.at <= now
    }


def finding_body(finding: Finding) -> dict[str, Any]:
    """A finding as the body of an entry, its evidence included."""
    body = asdict(finding) | {"outcome": finding.outcome.value}
    body["reasons"] = [asdict(reason) for reason in finding.reasons]
    body["advice"] = [asdict(reason) for reason in finding.advice]
    del body["id"]
    return body


def finding_of(entry: Entry, *, evidence: bool = True) -> Finding:
    """The finding in an entry; its id is the entry's index."""
    body = dict(entry.body)
    body["outcome"] = Outcome(body["outcome"])
    for name in ("reasons", "advice"):
        body[name] = tuple(Reason(**reason) for reason in body[name])
    if not evidence:
        body["evidence"] = {}
    return Finding(id=str(entry.index), **body)


def explanation_body(explanation: Explanation) -> dict[str, Any]:
    """An explanation as the body of an entry."""
    return asdict(explanation) | {"until": explanation.until.isoformat()}


def explanation_of(body: dict[str, Any]) -> Explanation:
    """The explanation in the body of an entry."""
    return Explanation(**(body | {"until": date.fromisoformat(body["until"])}))


def appeal_of(body: dict[str, Any]) -> Appeal:
    """The appeal in the body of an entry; a later entry of the same id tells how it was decided."""
    return Appeal(**body)
