"""Three real nodes in one process: the portal's, a register, and a municipality that asks it about residents."""

from __future__ import annotations

import asyncio
import html
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from stelsel.agreements.agreement import State
from stelsel.agreements.proposals import ConnectionProposal
from stelsel.agreements.services import Service
from stelsel.agreements.terms import Terms
from stelsel.base.errors import NotFound
from stelsel.base.web import application, listen, serving
from stelsel.demo.authority import Authority
from stelsel.demo.cast import GEMEENTE, INSIGHT_TERMS, PARKING_TERMS, REGIE, REGISTER, Actor
from stelsel.demo.ports import free_ports
from stelsel.exchange.settings import InwaySettings, OutwaySettings
from stelsel.identity.settings import ClientSettings, IdentitySettings
from stelsel.node import Node
from stelsel.portal.settings import PortalSettings
from stelsel.settings import ManagerSettings, NodeSettings, PeerSettings, WebSettings

T = TypeVar("T")

NOOR, BRAM, LOTTE = "999990019", "999990020", "999990032"
PEOPLE = [
    {"name": "Noor van Dalmeer", "burgerservicenummer": NOOR},
    {"name": "Bram Terwold", "burgerservicenummer": BRAM},
    {"name": "Lotte Achterberg", "burgerservicenummer": LOTTE},
    {"name": "Medewerker van Regie", "peer_id": REGIE.peer_id, "roles": ["agreements"]},
    {"name": "Medewerker van Gemeente", "peer_id": GEMEENTE.peer_id, "roles": ["agreements"]},
]
NOOR_HANDLE, BRAM_HANDLE, LOTTE_HANDLE, OFFICIAL_HANDLE = "p0", "p1", "p2", "p3"
_ACTORS = (REGIE, REGISTER, GEMEENTE)
_LISTENERS = ("manager", "inway", "outway", "web")


@dataclass
class Site:
    """The running nodes, and how a test reaches them from its own thread."""

    loop: asyncio.AbstractEventLoop
    ports: dict[tuple[str, str], int]
    nodes: dict[str, Node]
    grants: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where a browser finds the portal."""
        return self.web(REGIE)

    def web(self, actor: Actor) -> str:
        return f"http://localhost:{self.ports[actor.key, 'web']}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the nodes' own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def ask(self, number: str, *fields: str, grant_hash: str = "") -> httpx.Response:
        """The municipality asks the register about a resident, through its outway."""
        headers = {"Fsc-Grant-Hash": grant_hash} if grant_hash else {}
        path = "personen" if grant_hash else f"{REGISTER.peer_id}/personen/personen"
        return httpx.post(
            f"http://127.0.0.1:{self.ports[GEMEENTE.key, 'outway']}/{path}",
            json={
                "type": "RaadpleegMetBurgerservicenummer",
                "fields": list(fields) or list(PARKING_TERMS.fields),
                "burgerservicenummer": [number],
            },
            headers=headers,
            timeout=20,
            trust_env=False,
        )

    def agree(self, consumer: Actor, provider: Actor, service: str, terms: Terms) -> str:
        """An agreement that holds at both; gives its grant hash."""
        return self.run(_agree(self.nodes, consumer, provider, service, terms))


class Visitor:
    """A browser that is httpx: it follows redirects and keeps cookies."""

    def __init__(self, site: Site, language: str = "nl") -> None:
        self.site = site
        self.client = httpx.Client(
            base_url=site.address,
            follow_redirects=True,
            timeout=30,
            trust_env=False,
            headers={"Accept": "text/html"},
            cookies={"taal": language},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, form: dict[str, str]) -> httpx.Response:
        return self.client.post(path, data=form)

    def log_in(self, handle: str = NOOR_HANDLE, back: str = "/mijn-gegevens") -> httpx.Response:
        """Log in by the demo's choice; gives the page that the visitor comes back to."""
        page = self.get("/inloggen", params={"terug": back})
        return self.post("/login", {"challenge": hidden(page, "challenge"), "person": handle})


def hidden(page: httpx.Response, name: str) -> str:
    """The value of the first hidden field with this name."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found is not None, page.text
    return html.unescape(found[1])


def receipt_forms(page: httpx.Response) -> list[dict[str, str]]:
    """The forms on a page that give a receipt."""
    forms = re.findall(r'<form method="post" action="/mijn-gegevens/bewijs".*?</form>', page.text, re.DOTALL)
    return [dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) for form in forms]


@contextmanager
def running_site(folder: Path, authority: Authority, *, with_uses: bool = True) -> Iterator[Site]:
    """The site in a thread of its own. `with_uses`: Noor's data were asked twice, and once too much was asked."""
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

    thread = threading.Thread(target=_quietly, args=(loop, live), daemon=True)
    thread.start()
    try:
        assert started.wait(60), "the nodes did not start"
        if failed:
            raise failed[0]
        site = ready[0]
        if with_uses:
            assert site.ask(NOOR).status_code == 200
            assert site.ask(NOOR, "naam.volledigeNaam", "leeftijd").status_code == 403
            assert site.ask(NOOR, "naam.volledigeNaam").status_code == 200
        yield site
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


