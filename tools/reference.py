"""Write the reference pages of settings and commands out of the code that declares them."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import getdoc
from pathlib import Path

from cyclopts import App

from stelsel.agreements.group import Group
from stelsel.base.settings import Settings, describe
from stelsel.cli.app import app
from stelsel.settings import NodeSettings
from stelsel.steering.checks.fsc.settings import CheckTarget

FILES: dict[str, type[Settings]] = {
    "A node's file: `node.toml`": NodeSettings,
    "A group's file: `group.toml`": Group,
    "What `stelsel check fsc` tests: `fsc-target.toml`": CheckTarget,
}
_DOCS = Path(__file__).parents[1] / "docs" / "run"


def settings_page() -> str:
    """The page about every key of a node's file and of a group's file."""
    lines = [
        "# Settings",
        "",
        "A node has one file, in TOML; a group has one that all its nodes share. Unknown keys are refused, with the",
        "key that was probably meant. Paths are relative to the folder of the file; `[]` is each item of a list.",
        "",
    ]
    for title, kind in FILES.items():
        lines += [f"## {title}", "", "| key | default | what it is |", "|---|---|---|"]
        for key, _, default, description in describe(kind):
            shown = "required" if default == "required" else f"`{default or '(empty)'}`"
            lines.append(
                f"| `{key}` | {shown.replace('|', chr(92) + '|')} | {description.replace('|', chr(92) + '|')} |"
            )
        lines.append("")
    return "\n".join(lines)


def commands() -> Iterator[tuple[str, str]]:
    """(command, help) of every command, `agreement propose` and the like included."""
    yield from _commands(app, "")


def commands_page() -> str:
    """The page about every command."""
    lines = [
        "# Commands",
        "",
        "Every command has `--help`. Commands that talk to a running node take `--node node.toml` (or the variable",
        "`STELSEL_NODE`), and reach it over a socket in its data folder that only the node's user may open. `--json`",
        "prints what a program can read. A mistake is one line and a next step, with exit code 1; a command line that",
        "is not understood has exit code 2.",
        "",
    ]
    for name, text in commands():
        lines += [f"## `stelsel {name}`", "", text, ""]
    return "\n".join(lines)


def _commands(app: App, prefix: str) -> Iterator[tuple[str, str]]:
    for name in app:
        if name.startswith("-"):
            continue
        command = app[name]
        if command.default_command is not None:
            yield f"{prefix}{name}", getdoc(command.default_command) or ""
        yield from _commands(command, f"{prefix}{name} ")


if __name__ == "__main__":
    (_DOCS / "settings.md").write_text(settings_page())
    (_DOCS / "commands.md").write_text(commands_page())
