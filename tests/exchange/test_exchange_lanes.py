"""Lanes by themselves: two carriers linked in memory, any order of events, any split of the bytes, hostile frames."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelsel.exchange.carrier import DATA, END, GRANT, LAST, RESET, Carrier
from stelsel.exchange.lane import WINDOW, Lane

Scenario = Callable[["Link"], Awaitable[None]]


def frame(kind: int, lane: int, payload: bytes = b"") -> bytes:
    return struct.pack("!BIH", kind, lane, len(payload)) + payload


def grant(lane: int, count: int) -> bytes:
    return frame(GRANT, lane, struct.pack("!I", count))


def frames(data: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    while data:
        kind, lane, length = struct.unpack_from("!BIH", data)
        found.append((kind, lane, data[7 : 7 + length]))
        data = data[7 + length :]
    return found


class End(asyncio.Protocol):
    """What is on one side of a lane; holds that it is called as a protocol may be."""

    def __init__(self, on_data: Callable[[End, bytes], None] | None = None) -> None:
        self.transport: Any = None
        self.received = bytearray()
        self.sent = bytearray()
        self.lost: list[Exception | None] = []
        self.full = False
        self.closed = False
        """Whether it ended the lane itself."""
        self._on_data = on_data
        self._inside = False

    def connection_made(self, transport: Any) -> None:
        assert self.transport is None
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        assert not self.lost
        assert not self._inside, "called while it was being called"
        self.received += data
        if self._on_data is not None:
            self._inside = True
            try:
                self._on_data(self, data)
            finally:
                self._inside = False

    def connection_lost(self, error: Exception | None) -> None:
        assert self.transport is not None
        assert not self._inside
        assert self.transport.is_closing()
        self.lost.append(error)

    def pause_writing(self) -> None:
        assert not self.full
        self.full = True

    def resume_writing(self) -> None:
        assert self.full
        self.full = False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.sent += data
        self.transport.write(data)

    def close(self) -> None:
        self.closed = True
        self.transport.close()

    def abort(self) -> None:
        self.closed = True
        self.transport.abort()


class Wire:
    """The transport under a carrier: what is written waits until it is delivered to the other side."""

    HIGH = 256 * 1024

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.waiting = bytearray()
        self.written = bytearray()
        self.under_way: dict[int, int] = {}
        """Bytes of DATA that were ever sent, by lane."""
        self.closing = False
        self.aborted = False
        self.over = False
        self._full = False

    def write(self, data: bytes) -> None:
        if self.closing:
            return
        for kind, lane, payload in frames(data):
            if kind == DATA:
                self.under_way[lane] = self.under_way.get(lane, 0) + len(payload)
        self.waiting += data
        self.written += data
        if len(self.waiting) > self.HIGH and not self._full:
            self._full = True
            self.carrier.pause_writing()

    def take(self, count: int) -> bytes:
        data = bytes(self.waiting[:count])
        del self.waiting[:count]
        if self._full and len(self.waiting) < self.HIGH // 4:
            self._full = False
            self.carrier.resume_writing()
        return data

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.waiting.clear()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": "me"}.get(name, default)


class Link:
    """A connecting side and an accepting side."""

    def __init__(self) -> None:
        self.ended: list[Carrier] = []
        self.made: list[End] = []
        """Ends on the accepting side, by the order in which their lanes were opened."""
        self.make: Callable[[], End] = End
        self.near = Carrier(None, self.ended.append)
        self.far = Carrier(self._accept, self.ended.append)
        self.wires = (Wire(self.near), Wire(self.far))
        self.near.connection_made(self.wires[0])  # type: ignore[arg-type]
        self.far.connection_made(self.wires[1])  # type: ignore[arg-type]

    def _accept(self) -> asyncio.Protocol:
        self.made.append(self.make())
        return self.made[-1]

    def open(self, on_data: Callable[[End, bytes], None] | None = None) -> End:
        end = End(on_data)
        self.near.open(end)
        return end

    def carriers(self, side: int) -> tuple[Carrier, Carrier]:
        return (self.near, self.far) if side == 0 else (self.far, self.near)

    def deliver(self, side: int, count: int = 1 << 30) -> None:
        """Give the other side of `side` what was written, at most `count` bytes."""
        data = self.wires[side].take(count)
        if data and not self.wires[1 - side].closing:
            self.carriers(side)[1].data_received(data)

    async def settle(self) -> None:
        """Until nothing moves any more."""
        for _ in range(200):
            await asyncio.sleep(0)
            if not (self.wires[0].waiting or self.wires[1].waiting):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if not (self.wires[0].waiting or self.wires[1].waiting):
                    return
            self.deliver(0)
            self.deliver(1)
        raise AssertionError("it never comes to rest")

    async def cut(self) -> None:
        """The connection breaks."""
        for wire in self.wires:
            if not wire.over:
                wire.over = True
                wire.carrier.connection_lost(ConnectionResetError())
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def play(scenario: Scenario) -> None:
    async def main() -> None:
        link = Link()
        await scenario(link)
        await link.cut()
        assert sorted(map(id, link.ended)) == sorted(map(id, (link.near, link.far)))

    asyncio.run(main())


def numbered(start: int, size: int) -> bytes:
    """Bytes of which each tells where it belongs."""
    pattern = bytes(range(251))
    start %= 251
    return (pattern * (size // 251 + 2))[start : start + size]


# --- what a lane is to those on it ---


def test_bytes_arrive_on_their_own_lane_and_both_ways() -> None:
    async def scenario(link: Link) -> None:
        ends = [link.open() for _ in range(5)]
        for number, end in enumerate(ends):
            end.write(b"%d" % number * 50_000)
        await link.settle()
        for number, other in enumerate(link.made):
            assert bytes(other.received) == b"%d" % number * 50_000
            other.write(b"back %d" % number)
        await link.settle()
        assert [bytes(end.received) for end in ends] == [b"back %d" % number for number in range(5)]
        assert ends[0].transport.get_extra_info("peername") == "me"
        assert not ends[0].transport.can_write_eof()

    play(scenario)


def test_what_many_lanes_send_in_one_turn_goes_together() -> None:
    async def scenario(link: Link) -> None:
        writes: list[bytes] = []
        wire = link.wires[0]
        write = wire.write
        wire.write = lambda data: (writes.append(data), write(data))[1]  # type: ignore[method-assign]
        ends = [link.open() for _ in range(20)]
        for end in ends:
            end.write(b"x" * 100)
        await link.settle()
        assert len(writes) == 1

    play(scenario)


def test_one_that_does_not_read_holds_up_its_own_lane_alone() -> None:
    async def scenario(link: Link) -> None:
        slow, quick = link.open(), link.open()
        await link.settle()
        link.made[0].transport.pause_reading()
        slow.write(numbered(0, 3 * WINDOW))
        assert slow.full
        assert slow.transport.get_write_buffer_size() == 2 * WINDOW
        for _ in range(20):
            quick.write(numbered(0, WINDOW))
            await link.settle()
        assert len(link.made[1].received) == 20 * WINDOW
        assert not link.made[0].received
        link.made[0].transport.resume_reading()
        await link.settle()
        assert link.made[0].received == numbered(0, 3 * WINDOW)
        assert not slow.full

    play(scenario)


def test_what_was_held_arrives_before_the_end() -> None:
    async def scenario(link: Link) -> None:
        end = link.open()
        await link.settle()
        other = link.made[0]
        other.transport.pause_reading()
        end.write(b"last words")
        end.close()
        await link.settle()
        assert end.lost == [None]
        assert not other.lost
        assert not other.transport.is_closing()
        other.transport.resume_reading()
        await link.settle()
        assert (bytes(other.received), other.lost) == (b"last words", [None])

    play(scenario)


@pytest.mark.parametrize("cut", [False, True])
def test_an_end_that_came_while_reading_was_paused_is_heard_later(cut: bool) -> None:
    """Also when nothing is held, and when the connection broke since: what came whole is whole."""

    async def scenario(link: Link) -> None:
        end = link.open()
        end.write(b"all")
        await link.settle()
        other = link.made[0]
        other.transport.pause_reading()
        end.close()
        await link.settle()
        if cut:
            await link.cut()
        assert not other.lost
        assert not other.transport.is_closing(), "or nobody would read on, and hear of it"
        other.transport.resume_reading()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (bytes(other.received), other.lost) == (b"all", [None])

    play(scenario)


def test_one_that_closes_what_the_other_closed_before_hears_the_end() -> None:
    async def scenario(link: Link) -> None:
        end = link.open()
        await link.settle()
        other = link.made[0]
        other.transport.pause_reading()
        other.write(bytes(2 * WINDOW))
        end.close()
        await link.settle()
        other.close()
        await link.settle()
        assert other.lost == [None], "nobody takes what it still had to send"

    play(scenario)


def test_a_lane_that_breaks_off_is_told_from_one_that_ends() -> None:
    async def scenario(link: Link) -> None:
        broken, ended, open_ = link.open(), link.open(), link.open()
        for end in (broken, ended):
            end.write(b"part")
        broken.abort()
        ended.close()
        await link.settle()
        assert isinstance(link.made[0].lost[0], ConnectionResetError)
        assert link.made[1].lost == [None]
        assert not link.made[2].lost
        await link.cut()
        assert [len(end.lost) for end in (broken, ended, open_, *link.made)] == [1] * 6
        assert isinstance(link.made[2].lost[0], ConnectionResetError)

    play(scenario)


def test_a_lane_that_was_never_written_to_can_end_or_be_used_late() -> None:
    """Lanes are used in any order, whatever the order in which they were opened."""

    async def scenario(link: Link) -> None:
        first, second, third = link.open(), link.open(), link.open()
        third.write(b"third")
        await link.settle()
        first.write(b"first")
        second.abort()
        await link.settle()
        assert [bytes(end.received) for end in link.made] == [b"first", b"", b"third"]
        assert [len(end.lost) for end in link.made] == [0, 1, 0]
        assert not link.wires[1].closing

    play(scenario)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_who_ends_its_lane_while_it_is_called_is_not_called_again(how: str) -> None:
    async def scenario(link: Link) -> None:
        link.make = lambda: End(lambda end, _: getattr(end, how)())
        end, other = link.open(), link.open()
        for _ in range(3):
            end.write(bytes(40_000))
        await link.settle()
        assert len(link.made[0].lost) == len(end.lost) == 1
        assert len(link.made[0].received) <= 40_000
        assert not other.lost

    play(scenario)


def test_who_stops_reading_while_it_is_called_gets_no_more_and_all_of_it_later() -> None:
    def stop(end: End, _: bytes) -> None:
        end.transport.pause_reading()

    async def scenario(link: Link) -> None:
        link.make = lambda: End(stop)
        end = link.open()
        end.write(numbered(0, 100_000))
        await link.settle()
        other = link.made[0]
        sizes = [len(other.received)]
        while len(other.received) < 100_000:
            other.transport.resume_reading()
            await link.settle()
            sizes.append(len(other.received))
        assert sizes == sorted(set(sizes))
        assert other.received == numbered(0, 100_000)

    play(scenario)


@pytest.mark.parametrize("held", [False, True])
def test_a_mistake_on_one_lane_ends_that_lane(held: bool) -> None:
    def mistake(end: End, data: bytes) -> None:
        raise RuntimeError("a mistake")

    async def scenario(link: Link) -> None:
        good = link.open()
        await link.settle()
        link.make = lambda: End(mistake)
        bad = link.open()
        await link.settle()
        if held:
            link.made[1].transport.pause_reading()
        bad.write(b"x")
        good.write(b"x")
        await link.settle()
        if held:
            link.made[1].transport.resume_reading()
        await link.settle()
        assert len(bad.lost) == 1
        assert (bytes(link.made[0].received), good.lost) == (b"x", [])

    play(scenario)


def test_one_that_is_refused_at_once_hears_so_and_nobody_else() -> None:
    class Refusing(End):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.abort()

    async def scenario(link: Link) -> None:
        good = link.open()
        await link.settle()
        link.make = Refusing
        refused = link.open()
        refused.write(b"GET / HTTP/1.1\r\n")
        await link.settle()
        assert (len(refused.lost), good.lost, bytes(link.made[1].received)) == (1, [], b"")

    play(scenario)


def test_a_connection_ends_when_nothing_is_left_on_it() -> None:
    async def scenario(link: Link) -> None:
        end = link.open()
        end.close()
        await link.settle()
        assert link.wires[0].closing
        assert not link.wires[0].aborted
        assert not link.wires[1].closing, "that is for who connected"

    play(scenario)


def test_after_the_last_word_no_lane_is_opened_and_those_there_go_on() -> None:
    async def scenario(link: Link) -> None:
        end = link.open()
        await link.settle()
        link.far.no_more()
        link.far.no_more()
        on_its_way = link.open()
        on_its_way.write(b"asked before it was heard")
        await link.settle()
        assert link.near.full
        assert [kind for kind, _, _ in frames(bytes(link.wires[1].written))] == [LAST]
        end.write(b"on")
        await link.settle()
        assert [bytes(other.received) for other in link.made] == [b"on", b"asked before it was heard"]

    play(scenario)


def test_who_waited_in_vain_opens_no_more_there() -> None:
    async def scenario(link: Link) -> None:
        end, other = link.open(), link.open()
        end.write(b"anybody?")
        await link.settle()
        link.made[1].write(b"yes")
        await link.settle()
        end.abort()
        assert not link.near.full, "something came meanwhile"
        other.write(b"anybody?")
        await link.settle()
        other.abort()
        assert link.near.full

    play(scenario)


# --- any order of events ---

SIZES = st.sampled_from([0, 1, 7, 300, 16_384, 16_385, 70_000, WINDOW, WINDOW + 1])
LANES = st.integers(0, 3)
STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 1), LANES, SIZES),
    st.tuples(st.sampled_from(["pause", "resume"]), st.integers(0, 1), LANES, st.just(0)),
    st.tuples(st.sampled_from(["close", "abort"]), st.integers(0, 1), LANES, st.just(0)),
    st.tuples(st.just("deliver"), st.integers(0, 1), st.just(0), st.sampled_from([1, 6, 8, 1000, 100_000, 1 << 30])),
    st.tuples(st.sampled_from(["turn", "open"]), st.just(0), st.just(0), st.just(0)),
)


class Story:
    """Plays steps, and holds after each what must hold."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.near = [link.open(), link.open()]
        """The first is left alone, so that the connection stays."""

    def end(self, side: int, index: int) -> End | None:
        ends = self.near if side == 0 else self.link.made
        return ends[index] if 0 < index < len(ends) else None

    async def step(self, what: str, side: int, index: int, size: int) -> None:
        end = self.end(side, index)
        if what == "turn":
            await asyncio.sleep(0)
        elif what == "open" and len(self.near) < 4:
            self.near.append(self.link.open())
        elif what == "deliver":
            self.link.deliver(side, size)
        elif end is None or end.lost:
            return
        elif what == "write":
            end.write(numbered(len(end.sent), size))
        elif what == "close":
            end.close()
        elif what == "abort":
            end.abort()
        elif what == "pause":
            end.transport.pause_reading()
        elif what == "resume":
            end.transport.resume_reading()

    def check(self) -> None:
        for number, (near, far) in enumerate(zip(self.near, self.link.made, strict=False), start=1):
            for end, other, wire in ((near, far, self.link.wires[0]), (far, near, self.link.wires[1])):
                assert end.sent.startswith(other.received)
                assert len(end.lost) <= 1
                if not (other.closed or other.lost or end.lost):
                    assert wire.under_way.get(number, 0) - len(other.received) <= WINDOW

    def check_end(self) -> None:
        assert [wire.closing for wire in self.link.wires] == [False, False]
        assert len(self.near) == len(self.link.made)
        for near, far in zip(self.near, self.link.made, strict=True):
            for end, other in ((near, far), (far, near)):
                if not end.closed:
                    assert bool(end.lost) == other.closed
                if not end.closed and not (other.lost and other.lost[0] is not None) and other.closed:
                    gracefully = end.lost == [None]
                    assert not gracefully or end.received == other.sent
                if not (end.closed or other.closed):
                    assert end.received == other.sent
                    assert not end.full


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_whatever_happens_each_lane_has_its_bytes_in_order_and_whole_up_to_its_end(
    steps: list[tuple[str, int, int, int]],
) -> None:
    async def scenario(link: Link) -> None:
        story = Story(link)
        for step in steps:
            await story.step(*step)
            story.check()
        await link.settle()
        for end in (*story.near, *link.made):
            if not end.lost:
                end.transport.resume_reading()
        await link.settle()
        for end in (*story.near, *link.made):  # of those who came since
            if not end.lost:
                end.transport.resume_reading()
        await link.settle()
        story.check_end()
        story.near[0].write(b"still here")
        await link.settle()
        assert bytes(link.made[0].received) == b"still here"
        await link.cut()
        assert all(len(end.lost) == 1 for end in (*story.near, *link.made))

    play(scenario)


