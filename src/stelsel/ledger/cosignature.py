"""Cosignatures: a witness's word that this was the newest tree it knew of a ledger, and continues all it saw before.

A witness is a peer of the group. Its key is its own, apart from its ledger's, and endorsed as that is. A verifier who
demands `quorum` witnesses needs no network: the lines stand in the checkpoint, the endorsements beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.ledger import note as notes
from stelsel.ledger.checkpoint import SignedCheckpoint, VerifiedCheckpoint, read_checkpoint
from stelsel.ledger.endorsement import CLOCK_SKEW, WITNESS, Endorsement, endorse, verify_endorsement
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.keys import load_key, public_bytes
from stelsel.ledger.note import COSIGNATURE, Note, SignatureLine, VerifierKey, cosigned_at

MAXIMUM_WITNESSES = 32
_LATEST = 86_400
"""Seconds between a checkpoint and a cosignature on it, at most. A cosignature of long after would let who stole an
expired key make checkpoints of the past, and have them cosigned today."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint with cosignatures, and what ties each of these to its peer."""

    checkpoint: SignedCheckpoint
    endorsement: Endorsement
    """The peer's word for the ledger's key, of before the checkpoint was signed."""
    witnesses: tuple[Endorsement, ...]


@dataclass(frozen=True, slots=True)
class VerifiedWitness:
    """A peer that cosigned a checkpoint; `time` in seconds since the epoch."""

    peer_id: str
    peer_name: str
    time: int


class WitnessKey:
    """The key by which a peer cosigns the checkpoints of others."""

    def __init__(self, path: Path, keypair: KeyPair) -> None:
        """Read the key from `path`, or make it. Raises `ConfigurationFault`."""
        self._key = load_key(path)
        self._public = public_bytes(self._key)
        self._keypair = keypair
        self._endorsed: tuple[bytes, Endorsement] = (b"", {})
        self.name = WITNESS.name_of(keypair.certificate.peer_id)

    def endorsement(self, now: float) -> Endorsement:
        """The peer's word for this key, by the certificate that it has now; made once for each certificate."""
        certificate = self._keypair.certificate.der
        if self._endorsed[0] != certificate:
            self._endorsed = (certificate, endorse(self._keypair, WITNESS, self._public, now))
        return self._endorsed[1]

    def cosign(self, text: str, time: int) -> SignatureLine:
        """The cosignature over a note's text at `time` (seconds)."""
        return notes.cosign(self._key, self.name, self._public, text, time)


def verifier_key(endorsement: Endorsement, anchors: TrustAnchors | None, time: float) -> tuple[str, str, VerifierKey]:
    """(peer id, name, key) of the witness that a peer endorsed, judged at `time`. Raises `ProofInvalid`."""
    endorsed = verify_endorsement(endorsement, WITNESS, anchors, time)
    return endorsed.peer_id, endorsed.peer_name, VerifierKey(endorsed.name, COSIGNATURE, endorsed.key)


def verify_cosignatures(
    checkpoint: VerifiedCheckpoint,
    text: str,
    endorsements: Sequence[Endorsement],
    anchors: TrustAnchors | None,
    now: float,
) -> tuple[VerifiedWitness, ...]:
    """The witnesses behind a checkpoint, each once. Raises `ProofInvalid` if one that is endorsed did not cosign.

    Lines of keys without an endorsement are passed over. The ledger's own peer is no witness of itself.
    """
    if len(endorsements) > MAXIMUM_WITNESSES:
        raise ProofInvalid(f"there are more than {MAXIMUM_WITNESSES} witnesses")
    note = read_checkpoint(text).note
    found: dict[str, VerifiedWitness] = {}
    for endorsement in endorsements:
        witness = _verify(note, endorsement, checkpoint, anchors, now)
        if witness.peer_id == checkpoint.peer_id or witness.peer_id in found:
            raise ProofInvalid("a ledger's own peer is no witness of it, and no peer counts twice")
        found[witness.peer_id] = witness
    return tuple(found.values())


def demand(found: Sequence[VerifiedWitness], witnesses: Collection[str] | None, quorum: int, *, anchored: bool) -> None:
    """Raises `ProofInvalid` unless at least `quorum` of `witnesses` (peer ids; None: any peer) are among `found`."""
    if quorum < 0:
        raise ValueError("a quorum is not negative")
    if quorum and not anchored:
        raise ProofInvalid("without trust anchors nothing says who the witnesses are")
    count = len({each.peer_id for each in found if witnesses is None or each.peer_id in witnesses})
    if count < quorum:
        raise ProofInvalid(
            f"{quorum} witnesses are demanded, and {count} cosigned this checkpoint",
            next_step="ask the organisation for a newer receipt, or demand fewer witnesses",
        )


def _verify(
    note: Note, endorsement: Endorsement, checkpoint: VerifiedCheckpoint, anchors: TrustAnchors | None, now: float
) -> VerifiedWitness:
    # The certificate is judged at the time of the cosignature, which is known only with the key in it; so the
    # endorsement is read twice, and only the second time counts.
    _, _, key = verifier_key(endorsement, None, now)
    time = cosigned_at(note, key)
    if time is None:
        raise ProofInvalid("a witness is named that did not cosign this checkpoint")
    endorsed = verify_endorsement(endorsement, WITNESS, anchors, time)
    if endorsed.since > time + CLOCK_SKEW or time > now + CLOCK_SKEW:
        raise ProofInvalid("a cosignature is dated before its endorsement, or in the future")
    if not checkpoint.time - CLOCK_SKEW <= time <= checkpoint.time + _LATEST:
        raise ProofInvalid("a cosignature is not of the time of the checkpoint")
    return VerifiedWitness(endorsed.peer_id, endorsed.peer_name, time)
