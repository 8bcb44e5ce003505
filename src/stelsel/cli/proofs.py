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
from stelsel.ledger import receipts, tlog_proof, two_histories
from stelsel.ledger.faults import ProofInvalid
from stelsel.ledger.receipts import VerifiedReceipt

_LARGEST_FILE = 16 * 1024 * 1024


def verify(
    file: Annotated[Path, Parameter(help="A receipt (JSON or tlog-proof), evidence of two histories, or a report.")],
    *,
    evidence: Annotated[
        Path | None, Parameter(help="For a goal: the evidence that its report names (`counted_at`), downloaded.")
    ] = None,
    trust_anchors: Annotated[
        Path | None, Parameter(help="PEM file with the group's trust anchors. Default: trust-anchors.pem beside it.")
    ] = None,
    witness_quorum: Annotated[
        int, Parameter(help="For a receipt: so many other organisations must have cosigned the ledger.")
    ] = 0,
    witness: Annotated[
        tuple[str, ...], Parameter(help="Only this organisation (OIN) counts as a witness; repeat it.", negative=())
    ] = (),
    json: AsJson = False,
) -> None:
    """Prove a receipt: that this record is in that organisation's ledger. Or compute a goal's value again.

    Needs no network and no running node: only the file and the group's trust anchors. Reads also the evidence by which
    a witness shows that a ledger told two histories. Leaves with 1 when the file does not prove what it says.

    Example: stelsel verify receipt.json --trust-anchors country/trust-anchors.pem --witness-quorum 2
    """
    data = _read(file)
    anchors = TrustAnchors.load(trust_anchors or file.parent / "trust-anchors.pem")
    if witness_quorum < 0:
        raise BadRequest("a quorum of witnesses is 0 or more")
    if evidence is not None:
        _verify_goal(parse_object(data), evidence, anchors, json)
    elif _format(data) == two_histories.FORMAT:
        _verify_two_histories(data, anchors, json)
    else:
        receipt = tlog_proof.read(data) if tlog_proof.is_one(data) else receipts.read(data)
        quorum = witness_quorum or int(bool(witness))
        proven = receipts.verify(receipt, anchors, time.time(), witnesses=witness or None, quorum=quorum)
        if json:
            output.as_json(_as_json(proven))
        else:
            _tell(proven)


def _tell(proven: VerifiedReceipt) -> None:
    record = proven.record
    output.say("[bold green]This receipt holds.[/bold green]")
    output.say(f"  Ledger of    {output.plain(proven.peer_name)} ({proven.peer_id})")
    output.say(f"  Record       number {proven.index} of {proven.size}, {moment(record.time / 1000)}")
    output.say(f"  Transaction  {output.plain(record.transaction_id)}")
    output.say(f"  Exchange     {record.consumer} asked {record.provider} for {output.plain(record.service)}")
    output.say(f"  Decision     {'allowed' if record.allowed else 'refused'} ({output.plain(record.reason)})")
    if record.subject_sequence:
        output.say(f"  Resident     record number {record.subject_sequence} about this resident in that ledger")
    if proven.witnesses:
        for each in proven.witnesses:
            output.say(f"  Witness      {output.plain(each.peer_name)} ({each.peer_id}), {moment(each.time)}")
        output.say(
            f"Proved: when it held {proven.size} records, on {moment(proven.checkpoint_time)}, this record was among "
            "them; and these witnesses never saw another history of that ledger."
        )
    else:
        output.say(
            f"Proved: when it held {proven.size} records, on {moment(proven.checkpoint_time)}, this record was among "
            "them. No other organisation cosigned, so whether everyone is shown the same ledger is not proved."
        )


def _as_json(proven: VerifiedReceipt) -> dict[str, Any]:
    return {
        "proven": True,
        "peer_id": proven.peer_id,
        "peer": proven.peer_name,
        "index": proven.index,
        "size": proven.size,
        "checkpoint_time": proven.checkpoint_time,
        "witnesses": [
            {"peer_id": each.peer_id, "peer": each.peer_name, "time": each.time} for each in proven.witnesses
        ],
        "record": proven.record.to_json(),
    }


def _verify_two_histories(data: bytes, anchors: TrustAnchors, json: bool) -> None:
    shown = two_histories.verify(two_histories.read(data), anchors, time.time())
    if json:
        output.as_json(
            {
                "proven": True,
                "peer_id": shown.peer_id,
                "peer": shown.peer_name,
                "kind": shown.kind,
                "is": shown.sentence,
            }
        )
        return
    output.say("[bold green]This evidence holds: a ledger told two histories.[/bold green]")
    output.say(f"  Ledger of    {output.plain(shown.peer_name)} ({shown.peer_id})")
    output.say(f"  First        {shown.first.size} records, signed on {moment(shown.first.time)}")
    output.say(f"  Second       {shown.second.size} records, signed on {moment(shown.second.time)}")
    output.say(f"Proved: {shown.sentence}.")
    if shown.kind == two_histories.ROLLBACK:
        output.say("That holds as far as the clock of that ledger was not set back in between.")


def _format(data: bytes) -> Any:
    try:
        return two_histories.read(data).get("format")
    except ProofInvalid:
        return None


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
