"""A witness never cosigns two trees of which one does not continue the other; the core, by example and at random."""

from __future__ import annotations

import base64
import hashlib
import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from stelsel.base.errors import BadRequest, Fault, Forbidden, NotFound
from stelsel.ledger import note as notes
from stelsel.ledger.checkpoint import LedgerKey, TreeHead, read_tree_head
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.keys import public_bytes
from stelsel.ledger.merkle import (
    EMPTY_ROOT,
    Tiles,
    beginning_of,
    consistency_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
)
from stelsel.ledger.note import COSIGNATURE, ED25519, Note, VerifierKey, cosigned_at, is_signed_by, read_note
from stelsel.ledger.two_histories import FORK, ROLLBACK, contradiction
from stelsel.ledger.witness import Outdated, objection, read_submission, signer, write_submission

ORIGIN = "stelsel/ledger/00000099000000002000"


def _tree(leaves: Sequence[bytes]) -> Tiles:
    tree = Tiles()
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    return tree


@dataclass
class Log:
    """A ledger's tree of which every size can be asked, and that can be cut off and go on otherwise."""

    leaves: list[bytes] = field(default_factory=list)

    def grow(self, count: int, salt: str = "") -> None:
        self.leaves += [f"{len(self.leaves) + number}{salt}".encode() for number in range(count)]

    def head(self, time: int = 1) -> TreeHead:
        tree = _tree(self.leaves)
        return TreeHead(ORIGIN, tree.size, root(tree.size, tree.node), (f"time {time}",))

    def proof(self, old: int) -> list[bytes]:
        tree = _tree(self.leaves)
        return consistency_proof(old, tree.size, tree.node) if 0 < old < tree.size else []


def _body(old: int, proof: Sequence[bytes], head: TreeHead, key: LedgerKey) -> bytes:
    time = head.time
    assert time is not None
    text = key.sign(head.origin, head.size, head.root, time).text
    return write_submission(old, [base64.b64encode(step).decode() for step in proof], text)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> LedgerKey:
    return LedgerKey.load(tmp_path_factory.mktemp("key") / "ledger.key")


# --- signed notes -----------------------------------------------------------------------------------------------------


def test_the_note_of_the_standard_is_read_and_its_signature_holds() -> None:
    """The example in C2SP signed-note: text, key and signature."""
    material = base64.b64decode("AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    key = VerifierKey("example.com/foo", material[:1], material[1:])
    assert key.id.hex() == "530d903a"
    signature = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
    note = read_note(f"This is an example message.\n\n— example.com/foo {signature}\n")
    assert note.text == "This is an example message.\n"
    assert is_signed_by(note, key)
    assert not is_signed_by(note, VerifierKey("example.com/bar", key.kind, key.public))
    altered = Note("This is another message.\n", note.signatures)
    with pytest.raises(ProofInvalid, match="is not of the key"):
        is_signed_by(altered, key)


def test_lines_of_unknown_keys_are_passed_over_and_known_ones_must_hold(key: LedgerKey) -> None:
    text = key.sign(ORIGIN, 5, bytes(32), 9).text
    own = VerifierKey(ORIGIN, ED25519, key.public)
    for line in (
        "— someone/else AAAAAAAA\n",
        f"— {ORIGIN} AAAAAAAA\n",  # the same name with another key id is another key
        "— naïve.example/ключ " + base64.b64encode(bytes(3000)).decode() + "\n",
    ):
        assert is_signed_by(read_note(text + line), own)
    forged = base64.b64encode(own.id + bytes(64)).decode()
    with pytest.raises(ProofInvalid):
        is_signed_by(read_note(text + f"— {ORIGIN} {forged}\n"), own)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— name AAAAAAAA",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n— na+me AAAAAAAA\n",
        "text\n\n— na\u2003me AAAAAAAA\n",
        "text\n\n—  AAAAAAAA\n",
        "text\n\n— name AAAA\n",
        "text\n\n— name AAAAAAA\n",
        "text\n\n— name AAAAAAAB*\n",
        "te\txt\n\n— name AAAAAAAA\n",
        "text\r\n\r\n— name AAAAAAAA\r\n",
        "text\n\n— name AAAAAAAA\n" + "— name AAAAAAAA\n" * 64,
        "x" * 200_000 + "\n\n— name AAAAAAAA\n",
    ],
)
def test_what_is_no_signed_note_is_refused(text: str) -> None:
    with pytest.raises(ProofInvalid):
        read_note(text)


