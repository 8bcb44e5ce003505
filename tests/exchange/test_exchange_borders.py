"""Nobody disagrees with us on where messages end: the corpus through our reader, and through gateways to nginx."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from exchange_corpus import Case, cases, events, outcome
from exchange_nginx import Nginx, nginx, quiet
from exchange_world import Reply, World, a_world, read_reply

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.exchange.identifiers import new_transaction_id
from stelsel.exchange.routing import origin_form
from stelsel.exchange.wire import RequestReader, WireLimits

_REFUSALS = frozenset(("400", "413", "431", "501", "505"))
_BROKEN_OFF = frozenset(("400", "408", "499"))
CASES = cases()


def test_the_corpus_is_large_and_says_each_thing_once() -> None:
    assert len(CASES) >= 400
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("family", sorted({case.family for case in CASES}))
def test_our_reader_makes_of_each_case_what_is_written(family: str) -> None:
    for case in CASES:
        if case.family != family:
            continue
        found, expected = outcome(case.data()), list(case.expected)
        if case.ended:
            expected.pop()
            found = found[: len(expected)]
        elif expected[-1] == "refused":
            assert found.pop() in _REFUSALS, case
            expected.pop()
        elif found == [] and case.unfinished:
            found = ["..."]
        assert found == expected, case


@pytest.mark.parametrize("family", sorted({case.family for case in CASES}))
def test_any_split_of_each_case_gives_the_same_events(family: str) -> None:
    for case in CASES:
        data = case.data()
        if case.family != family:
            continue
        whole = events(RequestReader(WireLimits()), [data])
        # Every split into two of a short case; of a long one, some, and those around the end of the first head.
        every = range(len(data)) if len(data) < 400 else [*range(0, len(data), len(data) // 25), *range(30, 60)]
        for at in every:
            assert events(RequestReader(WireLimits()), [data[:at], data[at:]]) == whole, (str(case), at)
        if len(data) < 5000:
            assert events(RequestReader(WireLimits()), [bytes([byte]) for byte in data]) == whole, str(case)


# --- through gateways, to a real nginx ---


Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Door:
    """One gateway as a hostile client has it: raw bytes in, answers out."""

    def __init__(self, world: World, service: Nginx, connect: Connect, authority: bytes) -> None:
        self.world = world
        self.service = service
        self.authority = authority
        self._connect = connect
        self._logged = 0
        self._probes = 0

    async def play(self, case: Case) -> None:
        """Send it; hold what nginx saw against what is written, and against what we answered."""
        before = len(self.service.numbers)
        messages = case.messages
        try:
            answers = await self._answers(case)
        finally:
            lines = await self._log()
        self._check_log(messages, lines)
        carried = [
            (message, answer)
            for message, answer in zip(messages, answers, strict=False)
            if "x-number" in answer.headers
        ]
        seen = self.service.numbers[before:]
        assert len(seen) == len(carried), f"nginx passed on {len(seen)} requests, we carried {len(carried)}"
        for (method, target, size), answer in carried:
            one = self.service.numbers[int(answer.headers["x-number"])]
            path = origin_form(target.encode("latin-1")).decode("latin-1")
            assert (one.method, one.target, len(one.body)) == (method, path, size)
            assert one.headers["host"] == "127.0.0.1", "nginx takes another host than that of the service"

    async def _answers(self, case: Case) -> list[Reply]:
        reader, writer = await self._connect()
        try:
            writer.write(case.data(self.authority))
            answers = [await asyncio.wait_for(read_reply(reader, method), 5) for method, _, _ in case.messages]
            if case.refused:
                last = await asyncio.wait_for(read_reply(reader), 5)
                expected = case.expected[-1]
                assert str(last.status) in (_REFUSALS if expected == "refused" else (expected,))
                assert "x-number" not in last.headers
                assert last.headers.get("connection") == "close"
            assert await quiet(reader, 0.02 if case.unfinished else 0.002) == b"", "there was one answer too many"
        finally:
            writer.transport.abort()
        return answers

    async def _log(self) -> list[list[str]]:
        """The lines that nginx wrote since the last time, known to be complete by a good request behind them."""
        self._probes += 1
        probe = f"/probe-{self._probes}"
        reader, writer = await self._connect()
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (probe.encode(), self.authority))
        answer = await asyncio.wait_for(read_reply(reader), 5)
        writer.transport.abort()
        seen = self.service.numbers.pop(int(answer.headers["x-number"]))
        assert seen.target == probe, "another's request was answered"
        while True:
            lines = self.service.log()[self._logged :]
            if any(line[1] == probe for line in lines):
                break
            await asyncio.sleep(0.002)
        self._logged += len(lines)
        return [line for line in lines if line[1] != probe]

    def _check_log(self, messages: list[tuple[str, str, int]], lines: list[list[str]]) -> None:
        """nginx's own log: the same requests in the same order, and at most one that was broken off."""
        whole = [(line[0], line[1]) for line in lines if line[2] not in _BROKEN_OFF]
        ours = [(method, origin_form(target.encode("latin-1")).decode("latin-1")) for method, target, _ in messages]
        assert whole == [one for one in ours if one in whole]
        assert "/smuggled" not in {line[1] for line in lines}
        assert len(lines) - len(whole) <= 1, lines