CONVERSATION = b"".join(
    (
        frame(DATA, 1, b"first"),
        frame(DATA, 3),
        frame(DATA, 1, numbered(0, 300)),
        frame(DATA, 7, b"x"),
        frame(GRANT, 3, bytes(4)),
        frame(END, 3),
        frame(DATA, 3, b"after the end, to nobody"),
        frame(DATA, 900, numbered(5, 700)),
        frame(RESET, 7),
        frame(DATA, 1, b"last"),
        frame(END, 1),
    )
)
HOSTILE = [
    pytest.param(frame(DATA, 0, b"x"), id="data for lane 0"),
    pytest.param(frame(DATA, 0), id="no data for lane 0"),
    pytest.param(frame(END, 0), id="end of lane 0"),
    pytest.param(frame(RESET, 0), id="reset of lane 0"),
    pytest.param(grant(0, 1), id="grant for lane 0"),
    pytest.param(frame(END, 99), id="end of an unknown lane"),
    pytest.param(frame(RESET, 99), id="reset of an unknown lane"),
    pytest.param(grant(99, 1), id="grant for an unknown lane"),
    pytest.param(frame(LAST, 0), id="last, from who connected"),
    pytest.param(frame(LAST, 1), id="last of a lane"),
    pytest.param(frame(5, 1), id="unknown kind"),
    pytest.param(frame(255, 1, b"abcd"), id="unknown kind with bytes"),
    pytest.param(frame(END, 1, b"x"), id="end with bytes"),
    pytest.param(frame(RESET, 1, b"x"), id="reset with bytes"),
    pytest.param(frame(GRANT, 1, b"abc"), id="short grant"),
    pytest.param(frame(GRANT, 1), id="empty grant"),
    pytest.param(struct.pack("!BIH", END, 1, 65_535), id="end that announces much"),
    pytest.param(grant(1, 1), id="grant of what was never sent"),
    pytest.param(grant(1, (1 << 32) - 1), id="grant of all there is"),
    pytest.param(b"".join(frame(DATA, 2, bytes(65_535)) for _ in range(5)), id="more than the window"),
    pytest.param(frame(END, 2) + frame(DATA, 2, b"x"), id="data after the end"),
]


