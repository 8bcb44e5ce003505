"""How a ledger gets its checkpoints cosigned by other peers (C2SP tlog-witness, the side of the log).

Every interval each witness that the settings name is asked to cosign the newest checkpoint, with a proof that it
continues what that witness cosigned last. What enough of them cosigned is kept, and is what receipts are made with. A
witness that knows another history of this ledger says so: its checkpoint is kept for the audit, and the operator told.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from stelsel.base import tasks
from stelsel.base.canonical import parse_object
from stelsel.base.certificates import TrustAnchors
from stelsel.base.clock import Clock
from stelsel.base.errors import BadGateway, Conflict, Fault, NotFound
from stelsel.base.log import logger
from stelsel.base.text import inert
from stelsel.ledger import tlog_api, witness_api
from stelsel.ledger.checkpoint import SignedCheckpoint, origin_of, read_checkpoint
from stelsel.ledger.cosignature import Cosigned, verifier_key
from stelsel.ledger.endorsement import CLOCK_SKEW, Endorsement
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.note import (
    ED25519,
    Note,
    SignatureLine,
    VerifierKey,
    base64_of,
    cosigned_at,
    is_signed_by,
    read_note,
    read_signatures,
)
from stelsel.ledger.remote_tree import tile_path
from stelsel.ledger.service import Ledger
from stelsel.ledger.settings import LedgerSettings
from stelsel.ledger.witness import write_submission
from stelsel.ledger.witness_service import origin_hash

_log = logger("ledger")

_PATIENCE = 10.0
_TRIES = 4
_MOST_BYTES = 256 * 1024
_REFRESH = 3600.0
"""Seconds after which a checkpoint is cosigned again though nothing was recorded: so that it is known to be new."""
_TILE_BYTES = 8192


class Peers(Protocol):
    """How other peers are reached; `Agreements` does it."""

    async def manager_address_of(self, peer_id: str) -> str: ...

    async def peer_client(self, peer_id: str) -> httpx.AsyncClient: ...


@dataclass(frozen=True, slots=True)
class WitnessStatus:
    """How it stands with one witness."""

    peer_id: str
    size: int | None
    """How many records the last checkpoint had that it cosigned; None: none since this node started."""
    time: int | None
    """When, seconds since the epoch."""
    trouble: str
    """Why it did not cosign when it was asked last; empty: it did, or was not asked yet."""
    contradicts: bool = False
    """Whether it says that this ledger told another history before."""


class Contradicted(Conflict):
    """A witness knows another history of this ledger."""

    kind, title = "two-histories", "A witness knows another history of this ledger"


class Witnessing:
    """Asks the witnesses of one ledger, from `start` to `stop`."""

    def __init__(
        self, *, ledger: Ledger, peers: Peers, anchors: TrustAnchors, clock: Clock, settings: LedgerSettings
    ) -> None:
        self._ledger = ledger
        self._peers = peers
        self._anchors = anchors
        self._clock = clock
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self._keys: dict[str, tuple[Endorsement, VerifierKey]] = {}
        self._sizes: dict[str, int] = {}
        self._introduced: dict[str, str] = {}
        self._status = {peer: WitnessStatus(peer, None, None, "") for peer in settings.witnesses}
        self._asked: tuple[int, float] = (-1, 0.0)
        self._enough: bool | None = None

    async def start(self) -> None:
        """Begin asking, if the settings name witnesses."""
        if self._settings.witnesses:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop asking; what was cosigned is kept."""
        task, self._task = self._task, None
        await tasks.end(task)

    @property
    def status(self) -> tuple[WitnessStatus, ...]:
        """How it stands with each witness."""
        return tuple(self._status.values())

    async def ask(self) -> Cosigned | None:
        """Ask all witnesses to cosign the newest checkpoint; gives it when enough did, and keeps it."""
        checkpoint, endorsement = await self._ledger.checkpoint(), self._ledger.endorsement
        witnesses = self._settings.witnesses
        answers = await asyncio.gather(*(self._ask_safely(peer, checkpoint) for peer in witnesses))
        given = [answer for answer in answers if answer is not None]
        enough = len(given) >= max(1, min(self._settings.witness_quorum, len(witnesses)))
        if enough != self._enough:
            tell = _log.info if enough else _log.warning
            tell("enough witnesses" if enough else "too few witnesses", cosigned=len(given))
        self._enough = enough
        if not enough:
            return None
        note = Note(checkpoint.note.text, (*checkpoint.note.signatures, *(line for line, _ in given)))
        words = tuple(word for _, word in given)
        cosigned = Cosigned(read_checkpoint(note.whole), endorsement, words)
        await self._ledger.keep_cosigned(cosigned)
        return cosigned

    async def look(self) -> None:
        """See what the witnesses hold of this ledger: what it does not continue is kept, for the audit to compare."""
        with suppress(Fault):  # a ledger that cannot sign now is audited all the same
            checkpoint = await self._ledger.checkpoint()
            await asyncio.gather(*(self._look(peer, checkpoint) for peer in self._settings.witnesses))

    # Inside

    async def _look(self, peer: str, checkpoint: SignedCheckpoint) -> None:
        with suppress(Fault, TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError):
            async with asyncio.timeout(_PATIENCE):
                address, client = await self._peers.manager_address_of(peer), await self._peers.peer_client(peer)
                await self._contradiction(peer, client, f"{address}{witness_api.PREFIX}", checkpoint)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._settings.witness_interval)  # first: others that start with us must be up
            try:
                size, at = self._asked
                now = self._clock.now()
                if self._ledger.size != size or not 0 <= now - at < _REFRESH:
                    cosigned = await self.ask()
                    self._asked = (cosigned.checkpoint.size, now) if cosigned is not None else (-1, now)
            except Exception as error:  # noqa: BLE001 - the ledger goes on without, and they are asked again
                _log.warning("witnesses could not be asked", reason=type(error).__name__)

    async def _ask_safely(self, peer: str, checkpoint: SignedCheckpoint) -> tuple[SignatureLine, Endorsement] | None:
        before = self._status[peer]
        contradicts = False
        try:
            async with asyncio.timeout(_PATIENCE):
                line, word, time = await self._ask(peer, checkpoint)
            self._status[peer] = WitnessStatus(peer, checkpoint.size, time, "")
            return line, word
        except Fault as fault:
            trouble, contradicts = inert(fault.detail, 300), isinstance(fault, Contradicted)
        except TimeoutError:
            trouble = f"no answer within {_PATIENCE:.0f} seconds"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            trouble = f"no connection ({type(error).__name__})"
        except Exception as error:  # noqa: BLE001 - whatever one witness answers, the others cosign
            trouble = f"its answer cannot be used ({type(error).__name__})"
        self._status[peer] = WitnessStatus(peer, before.size, before.time, trouble, contradicts)
        if contradicts:
            _log.error("a witness knows another history of this ledger", witness=peer, next_step="stelsel log audit")
        elif trouble != before.trouble:
            _log.warning("a witness does not cosign", witness=peer, reason=trouble)
        return None

    async def _ask(self, peer: str, checkpoint: SignedCheckpoint) -> tuple[SignatureLine, Endorsement, int]:
        if checkpoint.origin == origin_of(peer):
            raise BadGateway("a ledger's own organisation is no witness of it", next_step="take it out of witnesses")
        address, client = await self._peers.manager_address_of(peer), await self._peers.peer_client(peer)
        base = f"{address}{witness_api.PREFIX}"
        if peer not in self._keys or self._introduced.get(peer) != self._ledger.endorsement["jws"]:
            await self._introduce(peer, client, base)
        old = min(self._sizes.get(peer, 0), checkpoint.size)
        for _ in range(_TRIES):
            proof = await self._ledger.consistency(old, checkpoint.size) if 0 < old < checkpoint.size else []
            body = write_submission(old, [base64_of(step) for step in proof], checkpoint.text)
            status, answer = await _exchange(client, "POST", f"{base}/add-checkpoint", content=body)
            if status == 200:
                self._sizes[peer] = checkpoint.size
                return self._line(peer, checkpoint, answer)
            if status == 409:
                old = _size(answer)
                if old > checkpoint.size:
                    raise await self._contradiction(peer, client, base, checkpoint)
                self._sizes[peer] = old
            elif status in (403, 404):
                await self._introduce(peer, client, base)
            elif status == 422:
                raise await self._contradiction(peer, client, base, checkpoint)
            else:
                break
        raise BadGateway(f"the witness answers with status {status}")

    async def _introduce(self, peer: str, client: httpx.AsyncClient, base: str) -> None:
        """Give our word for our ledger's key, and learn the witness's key by its own."""
        word = self._ledger.endorsement
        status, answer = await _exchange(client, "POST", f"{base}/introduction", json={"endorsement": word})
        if status != 200:
            raise BadGateway(f"the peer is no witness for us: it answers with status {status}")
        endorsement = parse_object(answer).get("endorsement")
        if not isinstance(endorsement, dict):
            raise BadGateway("the peer does not say what its key as a witness is")
        peer_id, _, key = verifier_key(endorsement, self._anchors, self._clock.now())
        if peer_id != peer:
            raise BadGateway("the peer gives the key of another as its own")
        self._keys[peer] = (endorsement, key)
        self._introduced[peer] = word["jws"]

    def _line(self, peer: str, checkpoint: SignedCheckpoint, answer: bytes) -> tuple[SignatureLine, Endorsement, int]:
        """The line of this witness in its answer, checked; what other keys signed is passed over."""
        word, key = self._keys[peer]
        lines = read_signatures(answer.decode("utf-8"))
        mine = tuple(line for line in lines if (line.name, line.key_id) == (key.name, key.id))
        time = cosigned_at(Note(checkpoint.note.text, mine), key)
        if time is None or abs(time - self._clock.now()) > CLOCK_SKEW:
            del self._keys[peer]
            raise BadGateway("the answer holds no cosignature of the witness, or not one of now")
        try:
            verifier_key(word, self._anchors, time)
        except ProofInvalid as error:  # its certificate was renewed, or ended, since it was introduced
            del self._keys[peer]
            raise BadGateway("no certificate stands behind the witness's key now; it is asked for anew") from error
        return mine[0], word, time

    async def _contradiction(
        self, peer: str, client: httpx.AsyncClient, base: str, checkpoint: SignedCheckpoint
    ) -> Fault:
        """What it means that a witness refuses: keep its checkpoint, when it is ours and we cannot continue it."""
        status, answer = await _exchange(client, "GET", f"{base}/{origin_hash(checkpoint.origin)}/checkpoint")
        try:
            note = read_note(answer.decode("utf-8"))
            theirs = read_checkpoint(note.whole)
            own = VerifierKey(checkpoint.origin, ED25519, self._ledger.public_key)
            if status != 200 or theirs.origin != checkpoint.origin or not is_signed_by(note, own):
                return BadGateway("the witness refuses, and shows no checkpoint of this ledger that says why")
        except (ProofInvalid, UnicodeDecodeError):
            return BadGateway("the witness refuses, and what it shows cannot be read")
        with suppress(NotFound):  # the ledger never was that large: the other history was
            if theirs.root == await self._ledger.root_at(theirs.size):
                self._sizes[peer] = theirs.size
                if theirs.size > checkpoint.size:  # another host of this ledger was first
                    return BadGateway("the witness knows a newer checkpoint; it is asked again later")
                return BadGateway("the witness refuses a checkpoint that continues the one it knows")
        await self._ledger.keep_witnessed(theirs.text)
        return Contradicted(
            f"it holds a checkpoint of {theirs.size} records that this ledger signed and does not continue",
            next_step="stelsel log audit",
        )


async def fetch_tile(peers: Peers, peer_id: str, level: int, number: int, width: int) -> bytes:
    """A tile of another peer's ledger, from its manager. Raises `Fault`, or `OSError` when there is no connection."""
    address, client = await peers.manager_address_of(peer_id), await peers.peer_client(peer_id)
    url = f"{address}{tlog_api.PREFIX}/tile/{tile_path(level, number, width)}"
    try:
        status, data = await _exchange(client, "GET", url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadGateway("the peer does not give its tile") from error
    if status != 200 or len(data) > _TILE_BYTES:
        raise BadGateway("the peer does not give its tile")
    return data


async def _exchange(client: httpx.AsyncClient, method: str, url: str, **options: Any) -> tuple[int, bytes]:
    """(status, body) of a bounded answer."""
    async with client.stream(method, url, **options) as response:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _MOST_BYTES:
                raise BadGateway("the answer of a witness is too large")
        return response.status_code, bytes(body)


def _size(answer: bytes) -> int:
    text = answer.removesuffix(b"\n")
    if not text.isdigit() or len(text) > 16:
        raise BadGateway("the witness does not say which size it knows")
    return int(text)
