"""What a power cut would ask: is a record on disk before anyone acts on it? Seen in the system calls of real nodes.

A process that is killed leaves what it wrote to the kernel; a machine that loses power keeps only what was synced. So
here strace(1) watches, and of every request its record must have been written, and a sync of that file have returned,
before the request left for the service (provider) or its answer for the client (consumer).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from crash.chain import CONSUMER, NODE, PEERS, PROVIDER, SERVICE, Chain
from crash.nursery import Nursery
from crash_chain import traffic

CALLS = "write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fdatasync,fsync"
_LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(\d+<([^>]*)>| resumed>)(.*)")
_RECORDED = re.compile(r'\\"transaction_id\\":\\"([0-9a-f-]{36})\\"')
_LEFT = re.compile(r"\"(?:POST|GET|HTTP/1\.1 200) .*?Fsc-Transaction-Id: ([0-9a-f-]{36})\\r\\n")


@dataclass
class Order:
    """In which order records and requests, or answers, went."""

    left: list[str] = field(default_factory=list)
    too_soon: list[str] = field(default_factory=list)
    """Left before its record was in a sync that had returned."""


def read_order(lines: Iterable[str]) -> Order:
    """The order out of what strace -f saw."""
    order, durable = Order(), set[str]()
    written: dict[str, set[str]] = {}
    syncing: dict[str, set[str]] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        thread, call, file, rest = match.groups()
        begins, ends = file is not None, not rest.endswith("<unfinished ...>")
        if call in {"fdatasync", "fsync"}:
            if begins:  # it covers what was written before it began
                syncing[thread] = written.pop(file, set())
            if ends and rest.endswith("= 0"):
                durable |= syncing.pop(thread, set())
            continue
        if not begins:
            continue
        recorded = set(_RECORDED.findall(rest))
        if recorded and file.endswith(".segment"):
            if "RWF_DSYNC" in rest and ends:
                durable |= recorded
            else:
                written.setdefault(file, set()).update(recorded)
        for transaction in _LEFT.findall(rest):
            order.left.append(transaction)
            if transaction not in durable:
                order.too_soon.append(transaction)
    return order


@pytest.fixture(params=[0, 2], ids=["one process", "workers"])
def watched(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Chain, dict[str, Path]]]:
    """Two nodes that run under strace, and where it writes what it sees."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here: python tools/provide.py strace")
    chain, seen = Chain.make(tmp_path), {name: tmp_path / f"{name}.strace" for name in PEERS}
    chain.write_nodes(workers=request.param, behind=False)
    nursery = Nursery((NODE, SERVICE))
    chain.start(nursery, "service")
    watchers = []
    try:
        for name in PEERS:
            node = [
                sys.executable,
                "-m",
                "stelsel",
                "run",
                str(tmp_path / name / "node.toml"),
                "--log-level",
                "warning",
            ]
            command = ["strace", "-f", "-y", "-qq", "--seccomp-bpf", "-s", "200000", "-e", f"trace={CALLS}"]
            watchers.append(subprocess.Popen([*command, "-o", str(seen[name]), *node]))
        for name in PEERS:
            chain.await_node(name)
        chain.agree()
        yield chain, seen
    finally:
        for watcher in watchers:
            for child in Path(f"/proc/{watcher.pid}/task/{watcher.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)  # strace itself takes no signals while it runs something
            watcher.wait(20)
        nursery.close()
        chain.close()


@pytest.mark.timeout(300)
def test_no_request_and_no_answer_leaves_before_its_record_was_synced(
    watched: tuple[Chain, dict[str, Path]],
) -> None:
    chain, seen = watched
    answered = set(traffic(chain, 200))
    for name in (PROVIDER, CONSUMER):
        with seen[name].open(errors="replace") as lines:
            order = read_order(lines)
        assert answered <= set(order.left), name
        assert order.too_soon == [], name


TRANSACTION = "01900000-0000-7000-8000-000000000001"
WRITE = f'7 write(9</x.segment>, "..{{\\"transaction_id\\":\\"{TRANSACTION}\\"}}", 99) = 99'
LEAVE = f'5 write(4<socket:[1]>, "POST /a HTTP/1.1\\r\\nFsc-Transaction-Id: {TRANSACTION}\\r\\n\\r\\n", 99) = 99'


@pytest.mark.parametrize(
    ("lines", "too_soon"),
    [
        ((WRITE, "7 fdatasync(9</x.segment>) = 0", LEAVE), False),
        ((WRITE, "7 fdatasync(9</x.segment> <unfinished ...>", "7 <... fdatasync resumed>) = 0", LEAVE), False),
        ((LEAVE,), True),
        ((WRITE, LEAVE), True),
        ((WRITE, LEAVE, "7 fdatasync(9</x.segment>) = 0"), True),
        ((WRITE, "7 fdatasync(9</x.segment> <unfinished ...>", LEAVE, "7 <... fdatasync resumed>) = 0"), True),
        ((WRITE.replace(".segment", ".sqlite-wal"), "7 fdatasync(9</x.sqlite-wal>) = 0", LEAVE), True),
        (("7 fdatasync(9</x.segment> <unfinished ...>", WRITE, "7 <... fdatasync resumed>) = 0", LEAVE), True),
        ((WRITE, "7 fdatasync(9</y.segment>) = 0", LEAVE), True),
        ((WRITE, "7 fdatasync(9</x.segment>) = -1 EIO (Input/output error)", LEAVE), True),
    ],
)
def test_an_order_that_a_power_cut_would_show_is_told(lines: tuple[str, ...], too_soon: bool) -> None:
    assert bool(read_order(lines).too_soon) is too_soon