def heard(pieces: list[bytes]) -> list[tuple[bytes, list[type | None]]]:
    found = []

    async def scenario(link: Link) -> None:
        for piece in pieces:
            link.far.data_received(piece)
        await asyncio.sleep(0)
        assert not link.wires[1].closing
        found.extend((bytes(end.received), [error and type(error) for error in end.lost]) for end in link.made)

    play(scenario)
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=12))
def test_cut_anywhere_the_bytes_say_the_same(cuts: list[int]) -> None:
    borders = [0, *sorted(set(cuts) - {0}), len(CONVERSATION)]
    pieces = [CONVERSATION[begin:end] for begin, end in pairwise(borders)]
    assert heard([piece for piece in pieces if piece]) == EXPECTED


EXPECTED: list[tuple[bytes, list[type | None]]] = [
    (b"first" + numbered(0, 300) + b"last", [None]),
    (b"", [None]),
    (b"x", [ConnectionResetError]),
    (numbered(5, 700), []),
]


def test_byte_by_byte_the_bytes_say_the_same() -> None:
    assert heard([CONVERSATION[at : at + 1] for at in range(len(CONVERSATION))]) == EXPECTED


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_any_bytes_end_the_connection_at_most(begin: bytes, more: list[bytes]) -> None:
    async def scenario(link: Link) -> None:
        other = Link()
        for carrier, wire in ((link.far, link.wires[1]), (other.near, other.wires[0])):
            for piece in (begin, *more):
                if not wire.closing:
                    carrier.data_received(piece)
        await asyncio.sleep(0)
        await other.cut()

    play(scenario)


