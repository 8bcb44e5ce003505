"""Steering at work with real nodes on this machine: the acceptance, the log, the gate from afar, hostile callers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stelsel.agreements.client import PeerClients
from stelsel.agreements.stored import ListedPeer
from stelsel.base.canonical import canonical
from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.base.clock import SetClock, moment
from stelsel.base.database import Database
from stelsel.base.errors import ConfigurationFault, Conflict, NotFound, Unauthenticated, Unprocessable
from stelsel.base.web import application, listen, serving
from stelsel.steering.api import NodeInfo, manager_routes, node_routes, routes
from stelsel.steering.findings import Outcome, State
from stelsel.steering.gate import RemoteGate, SteeringGate
from stelsel.steering.log import Entry, obligations_of, replay, verify_findings
from stelsel.steering.obligations import end_of
from stelsel.steering.service import Steering
from stelsel.steering.settings import SteeringSettings

STEWARD, BUILDER = "00000099000000001000", "00000099000000005000"
TODAY = datetime.now(UTC).date()
DEADLINE = TODAY - timedelta(days=1)
DAY = 86400.0

OBLIGATIONS = f"""
[classes]
everyone = ["{STEWARD}", "{BUILDER}"]

[[obligations]]
id = "report-vulnerabilities"
title = {{nl = "Meldpunt voor kwetsbaarheden", en = "Where to report vulnerabilities"}}
norm = {{nl = "De website heeft een geldige security.txt.", en = "The website has a valid security.txt."}}
legal_basis = "Regels van het stelsel, artikel 4"
checks = ["security_txt@1"]
applies_to = ["everyone"]
applies_from = {TODAY - timedelta(days=100)}
deadline = {DEADLINE}
consequence = "refuse-new-contracts"

