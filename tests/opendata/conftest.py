"""The open data service on a folder of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opendata_samples import NOW, document

from stelsel.base.clock import SetClock
from stelsel.opendata.schema import Schema
from stelsel.opendata.service import OpenData
from stelsel.opendata.settings import Publisher


@pytest.fixture
def schema() -> Schema:
    return Schema.model_validate(document())


@pytest.fixture
def new_service(tmp_path: Path) -> Iterator[Callable[..., OpenData]]:
    """Makes the service on a folder of the test."""
    made: list[OpenData] = []

    def make(**options: Any) -> OpenData:
        settings: dict[str, Any] = {"clock": SetClock(NOW), "base_url": "https://register.example"} | options
        publisher = Publisher.model_validate({"name": "Bevolkingsregister", "uri": "https://register.example/"})
        made.append(OpenData(tmp_path / "opendata", publisher, settings.pop("base_url"), **settings))
        return made[-1]

    yield make
    for service in made:
        service.close()
