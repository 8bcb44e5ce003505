"""The small country on disk and in motion: its files, its processes, and the agreements that it starts with."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from stelsel.agreements.services import Service
from stelsel.agreements.terms import Terms
from stelsel.base.errors import ConfigurationFault, Unavailable
from stelsel.control.client import Control
from stelsel.demo.authority import Authority
from stelsel.demo.cast import (
    ACTORS,
    BENEFIT_TERMS,
    BOUWER,
    GEMEENTE,
    GROUP_ID,
    INSIGHT_TERMS,
    REGIE,
    REGISTER,
    UITKERING,
    Actor,
)
from stelsel.demo.people.municipalities import municipalities
from stelsel.demo.population_register.store import Built, build, notable_people
from stelsel.demo.processes import Process, answers, free_base
from stelsel.opendata.service import RESIDENTS

MUNICIPALITY = "0363"
_BASES = (7000, 17000, 27000, 12000)  # all below the ports that Linux gives to clients
_PORT_OFFSETS = tuple(
    actor.port(0, kind) for actor in ACTORS for kind in ("manager", "inway", "outway", "web", "application")
)
_FORMAT = 1

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What can be chosen about a country."""

    people: int = 10_000
    people_file: Path | None = None
    seed: int = 1
    folder: Path | None = None
    base_port: int | None = None
    fresh: bool = False
    bases: tuple[int, ...] = _BASES
    """Without `base_port`: the first of these from which on all ports are free."""