# --- who does not keep to it ---


@pytest.mark.parametrize("sent", HOSTILE)
@pytest.mark.parametrize("by_byte", [False, True])
def test_what_may_not_be_sent_ends_the_connection_and_nothing_else(sent: bytes, by_byte: bool) -> None:
    async def scenario(link: Link) -> None:
        if by_byte and len(sent) > 1000:
            return
        well = Link()
        one = well.open()
        link.far.data_received(frame(DATA, 1, b"a") + frame(DATA, 2, b"b"))
        link.made[1].transport.pause_reading()  # so that its end waits
        for piece in [sent[at : at + 1] for at in range(len(sent))] if by_byte else [sent]:
            if not link.wires[1].closing:
                link.far.data_received(piece)
        assert link.wires[1].aborted
        link.far.connection_lost(None)
        link.wires[1].over = True
        for end in link.made:
            end.transport.resume_reading()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [len(end.lost) for end in link.made] == [1, 1]
        one.write(b"nothing to do with it")
        await well.settle()
        assert well.made[0].received == one.sent
        await well.cut()

    play(scenario)


def test_who_accepts_may_open_no_lanes() -> None:
    async def scenario(link: Link) -> None:
        link.open()
        link.near.data_received(frame(DATA, 2, b"x"))
        assert link.wires[0].aborted

    play(scenario)


