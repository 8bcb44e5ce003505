"""A country of its own to be hostile to, so that what is thrown at it is in nobody's way."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelsel.demo.country import Country, Options

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests here use the folder crash


@pytest.fixture(scope="session")
def besieged() -> Iterator[Country]:
    folder = Path(tempfile.mkdtemp(prefix="siege-"))
    country = Country.prepare(Options(people=300, folder=folder / "c", bases=(9000, 11000, 13000, 15000)))
    country.start()
    try:
        country.settle()
        yield country
    finally:
        country.stop()
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/robustness/" in str(item.path):
            item.add_marker(pytest.mark.country)