def _quietly(loop: asyncio.AbstractEventLoop, live: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        loop.run_until_complete(live())
    except Exception:  # noqa: BLE001 - the test's own thread tells of it
        return


@asynccontextmanager
async def _nodes(folder: Path, authority: Authority) -> AsyncIterator[Site]:
    found = free_ports(len(_ACTORS) * len(_LISTENERS))
    keys = [(actor.key, listener) for actor in _ACTORS for listener in _LISTENERS]
    ports = dict(zip(keys, found, strict=True))
    (folder / "trust-anchors.pem").write_bytes(authority.root_pem)
    (folder / "people.json").write_text(json.dumps(PEOPLE))
    (folder / "group.toml").write_text(
        'id = "stelsel.test"\nname = "Toets"\ntrust_anchors = "trust-anchors.pem"\n'
        f'directory_peer_id = "{REGIE.peer_id}"\ndirectory_address = "https://localhost:{ports["regie", "manager"]}"\n'
        "ports = []\n"
    )
    for actor in _ACTORS:
        authority.issue(folder / actor.key, actor.peer_id, actor.name)
    source = listen("127.0.0.1:0")
    endpoint = f"http://127.0.0.1:{source.getsockname()[1]}"
    site = Site(asyncio.get_running_loop(), ports, {})
    async with serving(application([Route("/personen", _persons, methods=["POST"])]), source):
        try:
            for actor in _ACTORS:
                node = Node(_settings(folder, actor, ports, endpoint))
                await node.start()
                site.nodes[actor.key] = node
            await _until(lambda: len(site.nodes["regie"].agreements.listed_peers()) == len(_ACTORS))
            for provider in (REGISTER, GEMEENTE):
                await _agree(site.nodes, REGIE, provider, "inzage", INSIGHT_TERMS)
            site.grants["parking"] = await _agree(site.nodes, GEMEENTE, REGISTER, "personen", PARKING_TERMS)
            yield site
        finally:
            await asyncio.gather(*(node.stop() for node in site.nodes.values()))


async def _persons(request: Request) -> JSONResponse:
    """A register that gives what was asked, and no more."""
    person: dict[str, Any] = {}
    for path in (await request.json())["fields"]:
        *steps, last = path.split(".")
        at = person
        for step in steps:
            at = at.setdefault(step, {})
        at[last] = "iets"
    return JSONResponse({"personen": [person]})


def _settings(folder: Path, actor: Actor, ports: dict[tuple[str, str], int], endpoint: str) -> NodeSettings:
    def port(listener: str, key: str = actor.key) -> int:
        return ports[key, listener]

    home = folder / actor.key
    issuer = f"http://localhost:{port('web', 'regie')}"
    web = f"http://localhost:{port('web')}"
    inway = f"https://localhost:{port('inway')}"
    persons = Service(name="personen", endpoint=endpoint, personal=True, records="personen")
    clients = tuple(
        ClientSettings(
            client_id=one.key,
            name=f"Portaal van {one.name}",
            redirect_uris=(f"http://localhost:{port('web', one.key)}/inloggen/terug",),
            post_logout_redirect_uris=(f"http://localhost:{port('web', one.key)}/",),
            public_keys=folder / one.key / "certificate.pem",
            sector=one.key,
            kind="anyone" if one is REGIE else "official",
            may_see_bsn=one is REGIE,
        )
        for one in _ACTORS
    )
    return NodeSettings(
        data=home / "d",
        group=folder / "group.toml",
        peer=PeerSettings(certificate=home / "certificate.pem", key=home / "key.pem"),
        manager=ManagerSettings(listen=f"127.0.0.1:{port('manager')}", address=f"https://localhost:{port('manager')}"),
        inway=InwaySettings(listen=f"127.0.0.1:{port('inway')}", address=inway),
        outway=OutwaySettings(listen=f"127.0.0.1:{port('outway')}"),
        services=(persons,) if actor is REGISTER else (),
        web=WebSettings(
            listen=f"127.0.0.1:{port('web')}", address=web, security_contact="mailto:veiligheid@stelsel.example"
        ),
        portal=PortalSettings(issuer=issuer, client_id=actor.key, residents=actor is REGIE, demo=True),
        identity=IdentitySettings(issuer=issuer, unsafe_demo_login_file=folder / "people.json", clients=clients)
        if actor is REGIE
        else None,
    )


async def _agree(nodes: dict[str, Node], consumer: Actor, provider: Actor, service: str, terms: Terms) -> str:
    asking, giving = nodes[consumer.key].agreements, nodes[provider.key].agreements
    content_hash = await asking.propose(ConnectionProposal(provider.peer_id, service, terms))

    def arrived() -> bool:
        try:
            return giving.contract(content_hash).state is State.PROPOSED
        except NotFound:
            return False

    await _until(arrived)
    await giving.accept(content_hash)
    await _until(lambda: asking.contract(content_hash).state is State.VALID)
    return asking.contract(content_hash).agreements[0].grant_hash


async def _until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        await asyncio.sleep(0.02)
