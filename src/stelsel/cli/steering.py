"""Commands about open data and residents: publish, activate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stelsel.cli import output
from stelsel.cli.options import DEFAULT_NODE, AsJson, NodeFile, control_of


def publish(
    schema: Annotated[Path, Parameter(help="TOML file that declares the dataset and classifies every column.")],
    *,
    source: Annotated[Path, Parameter(help="SQLite database that holds the source.")],
    query: Annotated[str, Parameter(help="Query that gives the source rows.")],
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Make a safe release of a dataset: count, suppress, audit, and publish only when nobody can be recognised.

    Example: stelsel publish residents.toml --source people.sqlite --query "SELECT * FROM persons"
    """
    release = control_of(node).post(
        "/commands/publish", {"schema": str(schema.resolve()), "source": str(source.resolve()), "query": query}
    )
    if json:
        output.as_json(release)
    else:
        output.table(("What", "Value"), release.items())


def activate(
    *,
    bsn_file: Annotated[
        Path, Parameter(help="File that holds only the resident's burgerservicenummer, so that it is in no history.")
    ],
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Give a resident an activation code, after checking who she is. With it she makes a passkey, once.

    Example: stelsel activate --bsn-file bsn.txt --node regie/node.toml
    """
    answer = control_of(node).post("/commands/activate", {"burgerservicenummer": bsn_file.read_text().strip()})
    if json:
        output.as_json(answer)
    else:
        output.say(f"Activation code: [bold]{output.plain(answer['code'])}[/bold]")