def run(scenario: Callable[[World], Awaitable[None]], *world: Any, **options: Any) -> None:
    async def main() -> None:
        async with a_world(*world, **options) as made:
            await asyncio.wait_for(scenario(made), 110)

    uvloop.run(main())


@pytest.mark.parametrize("door", ["outway", "inway"])
def test_nginx_sees_the_messages_that_we_saw_and_no_others(
    door: str, register: KeyPair, municipality: KeyPair, anchors: TrustAnchors, tmp_path: Path
) -> None:
    with nginx(tmp_path) as service:

        async def scenario(world: World) -> None:
            world.service.handler = service.record
            if door == "outway":
                authority = b"Fsc-Grant-Hash: $1$3$plain\r\n"
                connect = lambda: asyncio.open_connection("127.0.0.1", world.outway_port)  # noqa: E731
            else:
                token = await world.agreements.token("$1$3$plain")
                authority = (
                    f"Fsc-Authorization: {token.compact}\r\nFsc-Transaction-Id: {new_transaction_id()}\r\n".encode()
                )
                context: ssl.SSLContext = municipality.client_context(anchors)
                connect = lambda: asyncio.open_connection(  # noqa: E731
                    "127.0.0.1", world.inway_port, ssl=context, server_hostname="localhost"
                )
            hostile = Door(world, service, connect, authority)
            faults = []
            for case in CASES:
                try:
                    await hostile.play(case)
                except (AssertionError, TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
                    faults.append(f"{case}: {type(error).__name__} {str(error)[:300]}")
            assert not faults, "\n".join(faults)
            await asyncio.sleep(0.05)
            assert world.inway.in_flight == world.outway.in_flight == 0

        run(scenario, register, municipality, anchors, front=service.start)


def test_nginx_by_itself_takes_some_of_what_we_refuse(
    register: KeyPair, municipality: KeyPair, anchors: TrustAnchors, tmp_path: Path
) -> None:
    """Only told, not judged: it is why a strict reader stands before a service."""
    taken: list[str] = []

    with nginx(tmp_path) as service:

        async def scenario(world: World) -> None:
            world.service.handler = service.record
            for case in CASES:
                if not case.refused:
                    continue
                before = len(service.numbers)
                reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
                writer.write(case.data())
                await quiet(reader, 0.02)
                writer.transport.abort()
                if len(service.numbers) - before > len(case.messages):
                    taken.append(str(case))

        run(scenario, register, municipality, anchors, front=service.start)
    print("\n".join(taken))
    assert taken
