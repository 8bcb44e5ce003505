from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_builders import numbers

from stelsel.base.errors import BadRequest, ConfigurationFault
from stelsel.privacy.subjects import SubjectReferences

KEY = bytes(range(32))


def test_a_reference_is_short_stable_and_says_nothing() -> None:
    digest = hmac.new(KEY, b"burgerservicenummer:999990019", hashlib.sha256).digest()
    expected = base64.b32encode(digest)[:32].decode().lower()
    references = SubjectReferences(KEY)
    reference = references.of("999990019")
    assert reference == SubjectReferences(KEY).of("999990019") == expected
    assert len(reference) == 32
    assert reference.isalnum()
    assert reference == reference.lower()


def test_two_peers_have_references_that_cannot_be_linked() -> None:
    one, other = SubjectReferences(KEY), SubjectReferences(KEY[::-1])
    people = numbers(200)
    assert not {one.of(number) for number in people} & {other.of(number) for number in people}


def test_different_residents_have_different_references() -> None:
    references = SubjectReferences(KEY)
    people = numbers(2_000)
    assert len({references.of(number) for number in people}) == len(people)


@given(st.text())
def test_what_is_no_number_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        SubjectReferences(KEY).of("x" + text)
    assert caught.value.detail == DETAIL


DETAIL = "this is not a valid citizen service number: nine digits that pass the eleven-test"


def test_the_key_is_never_shown() -> None:
    references = SubjectReferences(b"secret-secret-secret-secret-secret")
    assert "secret" not in repr(references)
    assert not hasattr(references, "__dict__")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        SubjectReferences(b"x" * 31)


def test_the_key_file_is_made_once_for_the_node_only(tmp_path: Path) -> None:
    path = tmp_path / "subjects.key"
    old = os.umask(0)
    try:
        first = SubjectReferences.load(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SubjectReferences.load(path).of("999990019") == first.of("999990019")
    assert [one.name for one in tmp_path.iterdir()] == ["subjects.key"]
    other = SubjectReferences.load(tmp_path / "other.key")
    assert other.of("999990019") != first.of("999990019")


def test_two_starts_at_once_end_with_one_key(tmp_path: Path) -> None:
    path = tmp_path / "subjects.key"
    found: list[str] = []
    starts = [
        threading.Thread(target=lambda: found.append(SubjectReferences.load(path).of("999990019"))) for _ in "12345678"
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "subjects.key"
    SubjectReferences.load(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationFault, match="others may read") as caught:
        SubjectReferences.load(path)
    assert "chmod 600" in caught.value.next_step


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_broken_key_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "subjects.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationFault, match="does not hold a key"):
        SubjectReferences.load(path)
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match="cannot be made"):
        SubjectReferences.load(tmp_path / "nowhere" / "subjects.key")
