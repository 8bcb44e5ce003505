"""A folder to start from: certificates for a test group, and a target's file that says what to fill in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stelsel.base.errors import ConfigurationFault
from stelsel.steering.checks.fsc.identities import PEERS, make_group

_TARGET = """\
# What `stelsel check fsc --target fsc-target.toml` tests. Every key: docs/build/check-fsc.md.
group_id = "fsc-check"
trust_anchors = "certificates/trust-anchors.pem"

[target]
peer_id = "{peer_id}"
peer_name = "{name}"
manager = "https://localhost:8443"
# inway = "https://localhost:443"
# outway = "http://localhost:8080"
# signing = "target"      # only when its manager signs tokens with certificates/target.key

[tester]
certificates = "certificates"
first = "https://localhost:7143"
second = "https://localhost:7243"
third = "https://localhost:7343"
inway = "https://localhost:7144"
echo = "http://localhost:7190"

[approval]
mode = "manual"           # or: automatic, command, node
seconds = 60
"""


def make(folder: Path, hosts: tuple[str, ...] = ("localhost", "127.0.0.1")) -> Iterator[str]:
    """Make the folder; gives lines that say what is next. Raises `ConfigurationFault` when it is not empty."""
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationFault(f"{folder}: is not empty", next_step="choose another folder")
    make_group(folder / "certificates", target_hosts=hosts, tester_hosts=hosts)
    peer_id, name = PEERS["target"]
    (folder / "fsc-target.toml").write_text(_TARGET.format(peer_id=peer_id, name=name))
    yield f"Made {folder}, with certificates for a test group that has one trust anchor (its key was not kept)."
    yield f"1. Give what you test certificates/target.pem and .key (peer {peer_id}) and trust-anchors.pem."
    yield "2. Make it directory of the group fsc-check, with the services fsc-check and fsc-check-delegated."
    yield f"3. Fill in {folder}/fsc-target.toml, and run: stelsel check fsc --target {folder}/fsc-target.toml"
