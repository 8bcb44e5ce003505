"""TLS between socket and protocol: a scripted other side, bytes in any pieces, endings of every kind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.demo.authority import Authority
from stelsel.exchange.tls import TlsConnection

SERVER, CLIENT = "00000099000000002000", "00000099000000003000"


class Wire:
    """The socket under one TLS connection; what is written goes into `sent`."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = self.aborted = self.paused = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def take(self) -> bytes:
        sent = bytes(self.sent)
        self.sent.clear()
        return sent


class Inside(asyncio.Protocol):
    """What speaks over TLS."""

    def __init__(self) -> None:
        self.transport: TlsConnection | None = None
        self.heard = bytearray()
        self.lost: list[Exception | None] = []
        self.on_data: Callable[[], None] = lambda: None

    def connection_made(self, transport: object) -> None:
        assert isinstance(transport, TlsConnection)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.on_data()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


class Side:
    """One side: the protocol inside, TLS, and the socket under it."""

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        self.inside, self.wire = Inside(), Wire()
        self.handshakes: list[OSError | None] = []
        self.tls = TlsConnection(
            lambda _: self.inside,
            context,
            server_hostname=server_hostname,
            on_handshake=lambda _, error: self.handshakes.append(error),
        )

    def begin(self) -> None:
        self.tls.connection_made(self.wire)  # type: ignore[arg-type]

    def hear(self, data: bytes, pieces: int | None = None) -> None:
        step = pieces or max(1, len(data))
        for at in range(0, len(data), step):
            if not self.wire.closed:
                self.tls.data_received(data[at : at + step])


class World:
    def __init__(self, folder: Path) -> None:
        authority, stranger = Authority(), Authority()
        self.anchors = TrustAnchors(authority.root_pem)
        authority.issue(folder / "server", SERVER, "Register")
        authority.issue(folder / "client", CLIENT, "Gemeente")
        stranger.issue(folder / "stranger", CLIENT, "Onbekend")
        self.server, self.client, self.stranger = (
            KeyPair.load(folder / name / "certificate.pem", folder / name / "key.pem")
            for name in ("server", "client", "stranger")
        )

    def sides(self, client: KeyPair | None = None, host: str = "localhost") -> tuple[Side, Side]:
        server = Side(self.server.server_context(self.anchors))
        return server, Side((client or self.client).client_context(self.anchors), host)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("tls"))


def shake_hands(server: Side, client: Side, pieces: int | None = None) -> None:
    server.begin()
    client.begin()
    exchange(server, client, pieces)


def exchange(server: Side, client: Side, pieces: int | None = None) -> None:
    """Carry bytes to and fro until both are silent."""
    while server.wire.sent or client.wire.sent:
        server.hear(client.wire.take(), pieces)
        client.hear(server.wire.take(), pieces)


@pytest.mark.parametrize("pieces", [1, 7, None])
def test_the_handshake_works_in_pieces_of_any_size(world: World, pieces: int | None) -> None:
    server, client = world.sides()
    shake_hands(server, client, pieces)
    assert server.handshakes == client.handshakes == [None]
    assert server.inside.transport is server.tls
    assert client.inside.transport is client.tls


@given(messages=st.lists(st.binary(min_size=1, max_size=40_000), min_size=1, max_size=4), pieces=st.integers(1, 20_000))
def test_what_is_said_is_heard_whole_whatever_the_pieces(world: World, messages: list[bytes], pieces: int) -> None:
    server, client = world.sides()
    shake_hands(server, client)
    for message in messages:
        client.tls.write(message)
        exchange(server, client, pieces)
        server.tls.write(message[::-1])
        exchange(server, client, pieces)
    assert bytes(server.inside.heard) == b"".join(messages)
    assert bytes(client.inside.heard) == b"".join(message[::-1] for message in messages)


def test_a_client_of_another_authority_is_not_let_in(world: World) -> None:
    server, client = world.sides(world.stranger)
    shake_hands(server, client)
    assert isinstance(server.handshakes[0], ssl.SSLError)
    assert server.inside.transport is None
    assert server.wire.closed


def test_a_server_with_another_name_is_not_spoken_to(world: World) -> None:
    server, client = world.sides(host="elsewhere.example")
    shake_hands(server, client)
    assert isinstance(client.handshakes[0], ssl.SSLError)
    assert client.inside.transport is None


def test_bytes_that_are_no_tls_end_the_handshake(world: World) -> None:
    server, _ = world.sides()
    server.begin()
    server.hear(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(server.handshakes[0], ssl.SSLError)
    assert server.wire.closed


def test_a_connection_that_ends_during_the_handshake_is_told_once(world: World) -> None:
    server, _ = world.sides()
    server.begin()
    server.tls.connection_lost(None)
    assert [type(error) for error in server.handshakes] == [ConnectionResetError]
    assert server.inside.lost == []


def test_a_goodbye_ends_the_other_side_well(world: World) -> None:
    server, client = world.sides()
    shake_hands(server, client)
    client.tls.write(b"last words")
    client.tls.close()
    server.hear(client.wire.take())
    server.tls.connection_lost(None)
    assert bytes(server.inside.heard) == b"last words"
    assert server.wire.closed
    assert server.inside.lost == [None]


def test_an_end_without_a_goodbye_is_an_end_cut_off(world: World) -> None:
    """Else whoever is in between could shorten an answer that has no length."""
    server, client = world.sides()
    shake_hands(server, client)
    client.tls.write(b"half of it")
    server.hear(client.wire.take())
    server.tls.connection_lost(None)
    assert [type(error) for error in server.inside.lost] == [ConnectionResetError]


def test_an_altered_byte_ends_the_connection_and_is_never_heard(world: World) -> None:
    server, client = world.sides()
    shake_hands(server, client)
    client.tls.write(b"a message")
    record = bytearray(client.wire.take())
    record[-1] ^= 1
    server.hear(bytes(record))
    assert not server.inside.heard
    assert server.wire.aborted


def test_what_came_while_reading_was_paused_is_heard_afterwards(world: World) -> None:
    async def play() -> None:
        server, client = world.sides()
        shake_hands(server, client)
        server.inside.on_data = server.tls.pause_reading
        for message in (b"one", b"two", b"three"):
            client.tls.write(message)
        server.hear(client.wire.take())
        assert bytes(server.inside.heard) == b"one"
        assert server.wire.paused
        server.inside.on_data = lambda: None
        server.tls.resume_reading()
        await asyncio.sleep(0)
        assert bytes(server.inside.heard) == b"onetwothree"
        assert not server.wire.paused

    asyncio.run(play())


def test_nothing_is_heard_or_said_after_the_close(world: World) -> None:
    server, client = world.sides()
    shake_hands(server, client)
    server.inside.on_data = server.tls.close
    for message in (b"one", b"two"):
        client.tls.write(message)
    server.hear(client.wire.take())
    sent = server.wire.take()
    server.tls.write(b"too late")
    assert bytes(server.inside.heard) == b"one"
    assert not server.wire.sent
    client.hear(sent)
    assert client.wire.closed
