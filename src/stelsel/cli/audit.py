"""The command `log audit`: is this ledger, or that of another organisation, what it always said to be?"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stelsel.base.clock import SystemClock, moment
from stelsel.base.errors import ConfigurationFault, Fault
from stelsel.cli import output
from stelsel.cli.options import DEFAULT_NODE, AsJson, NodeFile, settings_of
from stelsel.control.client import Control
from stelsel.ledger import two_histories
from stelsel.ledger.audit import Progress, Report, report_of
from stelsel.settings import NodeSettings

Json = dict[str, Any]


def audit(
    *,
    url: Annotated[
        str | None,
        Parameter(help="Audit what another organisation publishes of its ledger, at the address of its website."),
    ] = None,
    trust_anchors: Annotated[
        Path | None, Parameter(help="With --url: PEM file with the group's trust anchors. Default: those of the node.")
    ] = None,
    witness_quorum: Annotated[int, Parameter(help="With --url: so many witnesses must have cosigned.")] = 0,
    evidence: Annotated[
        Path | None, Parameter(help="Folder in which to save the evidence against ledgers that this node witnesses.")
    ] = None,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Compute every leaf of the ledger's tree again from its record, and compare with all that was ever shown.

    Compared are the stored tiles, the root, and every checkpoint that was kept: shown, cosigned by witnesses, or held
    by a witness that refuses another. Works on a running node, and on a stopped one. Leaves with 1 at any difference,
    and names it. Also tells which ledgers this node, as a witness, caught telling two histories.

    Example: stelsel log audit --node regie/node.toml
    """
    if url is not None:
        _audit_remote(url, _anchors(trust_anchors, node), witness_quorum, json=json)
        return
    settings = settings_of(node)
    control = Control(settings.data)
    steps = _running(control) if control.answers() else _stopped(settings)
    report = _follow(steps, quiet=json)
    known = control.get("/witnesses") if control.answers() else _kept(settings)
    saved = _save(known["findings"], evidence)
    if json:
        output.as_json(report.to_json() | known)
    else:
        _tell(report)
        _tell_witnesses(known, saved)
    if not report.sound:
        raise SystemExit(1)


def _running(control: Control) -> Iterator[Progress | Report]:
    for line in control.stream("/audit"):
        if "fault" in line:
            fault = Fault(str(line["fault"].get("detail", "")))
            fault.next_step = str(line["fault"].get("next_step", ""))
            raise fault
        yield report_of(line["report"]) if "report" in line else Progress(line["done"], line["total"])


def _stopped(settings: NodeSettings) -> Iterator[Progress | Report]:
    """Open the ledger as the node would, without anything else of it."""
    from stelsel.agreements.group import Group
    from stelsel.base.certificates import KeyPair
    from stelsel.base.settings import read_toml
    from stelsel.ledger.service import Ledger

    group = read_toml(settings.group, Group)
    keypair = KeyPair.load(settings.peer.certificate, settings.peer.key, group.elements)
    if not (settings.data / "ledger").is_dir():
        raise ConfigurationFault(
            f"{settings.data / 'ledger'}: there is no ledger", next_step="see that --node names the right file"
        )
    ledger = Ledger(folder=settings.data / "ledger", keypair=keypair, clock=SystemClock(), settings=settings.ledger)
    with asyncio.Runner() as runner:
        runner.run(ledger.start())
        try:
            steps = ledger.audit()
            while (step := runner.run(anext(steps, None))) is not None:
                yield step
        finally:
            runner.run(ledger.stop())


def _kept(settings: NodeSettings) -> Json:
    """What a stopped node knows of witnesses: what it caught itself."""
    from stelsel.base.database import Database
    from stelsel.ledger import witness_store

    file = settings.data / "node.sqlite"
    found: list[Json] = []
    if file.exists():
        database = Database(file)
        try:
            database.create()
            with database.read() as connection:
                found = [caught.to_json() for caught in witness_store.findings(connection)]
        finally:
            database.close()
    return {"findings": found}


def _audit_remote(url: str, anchors_file: Path, quorum: int, *, json: bool) -> None:
    import httpx

    from stelsel.base.certificates import TrustAnchors
    from stelsel.ledger.remote_audit import Remote, summary

    with httpx.Client(trust_env=False) as client:
        remote = Remote(url, TrustAnchors.load(anchors_file), client)
        shown = remote.shown(time.time(), quorum=quorum)
        report = _follow(remote.audit(shown), quiet=json)
    told = summary(shown)
    if json:
        output.as_json(report.to_json() | told)
    else:
        output.say(f"  Ledger of    {output.plain(told['peer'])} ({told['peer_id']})")
        _tell(report)
        names = ", ".join(f"{each['peer']} on {moment(each['time'])}" for each in told["witnesses"])
        output.say(f"  Cosigned by  {output.plain(names) or 'nobody'}")
    if not report.sound:
        raise SystemExit(1)


def _anchors(given: Path | None, node: Path) -> Path:
    if given is not None:
        return given
    from stelsel.agreements.group import Group
    from stelsel.base.settings import read_toml

    return read_toml(settings_of(node).group, Group).trust_anchors


def _follow(steps: Iterator[Progress | Report], *, quiet: bool) -> Report:
    """The report at the end of the steps; on a terminal, how far it is meanwhile."""
    if quiet or not sys.stderr.isatty():
        for step in steps:
            if isinstance(step, Report):
                return step
        raise Fault("the audit was cut off", next_step="run it again")
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        *Bar.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task("Records", total=None)
        for step in steps:
            if isinstance(step, Report):
                return step
            bar.update(task, completed=step.done, total=step.total)
    raise Fault("the audit was cut off", next_step="run it again")


def _tell(report: Report) -> None:
    colour = "green" if report.sound else "red"
    output.say(f"[bold {colour}]{output.plain(report.verdict)}[/bold {colour}]")
    output.say(f"  Records      {report.size}" + (f", of which {report.erased} erased" if report.erased else ""))
    output.say(f"  Tiles        {report.tiles}")
    output.say(f"  Checkpoints  {report.checkpoints}")
    output.say(f"  Root         {report.root or 'unknown: not all records could be read'}")
    if report.differences:
        output.table(
            ("What", "Record", "What was found", "Next step"),
            (
                (each.what, "" if each.index is None else each.index, each.detail, each.next_step)
                for each in report.differences
            ),
            title="Differences",
        )
    if report.untold:
        output.say(f"  And {report.untold} more.")


def _tell_witnesses(known: Json, saved: list[Path]) -> None:
    cosigned = known.get("cosigned")
    if cosigned:
        output.say(
            f"  Cosigned     {cosigned['size']} records by {cosigned['witnesses']} witness(es), "
            f"{moment(cosigned['time'])}"
        )
    for each in known.get("witnesses", []):
        if each["trouble"]:
            output.say(f"  Witness      {output.plain(each['peer_id'])}: {output.plain(each['trouble'])}")
    if known["findings"]:
        output.table(
            ("Nr", "When", "Ledger of", "Kind"),
            ((each["id"], moment(each["time"]), each["peer_id"], each["kind"]) for each in known["findings"]),
            title="As a witness, this node caught",
        )
    for file in saved:
        output.say(f"  Saved        {output.plain(file)} (check it with: stelsel verify)")


def _save(findings: list[Json], folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for each in findings:
            files.append(folder / f"two-histories-{int(each['peer_id']):020d}-{int(each['id'])}.json")
            files[-1].write_bytes(two_histories.write(each["evidence"]))
    except OSError as error:
        raise ConfigurationFault(f"{folder}: cannot be written ({error.strerror})") from error
    return files
