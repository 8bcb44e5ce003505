"""Where the pipeline, the releases on disk, the catalogue and the questions meet."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stelsel.base.clock import Clock, SetClock, SystemClock, moment
from stelsel.base.errors import Conflict, Unavailable, Unprocessable
from stelsel.opendata.counting import Source, count
from stelsel.opendata.pipeline import Protected, protect
from stelsel.opendata.query import Engine, Page, read_query
from stelsel.opendata.release import Release, Releases, earlier
from stelsel.opendata.schema import Schema
from stelsel.opendata.settings import Publisher
from stelsel.opendata.text_csv import csv_lines

Filters = Mapping[str, str] | Iterable[tuple[str, str]]


class OpenData:
    """What a peer publishes openly. Everything here may run in any thread; nothing here awaits."""

    def __init__(
        self,
        folder: Path,
        publisher: Publisher,
        base_url: str,
        *,
        minimum_frequency: int = 10,
        clock: Clock | None = None,
    ) -> None:
        self.folder = folder
        self.publisher = publisher
        self.base_url = base_url.rstrip("/")
        self._minimum_frequency = minimum_frequency
        self._clock = clock or SystemClock()
        self._releases = Releases(folder)
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def publish(self, schema: Schema, source: Source, *, reference: date | None = None) -> Release:
        """Count, protect, audit, write, and make current. `reference`: date at which ages are taken; default the
        first day of this month.

        Raises `Unprocessable` or `Conflict` when it would not be safe, and then changes nothing.
        """
        now = self._clock.now()
        today = date.fromisoformat(moment(now)[:10])
        reference = reference or today.replace(day=1)
        if reference > today:
            raise Unprocessable("the reference date is still to come", next_step="choose a date up to today")
        minimum = schema.protection.minimum_frequency
        if minimum < self._minimum_frequency:
            raise Unprocessable(
                f"the dataset asks for a minimum frequency of {minimum}; this node allows {self._minimum_frequency}",
                next_step="raise protection.minimum_frequency of the dataset",
            )
        self._check_linked(schema, reference)
        counted = count(schema, source, reference)
        with self._releases.publishing(schema.id):
            before = [earlier(release) for release in self._releases.all(schema.id)]
            newest = max((release.reference for release in before), default=reference)
            if newest > reference:
                raise Conflict(f"there is a release of {newest} already", next_step="choose a later reference date")
            protected = protect(
                counted,
                minimum,
                reference=reference,
                minimum_days_between=schema.protection.minimum_days_between,
                earlier=before,
            )
            return self._releases.write(schema, reference, protected.rows(), _facts(protected, moment(now)))

    def publish_apart(self, schema: Schema, source: Source, *, reference: date | None = None) -> Release:
        """As `publish`, in a process of its own: a node that carries exchanges keeps its memory and its pace.

        `source` must be one that can be handed to another process, as `SqliteSource` can.
        """
        job = partial(
            _publish,
            self.folder,
            self.publisher,
            self.base_url,
            self._minimum_frequency,
            self._clock.now(),
            schema,
            source,
        )
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
            try:
                name = process.submit(job, reference).result()
            except BrokenProcessPool as error:
                raise Unavailable(
                    "the process that was publishing was ended from outside; nothing was published",
                    next_step="publish again, with more memory if that was lacking",
                ) from error
        return next(release for release in self._releases.all(schema.id) if release.name == name)

    def _check_linked(self, schema: Schema, reference: date) -> None:
        """Another table about the same people at about the same time could give away what this one hides (its totals
        are the same): the two would have to be audited as one, and this version audits one dataset at a time."""
        for name in self._releases.datasets():
            for release in self._releases.all(name) if name != schema.id else ():
                days = abs((release.reference - reference).days)
                minimum = max(release.schema.protection.minimum_days_between, schema.protection.minimum_days_between)
                if release.schema.population == schema.population and days < minimum:
                    raise Conflict(
                        f"release {release.name} of {name} is about the same people: what one table hides, the totals "
                        "of the other could give away",
                        next_step="make it a dimension of the same dataset, or choose another reference date",
                    )

    def datasets(self) -> list[Release]:
        """The current release of each dataset."""
        return [self._releases.current(name) for name in self._releases.datasets()]

    def dataset(self, name: str) -> Release:
        """The current release of one dataset. Raises `NotFound`."""
        return self._releases.current(name)

    def rows(self, dataset: str, filters: Filters = ()) -> Page:
        """One page of the current release. Raises `NotFound`, or `BadRequest` that names what exists."""
        engine = self._engine(dataset)
        return engine.ask(read_query(engine.release, _pairs(filters)))

    def table(self, dataset: str, filters: Filters = ()) -> tuple[tuple[str, ...], list[tuple[Any, ...]], str | None]:
        """(columns, rows, next) for a page to show; `next` goes back in as the filter `next`."""
        page = self.rows(dataset, filters)
        return page.columns, page.rows, page.next

    def csv(self, dataset: str, filters: Filters = ()) -> Iterator[str]:
        """The whole answer as CSV, in pieces. Faults are raised here, not while it is read."""
        engine = self._engine(dataset)
        query = read_query(engine.release, _pairs(filters))
        first = engine.ask(query)  # the columns; and loads the release, so that what is wrong shows before we answer
        return csv_lines(first.columns, engine.stream(query))

    def close(self) -> None:
        """Let go of what is in memory."""
        with self._lock:
            for engine in self._engines.values():
                engine.close()
            self._engines.clear()

    def _engine(self, dataset: str) -> Engine:
        release = self._releases.current(dataset)
        with self._lock:
            engine = self._engines.get(dataset)
            if engine is None or engine.release.name != release.name:
                engine = self._engines[dataset] = Engine(release)
            return engine


def _publish(
    folder: Path,
    publisher: Publisher,
    base_url: str,
    minimum_frequency: int,
    now: float,
    schema: Schema,
    source: Source,
    reference: date | None,
) -> str:
    service = OpenData(folder, publisher, base_url, minimum_frequency=minimum_frequency, clock=SetClock(now))
    return service.publish(schema, source, reference=reference).name


def _pairs(filters: Filters) -> Iterable[tuple[str, str]]:
    return filters.items() if isinstance(filters, Mapping) else filters


def _facts(protected: Protected, created: str) -> dict[str, Any]:
    """What `release.json` tells of how people were protected: all of it follows from what is published."""
    return {
        "created": created,
        "fingerprint": protected.shape.fingerprint(),
        "trees": {axis.name: tree for axis, tree in zip(protected.shape.axes, protected.shape.trees(), strict=True)},
        "method": {
            "rule": "threshold, zeros included, with group disclosure",
            "minimum_frequency": protected.minimum_frequency,
            "protection": "cell suppression, primary and complementary",
        },
        "audit": {
            "rule": "given all that is published, each suppressed cell can be values at least minimum_frequency apart",
            "checked": protected.audit.checked,
            "failed": len(protected.audit.failures),
            "narrowest_proven_width": protected.audit.narrowest,
            "linear_programs": protected.audit.programs,
            "solver": "HiGHS; every solution checked in whole numbers",
            "joint_with": list(protected.joint_with),
        },
    }


RESIDENTS = Path(__file__).with_name("datasets") / "residents.toml"
"""A dataset ready to use: residents by municipality and age group, over the columns of a register of persons."""
