"""Listening sockets: kept, shared, given, and handed to the next program of a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from stelsel.base.errors import ConfigurationFault
from stelsel.base.listeners import Listeners, inherited

_HAND_OVER = """
import json, os, sys
from stelsel.base.listeners import Listeners, inherited
mine = Listeners(inherited(os.environ))
if sys.argv[1] == "first":
    mine.claim("inway", "127.0.0.1:0", 2)
    mine.claim("web", "127.0.0.1:0")
    mine.claim("manager", "127.0.0.1:0")
    told = {name: [each.getsockname() for each in mine.all(name)] for name in ("inway", "web")}
    mine.hand_over({"inway", "web"}, os.environ)
    os.execv(sys.executable, [sys.executable, "-c", os.environ["PROGRAM"], "second", json.dumps(told)])
told = json.loads(sys.argv[2])
mine.claim("inway", "127.0.0.1:%d" % told["inway"][0][1], 2)
mine.claim("web", "127.0.0.1:%d" % told["web"][0][1])
found = {name: [list(each.getsockname()) for each in mine.all(name)] for name in ("inway", "web")}
left = [name for name in os.environ if name.startswith("LISTEN_")]
print(json.dumps([found == told, left, sorted({each.fileno() for name in found for each in mine.all(name)})]))
"""


def test_sockets_are_handed_to_the_next_program_of_the_process() -> None:
    environment = os.environ | {"PROGRAM": _HAND_OVER}
    done = subprocess.run(
        [sys.executable, "-c", _HAND_OVER, "first"], capture_output=True, text=True, env=environment, check=False
    )
    assert json.loads(done.stdout) == [True, [], [3, 4, 5]], done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
    ],
    ids=["none", "of another process", "negative", "no number"],
)
def test_sockets_that_are_not_for_this_process_are_not_taken(environment: dict[str, str]) -> None:
    assert inherited(environment) == {}
    assert not environment  # nor passed on


def test_workers_share_a_port_that_nobody_else_has() -> None:
    listeners = Listeners()
    listeners.claim("inway", "127.0.0.1:0")
    port = listeners.all("inway")[0].getsockname()[1]
    other = Listeners()
    with pytest.raises(ConfigurationFault, match="cannot listen"):
        other.claim("inway", f"127.0.0.1:{port}", 2)
    listeners.close()
    other.claim("inway", f"127.0.0.1:{port}", 3)
    assert [each.getsockname()[1] for each in other.all("inway")] == [port] * 3
    other.close()


def test_a_backlog_survives_who_served_on_the_socket() -> None:
    listeners = Listeners()
    listeners.claim("web", "127.0.0.1:0")
    listeners.one("web").close()
    with socket.create_connection(listeners.all("web")[0].getsockname()) as waiting:
        again = listeners.one("web")
        again.setblocking(True)
        accepted, _ = again.accept()
        accepted.sendall(b"x")
        assert waiting.recv(1) == b"x"
        accepted.close()
        again.close()
    listeners.close()


def test_a_socket_that_was_given_is_found_by_its_port_and_shared_by_all_workers() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    port = given.getsockname()[1]
    listeners = Listeners({"node.socket": [given]})
    listeners.claim("inway", f"127.0.0.1:{port}", 4)
    assert listeners.all("inway") == [given]
    listeners.close()
