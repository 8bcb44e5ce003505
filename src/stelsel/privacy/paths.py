"""Field paths: `naam.voornamen` lies under `naam`. One grammar, and one rule for what covers what.

The grammar is that of the terms (`stelsel.agreements.terms.FieldPath`): ASCII names joined by single dots. There are
no wildcards; look-alike letters of other scripts are no letters here.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

MAXIMUM_LENGTH = 200
"""Characters in one path."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*")


def is_name(text: str) -> bool:
    """Whether `text` is one step of a path: it holds no dot."""
    return len(text) <= MAXIMUM_LENGTH and _NAME.fullmatch(text) is not None


def is_path(text: str) -> bool:
    """Whether `text` is a path."""
    return len(text) <= MAXIMUM_LENGTH and _PATH.fullmatch(text) is not None


def covered(path: str, agreed: AbstractSet[str]) -> bool:
    """Whether `path` equals one of the `agreed` paths or lies under one.

    Agreed `naam` covers `naam.voornamen`; agreed `naam.voornamen` does not cover `naam`.
    """
    if path in agreed:
        return True
    end = path.rfind(".")
    while end > 0:
        if path[:end] in agreed:
            return True
        end = path.rfind(".", 0, end)
    return False
