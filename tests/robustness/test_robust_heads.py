"""Heads of requests that no decent client sends: oversized, endless, slow, ambiguous, or no HTTP at all."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from robust_siege import state_of, tls_of

from stelsel.demo.cast import BOUWER, GEMEENTE, REGISTER, UITKERING, Actor
from stelsel.demo.country import Country

LISTENERS = [
    pytest.param(REGISTER, "manager", id="manager"),
    pytest.param(REGISTER, "inway", id="inway"),
    pytest.param(UITKERING, "outway", id="outway"),
    pytest.param(REGISTER, "web", id="web"),
    pytest.param(REGISTER, "control", id="control"),
    pytest.param(REGISTER, "inzage", id="inzage"),
]

_TARGET = {
    "manager": "/v1/peers",
    "inway": "/personen",
    "outway": "/personen/personen",
    "web": "/",
    "control": "/about",
    "inzage": "/gebruik",
}


@contextmanager
def _connected(country: Country, actor: Actor, listener: str) -> Iterator[socket.socket]:
    if listener in ("control", "inzage"):
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        raw.connect(str(country.data(actor) / f"{listener}.sock"))
    else:
        raw = socket.create_connection(("127.0.0.1", actor.port(country.base, listener)))
    if listener in ("manager", "inway"):
        raw = tls_of(country, BOUWER).wrap_socket(raw, server_hostname="localhost")
    raw.settimeout(5)
    with raw:
        yield raw


def _say(connection: socket.socket, data: bytes) -> bytes:
    """All that comes back until the node hangs up or is silent for a moment; nothing when it hung up at once."""
    answer = bytearray()
    try:
        connection.sendall(data)
        while piece := connection.recv(65536):
            answer += piece
            connection.settimeout(0.3)
    except TimeoutError:
        pass
    except (ConnectionError, ssl.SSLError, OSError):
        pass
    return bytes(answer)


def _statuses(answer: bytes) -> list[int]:
    return [int(line.split()[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def _heads(target: bytes) -> dict[str, bytes]:
    start = b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n"
    post = b"POST " + target + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return {
        "a header of 300 kB": start + b"X-A: " + b"a" * 300_000 + b"\r\n\r\n",
        "5000 headers": start + b"".join(b"X-%d: a\r\n" % number for number in range(5000)) + b"\r\n",
        "a target of 300 kB": b"GET " + target + b"?a=" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a NUL in a header": start + b"X-A: a\x00b\r\n\r\n",
        "a folded header": start + b"X-A: a\r\n b\r\n\r\n",
        "a header without a colon": start + b"no colon here\r\n\r\n",
        "a space before the colon": start + b"X-A : a\r\n\r\n",
        "a bare line feed in a header": start + b"X-A: a\nEvil: b\r\n\r\n",
        "an unknown method": b"STEAL " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "an unknown version": b"GET " + target + b" HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "two lengths": post + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "a length and chunks": post + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a length that is negative": post + b"Content-Length: -1\r\n\r\n",
        "a length without end": post + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
        "a chunk that is no number": post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "an unknown transfer coding": post + b"Transfer-Encoding: gzip, cow\r\nContent-Length: 2\r\n\r\n{}",
        "a target with bytes that are none": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "no HTTP at all": bytes(range(256)) * 8,
        "TLS where it is not spoken, or twice": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        + b"\x00" * 500
        + b"\r\n\r\n",
    }


@pytest.mark.parametrize(("actor", "listener"), LISTENERS)
def test_a_head_that_cannot_be_right_gets_a_refusal_or_a_closed_door(
    besieged: Country, actor: Actor, listener: str
) -> None:
    before, wrong = state_of(besieged), []
    for name, head in _heads(_TARGET[listener].encode()).items():
        begin = time.perf_counter()
        with _connected(besieged, actor, listener) as connection:
            answer = _say(connection, head)
        seconds = time.perf_counter() - begin
        if seconds > 4.5:
            wrong.append(f"{name}: {seconds:.1f} s, {answer[:100]!r}")
        if any(not 400 <= status < 500 and status not in (501, 505) for status in _statuses(answer)):
            wrong.append(f"{name}: {answer[:200]!r}")
        if len(_statuses(answer)) > 1:
            wrong.append(f"{name}: read as more than one request {answer[:300]!r}")
    assert not wrong, "\n".join(wrong)
    assert state_of(besieged) == before


@pytest.mark.parametrize(("actor", "listener"), LISTENERS)
def test_a_head_without_end_is_cut_off(besieged: Country, actor: Actor, listener: str) -> None:
    memory = besieged.processes[actor.key].memory()
    with _connected(besieged, actor, listener) as connection:
        connection.settimeout(3)
        try:
            connection.sendall(f"GET {_TARGET[listener]} HTTP/1.1\r\nHost: localhost\r\n".encode())
            for _ in range(200):
                connection.sendall(b"X-Padding: " + b"a" * 100_000 + b"\r\n")
        except (OSError, ssl.SSLError):
            pass
    assert besieged.processes[actor.key].memory() - memory < 8 * 1024


def test_the_nodes_are_all_still_there(besieged: Country) -> None:
    for actor in (REGISTER, GEMEENTE, UITKERING):
        assert besieged.processes[actor.key].running()
        besieged.await_node(actor, 5)
