"""A witness of the ledgers of other peers: where the core's decision and what is kept meet.

Deciding and keeping is one transaction in the one writer of the database, so no two requests can be answered from the
same state, and nothing is cosigned that is not on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import Connection

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.database import Database
from stelsel.base.errors import Fault, Forbidden, NotFound
from stelsel.base.log import logger
from stelsel.ledger import two_histories
from stelsel.ledger import witness_store as store
from stelsel.ledger.cosignature import WitnessKey
from stelsel.ledger.endorsement import CLOCK_SKEW, LEDGER, Endorsed, Endorsement, verify_endorsement
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.merkle import verify_consistency
from stelsel.ledger.note import ED25519, Note, VerifierKey
from stelsel.ledger.remote_tree import beginning_and_proof
from stelsel.ledger.witness import Submission, objection, read_submission, signer
from stelsel.ledger.witness_store import Caught, Seen

_log = logger("ledger")

FetchTile = Callable[[str, int, int, int], Awaitable[bytes]]
"""Of a peer's ledger: the first `width` hashes of tile `number` at `level`. Raises `Fault` or `OSError`."""
UNPROVEN = "unproven"
"""The kind of a finding that a ledger gave no proof of consistency, and none that it is inconsistent either."""
_PATIENCE = 5.0


class Witness:
    """Cosigns what continues all that it saw before, and keeps the evidence where a ledger does not."""

    def __init__(
        self,
        *,
        database: Database,
        key_file: Path,
        keypair: KeyPair,
        anchors: TrustAnchors,
        clock: Clock,
        fetch_tile: FetchTile | None = None,
    ) -> None:
        self._database = database
        self._key_file = key_file
        self._keypair = keypair
        self._anchors = anchors
        self._clock = clock
        self._fetch_tile = fetch_tile
        self._opened: WitnessKey | None = None
        self._asking: set[str] = set()

    async def introduce(self, endorsement: object, by: str) -> Endorsement:
        """Take in the word of peer `by` for its ledger's key; gives our own for our key as a witness.

        Raises `ProofInvalid` when it does not hold at this moment, `Forbidden` when it is of another peer.
        """
        now = self._clock.now()
        endorsed = await asyncio.to_thread(verify_endorsement, endorsement, LEDGER, self._anchors, now)
        if endorsed.peer_id != by:
            raise Forbidden("a ledger is introduced by its own peer")
        if endorsed.since > now + CLOCK_SKEW or not isinstance(endorsement, dict):
            raise ProofInvalid("the endorsement is dated in the future")
        word: Endorsement = endorsement
        await self._database.write(lambda connection: store.keep_key(connection, endorsed.name, endorsed.key, word))
        return self._key().endorsement(now)

    async def cosign(self, body: bytes, by: str) -> str:
        """Answer `add-checkpoint` of C2SP tlog-witness, asked by peer `by`: the signature line of this witness.

        Raises `BadRequest`, `NotFound`, `Forbidden`, `Outdated` or `ProofInvalid`, as the standard says.
        """
        now = self._clock.now()
        submission = read_submission(body)
        endorsed, endorsement = await asyncio.to_thread(self._recognise, submission, now)
        decide = _Decision(submission, endorsed, endorsement, self._key(), now)
        refusal = await self._database.write(decide.run)
        if refusal is None:
            return decide.line
        if decide.seen is not None:
            await self._look_into(decide, decide.seen, refusal, by)
        raise refusal

    def checkpoint(self, origin_hash: str) -> str:
        """The last checkpoint cosigned of the ledger with this hash (SHA-256 of its origin, hexadecimal).

        With the signature of the ledger and of this witness. Raises `NotFound`.
        """
        with self._database.read() as connection:
            seen = store.seen(connection, origin_hash=origin_hash)
        if seen is None:
            raise NotFound("the witness never cosigned a checkpoint of that ledger")
        return seen.checkpoint + seen.cosignature

    def findings(self) -> list[Caught]:
        """What was caught, the oldest first."""
        with self._database.read() as connection:
            return store.findings(connection)

    @property
    def witnessed(self) -> int:
        """Of how many ledgers a checkpoint was cosigned."""
        with self._database.read() as connection:
            return store.witnessed(connection)

    # Inside

    def _key(self) -> WitnessKey:
        if self._opened is None:
            self._opened = WitnessKey(self._key_file, self._keypair)
        return self._opened

    def _recognise(self, submission: Submission, now: float) -> tuple[Endorsed, Endorsement]:
        """Whose key signed, by an endorsement that held at the time of the checkpoint."""
        head = submission.head
        with self._database.read() as connection:
            known = store.known(connection, head.origin)
        key = signer(submission, [VerifierKey(head.origin, ED25519, public) for public in {one.key for one in known}])
        if head.time is None or head.time > now + CLOCK_SKEW:
            raise ProofInvalid("the checkpoint does not say when it was signed, or is of the future")
        for one in known:
            if one.key == key.public:
                try:
                    endorsed = verify_endorsement(one.endorsement, LEDGER, self._anchors, head.time)
                except ProofInvalid:
                    continue
                if endorsed.since <= head.time + CLOCK_SKEW:
                    return endorsed, one.endorsement
        raise Forbidden(
            "no certificate of the peer stands behind this key at the time of the checkpoint",
            next_step="introduce the ledger again",
        )

    async def _look_into(self, decided: _Decision, seen: Seen, refusal: Fault, by: str) -> None:
        """Keep what proves, if anything does, that the ledger told another history before."""
        submission, peer = decided.submission, decided.endorsed
        first, second = seen.head, submission.head
        proof = submission.proof if submission.old == first.size else ()
        shown = two_histories.contradiction(first, second, proof)
        if shown is None and isinstance(refusal, ProofInvalid) and second.size > first.size and by == peer.peer_id:
            if by in self._asking:  # a ledger that asks in vain many times at once is asked why once
                return
            self._asking.add(by)
            try:
                shown, proof = await self._ask_why(by, decided, seen)
            finally:
                self._asking.discard(by)
        if shown is None:
            return
        signed = (seen.checkpoint, seen.endorsement), (decided.checkpoint, decided.endorsement)
        document = two_histories.make(*shown, proof if shown[0] == two_histories.FORK else (), *signed)
        now, about = self._clock.now(), f"{first.size} {first.root.hex()} {second.size} {second.root.hex()}"
        if await self._database.write(
            lambda connection: store.keep_finding(connection, second.origin, peer.peer_id, document, about, now)
        ):
            _log.error(
                "a ledger told two histories",
                peer=peer.peer_id,
                kind=document["kind"],
                first_size=first.size,
                second_size=second.size,
                next_step="see: stelsel log audit",
            )

    async def _ask_why(
        self, peer_id: str, decided: _Decision, seen: Seen
    ) -> tuple[tuple[str, bytes] | None, tuple[bytes, ...]]:
        """Ask the ledger for the tiles that show what it now says was its beginning."""
        first, second = seen.head, decided.submission.head
        try:
            if self._fetch_tile is not None:
                async with asyncio.timeout(_PATIENCE):
                    beginning, proof = await beginning_and_proof(self._fetch_tile, peer_id, first.size, second.size)
                verify_consistency(first.size, second.size, beginning, second.root, proof)
                return two_histories.contradiction(first, second, proof, beginning), proof
        except (Fault, OSError, ValueError, TimeoutError) as error:
            _log.warning("a ledger does not show its tree", peer=peer_id, reason=type(error).__name__)
        return (UNPROVEN, b""), ()


