"""Commands that make and run nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stelsel.base.errors import ConfigurationFault
from stelsel.cli import output
from stelsel.cli.options import AsJson, settings_of


def run(
    file: Annotated[Path, Parameter(help="The node's file.")] = Path("node.toml"),
    *,
    log_json: Annotated[
        bool, Parameter(name=["--log-json", "--json"], help="Log as JSON, for machines.", negative=())
    ] = False,
    log_level: Annotated[str, Parameter(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the node of a file until it is asked to stop (Ctrl-C or SIGTERM); then finish what is under way.

    SIGHUP does what `stelsel reload` does, SIGUSR2 what `stelsel restart` does.

    Example: stelsel run gemeente/node.toml
    """
    from stelsel.base.log import configure
    from stelsel.running import run as run_node

    if log_level not in {"debug", "info", "warning", "error"}:
        raise ConfigurationFault("the log level is unknown", next_step="choose debug, info, warning or error")
    settings = settings_of(file)
    configure(as_json=log_json, level=log_level)
    run_node(settings, lambda: settings_of(file))


def init(
    folder: Annotated[Path, Parameter(help="Folder to make the node in; must not exist, or be empty.")],
    *,
    peer_id: Annotated[str, Parameter(help="The organisation's OIN, 20 digits.")],
    name: Annotated[str, Parameter(help="The organisation's name, as it must stand in the certificate.")],
    host: Annotated[str, Parameter(help="Host name on which peers reach this node.")],
    group: Annotated[Path, Parameter(help="The group's file, with its rules and trust anchors.")],
    as_json: AsJson = False,
) -> None:
    """Make a new node: a private key, a request for its certificate, and a file with settings to start from.

    Example: stelsel init gemeente --peer-id 00000099000000003000 --name Gemeente --host localhost --group group.toml
    """
    from stelsel.new_node import make

    node = make(folder, peer_id=peer_id, name=name, host=host, group=group)
    if as_json:
        output.as_json({"made": [str(file) for file in node.made], "next_steps": list(node.next_steps)})
        return
    *files, last = (str(file) for file in node.made)
    output.say(output.plain(f"Made {', '.join(files)} and {last}."))
    for number, step in enumerate(node.next_steps):
        output.say(output.plain(f"{'Then' if number else 'Next step'}: {step}"))


def demo(
    *,
    check: Annotated[
        bool, Parameter(help="Play the scenario headless, print each step with its evidence, and stop.", negative=())
    ] = False,
    people: Annotated[int, Parameter(help="How many synthetic residents, up to 17,000,000.")] = 10_000,
    people_file: Annotated[
        Path | None, Parameter(help="Load these persons instead: the RvIG test set, a CSV with LO BRP columns.")
    ] = None,
    seed: Annotated[int, Parameter(help="The same seed gives the same people.")] = 1,
    folder: Annotated[
        Path | None,
        Parameter(help="Where the country lives. Default: ./country; for --check a folder that is removed."),
    ] = None,
    base_port: Annotated[
        int | None, Parameter(help="Where its ports begin. Default: the first free of 7000...")
    ] = None,
    fresh: Annotated[bool, Parameter(help="Remove what an earlier demo left in the folder.", negative=())] = False,
    json: Annotated[bool, Parameter(help="With --check: print the steps as JSON.", negative=())] = False,
) -> None:
    """Start a small country on this machine: five organisations, their agreements, and people who do not exist.

    It keeps running until Ctrl-C, which stops everything cleanly.

    Example: stelsel demo --people 100000
    """
    from stelsel.demo.country import Options
    from stelsel.demo.run import check_demo, run_demo

    options = Options(
        people=people, people_file=people_file, seed=seed, folder=folder, base_port=base_port, fresh=fresh
    )
    if check:
        raise SystemExit(0 if check_demo(options, as_json=json) else 1)
    run_demo(options)
