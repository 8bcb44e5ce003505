"""The command that proves things offline: verify."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stelsel.base.canonical import parse_object
from stelsel.base.certificates import TrustAnchors
from stelsel.base.clock import moment
from stelsel.base.errors import BadRequest, ConfigurationFault
from stelsel.cli import output
from stelsel.cli.options import AsJson
from stelsel.ledger.receipts import verify_file

_LARGEST_FILE = 16 * 1024 * 1024


def verify(
    file: Annotated[Path, Parameter(help="A receipt, or the report of a goal.")],
    *,
    evidence: Annotated[
        Path | None, Parameter(help="For a goal: the evidence that its report names (`counted_at`), downloaded.")
    ] = None,
    trust_anchors: Annotated[
        Path | None, Parameter(help="PEM file with the group's trust anchors. Default: trust-anchors.pem beside it.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Prove a receipt: that this record is in that organisation's ledger. Or compute a goal's value again.

    Needs no network and no running node: only the file and the group's trust anchors.

    Example: stelsel verify receipt.json --trust-anchors country/trust-anchors.pem
    """
    data = _read(file)
    anchors = TrustAnchors.load(trust_anchors or file.parent / "trust-anchors.pem")
    if evidence is not None:
        _verify_goal(parse_object(data), evidence, anchors, json)
        return
    proven = verify_file(data, anchors, time.time())
    record = proven.record
    if json:
        output.as_json(
            {"proven": True, "peer_id": proven.peer_id, "peer": proven.peer_name, "record": record.to_json()}
        )
        return
    output.say("[bold green]This receipt holds.[/bold green]")
    output.say(f"  Ledger of    {output.plain(proven.peer_name)} ({proven.peer_id})")
    output.say(f"  Record       number {proven.index} of {proven.size}, {moment(record.time / 1000)}")
    output.say(f"  Transaction  {output.plain(record.transaction_id)}")
    output.say(f"  Exchange     {record.consumer} asked {record.provider} for {output.plain(record.service)}")
    output.say(f"  Decision     {'allowed' if record.allowed else 'refused'} ({output.plain(record.reason)})")


def _verify_goal(report: dict[str, Any], evidence: Path, anchors: TrustAnchors, json: bool) -> None:
    from stelsel.steering.goals import recompute

    with evidence.open("rb") as lines:
        value = recompute(report, lines, anchors, time.time())
    if json:
        output.as_json({"proven": True, "value": value})
    else:
        output.say("[bold green]The same value comes out.[/bold green]")
        output.say(f"  Goal   {output.plain(report['goal']['sentence']['nl'])}")
        output.say(f"  Value  {value}")


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise BadRequest(f"{file}: is larger than any receipt")
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationFault(f"{file}: cannot be read ({error.strerror})") from error
