"""One small country of real processes for all tests here; a test that breaks something mends it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelsel.demo.country import Country, Options
from stelsel.demo.population_register.store import notable_people
from stelsel.demo.scenario.play import Story


@pytest.fixture(scope="session")
def country() -> Iterator[Country]:
    folder = Path(tempfile.mkdtemp(prefix="country-"))
    # Other ports than those of other countries that tests start: another process may be starting one now.
    country = Country.prepare(Options(people=400, folder=folder / "c", bases=(8000, 10000, 12000, 14000)))
    try:
        country.start()
        country.settle()
        yield country
    finally:
        country.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def story(country: Country) -> Story:
    return Story(country, notable_people(country.folder / "people.sqlite", 1)[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/country/" in str(item.path):
            item.add_marker(pytest.mark.country)
