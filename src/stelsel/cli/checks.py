"""Commands that check: peers against their obligations, and implementations against the standard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from stelsel.base.settings import read_toml
from stelsel.cli import output
from stelsel.cli.options import DEFAULT_NODE, AsJson, NodeFile, control_of, settings_of

if TYPE_CHECKING:
    from stelsel.steering.checks.fsc.model import Result, Scenario

app = App(name="check", help="Check peers against their obligations; `check fsc`: an implementation against FSC.")


@app.default
def check(
    *,
    peer: Annotated[str | None, Parameter(help="Only this peer (OIN); default: all peers of the directory.")] = None,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Check now who meets which obligation, and keep the findings with their evidence. For the steward's node.

    Example: stelsel check --node regie/node.toml --peer 00000099000000005000
    """
    rows = control_of(node).post("/commands/check", {"peer_id": peer} if peer else {})
    if json:
        output.as_json(rows)
        return
    columns = ("Obligation", "Peer", "Outcome", "What was found")
    output.table(columns, ((row["obligation"], row["peer"], row["outcome"], "; ".join(row["reasons"])) for row in rows))


@app.command
def fsc(
    *,
    target: Annotated[
        Path | None,
        Parameter(help="File that says what is tested, see docs/build/check-fsc.md. Default: a node of our own."),
    ] = None,
    only: Annotated[
        tuple[str, ...], Parameter(help="Only scenarios whose id begins with this; can be repeated.", negative=())
    ] = (),
    list_: Annotated[bool, Parameter(name="--list", help="List the scenarios and run none.", negative=())] = False,
    prepare: Annotated[
        Path | None,
        Parameter(help="Make this folder, with certificates for a test group and a file to start from, and run none."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Check an implementation of FSC against every scenario of the published test suite, and more, as a black box.

    Without --target it starts a node of our own in a process of its own. Exit code 0 when all scenarios pass.

    Example: stelsel check fsc --target fsc-target.toml
    """
    from stelsel.steering.checks.fsc import prepare as preparing
    from stelsel.steering.checks.fsc import report, runner

    if prepare is not None:
        for text in preparing.make(prepare):
            output.line(text)
        return
    scenarios = runner.chosen(only)
    if list_ and json:
        output.as_json([{"id": one.id, "title": one.title, "clause": one.clause} for one in scenarios])
    elif list_:
        for one in scenarios:
            output.line(report.listed(one))
    elif not _run(target, scenarios, json=json):
        raise SystemExit(1)


def _run(target: Path | None, scenarios: Sequence[Scenario], *, json: bool) -> bool:
    """Run these scenarios and tell of them; whether all pass."""
    from stelsel.demo.conformance import hooks_of, own_node
    from stelsel.steering.checks.fsc import report, runner
    from stelsel.steering.checks.fsc.settings import CheckTarget

    def told(result: Result) -> None:
        if not json:
            output.line(report.line(result))

    began = time.time()
    if not json:
        output.line(report.heading())
    if target is None:
        with own_node() as (found, hooks):
            results = asyncio.run(runner.run(found, hooks, scenarios, told))
    else:
        found = read_toml(target, CheckTarget)
        data = settings_of(found.approval.node).data if found.approval.node is not None else None
        results = asyncio.run(runner.run(found, hooks_of(found, data), scenarios, told))
    if json:
        output.as_json(report.document(found, results, began))
    else:
        for text in report.failures(results):
            output.line(text)
        output.line(report.summary(results))
    return report.passed(results)
