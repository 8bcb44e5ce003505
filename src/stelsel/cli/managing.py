"""Commands for people who manage agreements and nodes: diff, renew, simulate, radar, doctor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stelsel.base.clock import moment
from stelsel.base.errors import Unavailable
from stelsel.cli import output
from stelsel.cli.options import DEFAULT_NODE, AsJson, NodeFile, Selector, control_of


def diff(selector: Selector, *, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Show what an agreement changes against the one that runs between the same peers about the same service.

    What allows more than before is marked WIDER. It also says whether a rule of the node's file would accept it.

    Example: stelsel agreement diff 3kQx
    """
    found = control_of(node).post("/commands/diff", {"selector": selector})
    if json:
        output.as_json(found)
        return
    marks = {"widens": "[bold red]WIDER[/bold red]  ", "narrows": "[green]smaller[/green]", "differs": "other  "}
    for grant in found["grants"]:
        against = f"against {output.short(grant['against'])}" if grant["against"] else "new: no other one runs"
        output.say(f"[bold]{output.plain(grant['service'])}[/bold] ({against})")
        for change in grant["changes"]:
            output.say(f"  {marks[change['effect']]}  {output.plain(change['nl'])}")
            output.say(f"           [dim]{output.plain(change['en'])}[/dim]")
        if not grant["changes"]:
            output.say("  Er verandert niets. [dim]Nothing changes.[/dim]")
    _approval(found)


def renew(
    selector: Selector,
    *,
    days: Annotated[int | None, Parameter(help="How many days it is to hold. Default: as many as it did.")] = None,
    keep_key: Annotated[
        bool, Parameter(help="Keep its outway key, though this node has another: of an outway elsewhere.", negative=())
    ] = False,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Propose an agreement anew: the same terms, from now on, and for this node's present key.

    Example: stelsel agreement renew 3kQx --days 365
    """
    body: dict[str, Any] = {"selector": selector, "keep_key": keep_key} | ({} if days is None else {"days": days})
    found = control_of(node).post("/commands/renew", body)
    if json:
        output.as_json(found)
        return
    new = output.short(found["content_hash"])
    output.say(f"Proposed [bold]{output.plain(new)}[/bold], for {found['days']} days. What follows:")
    for words in found["follows"]:
        output.say(f"  - {output.plain(words['en'])}")


def simulate(
    selector: Selector,
    *,
    revoke: Annotated[bool, Parameter(help="It is revoked.", negative=())] = False,
    without_field: Annotated[str | None, Parameter(help="This field is taken out of it.")] = None,
    certificate_expires: Annotated[
        bool, Parameter(help="The certificate it was signed with ends (that which ends first).", negative=())
    ] = False,
    days: Annotated[int, Parameter(help="Judge by the calls of so many days back.")] = 30,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Say which live flows break if this is revoked, if its certificate expires, or if a field goes.

    Nothing is changed. Judged by the calls that the ledger holds. Leaves with 1 when such a call would be refused.

    Example: stelsel agreement simulate 3kQx --without-field geboorte.datum
    """
    body: dict[str, Any] = {"selector": selector, "revoke": revoke, "certificate_expires": certificate_expires}
    found = control_of(node).post("/commands/simulate", body | {"without_field": without_field or "", "days": days})
    if json:
        output.as_json(found)
    else:
        _flows(found)
    if found["breaks"]:
        raise SystemExit(1)


def radar(
    *,
    days: Annotated[int, Parameter(help="Show what ends within so many days.")] = 90,
    urgent_days: Annotated[
        int, Parameter(help="Leave with 1 when a contract or certificate ends within so many days unrenewed.")
    ] = 30,
    node: NodeFile = DEFAULT_NODE,
    json: AsJson = False,
) -> None:
    """Show which contracts, certificates and revocation lists end soon, and what to do about each.

    Leaves with 1 when something is urgent: a contract or certificate within 30 days, a revocation list within one.

    Example: stelsel radar --days 180
    """
    found = control_of(node).post("/commands/radar", {"days": days, "urgent_days": urgent_days})
    if json:
        output.as_json(found)
    else:
        output.table(
            ("Ends", "Days left", "Urgent", "What", "What to do"),
            (
                (
                    output.day(item["until"]),
                    item["days_left"],
                    "YES" if item["urgent"] else "",
                    item["what"]["en"],
                    item["next_step"]["en"],
                )
                for item in found["expiring"]
            ),
        )
    if found["urgent"]:
        raise SystemExit(1)


def doctor(*, node: NodeFile = DEFAULT_NODE, json: AsJson = False) -> None:
    """Look for what is wrong with a node: settings, certificate, addresses, clock, peers, outbox, ledger, disk, files.

    Each trouble comes with a next step. A stopped node is looked at as far as that goes. Leaves with 1 on trouble.

    Example: stelsel doctor --node gemeente/node.toml
    """
    seen = _examine(node)
    if json:
        output.as_json(seen)
    else:
        marks = {True: "yes", False: "NO", None: "?"}
        output.table(
            ("Looked at", "In order", "What was found", "Next step"),
            ((item["name"], marks[item["ok"]], item["detail"], item["next_step"]) for item in seen),
        )
    if any(item["ok"] is False for item in seen):
        raise SystemExit(1)


def _examine(node: Path) -> list[dict[str, Any]]:
    from stelsel.control.client import Control
    from stelsel.control.on_paper import examine

    settings, observations = examine(node, time.time())
    seen = [observation.to_json() for observation in observations]
    if settings is None:
        return seen
    try:
        running = Control(settings.data).post("/commands/doctor", {})
    except Unavailable as fault:
        step = f"start it with: stelsel run {node}"
        detail = f"{fault.detail}; clock, peers, outbox and ledger were not looked at"
        return [*seen, {"name": "running", "ok": False, "detail": detail, "next_step": step}]
    return [*seen, {"name": "running", "ok": True, "detail": "the node answers", "next_step": ""}, *running]


def _approval(found: dict[str, Any]) -> None:
    verdict = found["approval"]
    if verdict["accepted"]:
        output.say(f"The rule {output.plain(verdict['rule'])} accepts this without anyone looking.")
    elif found["state"] == "proposed" and verdict["objections"]:
        output.say("No rule accepts this by itself:")
        for objection in verdict["objections"]:
            rule = f"{output.plain(objection['rule'])}: " if objection["rule"] else ""
            output.say(f"  - {rule}{output.plain(objection['en'])}")


def _flows(found: dict[str, Any]) -> None:
    if not found["flows"]:
        output.say(f"This agreement is {output.plain(found['state'])}: no flow that lives now rests on it.")
        return
    output.say(f"By the calls of the last {found['days']} days, what would become of each flow:")
    columns = ("Service", "Consumer", "Provider", "Outcome", "Calls", "A day", "Would fail", "Last use", "Instead")
    output.table(columns, (_flow(flow) for flow in found["flows"]))
    if any(flow["instead"] for flow in found["flows"]):
        output.say(
            "[dim]Applications that send Fsc-Grant-Hash must send the hash of the one that takes its place.[/dim]"
        )
    if not found["complete"]:
        output.say("[dim]There were more calls than are read; these are the newest.[/dim]")


def _flow(flow: dict[str, Any]) -> tuple[Any, ...]:
    return (
        flow["service"],
        flow["consumer_name"],
        flow["provider_name"],
        flow["outcome"],
        flow["calls"],
        flow["calls_a_day"],
        flow["breaking"],
        moment(flow["last_use"] / 1000) if flow["last_use"] else "never",
        output.short(flow["instead"]) if flow["instead"] else "nothing",
    )
