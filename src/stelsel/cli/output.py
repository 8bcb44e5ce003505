"""What commands print: tables for people, JSON for programs. Hostile text is inert before it reaches a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stelsel.base.errors import Fault
from stelsel.base.text import inert

console = Console(highlight=False, soft_wrap=False)
_errors = Console(stderr=True, highlight=False)


def plain(value: Any) -> str:
    """One line of inert text, safe for a terminal."""
    return escape(inert(str(value), 2000))


def as_json(value: Any) -> None:
    """Print JSON; what is not printable ASCII is escaped, so a terminal cannot be steered by it."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print a table, or a line that says there is nothing."""
    shown = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    count = 0
    for row in rows:
        shown.add_row(*(plain(value) for value in row))
        count += 1
    if count:
        console.print(shown)
    else:
        console.print("[dim]Nothing to show.[/dim]")


def say(line: str) -> None:
    """Print a line of our own making (markup allowed)."""
    console.print(line)


def line(text: str) -> None:
    """Print one line of plain text, never wrapped; for what a machine reads as well."""
    console.print(inert(text, 5000), markup=False, soft_wrap=True)


def complain(fault: Fault) -> None:
    """One line for what is wrong, one for the next step."""
    _errors.print(f"[bold red]stelsel:[/bold red] {plain(fault.detail)}", soft_wrap=True)
    if fault.next_step:
        _errors.print(f"[dim]Next step:[/dim] {plain(fault.next_step)}", soft_wrap=True)


def day(seconds: float) -> str:
    """A date for people: 2026-11-23."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d")


def short(hash_text: str) -> str:
    """The start of a content or grant hash, enough to name it on this node."""
    return hash_text.rpartition("$")[2][:12]
