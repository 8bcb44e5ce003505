"""Processes for a nursery, to see how their ends are judged."""

from __future__ import annotations

import sys
import time


def lives(port: int, seen: str) -> None:
    """For ever; that it does is written down."""
    del port
    with open(seen, "a") as file:  # noqa: PTH123 - as short as it gets
        file.write(".")
    while True:
        time.sleep(60)


def ends(port: int, seen: str) -> None:
    """At once, with the words that are in the file."""
    del port
    with open(seen) as file:  # noqa: PTH123
        sys.exit(file.read())