def test_a_cosignature_is_made_as_the_standard_says() -> None:
    """Computed here by hand from C2SP tlog-cosignature: key id, timestamp, and what is signed."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public, name = public_bytes(private), "witness.example.com/w1"
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    line = notes.cosign(private, name, public, text, 1679315147)
    expected_id = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    message = b"cosignature/v1\ntime 1679315147\n" + text.encode()
    assert line.key_id == expected_id
    assert line.signature == struct.pack(">Q", 1679315147) + private.sign(message)
    assert line.text.startswith(f"— {name} ")
    key = VerifierKey(name, COSIGNATURE, public)
    assert cosigned_at(Note(text, (line,)), key) == 1679315147
    assert cosigned_at(Note(text, ()), key) is None
    for signature in (
        struct.pack(">Q", 1679315148) + line.signature[8:],
        bytes(8) + line.signature[8:],
        line.signature[:-1],
        b"\xff" * 8 + line.signature[8:],
        private.sign(message),
    ):
        with pytest.raises(ProofInvalid):
            cosigned_at(Note(text, (notes.SignatureLine(name, expected_id, signature),)), key)


@pytest.mark.parametrize(
    "text",
    [
        "origin\n1\n",
        f"origin\n01\n{base64.b64encode(bytes(32)).decode()}\n",
        f"origin\n-1\n{base64.b64encode(bytes(32)).decode()}\n",
        f"origin\n1\n{base64.b64encode(bytes(31)).decode()}\n",
        f"\n1\n{base64.b64encode(bytes(32)).decode()}\n",
        f"origin\n1\n{base64.b64encode(bytes(32)).decode()}",
        f"origin\n1\n{base64.b64encode(bytes(32)).decode()}\n\nx\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ProofInvalid):
        read_tree_head(text)


# --- add-checkpoint ---------------------------------------------------------------------------------------------------


def test_the_request_in_the_standard_is_read() -> None:
    """The example in C2SP tlog-witness."""
    body = (
        "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
        "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n"
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+"
        "zyWE+xeMcTOAYQ8=\n"
    ).encode()
    submission = read_submission(body)
    assert (submission.old, len(submission.proof), submission.head.size) == (20852014, 4, 20852163)
    assert submission.head.origin == "example.com/behind-the-sofa"
    assert submission.head.time is None
    steps = [base64.b64encode(step).decode() for step in submission.proof]
    assert write_submission(submission.old, steps, submission.note.whole) == body


@pytest.mark.parametrize(
    "change",
    [
        (b"old 3\n", b""),
        (b"old 3\n", b"old 03\n"),
        (b"old 3\n", b"old -3\n"),
        (b"old 3\n", b"old  3\n"),
        (b"old 3\n", b"old 3\r\n"),
        (b"old 3\n", b"Old 3\n"),
        (b"old 3\n", b"old 3\nAAAA\n"),
        (b"old 3\n", b"old 3\nnot base64\n"),
        (b"old 3\n", b"old 3\n" + b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" * 64),
        (b"stelsel/ledger", b"\xff"),
        (b"\n\n", b"\n"),
    ],
)
def test_a_malformed_request_is_refused(change: tuple[bytes, bytes], key: LedgerKey) -> None:
    log = Log()
    log.grow(4)
    body = _body(3, (), log.head(), key)
    assert read_submission(body).old == 3
    with pytest.raises(BadRequest):
        read_submission(body.replace(*change, 1))


def test_only_a_known_key_of_a_known_ledger_is_heard(key: LedgerKey, tmp_path: Path) -> None:
    log = Log()
    log.grow(4)
    submission = read_submission(_body(0, (), log.head(), key))
    own = VerifierKey(ORIGIN, ED25519, key.public)
    other = VerifierKey(ORIGIN, ED25519, LedgerKey.load(tmp_path / "other.key").public)
    assert signer(submission, [other, own]) == own
    with pytest.raises(NotFound):
        signer(submission, [])
    with pytest.raises(Forbidden):
        signer(submission, [other])
    forged = read_submission(_body(0, (), log.head(), key).replace(b"\n4\n", b"\n5\n"))
    with pytest.raises(Forbidden):
        signer(forged, [own])


def _judged(
    log: Log, old: int, seen: TreeHead | None, key: LedgerKey, proof: list[bytes] | None = None
) -> Fault | None:
    steps = log.proof(old) if proof is None else proof
    return objection(read_submission(_body(old, steps, log.head(), key)), seen)


def test_each_refusal_is_the_one_of_the_standard(key: LedgerKey) -> None:
    log = Log()
    assert _judged(log, 0, None, key) is None  # an empty tree, with its root
    wrong = TreeHead(ORIGIN, 0, bytes(32), ("time 1",))
    assert isinstance(objection(read_submission(_body(0, (), wrong, key)), None), ProofInvalid)
    log.grow(5)
    seen = log.head()
    assert _judged(log, 0, None, key) is None
    assert isinstance(_judged(log, 0, None, key, [bytes(32)]), ProofInvalid)  # from nothing, no proof
    assert isinstance(_judged(log, 6, seen, key), BadRequest)  # the old size is larger than the new
    log.grow(4)
    assert _judged(log, 5, seen, key) is None
    refusal = _judged(log, 0, seen, key)
    assert isinstance(refusal, Outdated)
    assert (refusal.status, refusal.size) == (409, 5)
    assert isinstance(_judged(log, 3, seen, key), Outdated)
    assert isinstance(_judged(log, 5, seen, key, []), ProofInvalid)
    assert isinstance(_judged(log, 5, seen, key, log.proof(4)), ProofInvalid)
    assert _judged(log, 9, log.head(), key) is None  # the same tree once more
    other = Log()
    other.grow(9, "x")
    refusal = _judged(other, 9, log.head(), key)
    assert isinstance(refusal, ProofInvalid)
    assert refusal.status == 422


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_a_ledger_tries_all_that_is_cosigned_is_one_history(key: LedgerKey, data: st.DataObject) -> None:
    """Any row of growing, forking, and asking with true and false old sizes and proofs."""
    logs = [Log()]
    seen: TreeHead | None = None
    cosigned: list[tuple[TreeHead, list[bytes]]] = []
    for step in range(data.draw(st.integers(1, 12))):
        log = data.draw(st.sampled_from(logs))
        action = data.draw(st.sampled_from(["grow", "fork", "ask", "ask"]))
        if action == "grow":
            log.grow(data.draw(st.integers(1, 9)))
        elif action == "fork":
            branch = Log(log.leaves[: data.draw(st.integers(0, len(log.leaves)))])
            branch.grow(data.draw(st.integers(0, 5)), salt=f"/{step}")
            logs.append(branch)
        known = seen.size if seen is not None else 0
        old = data.draw(st.sampled_from([known, known, 0, len(log.leaves)]))
        prover = data.draw(st.sampled_from([log, log, *logs]))
        proof = prover.proof(old) if old <= len(prover.leaves) else []
        refusal = _judged(log, old, seen, key, proof)
        if refusal is None:
            seen = log.head()
            cosigned.append((seen, list(log.leaves)))
        elif seen is not None:
            shown = contradiction(seen, log.head(1000), proof if old == known else ())
            if shown is not None and shown[0] == FORK:  # nobody is accused who told one history
                assert log.leaves[: seen.size] != cosigned[-1][1]
            if shown is not None and shown[0] == ROLLBACK:
                assert len(log.leaves) < seen.size
    for (before, first), (after, second) in itertools.pairwise(cosigned):
        assert before.size <= after.size
        assert second[: len(first)] == first


def test_a_fork_is_shown_by_the_proof_that_its_own_ledger_gives() -> None:
    log, branch = Log(), Log()
    for size in range(1, 40):
        log.leaves, branch.leaves = [], []
        log.grow(size)
        branch.grow(size - 1)
        branch.grow(3, "other")
        first, second = log.head(), branch.head(2)
        proof = branch.proof(size)
        beginning_tree = _tree(branch.leaves[:size])
        beginning = root(size, beginning_tree.node)
        shown = contradiction(first, second, proof, beginning)
        assert shown == (FORK, beginning)
        verify_consistency(size, second.size, beginning, second.root, proof)
        if size & (size - 1):  # for a power of two the usual proof leaves the old root out
            assert contradiction(first, second, proof) == shown
            assert beginning_of(size, second.size, second.root, proof) == beginning
        assert contradiction(second, second, ()) is None
        log.grow(2)
        assert contradiction(first, log.head(2), log.proof(size)) is None
        assert contradiction(first, log.head(2), proof) is None
    assert contradiction(second, first, ()) is None or second.size > first.size
    small = Log()
    small.grow(2)
    assert contradiction(log.head(5), small.head(306), ()) == (ROLLBACK, b"")
    assert contradiction(log.head(5), small.head(305), ()) is None  # clocks of hosts of one ledger may differ so much


def test_an_empty_tree_and_one_leaf_have_the_roots_of_rfc_6962() -> None:
    assert hashlib.sha256(b"").digest() == EMPTY_ROOT
    log = Log()
    log.grow(2)
    assert log.head().root == node_hash(leaf_hash(b"0"), leaf_hash(b"1"))
