"""An audit of another organisation's ledger, by what it publishes: evidence, tiles and a signed checkpoint.

The tree is grown from the counted evidence as in an audit of our own; the tiles that are served are what it is compared
with, and the checkpoint is checked by the group's trust anchors. What is under the seals cannot be seen from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx

from stelsel.base.canonical import parse_object
from stelsel.base.certificates import TrustAnchors
from stelsel.base.errors import BadGateway, Unavailable
from stelsel.ledger.audit import Progress, Report, Tile, examine
from stelsel.ledger.checkpoint import VerifiedCheckpoint, read_checkpoint, verify_checkpoint
from stelsel.ledger.cosignature import VerifiedWitness, demand, verify_cosignatures
from stelsel.ledger.endorsement import LEDGER, verify_endorsement
from stelsel.ledger.evidence import LONGEST_LINE, read_line
from stelsel.ledger.journal import Line, Position
from stelsel.ledger.kept import SIGNED, Kept
from stelsel.ledger.note import ED25519, MAXIMUM_NOTE, VerifierKey
from stelsel.ledger.remote_tree import tile_path, tile_width
from stelsel.ledger.tlog_api import PREFIX

_MOST_BYTES = 4 * MAXIMUM_NOTE
_TILE_BYTES = 8192
_PATIENCE = 60.0
_NEXT_STEP = "keep what was served, with the checkpoint, and ask that organisation what happened"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the ledger says of itself, checked."""

    checkpoint: VerifiedCheckpoint
    text: str
    key: bytes
    witnesses: tuple[VerifiedWitness, ...]


class Remote:
    """The published ledger at the web address `url` of a node."""

    def __init__(self, url: str, anchors: TrustAnchors, client: httpx.Client) -> None:
        self._url = url.rstrip("/")
        self._anchors = anchors
        self._client = client

    def shown(self, now: float, *, witnesses: Sequence[str] | None = None, quorum: int = 0) -> Shown:
        """Its checkpoint and who stands behind it. Raises `ProofInvalid`, `BadGateway` or `Unavailable`."""
        text = self._get(f"{PREFIX}/checkpoint", _MOST_BYTES).decode("utf-8", "replace")
        keys = parse_object(self._get(f"{PREFIX}/keys", _MOST_BYTES))
        endorsement, words = keys.get("endorsement"), keys.get("witnesses")
        if not isinstance(endorsement, dict) or not isinstance(words, list):
            raise BadGateway("the node does not say which keys sign its checkpoint")
        checkpoint = verify_checkpoint(text, endorsement, self._anchors, now)
        found = verify_cosignatures(checkpoint, text, words, self._anchors, now)
        demand(found, witnesses, quorum, anchored=True)
        key = verify_endorsement(endorsement, LEDGER, self._anchors, checkpoint.time).key
        return Shown(checkpoint, text, key, found)

    def audit(self, shown: Shown) -> Iterator[Progress | Report]:
        """Grow the tree from the evidence and compare; the last that is yielded is the report."""
        size = shown.checkpoint.size

        def stored(tiles: list[Tile]) -> list[bytes]:
            paths = (tile_path(level, number, tile_width(size, level, number)) for level, number in tiles)
            return [self._get(f"{PREFIX}/tile/{path}", _TILE_BYTES) for path in paths]

        steps = examine(
            size=size,
            stored_root=shown.checkpoint.root,
            lines=self._lines,
            stored=stored,
            kept=[Kept(1, SIGNED, read_checkpoint(shown.text))],
            key=VerifierKey(shown.checkpoint.origin, ED25519, shown.key),
        )
        for step in steps:
            if isinstance(step, Report):  # it is not ours to mend
                told = tuple(replace(each, next_step=_NEXT_STEP) for each in step.differences)
                yield replace(step, differences=told)
            else:
                yield step

    def _lines(self, start: int, stop: int) -> Iterator[Line]:
        with self._open(f"/stelsel/v1/ledger/counted?size={stop}") as answer:
            for number, text in enumerate(_whole_lines(answer)):
                counted, seal = read_line(text)
                at = Position(number, 0, 0)
                if number >= start:
                    yield Line(at, at, b"", b"", seal, counted)

    def _get(self, path: str, most: int) -> bytes:
        with self._open(path) as answer:
            data = bytearray()
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > most:
                    raise BadGateway(f"what the node gives at {path} is too large")
            return bytes(data)

    @contextmanager
    def _open(self, path: str) -> Iterator[httpx.Response]:
        try:
            with self._client.stream("GET", self._url + path, timeout=_PATIENCE) as answer:
                if answer.status_code != 200:
                    raise BadGateway(f"the node answers {path} with status {answer.status_code}")
                yield answer
        except (httpx.TransportError, httpx.InvalidURL, httpx.DecodingError) as error:
            raise Unavailable(
                f"the node at {self._url} does not answer", next_step="look at the address, it is that of its website"
            ) from error


def _whole_lines(answer: httpx.Response) -> Iterator[bytes]:
    rest = b""
    for chunk in answer.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > LONGEST_LINE:
            raise BadGateway("a line of the evidence is too long")
    if rest:
        raise BadGateway("the evidence ends in the middle of a line")


def summary(shown: Shown) -> dict[str, Any]:
    """What was shown, as JSON."""
    checkpoint = shown.checkpoint
    return {
        "peer_id": checkpoint.peer_id,
        "peer": checkpoint.peer_name,
        "size": checkpoint.size,
        "time": checkpoint.time,
        "witnesses": [{"peer_id": each.peer_id, "peer": each.peer_name, "time": each.time} for each in shown.witnesses],
    }