def test_the_highest_number_there_is_may_be_used_and_is_the_last() -> None:
    async def scenario(link: Link) -> None:
        link.far.data_received(frame(DATA, (1 << 32) - 1, b"x"))
        assert bytes(link.made[0].received) == b"x"
        link.far.data_received(frame(DATA, 5, b"of a lane that is over, as far as can be told"))
        assert len(link.made) == 1
        assert not link.wires[1].closing

    play(scenario)


@pytest.mark.parametrize("kind", [END, RESET])
def test_who_begins_and_breaks_off_without_end_is_stopped(kind: int) -> None:
    async def scenario(link: Link) -> None:
        number = 0
        while not link.far.full:
            number += 1
            link.far.data_received(frame(DATA, number, b"GET /") + frame(kind, number))
            assert number < 1100
        assert len(link.made) == number
        await asyncio.sleep(0)
        assert frames(bytes(link.wires[1].written))[-1] == (LAST, 0, b"")
        while not link.wires[1].closing:
            number += 1
            link.far.data_received(frame(DATA, number, b"GET /") + frame(kind, number))
            assert number < 2200
        assert len(link.made) < 1100, "what comes after that reaches nobody"
        assert not link.far.size

    play(scenario)


def test_who_opens_lanes_that_are_refused_without_end_is_stopped() -> None:
    class Refusing(End):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.abort()

    async def scenario(link: Link) -> None:
        link.make = Refusing
        number = 0
        while not link.wires[1].closing:
            number += 1
            link.far.data_received(frame(DATA, number))
            assert number < 2200
        assert len(link.made) < 1100

    play(scenario)


