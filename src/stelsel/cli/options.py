"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stelsel.base.settings import read_toml

if TYPE_CHECKING:  # loaded when a command needs them, for not every command does
    from stelsel.control.client import Control
    from stelsel.settings import NodeSettings

NodeFile = Annotated[
    Path, Parameter(name=["--node", "-n"], env_var="STELSEL_NODE", help="The node's file.", show_default=True)
]
Selector = Annotated[
    str,
    # One hash in 64 begins with a hyphen; it is a hash all the same.
    Parameter(help="A content or grant hash, or the start of one.", allow_leading_hyphen=True),
]
AsJson = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, for programs.")]

DEFAULT_NODE = Path("node.toml")


def settings_of(node: Path) -> NodeSettings:
    """The settings in the node's file."""
    from stelsel.settings import NodeSettings

    return read_toml(node, NodeSettings)


def control_of(node: Path) -> Control:
    """The running node of that file."""
    from stelsel.control.client import Control

    return Control(settings_of(node).data)
