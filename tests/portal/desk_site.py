"""Three real nodes in one process with all that officials, the steward and builders look at: the site of these tests.

Regie steers and lets people log in, the register publishes open data, the municipality has no security.txt: it does
not keep an obligation whose deadline has passed.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from portal_site import (
    PEOPLE,
    Site,
    Visitor,
    _agree,
    _persons,
    _settings,
    _until,
    hidden,
)
from starlette.routing import Route

from stelsel.agreements.group import Group
from stelsel.agreements.proposals import ConnectionProposal
from stelsel.agreements.terms import LegalBasis, ProcessingActivity, Terms
from stelsel.base.web import application, listen, serving
from stelsel.demo.authority import Authority
from stelsel.demo.cast import GEMEENTE, PARKING_TERMS, REGIE, REGISTER, Actor
from stelsel.demo.ports import free_ports
from stelsel.node import Node
from stelsel.opendata.schema import Schema
from stelsel.opendata.settings import OpenDataSettings, Publisher
from stelsel.opendata.sources import RowsSource
from stelsel.settings import NodeSettings
from stelsel.steering.settings import SteeringSettings

BSN = "999990019"
DATASET = "inwoners"
OFFICIAL_OF_REGIE, OFFICIAL_OF_GEMEENTE, OFFICIAL_OF_REGISTER, WITHOUT_ROLE = "p3", "p4", "p5", "p6"
HOSTILE_PURPOSE = "<script>alert(1)</script>\nKlik hier: \u202egnirekkal\u0007 {{ 7*7 }}"
HOSTILE_NAME = "<img src=x onerror=alert(2)>"
_ACTORS = (REGIE, REGISTER, GEMEENTE)
_LISTENERS = ("manager", "inway", "outway", "web")
_MORE_PEOPLE = [
    {"name": "Medewerker van Bevolkingsregister", "peer_id": REGISTER.peer_id, "roles": ["agreements"]},
    {"name": "Stagiair van Bevolkingsregister", "peer_id": REGISTER.peer_id, "roles": ["reader"]},
]
_TODAY = datetime.now(UTC).date()


def hostile_terms() -> Terms:
    """Terms in which every free text tries something."""
    return Terms(
        purpose=HOSTILE_PURPOSE,
        legal_basis=LegalBasis(
            article='"><b onclick=alert(3)>Wet</b>', ground="e", uri="http://evil.example/%3Cscript"
        ),
        processing_activity=ProcessingActivity(id="https://evil.example/x", name=HOSTILE_NAME, version="1"),
        fields=("naam.volledigeNaam",),
        search_parameters=("burgerservicenummer",),
        retention="P1Y",
        confidentiality="confidential",
    )


class Reader(Visitor):
    """A browser at the site of one of the peers."""

    def __init__(self, site: Site, actor: Actor, language: str = "nl") -> None:
        super().__init__(site, language)
        self.client.base_url = site.web(actor)

    def log_in(self, handle: str = OFFICIAL_OF_REGISTER, back: str = "/afspraken") -> Any:
        page = self.get("/inloggen", params={"terug": back})
        return self.post(f"{self.site.address}/login", {"challenge": hidden(page, "challenge"), "person": handle})


def propose(site: Site, terms: Terms = PARKING_TERMS, consumer: Actor = REGIE) -> str:
    """A proposal that waits for the register; gives the last part of its content hash."""

    async def work() -> str:
        asking, giving = site.nodes[consumer.key].agreements, site.nodes[REGISTER.key].agreements
        content_hash = await asking.propose(ConnectionProposal(REGISTER.peer_id, "personen", terms))
        await _until(lambda: any(one.content_hash == content_hash for one in giving.contracts()))
        return content_hash

    return site.run(work()).rpartition("$")[2]


@contextmanager
def running_desk(folder: Path, authority: Authority) -> Iterator[Site]:
    """The site in a thread of its own."""
    loop = asyncio.new_event_loop()
    ready: list[Site] = []
    failed: list[BaseException] = []
    started, stop = threading.Event(), asyncio.Event()

    async def live() -> None:
        try:
            async with _nodes(folder, authority) as site:
                ready.append(site)
                started.set()
                await stop.wait()
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            started.set()

    def quietly() -> None:
        try:
            loop.run_until_complete(live())
        except Exception:  # noqa: BLE001 - the test's own thread tells of it
            return

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    try:
        assert started.wait(60), "the nodes did not start"
        if failed:
            raise failed[0]
        _live_a_little(ready[0])
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


def _live_a_little(site: Site) -> None:
    """Two calls, a hostile proposal, two runs of the checks, a proposal that is refused for it, a release."""
    assert site.ask(BSN).status_code == 200
    assert site.ask(BSN, "naam.volledigeNaam", "leeftijd").status_code == 403
    site.grants["hostile"] = propose(site, hostile_terms(), GEMEENTE)
    _publish(site)

    async def check_and_be_refused() -> str:
        steering = site.nodes[REGIE.key].steering
        assert steering is not None
        for _ in range(2):
            await steering.run_checks()
        await asyncio.sleep(1.1)  # as long as the gate remembers that it let the proposal before this pass
        asking = site.nodes[GEMEENTE.key].agreements
        content_hash = await asking.propose(ConnectionProposal(REGISTER.peer_id, "personen", PARKING_TERMS))
        await _until(lambda: bool(asking.contract(content_hash).refused_by))
        return content_hash

    site.grants["refused"] = site.run(check_and_be_refused()).rpartition("$")[2]


def _publish(site: Site) -> None:
    opendata = site.nodes[REGISTER.key].opendata
    assert opendata is not None
    opendata.publish(Schema.model_validate(_dataset()), _residents())


@asynccontextmanager
async def _nodes(folder: Path, authority: Authority) -> AsyncIterator[Site]:
    found = free_ports(len(_ACTORS) * len(_LISTENERS))
    keys = [(actor.key, listener) for actor in _ACTORS for listener in _LISTENERS]
    ports = dict(zip(keys, found, strict=True))
    (folder / "trust-anchors.pem").write_bytes(authority.root_pem)
    (folder / "people.json").write_text(json.dumps([*PEOPLE, *_MORE_PEOPLE]))
    (folder / "group.toml").write_text(
        'id = "stelsel.test"\nname = "Toets"\ntrust_anchors = "trust-anchors.pem"\n'
        f'directory_peer_id = "{REGIE.peer_id}"\ndirectory_address = "https://localhost:{ports["regie", "manager"]}"\n'
        + ("ports = []\n" if "ports" in Group.model_fields else "")
    )
    (folder / "obligations.toml").write_text(_obligations())
    (folder / "goals.toml").write_text(_goals())
    for actor in _ACTORS:
        authority.issue(folder / actor.key, actor.peer_id, actor.name)
    source = listen("127.0.0.1:0")
    endpoint = f"http://127.0.0.1:{source.getsockname()[1]}"
    site = Site(asyncio.get_running_loop(), ports, {})
    async with serving(application([Route("/personen", _persons, methods=["POST"])]), source):
        try:
            for actor in _ACTORS:
                node = Node(_changed(_settings(folder, actor, ports, endpoint), actor, folder, site))
                await node.start()
                site.nodes[actor.key] = node
            await _until(lambda: len(site.nodes["regie"].agreements.listed_peers()) == len(_ACTORS))
            site.grants["parking"] = await _agree(site.nodes, GEMEENTE, REGISTER, "personen", PARKING_TERMS)
            yield site
        finally:
            await asyncio.gather(*(node.stop() for node in site.nodes.values()))


def _changed(settings: NodeSettings, actor: Actor, folder: Path, site: Site) -> NodeSettings:
    if actor is REGIE:
        steering = SteeringSettings(
            enabled=True,
            interval=0,
            local_addresses=True,
            obligations=folder / "obligations.toml",
            goals=folder / "goals.toml",
        )
        return settings.model_copy(update={"steering": steering})
    if actor is GEMEENTE and settings.web is not None:
        return settings.model_copy(update={"web": settings.web.model_copy(update={"security_contact": None})})
    opendata = OpenDataSettings(
        enabled=True,
        base_url=site.web(REGISTER),
        publisher=Publisher(
            name="Bevolkingsregister",
            uri="https://register.example/",
            contact_name="Team open data",
            contact_email="opendata@register.example",
        ),
    )
    return settings.model_copy(update={"opendata": opendata})


def _obligations() -> str:
    def one(name: str, legal_basis: str, applies_from: date, deadline: date) -> str:
        return (
            f'[[obligations]]\nid = "{name}"\ntitle = {{ nl = "Regel {name}", en = "Rule {name}" }}\n'
            f'norm = {{ nl = "Het moet zo.", en = "It must be so." }}\nlegal_basis = "{legal_basis}"\n'
            f'checks = ["security_txt@1"]\napplies_from = {applies_from}\ndeadline = {deadline}\n'
            'consequence = "refuse-new-contracts"\n'
        )

    past, soon = _TODAY - timedelta(days=30), _TODAY + timedelta(days=5)
    later = _TODAY + timedelta(days=100)
    return "\n".join(
        (
            one("voorbij", "Afspraak 1, artikel 1", past, _TODAY - timedelta(days=1)),
            one("binnenkort", "Afspraak 1, artikel 2", past, soon),
            one("advies", "", past, _TODAY - timedelta(days=1)),
            one("later", "Afspraak 1, artikel 3", later, later),
        )
    )


def _goals() -> str:
    def one(name: str, ledger: str, measure: str, baseline: float, target: float) -> str:
        of_which = "of_which = { allowed = true }\n" if measure == "share" else ""
        return (
            f'[[goals]]\nid = "{name}"\nsentence = {{ nl = "Belofte {name}.", en = "Promise {name}." }}\n'
            f'owner = "Gemeente"\nbaseline = {baseline}\ntarget = {target}\n'
            f"starts = {_TODAY - timedelta(days=100)}\ndue = {_TODAY + timedelta(days=100)}\n"
            f'[goals.indicator]\nid = "tel-{name}"\nledger = "{ledger}"\nmeasure = "{measure}"\n'
            f'where = {{ direction = "incoming", event = "request", service = "personen" }}\n{of_which}'
        )

    return "\n".join(
        (
            one("aantal", REGISTER.peer_id, "count", 0, 1000),
            one("deel", REGISTER.peer_id, "share", 0.25, 0.5),
            one("onbekend", "00000099000000009000", "count", 0, 10),
        )
    )


def _dataset() -> dict[str, Any]:
    return {
        "id": DATASET,
        "population": "inwoners",
        "title": {"nl": "Inwoners <b>per gemeente</b>", "en": "Residents by municipality"},
        "description": {"nl": "Hoeveel mensen waar wonen.", "en": "How many people live where."},
        "theme": "SOCI",
        "columns": [
            {"name": "bsn", "kind": "identifier", "ground": "5.1.1.e"},
            {"name": "gemeente_code", "kind": "dimension"},
            {"name": "geboren", "kind": "dimension"},
        ],
        "dimensions": [
            {
                "name": "gemeente",
                "column": "gemeente_code",
                "kind": "code",
                "total": "NL",
                "title": {"nl": "Gemeente", "en": "Municipality"},
                "labels": {f"GM{number:04}": f"Plaats {number}" for number in range(1, 13)},
            },
            {
                "name": "leeftijd",
                "column": "geboren",
                "kind": "age",
                "total": "totaal",
                "bands": (0, 15, 25, 45, 65),
                "title": {"nl": "Leeftijd", "en": "Age"},
            },
        ],
    }


def _residents() -> RowsSource:
    chance = random.Random(1)
    codes = [f"GM{place:04}" for place in range(1, 13)]
    weights = [1 / (place + 1) ** 1.6 for place in range(12)]
    rows = [
        (str(person), code, f"{_TODAY.year - 1 - min(98, int(99 * chance.betavariate(1.2, 1.6)))}-06-15")
        for person, code in enumerate(chance.choices(codes, weights, k=3000))
    ]
    return RowsSource(("bsn", "gemeente_code", "geboren"), rows)