@dataclass
class Country:
    """A country whose files are in `folder`; `processes` run between `start` and `stop`."""

    folder: Path
    base: int
    people: int
    processes: dict[str, Process] = field(default_factory=dict)
    built: Built | None = None

    # -- files -------------------------------------------------------------------------------------------------

    @classmethod
    def prepare(cls, options: Options, progress: Progress = lambda _: None) -> Country:
        """Make the country's files, or take up those that an earlier demo left. Raises `ConfigurationFault`."""
        if options.people < (0 if options.people_file else 1):
            raise ConfigurationFault("a country needs people", next_step="give --people a number from 1")
        folder = (options.folder or Path("country")).resolve()
        base = options.base_port or free_base(options.bases, _PORT_OFFSETS)
        wanted = {
            "format": _FORMAT,
            "people": options.people,
            "seed": options.seed,
            "people_file": str(options.people_file.resolve()) if options.people_file else None,
        }
        manifest = folder / "country.json"
        if options.fresh and manifest.exists():
            shutil.rmtree(folder)
        if manifest.exists():
            found = json.loads(manifest.read_text())
            if {name: found.get(name) for name in wanted} != wanted:
                raise ConfigurationFault(
                    f"{folder}: holds a country with other people",
                    next_step="add --fresh to replace it, or choose another --folder",
                )
            country = cls(folder, found["base"] if options.base_port is None else base, options.people)
            country._write_files(None)
            return country
        if folder.exists() and any(folder.iterdir()):
            raise ConfigurationFault(
                f"{folder}: is not empty and holds no country", next_step="choose another --folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        country = cls(folder, base, options.people)
        progress(f"Making {options.people:,} synthetic residents")
        country.built = build(
            folder / "people.sqlite",
            count=options.people,
            seed=options.seed,
            people_file=options.people_file,
            progress=lambda done, total: progress(f"Making synthetic residents: {done:,} of {total:,}"),
        )
        progress("Issuing keys and certificates")
        country._write_files(Authority())
        manifest.write_text(json.dumps(wanted | {"base": base}, indent=2) + "\n")
        return country

    def _write_files(self, authority: Authority | None) -> None:
        """Write what every node reads; certificates only when there is an authority, for it lives once."""
        if authority is not None:
            (self.folder / "trust-anchors.pem").write_bytes(authority.root_pem)
            for actor in ACTORS:
                authority.issue(self.folder / actor.key, actor.peer_id, actor.name)
        (self.folder / "group.toml").write_text(self._group())
        residents = notable_people(self.folder / "people.sqlite", 6, MUNICIPALITY)
        people: list[dict[str, Any]] = [
            {"name": resident.name, "burgerservicenummer": resident.burgerservicenummer} for resident in residents
        ]
        people += [
            {"name": f"Medewerker van {actor.name}", "peer_id": actor.peer_id, "roles": ["agreements"]}
            for actor in ACTORS
        ]
        (self.folder / "regie" / "demo-people.json").write_text(json.dumps(people, ensure_ascii=False, indent=1))
        for name in ("obligations.toml", "goals.toml"):
            (self.folder / REGIE.key / name).write_text(_file(name))
        (self.folder / REGISTER.key / "residents.toml").write_text(_dataset())
        for actor in ACTORS:
            self.write_node(actor, security_contact=actor is not BOUWER)

    def write_node(self, actor: Actor, *, security_contact: bool) -> None:
        """Write a node's file, of the same kind as any real node has."""
        (self.folder / actor.key / "node.toml").write_text(self._node(actor, security_contact=security_contact))

    def _group(self) -> str:
        return "\n".join(
            (
                f'id = "{GROUP_ID}"',
                'name = "Het kleine land"',
                'trust_anchors = "trust-anchors.pem"',
                f'directory_peer_id = "{REGIE.peer_id}"',
                f'directory_address = "https://localhost:{REGIE.port(self.base, "manager")}"',
                "ports = []  # any: many nodes share this machine",
                "",
            )
        )

    def _node(self, actor: Actor, *, security_contact: bool) -> str:
        aliases = {
            GEMEENTE: {"personen": REGISTER},
            UITKERING: {"personen": REGISTER},
            BOUWER: {"parkeerplaatsen": GEMEENTE},
        }
        return _template("node.toml.j2").render(
            actor=actor,
            actors=ACTORS,
            regie=REGIE,
            web=self.web,
            port=lambda kind: actor.port(self.base, kind),
            aliases={name: f"{peer.peer_id}/{name}" for name, peer in aliases.get(actor, {}).items()},
            services=self._services(actor),
            security_contact=security_contact,
        )

    def _services(self, actor: Actor) -> tuple[Service, ...]:
        endpoint = self.application(actor)
        if actor is REGISTER:
            about = "Gegevens van personen uit de basisregistratie"
            return (Service(name="personen", endpoint=endpoint, description=about, personal=True, records="personen"),)
        if actor is GEMEENTE:
            about = "Parkeerterreinen en hun vrije plaatsen"
            return (Service(name="parkeerplaatsen", endpoint=endpoint, description=about),)
        return ()

    # -- addresses ---------------------------------------------------------------------------------------------

    def web(self, actor: Actor) -> str:
        """Where a browser finds a peer."""
        return f"http://localhost:{actor.port(self.base, 'web')}"

    def outway(self, actor: Actor) -> str:
        """Where a peer's own applications call services."""
        return f"http://127.0.0.1:{actor.port(self.base, 'outway')}"

    def application(self, actor: Actor) -> str:
        """Where a peer's own application is."""
        return f"http://127.0.0.1:{actor.port(self.base, 'application')}"

    def data(self, actor: Actor) -> Path:
        """A peer's data folder."""
        return self.folder / actor.key / "data"

    def control(self, actor: Actor) -> Control:
        """A peer's control socket."""
        return Control(self.data(actor))

    # -- motion ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all processes and wait until all answer."""
        for actor in ACTORS:
            log = self.folder / actor.key / "node.log"
            self.processes[actor.key] = Process(
                actor.name, ["stelsel", "run", str(self.folder / actor.key / "node.toml")], log
            )
        self.processes["personen"] = Process(
            "De dienst personen",
            [
                "stelsel.demo.population_register",
                "--database",
                str(self.folder / "people.sqlite"),
                "--listen",
                f"127.0.0.1:{REGISTER.port(self.base, 'application')}",
            ],
            self.folder / "register" / "personen.log",
        )
        self.processes["parkeren"] = Process(
            "De toepassing parkeren",
            [
                "stelsel.demo.parking",
                "--listen",
                f"127.0.0.1:{GEMEENTE.port(self.base, 'application')}",
                "--outway",
                self.outway(GEMEENTE),
                "--municipality",
                MUNICIPALITY,
            ],
            self.folder / "gemeente" / "parkeren.log",
        )
        for process in self.processes.values():
            process.start()
        for actor in ACTORS:
            self.await_node(actor)
        for name, actor in (("personen", REGISTER), ("parkeren", GEMEENTE)):
            self.processes[name].wait_until(f"127.0.0.1:{actor.port(self.base, 'application')}")

    def await_node(self, actor: Actor, seconds: float = 30) -> None:
        """Wait until a node answers its operator: that comes last when it starts."""
        process, deadline = self.processes[actor.key], time.monotonic() + seconds
        while True:
            try:
                # Looked at first: a client that finds no socket there leaves its own end open.
                if not answers(f"unix:{self.data(actor) / 'control.sock'}"):
                    raise Unavailable(f"{actor.name} does not listen yet")
                self.control(actor).get("/about")
                return
            except Unavailable as fault:
                if not process.running():
                    raise ConfigurationFault(
                        f"{actor.name} did not start: {process.last_words()}", next_step=f"see {process.log}"
                    ) from fault
                if time.monotonic() > deadline:
                    raise ConfigurationFault(f"{actor.name} does not answer", next_step=f"see {process.log}") from fault
                time.sleep(0.02)

    def restart(self, actor: Actor) -> None:
        """Stop a node and start it again, with the file as it is now."""
        process = self.processes[actor.key]
        process.stop()
        process.start()
        self.await_node(actor)

    def stop(self) -> None:
        """Stop everything cleanly."""
        for process in self.processes.values():
            process.ask_to_stop()
        for process in self.processes.values():
            process.await_end()

    # -- agreements --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Make the agreements that the country starts with, where they are not there yet."""
        for actor in ACTORS:
            for service in self._services(actor):
                self._publish(actor, service)
        for source in (REGISTER, GEMEENTE, UITKERING):
            self.agree(REGIE, source, "inzage", INSIGHT_TERMS)
        self.agree(UITKERING, REGISTER, "personen", BENEFIT_TERMS)
        self.agree(BOUWER, GEMEENTE, "parkeerplaatsen", None)

    def _publish(self, actor: Actor, service: Service) -> None:
        control = self.control(actor)
        grants = [row["grants"][0] for row in control.get("/agreements")]
        if not any(grant["service"] == service.name and grant["consumer"] is None for grant in grants):
            body = {"service": service.name, "description": service.description, "personal": service.personal}
            control.post("/agreements", body)

    def agree(self, consumer: Actor, provider: Actor, service: str, terms: Terms | None) -> str:
        """An agreement that holds at both sides, made if it is not there; gives the grant hash."""
        content_hash = self.propose(consumer, provider, service, terms)
        row = self.until(provider, content_hash, {"proposed", "valid"})
        if row["state"] == "proposed":
            self.control(provider).post(f"/agreements/{content_hash}/accept")
        return str(self.until(consumer, content_hash, {"valid"})["grant_hashes"][0])

    def propose(self, consumer: Actor, provider: Actor, service: str, terms: Terms | None) -> str:
        """Propose an agreement, unless the same is in force or on its way; gives the content hash."""
        control = self.control(consumer)
        asked: dict[str, Any] = {"peer_id": provider.peer_id, "service": service, "days": 365}
        properties = terms.to_properties() if terms is not None else {}
        for state in ("valid", "proposed"):
            for row in control.get("/agreements", state=state):
                parties = row["grants"][0]
                if (parties["consumer"], parties["provider"], parties["service"]) != (
                    consumer.peer_id,
                    provider.peer_id,
                    service,
                ) or any(delivery["status"] == "refused" for delivery in row["deliveries"]):
                    continue
                grant = control.get(f"/agreements/{row['content_hash']}")["content"]["grants"][0]["data"]
                if grant.get("properties", {}) == properties:
                    return str(row["content_hash"])
        if terms is not None:
            asked["properties"] = properties
        return str(control.post("/agreements", asked)["content_hash"])

    def until(self, actor: Actor, content_hash: str, states: set[str], seconds: float = 15) -> dict[str, Any]:
        """The agreement at a peer, as soon as it is in one of these states there. Raises when it takes too long."""
        deadline = time.monotonic() + seconds
        control = self.control(actor)
        row: dict[str, Any] = {}
        while time.monotonic() < deadline:
            rows = [row for row in control.get("/agreements") if row["content_hash"] == content_hash]
            row = rows[0] if rows else {}
            if row.get("state") in states:
                return row
            time.sleep(0.02)
        raise ConfigurationFault(
            f"the agreement did not become {' or '.join(sorted(states))} at {actor.name}; it is {row.get('state')}",
            next_step=f"see {self.folder / actor.key / 'node.log'}",
        )


def temporary_folder() -> Path:
    """A folder for a country that is removed afterwards; short, for unix sockets have short names."""
    return Path(tempfile.mkdtemp(prefix="stelsel-"))


def _dataset() -> str:
    """The dataset that Stelsel ships, with the names of the municipalities."""
    text = RESIDENTS.read_text(encoding="utf-8")
    names = {f"GM{one.code}": one.name or one.code for one in municipalities()}
    labels = ", ".join(f"{code} = {json.dumps(name, ensure_ascii=False)}" for code, name in names.items())
    total = 'total = "NL"\n'
    if total not in text:
        raise RuntimeError("the shipped dataset has no dimension with the total NL")
    return text.replace(total, f"{total}labels = {{ {labels} }}\n", 1)


def _file(name: str) -> str:
    return files("stelsel.demo").joinpath("files", name).read_text(encoding="utf-8")


def _template(name: str) -> Template:
    # The file is TOML, not HTML, and all that goes into it is our own: nothing here needs escaping.
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=False)  # noqa: S701
    return environment.from_string(_file(name))
