"""The guard: did the source answer more than was asked? Pure.

A policy never alters an answer: what holds too much is refused as a whole, naming the paths, and it is recorded. A
source that over-supplies must be mended, not silently trimmed (GDPR article 25: data protection by default).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from stelsel.agreements.services import Service
from stelsel.base.canonical import parse_json
from stelsel.base.errors import BadGateway, BadRequest
from stelsel.privacy import bsn
from stelsel.privacy.paths import is_name

ENVELOPE = frozenset({"type"})
"""Members beside the records that an answer may have: they say what kind of answer it is, as one text."""
MAXIMUM_REPORTED = 100
"""Paths in one verdict."""

_OTHER = "(other)"
"""Stands for a member whose name is no field name: such names may themselves be data about people."""

_EMPTY: tuple[Any, ...] = (None, {}, [])
_PROBLEM = frozenset({"type", "title", "status", "detail", "instance"})
_BLANK = b" \t\r\n\xef\xbb\xbf"

_Tree = dict[str, "_Tree"]


def oversupplied(service: Service, answer: bytes, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The paths of the leaves in the answer's records that were not asked, in order of appearance.

    The records are the member `service.records` of the answer, or the whole answer when that is empty. Elements of a
    list share their path. A member that is `null` or empty says nothing beyond what was asked when something under it
    was asked. Raises `BadGateway` when the answer cannot be read with certainty.
    """
    value = _read(service, answer)
    found: dict[str, None] = {}
    if not service.records:
        _walk(value, _tree(asked), "", found)
        return tuple(found)
    for name, member in value.items():
        if name == service.records:
            _walk(member, _tree(asked), "", found, root=name)
        elif name not in ENVELOPE or not isinstance(member, str):
            _walk(member, {}, name if is_name(name) else _OTHER, found)
    return tuple(found)


def record_count(service: Service, answer: bytes) -> int:
    """How many records the answer holds. Raises `BadGateway` when it cannot be read."""
    return len(_records(service, _read(service, answer)))


def answer_subjects(service: Service, answer: bytes) -> tuple[str, ...]:
    """The residents whom the records name under the service's subject parameter: raw numbers, each once.

    Records that do not name their resident add nothing. Raises `BadGateway` when the answer cannot be read, or holds
    a number that is none.
    """
    subjects: dict[str, None] = {}
    for record in _records(service, _read(service, answer)):
        value = record.get(service.subject_parameter) if isinstance(record, dict) else None
        if value is None:
            continue
        if not isinstance(value, str) or not bsn.valid(value):
            raise BadGateway("a record in the answer names its resident by something that is no valid number")
        subjects[value] = None
    return tuple(subjects)


def error_holds_records(service: Service, content_type: str, answer: bytes, asked: tuple[str, ...]) -> bool:
    """Whether the body of an error holds what only a success may hold, at any depth.

    That is a member `service.records` with something in it; where the whole answer is the record, a list with something
    in it or a member that was asked (but the words of a problem document, RFC 9457). Text that is no JSON and does not
    look or claim to be holds no records. Raises `BadGateway` when it does, and cannot be read with certainty.
    """
    try:
        value = parse_json(answer)
    except BadRequest as error:
        if "json" in content_type.lower() or answer.lstrip(_BLANK)[:1] in (b"{", b"["):
            raise BadGateway(f"the error of the service cannot be checked: {error.detail}") from None
        return False
    if service.records:
        return _has(value, frozenset({service.records}))
    names = frozenset(path.partition(".")[0] for path in asked) - _PROBLEM
    return (isinstance(value, list) and bool(value)) or _has(value, names)


def _has(value: Any, names: frozenset[str]) -> bool:
    if isinstance(value, dict):
        return any((name in names and member not in _EMPTY) or _has(member, names) for name, member in value.items())
    return isinstance(value, list) and any(_has(element, names) for element in value)


def _read(service: Service, answer: bytes) -> Any:
    try:
        value = parse_json(answer)
    except BadRequest as error:
        raise BadGateway(f"the answer of the service cannot be checked: {error.detail}") from None
    if not isinstance(value, dict) and (service.records or not isinstance(value, list)):
        raise BadGateway("the answer of the service cannot be checked: a JSON object is expected")
    return value


def _records(service: Service, value: Any) -> list[Any]:
    records = value.get(service.records) if service.records else value
    if records is None:
        return []
    return records if isinstance(records, list) else [records]


def _walk(value: Any, tree: _Tree | None, path: str, found: dict[str, None], root: str = "") -> None:
    """Note under `found` each leaf of `value` that `tree` does not hold; `tree` None means: all below was asked."""
    if tree is None or len(found) >= MAXIMUM_REPORTED:
        return
    if isinstance(value, dict) and value:
        for name, member in value.items():
            known = is_name(name)
            step = name if known else _OTHER
            _walk(member, tree.get(name, {}) if known else {}, f"{path}.{step}" if path else step, found)
    elif isinstance(value, list) and value:
        for element in value:
            _walk(element, tree, path, found, root)
    elif value in _EMPTY and (tree or not path):
        return  # nothing here, and something under it was asked
    else:
        found[path or root or "(value)"] = None


_LONGEST_REMEMBERED = 4096
"""Characters in asked paths of which the tree is remembered: who asks chooses how many there are."""


def _tree(asked: tuple[str, ...]) -> Any:
    """The asked paths as a tree; None marks that all below is asked."""
    return _remembered_tree(asked) if sum(map(len, asked)) <= _LONGEST_REMEMBERED else _new_tree(asked)


@lru_cache(maxsize=4096)
def _remembered_tree(asked: tuple[str, ...]) -> Any:
    return _new_tree(asked)


def _new_tree(asked: tuple[str, ...]) -> Any:
    tree: dict[str, Any] = {}
    for path in sorted(asked, key=len):
        node = tree
        *parents, last = path.split(".")
        for name in parents:
            child = node.setdefault(name, {})
            if child is None:
                break
            node = child
        else:
            node[last] = None
    return tree
