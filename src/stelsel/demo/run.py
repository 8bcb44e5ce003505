"""The demo on a terminal: start the country and keep it running, or play the scenario and show the evidence."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from stelsel.base.text import inert
from stelsel.demo.beginnings import first_uses, open_up
from stelsel.demo.cast import ACTORS, GEMEENTE, PARKING_TERMS, REGIE, REGISTER
from stelsel.demo.country import MUNICIPALITY, Country, Options, temporary_folder
from stelsel.demo.population_register.store import notable_people
from stelsel.demo.scenario.play import Played, Story, play
from stelsel.demo.scenario.story import STEPS

_console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)


def run_demo(options: Options) -> None:
    """Start the country, say what runs where, and keep it running until SIGINT or SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    begin = time.perf_counter()
    with _progress() as progress:
        country = _prepare(options, progress)
        try:
            running = _start(country, progress)
            progress.update(progress.task_ids[0], description="Making the first agreements")
            country.settle()
            first_uses(country, PARKING_TERMS)
        except BaseException:
            country.stop()
            raise
    try:
        _where(country)
        total = time.perf_counter() - begin
        _console.print(f"\n{len(country.processes)} processes, {running:.1f} s to start, {total:.1f} s in all.")
        _console.print("[bold]Ctrl-C stops everything.[/bold]")
        open_up(country)
        _console.print("The board was checked and the first open data was published.")
        while not stopping.wait(1):
            _watch(country)
    finally:
        _console.print("Stopping...")
        country.stop()
        _console.print("Stopped. Everything that was acknowledged is kept in " + escape(str(country.folder)))


def check_demo(options: Options, *, as_json: bool = False) -> bool:
    """Play the scenario in a country of its own; print each step with its evidence. Gives whether all is as told."""
    own = options.folder is None
    if own:
        options = replace(options, folder=temporary_folder())
    began = time.perf_counter()
    played: list[Played] = []
    with _progress() as progress:
        country = _prepare(options, progress)
        try:
            running = _start(country, progress)
            progress.update(progress.task_ids[0], description="Making the first agreements")
            country.settle()
            progress.stop()
            story = Story(country, _resident(country))
            if not as_json:
                _console.print(f"The country runs: {len(country.processes)} processes in {running:.1f} s\n")
            for one in play(story, STEPS):
                played.append(one)
                if not as_json:
                    _show(one)
            memory = {process.name: process.memory() for process in country.processes.values()}
        finally:
            country.stop()
    done = len(played) == len(STEPS) and not any(one.failure for one in played)
    if as_json:
        sys.stdout.write(json.dumps(_report(played, running, memory, done), indent=2, ensure_ascii=False) + "\n")
    else:
        names = ", ".join(f"{escape(name)} {kib / 1024:.0f} MB" for name, kib in memory.items())
        _console.print(f"Memory: {names}")
        good = sum(1 for one in played if not one.failure)
        _console.print(f"{good} of {len(STEPS)} steps as told, in {time.perf_counter() - began:.1f} s")
    if own and done:
        shutil.rmtree(country.folder, ignore_errors=True)
    elif not done:
        _errors.print(f"What the country left is in {escape(str(country.folder))}")
    return done


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=_errors, transient=True) as progress:
        progress.add_task("Preparing the country", total=None)
        yield progress


def _prepare(options: Options, progress: Progress) -> Country:
    country = Country.prepare(options, lambda what: progress.update(progress.task_ids[0], description=what))
    reports = country.built.reports if country.built is not None else ()
    if country.built is not None and reports:
        file = country.folder / "people-rows.txt"
        file.write_text("".join(f"row {report.row}: {inert(report.reason)}\n" for report in reports))
        _errors.print(f"{country.built.loaded_rows} rows of the people file were loaded, {len(reports)} were not, as:")
        for report in reports[:3]:
            _errors.print(f"  row {report.row}: {escape(inert(report.reason))}", soft_wrap=True)
        _errors.print(f"Each of them stands with its reason in {escape(str(file))}", soft_wrap=True)
    return country


def _start(country: Country, progress: Progress) -> float:
    progress.update(progress.task_ids[0], description="Starting five organisations and two applications")
    begin = time.perf_counter()
    try:
        country.start()
    except BaseException:
        country.stop()
        raise
    return time.perf_counter() - begin


def _resident(country: Country) -> Any:
    return notable_people(country.folder / "people.sqlite", 1, MUNICIPALITY)[0]


def _where(country: Country) -> None:
    """Say what runs where; addresses stand whole on a line, so that a terminal makes links of them."""
    regie = country.web(REGIE)
    rows = (
        ("A resident: who used my data?", f"{regie}/mijn-gegevens"),
        ("The municipality: a parking permit", country.application(GEMEENTE)),
        ("The register: agreements to accept", f"{country.web(REGISTER)}/afspraken"),
        ("The steward: who keeps what was agreed?", f"{regie}/stelsel"),
        ("A builder: open data", f"{country.web(REGISTER)}/open-data"),
    )
    _console.print("\n[bold]A small country is running.[/bold] Log in as anyone you like; nobody in it exists.\n")
    for who, where in rows:
        _console.print(f"  {who:<42}{where}", soft_wrap=True)
    _console.print(f"\n  {'Five nodes, each with a file of its own:':<42}{country.folder}/*/node.toml", soft_wrap=True)
    for actor in ACTORS:
        _console.print(f"  [dim]{actor.name:<42}{actor.peer_id}  {actor.role}[/dim]", soft_wrap=True)


def _watch(country: Country) -> None:
    """Say so, once, when a process ended by itself."""
    for name, process in list(country.processes.items()):
        if not process.running():
            _errors.print(
                f"[bold red]{escape(process.name)} ended by itself[/bold red]: see {escape(str(process.log))}"
            )
            del country.processes[name]


def _show(one: Played) -> None:
    mark = "[bold red]✘[/bold red]" if one.failure else "[bold green]✔[/bold green]"
    _console.print(f"{mark} {one.step.number:2} {one.step.title} [dim]({one.seconds:.2f} s)[/dim]")
    if one.failure:
        _console.print(f"      {escape(inert(one.failure, 2000))}")
    for name, value in one.evidence.items():
        _console.print(f"      [dim]{escape(name)}:[/dim] {escape(inert(str(value), 200))}")


def _report(played: list[Played], running: float, memory: dict[str, int], done: bool) -> dict[str, Any]:
    return {
        "as_told": done,
        "seconds_to_running": round(running, 2),
        "memory_mb": {name: round(kib / 1024) for name, kib in memory.items()},
        "steps": [
            {
                "number": one.step.number,
                "title": one.step.title,
                "seconds": round(one.seconds, 3),
                "failure": one.failure or None,
                "evidence": one.evidence,
            }
            for one in played
        ],
    }