def test_who_connected_may_be_broken_off_as_often_as_it_likes_to_ask() -> None:
    async def scenario(link: Link) -> None:
        link.open()
        for _ in range(2500):
            link.open()
            await asyncio.sleep(0)
            link.near.data_received(frame(RESET, link.near._highest))
        assert not link.wires[0].closing

    play(scenario)


def test_small_frames_take_no_more_room_than_their_bytes() -> None:
    async def scenario(link: Link) -> None:
        link.far.data_received(frame(DATA, 1))
        lane: Lane = link.made[0].transport
        lane.pause_reading()
        many = frame(DATA, 1, b"ab") * 1000
        for _ in range(50):
            link.far.data_received(many)
        assert lane._held.__sizeof__() < 2 * 100_000 + 100
        lane.resume_reading()
        await asyncio.sleep(0)
        assert link.made[0].received == b"ab" * 50_000

    play(scenario)


def test_who_grants_byte_by_byte_gets_byte_by_byte() -> None:
    async def scenario(link: Link) -> None:
        link.far.data_received(frame(DATA, 1))
        body = numbered(0, 8 * WINDOW)
        link.made[0].write(body)
        await asyncio.sleep(0)
        link.wires[1].take(1 << 30)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        one = grant(1, 1)
        for _ in range(20_000):
            link.far.data_received(one)
        link.far.data_received(grant(1, 100) + grant(1, WINDOW // 2))
        assert loop.time() - begin < 2, "all that waits was copied each time"
        await asyncio.sleep(0)
        sent = b"".join(payload for kind, _, payload in frames(bytes(link.wires[1].written)) if kind == DATA)
        assert sent == body[: WINDOW + 20_100 + WINDOW // 2]
        assert link.made[0].transport.get_write_buffer_size() == len(body) - len(sent)

    play(scenario)


def test_grants_for_a_lane_that_is_over_concern_nobody() -> None:
    async def scenario(link: Link) -> None:
        link.far.data_received(frame(DATA, 1, b"x") + frame(END, 1) + grant(1, 500) + frame(END, 1) + frame(RESET, 1))
        assert not link.wires[1].closing

    play(scenario)


def test_one_that_takes_nothing_holds_up_its_connection_and_is_sent_no_more() -> None:
    async def scenario(link: Link) -> None:
        ends = [link.open() for _ in range(8)]
        for end in ends:
            end.write(bytes(WINDOW))
        await asyncio.sleep(0)
        assert len(link.wires[0].waiting) < Wire.HIGH + WINDOW + 1000
        assert sum(end.transport.get_write_buffer_size() for end in ends) > 5 * WINDOW
        await link.settle()
        assert [len(other.received) for other in link.made] == [WINDOW] * 8

    play(scenario)
