"""Commands about peers, services and agreements."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stelsel.agreements.terms import PROPERTY, terms_of
from stelsel.base.errors import ConfigurationFault
from stelsel.cli import output
from stelsel.cli.options import DEFAULT_NODE, AsJson, NodeFile, Selector, control_of


def peers(*, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """List the organisations of the group, as the directory knows them.

    Example: stelsel peers --node gemeente/node.toml
    """
    rows = control_of(node).get("/peers")
    if json:
        output.as_json(rows)
    else:
        output.table(("OIN", "Name", "Manager"), ((row["peer_id"], row["name"], row["manager"]) for row in rows))


def services(*, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """List the services that peers offer, as the directory knows them.

    Example: stelsel services --node gemeente/node.toml
    """
    rows = control_of(node).get("/services")
    if json:
        output.as_json(rows)
    else:
        columns = ("Service", "Of", "OIN", "What for")
        output.table(columns, ((row["service"], row["peer"], row["peer_id"], row["description"]) for row in rows))


def propose(
    *,
    peer: Annotated[str | None, Parameter(help="OIN of the peer that offers the service.")] = None,
    service: Annotated[str, Parameter(help="Name of the service.")],
    terms: Annotated[Path | None, Parameter(help="TOML file with the terms: purpose, legal basis, fields...")] = None,
    days: Annotated[int, Parameter(help="How many days it is to hold, from now.")] = 365,
    description: Annotated[str, Parameter(help="For a publication: what the service is for.")] = "",
    delegator: Annotated[
        str | None, Parameter(help="OIN of the peer on whose behalf we connect or publish; it must sign too.")
    ] = None,
    service_delegator: Annotated[
        str | None, Parameter(help="OIN of the peer on whose behalf the service is offered; it must sign too.")
    ] = None,
    outway_domain: Annotated[
        str | None, Parameter(help="Name the outway by this domain in its certificate, not by its key.")
    ] = None,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Propose an agreement to use a peer's service; without --peer, propose to publish a service of our own.

    The proposal is signed, kept, and sent until it arrives. It holds once the other side has signed too.

    Example: stelsel agreement propose --peer 00000099000000002000 --service personen --terms parking.toml
    """
    body: dict[str, Any] = {"service": service, "days": days, "delegator": delegator}
    if peer is None:
        body["description"] = description
    else:
        body |= {"peer_id": peer, "service_delegator": service_delegator, "outway_domain_name": outway_domain}
        if terms is not None:
            body["properties"] = read_terms(terms)
    _report(control_of(node).post("/agreements", body), json)


def list_(
    *,
    state: Annotated[str | None, Parameter(help="Only these: proposed, valid, rejected, revoked, expired.")] = None,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """List the agreements of this node, newest first.

    Example: stelsel agreement list --state proposed
    """
    rows = control_of(node).get("/agreements", **({"state": state} if state else {}))
    if json:
        output.as_json(rows)
        return
    columns = ("Hash", "State", "Service", "Provider", "Consumer", "Until", "Remarks")
    output.table(columns, (_row(row) for row in rows))


def show(selector: Selector, *, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Show one agreement: what is asked, in plain words, and where it stands.

    Example: stelsel agreement show 3kQx
    """
    found = control_of(node).get(f"/agreements/{selector}")
    if json:
        output.as_json(found)
        return
    _report(found, json)
    for line in found["readable"]["nl"]:
        output.say(f"  {output.plain(line)}")


def accept(selector: Selector, *, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Sign an agreement that a peer proposed. From then on it holds."""
    _report(control_of(node).post(f"/agreements/{selector}/accept"), json)


def reject(selector: Selector, *, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Refuse an agreement that a peer proposed. It never holds."""
    _report(control_of(node).post(f"/agreements/{selector}/reject"), json)


def revoke(selector: Selector, *, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """End an agreement that holds. Calls under it are refused at once, also with tokens that still live."""
    _report(control_of(node).post(f"/agreements/{selector}/revoke"), json)


def resend(selector: Selector, *, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Send an agreement and our signatures again to its peers, also after they refused it."""
    _report(control_of(node).post(f"/agreements/{selector}/resend"), json)


def sign_again(*, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Sign running agreements again with the present certificate; a node does so by itself when it starts.

    A signature cannot be checked any more when the certificate it was made with has expired.
    """
    signed = control_of(node).post("/commands/sign-again", {})["signed"]
    if json:
        output.as_json(signed)
    else:
        output.say(f"{len(signed)} agreements were signed again and are being sent to their peers.")


def catch_up(
    *,
    peer: Annotated[
        str | None, Parameter(help="OIN of one peer; without it, all with whom there are agreements.")
    ] = None,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Ask peers which agreements and signatures they have that we lack, and send what they lack.

    A node does so by itself when it starts and every hour. It also shows which version of FSC each peer speaks.
    """
    rows = control_of(node).post("/commands/catch-up", {} if peer is None else {"peer_id": peer})
    if json:
        output.as_json(rows)
        return
    columns = ("OIN", "Listed", "New here", "Sent again", "FSC", "Remarks")
    output.table(columns, (_caught_up(row) for row in rows))


def _caught_up(row: dict[str, Any]) -> tuple[str, ...]:
    remarks = [row["trouble"]] if row["trouble"] else []
    if row["differs"]:
        remarks.append("speaks another version of FSC: contracts may be refused on either side")
    counts = (str(row[name]) for name in ("listed", "taken_in", "sent_again"))
    return (row["peer_id"], *counts, row["fsc_version"] or "?", "; ".join(remarks))


def read_terms(path: Path) -> dict[str, Any]:
    """The `properties` of a grant out of a TOML file with terms. Raises a fault that names the member at fault."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationFault(
            f"{path}: holds no terms that can be read: {error}", next_step="see docs/build/terms.md for an example"
        ) from error
    properties = {PROPERTY: {"version": 1} | values}
    terms_of(properties)
    return properties


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    grant = row["grants"][0]
    refused = [f"refused: {delivery['reason']}" for delivery in row["deliveries"] if delivery["status"] == "refused"]
    waiting = [f"waits for {peer}" for peer in row["waiting_for"]] if row["state"] == "proposed" else []
    return (
        output.short(row["content_hash"]),
        row["state"],
        grant["service"],
        grant["provider"],
        grant["consumer"] or "(publication)",
        output.day(row["not_after"]),
        "; ".join(refused or waiting),
    )


def _report(row: dict[str, Any], json: bool) -> None:
    if json:
        output.as_json(row)
        return
    output.table(("Hash", "State", "Service", "Provider", "Consumer", "Until", "Remarks"), [_row(row)])