class _Decision:
    """One request, decided and kept in one transaction."""

    def __init__(
        self, submission: Submission, endorsed: Endorsed, endorsement: Endorsement, key: WitnessKey, now: float
    ) -> None:
        self.submission = submission
        self.endorsed = endorsed
        self.endorsement = endorsement
        own = VerifierKey(endorsed.name, ED25519, endorsed.key)
        lines = [line for line in submission.note.signatures if (line.name, line.key_id) == (own.name, own.id)]
        self.checkpoint = Note(submission.note.text, (lines[0],)).whole
        self.seen: Seen | None = None
        self.line = ""
        self._key = key
        self._now = now

    def run(self, connection: Connection) -> Fault | None:
        """Why not; None: cosigned and kept, `line` is the cosignature."""
        head = self.submission.head
        self.seen = store.seen(connection, origin=head.origin)
        refusal = objection(self.submission, self.seen.head if self.seen is not None else None)
        if refusal is not None:
            return refusal
        self.line = self._key.cosign(self.submission.note.text, int(self._now)).text
        new = Seen(head.origin, self.checkpoint, self.endorsement, self.line, self._now)
        store.keep_seen(connection, origin_hash(head.origin), new)
        return None


def origin_hash(origin: str) -> str:
    """By what a witness is asked for a ledger (C2SP tlog-witness, Monitor Retrieval Mechanism)."""
    return hashlib.sha256(origin.encode("utf-8")).hexdigest()