[[obligations]]
id = "safe-connection"
title = {{nl = "Veilige verbinding", en = "Safe connection"}}
norm = {{nl = "Alleen TLS 1.2 of 1.3.", en = "Only TLS 1.2 or 1.3."}}
legal_basis = "Regels van het stelsel, artikel 3"
checks = ["tls@1"]
applies_from = {TODAY - timedelta(days=100)}
deadline = {TODAY + timedelta(days=20)}
consequence = "refuse-new-contracts"
"""


class Node:
    """A peer as far as steering sees it: a manager with mutual TLS and a website whose security.txt can change."""

    def __init__(self, peer_id: str, keypair: KeyPair, clock: SetClock) -> None:
        self.peer_id, self.keypair, self.clock = peer_id, keypair, clock
        self.expired = False
        self.told = ""  # what it says its web address is, if not the truth
        self.manager_address = self.web_address = ""

    async def security_txt(self, _: Request) -> Response:
        at = moment(self.clock.now() + (-DAY if self.expired else 30 * DAY))
        return PlainTextResponse(f"Contact: mailto:veilig@{self.peer_id}.example\nExpires: {at}\n")


class Country:
    """A steward and a builder; stands in for `Agreements` towards steering: the list of peers and the clients."""

    def __init__(self, folder: Path, anchors: TrustAnchors, keypairs: dict[str, KeyPair]) -> None:
        self.clock = SetClock(datetime.now(UTC).timestamp())
        self.anchors = anchors
        self.nodes = {peer: Node(peer, keypair, self.clock) for peer, keypair in keypairs.items()}
        self.path = folder / "obligations.toml"
        self.path.write_text(OBLIGATIONS)
        self.database = Database(folder / "steward.sqlite")
        self.clients = PeerClients(keypairs[STEWARD], anchors, "https://localhost:1")
        self.settings = SteeringSettings(enabled=True, obligations=self.path, interval=0, local_addresses=True)
        self.steering = self.make()

    def make(self) -> Steering:
        self.database.create()
        return Steering(
            database=self.database,
            agreements=self,
            keypair=self.nodes[STEWARD].keypair,
            anchors=self.anchors,
            clock=self.clock,
            settings=self.settings,
        )

    async def directory_peers(self) -> list[ListedPeer]:
        return [ListedPeer(node.peer_id, f"Peer {node.peer_id}", node.manager_address) for node in self.nodes.values()]

    async def peer_client(self, peer_id: str) -> httpx.AsyncClient:
        return self.clients.of(peer_id)

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[Steering]:
        async with contextlib.AsyncExitStack() as stack:
            for node in self.nodes.values():
                web, manager = listen("127.0.0.1:0"), listen("127.0.0.1:0")
                node.web_address = f"http://localhost:{web.getsockname()[1]}"
                node.manager_address = f"https://localhost:{manager.getsockname()[1]}"
                pages = [Route("/.well-known/security.txt", node.security_txt)]
                paths = node_routes(NodeInfo(node.told or node.web_address, None))
                if node.peer_id == STEWARD:
                    pages += routes(self.steering)  # type: ignore[arg-type]
                    paths += manager_routes(self.steering)
                await stack.enter_async_context(serving(application(list(pages)), web))
                tls = node.keypair.server_context(self.anchors)
                await stack.enter_async_context(serving(application(paths), manager, tls))
            await self.steering.start()
            try:
                yield self.steering
            finally:
                await self.steering.stop()
                await self.clients.close()
                self.database.close()

    async def public_lines(self) -> list[bytes]:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{self.nodes[STEWARD].web_address}/steering/findings")
        return answer.content.splitlines()


@pytest.fixture
def country(tmp_path: Path, anchors: TrustAnchors, new_keypair: Callable[..., KeyPair]) -> Country:
    return Country(tmp_path, anchors, {peer: new_keypair(peer, f"Peer {peer}") for peer in (STEWARD, BUILDER)})


def state_of(steering: Steering, now: float, obligation: str = "report-vulnerabilities") -> State:
    return next(one.state for one in steering.standings(BUILDER, now) if one.obligation.id == obligation)


def test_the_closed_chain_from_failing_to_refusal_explanation_and_green_and_a_third_party_sees_the_same(
    country: Country,
) -> None:
    async def story() -> tuple[list[Entry], list[tuple[float, bool]]]:
        async with country.up() as steering:
            gate, clock, builder = SteeringGate(steering), country.clock, country.nodes[BUILDER]
            seen: list[tuple[float, bool]] = []

            async def refused() -> bool:
                refusal = await gate.refuse_reason(BUILDER, clock.now())
                seen.append((clock.now(), refusal is not None))
                if refusal is not None:
                    assert "Meldpunt" in refusal.reason
                    assert len({item["evidence_hash"] for item in refusal.evidence}) >= 1
                    assert len(refusal.evidence) == 2
                clock.forward(60)
                return refusal is not None

            builder.expired = True
            await steering.run_checks(BUILDER)
            assert not await refused()  # once is no failing yet
            await steering.run_checks(BUILDER)
            assert await refused()
            assert await gate.refuse_reason(STEWARD, clock.now()) is None

            until = datetime.fromtimestamp(clock.now(), UTC).date() + timedelta(days=60)
            await steering.explain("report-vulnerabilities", BUILDER, "Nieuwe website in aanbouw", until, "Regie")
            assert not await refused()
            clock.set(end_of(until) - 120)
            assert not await refused()
            clock.set(end_of(until) + 1)
            assert await refused()

            builder.expired = False
            clock.set(datetime.now(UTC).timestamp() + 62 * DAY)
            await steering.run_checks(BUILDER)
            assert not await refused()
            assert state_of(steering, clock.now()) is State.MET
            lines = await country.public_lines()
            return verify_findings(lines, country.nodes[STEWARD].keypair.certificate), seen

    entries, seen = asyncio.run(story())
    assert [refused for _, refused in seen] == [False, True, False, False, True, False]
    assert set(obligations_of(entries, seen[-1][0])) == {"report-vulnerabilities", "safe-connection"}
    for at, refused in seen:
        told = replay(entries, country.steering.obligations, BUILDER, at)
        assert any(one.refuses for one in told) == refused


def test_the_board_says_how_many_of_what_is_due_and_gives_no_grade(country: Country) -> None:
    async def run() -> dict[str, Any]:
        async with country.up() as steering:
            country.nodes[BUILDER].expired = True
            for _ in range(2):
                await steering.run_checks()
                country.clock.forward(60)
            async with httpx.AsyncClient(base_url=country.nodes[STEWARD].web_address) as http:
                board = (await http.get("/steering/board")).json()
                finding = board["peers"][1]["lines"][0]["evidence"][0]
                entry = (await http.get(finding["href"])).json()
                assert entry["body"]["evidence_hash"] == finding["evidence_hash"]
                assert any("expires" in line for line in entry["body"]["evidence"]["transcript"])
                assert (await http.get("/steering/findings/99999")).status_code == 404
                assert (await http.get("/steering/findings/-1")).status_code == 400
                assert (await http.get("/steering/findings?from=x")).status_code == 400
                assert (await http.get("/steering/goals/none")).status_code == 404
            return board

    board = asyncio.run(run())
    steward, builder = board["peers"]
    assert steward["said"]["en"] == "meets 1 of 1 obligations due today"
    assert builder["said"]["nl"] == "voldoet aan 0 van de 1 verplichte afspraken die vandaag gelden"
    assert builder["refusal"]
    assert [line["state"] for line in builder["lines"]] == ["failing", "met"]
    assert "score" not in json.dumps(board)


def test_what_was_found_is_still_known_after_a_restart_and_the_chain_goes_on(country: Country) -> None:
    async def run() -> None:
        async with country.up() as steering:
            country.nodes[BUILDER].expired = True
            for _ in range(2):
                await steering.run_checks()
            again = country.make()
            await again.start()
            assert state_of(again, country.clock.now()) is State.FAILING
            before = len(list(again.log.entries()))
            country.nodes[BUILDER].expired = False
            await again.run_checks(BUILDER)
            assert state_of(again, country.clock.now()) is State.MET
            lines = await country.public_lines()
            assert len(verify_findings(lines, country.nodes[STEWARD].keypair.certificate)) == before + 2

    asyncio.run(run())


def test_an_altered_dropped_moved_or_foreign_entry_is_detected(country: Country) -> None:
    async def run() -> list[bytes]:
        async with country.up() as steering:
            await steering.run_checks()
            return await country.public_lines()

    lines = asyncio.run(run())
    certificate = country.nodes[STEWARD].keypair.certificate
    assert len(verify_findings(lines, certificate)) == len(lines) == 6
    altered = [line.replace(b'"outcome":"met"', b'"outcome":"not-met"') for line in lines]
    transcript = [line.replace(b"TLSv1.3: accepted", b"TLSv1.3: refused") for line in lines]
    hidden = json.loads(lines[2])
    hidden["at"] += 1
    tampered = [
        altered,
        transcript,
        lines[1:],
        lines[:2] + lines[3:],
        [lines[1], lines[0]],
        [*lines[:2], canonical(hidden)],
    ]
    for wrong in tampered:
        assert wrong != lines
        with pytest.raises(Unauthenticated):
            verify_findings(wrong, certificate)
    with pytest.raises(Unauthenticated):
        verify_findings(lines, country.nodes[BUILDER].keypair.certificate)


def test_a_peer_that_cannot_be_reached_is_an_error_and_never_refused(country: Country) -> None:
    async def run() -> None:
        async with country.up() as steering:
            country.nodes[BUILDER].manager_address = "https://localhost:9"
            for _ in range(3):
                found = await steering.run_checks(BUILDER)
                assert {finding.outcome for finding in found} == {Outcome.ERROR}
            assert await SteeringGate(steering).refuse_reason(BUILDER, country.clock.now() + 100 * DAY) is None
            with pytest.raises(NotFound):
                await steering.run_checks("00000099000000009999")

    asyncio.run(run())


def test_another_peer_asks_the_steward_and_lets_pass_when_it_gets_no_clear_answer(
    country: Country, anchors: TrustAnchors
) -> None:
    async def run() -> None:
        async with country.up() as steering:
            country.nodes[BUILDER].expired = True
            for _ in range(2):
                await steering.run_checks()
            steward = country.nodes[STEWARD]
            here = RemoteGate(country, steward.manager_address, STEWARD)
            refusal = await here.refuse_reason(BUILDER, 0.0)
            assert refusal is not None
            assert refusal.evidence[0]["obligation"] == "report-vulnerabilities"
            assert await here.refuse_reason(STEWARD, 0.0) is None
            assert await here.refuse_reason("../../etc", 0.0) is None
            nobody = RemoteGate(country, "https://localhost:9", STEWARD)
            assert await nobody.refuse_reason(BUILDER, 0.0) is None
            impostor = RemoteGate(country, country.nodes[BUILDER].manager_address, STEWARD)
            assert await impostor.refuse_reason(BUILDER, 0.0) is None
            country.nodes[BUILDER].expired = False
            await steering.run_checks()
            assert await here.refuse_reason(BUILDER, 0.0) is not None  # remembered, for seconds
            fresh = RemoteGate(country, steward.manager_address, STEWARD, ttl=0)
            assert await fresh.refuse_reason(BUILDER, 0.0) is None
            bare = ssl.create_default_context(cadata=anchors.pem.decode())
            async with httpx.AsyncClient(verify=bare) as http:
                with pytest.raises(httpx.TransportError):
                    await http.get(f"{steward.manager_address}/stelsel/v1/standing/{BUILDER}")

    asyncio.run(run())


def test_an_appeal_pauses_until_decided_and_granting_it_takes_a_last_day(country: Country) -> None:
    async def run() -> None:
        async with country.up() as steering:
            with pytest.raises(Conflict):
                await steering.appeal("report-vulnerabilities", BUILDER, "Voorbarig")
            country.nodes[BUILDER].expired = True
            for _ in range(2):
                await steering.run_checks()
            gate, clock = SteeringGate(steering), country.clock
            appeal = await steering.appeal("report-vulnerabilities", BUILDER, "Onze site is van een ander\x1b[2J")
            assert "\x1b" not in appeal.text
            assert state_of(steering, clock.now()) is State.APPEALED
            with pytest.raises(Conflict):
                await steering.appeal("report-vulnerabilities", BUILDER, "Nog eens")
            with pytest.raises(Unprocessable):
                await steering.decide_appeal(appeal.id, granted=True)
            await steering.decide_appeal(appeal.id, granted=False)
            assert await gate.refuse_reason(BUILDER, clock.now()) is not None
            with pytest.raises(Conflict):
                await steering.appeal("report-vulnerabilities", BUILDER, "Weer")
            with pytest.raises(Unprocessable):
                await steering.explain("report-vulnerabilities", BUILDER, "Te laat", date(2020, 1, 1), "Regie")
            with pytest.raises(NotFound):
                await steering.explain("nothing", BUILDER, "Welke?", TODAY, "Regie")

    asyncio.run(run())


def test_the_checks_run_by_themselves_from_the_start_and_stop_with_the_node(country: Country) -> None:
    country.settings = SteeringSettings(enabled=True, obligations=country.path, interval=3600, local_addresses=True)
    country.steering = country.make()

    async def run() -> None:
        async with country.up() as steering:
            async with asyncio.timeout(10):
                while not steering.log.findings(BUILDER):
                    await asyncio.sleep(0.02)
            assert state_of(steering, country.clock.now()) is State.MET

    asyncio.run(run())


def test_a_peer_that_serves_nonsense_about_itself_gets_an_error_and_the_others_their_findings(country: Country) -> None:
    async def run() -> None:
        country.nodes[BUILDER].told = "http://[::1"
        async with country.up() as steering:
            found = await steering.run_checks()
            told = {(one.peer, one.check): one.outcome for one in found}
            assert told[BUILDER, "security_txt"] is Outcome.ERROR
            assert told[STEWARD, "security_txt"] is Outcome.MET

    asyncio.run(run())


def test_an_obligation_that_names_a_check_we_do_not_have_stops_the_start(country: Country) -> None:
    country.path.write_text(OBLIGATIONS.replace("tls@1", "tls@2"))
    with pytest.raises(ConfigurationFault, match="tls@2"):
        country.make()
    country.database.close()
