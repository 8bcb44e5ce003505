"""The portal's site, once for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk_site import running_desk
from playwright.sync_api import Browser
from portal_browser import chromium_browser
from portal_site import Site, Visitor, running_site

from stelsel.demo.authority import Authority


@pytest.fixture(scope="session")
def site(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal"), authority) as running:
        yield running


@pytest.fixture(scope="session")
def desk(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site of officials, the steward and builders; tests may sign agreements there."""
    with running_desk(tmp_path_factory.mktemp("desk"), authority) as running:
        yield running


@pytest.fixture
def own_site(authority: Authority, tmp_path: Path) -> Iterator[Site]:
    """A site that a test may break."""
    with running_site(tmp_path, authority) as running:
        yield running


@pytest.fixture
def visitor(site: Site) -> Iterator[Visitor]:
    with Visitor(site) as browsing:
        yield browsing


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with chromium_browser() as browser:
        yield browser
