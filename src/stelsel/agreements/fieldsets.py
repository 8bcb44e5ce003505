"""What one set of field paths allows that another does not. `naam` allows everything under it, `naam.voornamen` too."""

from __future__ import annotations

from collections.abc import Collection


def within(path: str, paths: Collection[str]) -> bool:
    """Whether `path` is one of `paths` or lies under one."""
    return any(path == other or path.startswith(f"{other}.") for other in paths)


def beyond(asked: Collection[str], allowed: Collection[str]) -> tuple[str, ...]:
    """What of `asked` does not lie within `allowed`, in its own order."""
    return tuple(path for path in asked if not within(path, allowed))


def touches(path: str, other: str) -> bool:
    """Whether asking `path` also asks (a part of) `other`."""
    return within(path, (other,)) or within(other, (path,))
