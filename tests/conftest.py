"""What all tests share: an authority for test certificates, a peer's key pair, the folder of public test data.

And how processes share all tests (`pytest -n 4`): by the file, for what the tests of a file share is made once, and the
files that use one country, site or server together. What takes long comes first, so that all end at about one time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.demo.authority import Authority

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

_TOGETHER = {
    "the country": ("country_managing", "country_processes", "country_scenario"),
    "the country under siege": (
        "robust_endpoints",
        "robust_heads",
        "robust_operator",
        "robust_power_cuts",
        "robust_power_cuts_at_the_steward",
        "robust_secrets",
        "robust_strangers",
        "robust_strings",
    ),
    "the desk": ("portal_builder", "portal_managing", "portal_official", "portal_pages_browser", "portal_steward"),
    "the site": ("portal_browser", "portal_frame", "portal_resident"),
    "the database server": ("ledger_faults", "ledger_journals", "ledger_postgres", "ledger_postgres_faults"),
}
_LONG = (
    "the country under siege",
    "the country",
    "the desk",
    "exchange_renewal",
    "the database server",
    "country_demo",
    "the site",
    "exchange_workers",
    "robust_crash",
    "robust_witness",
    "fsc_schemathesis",
    "portal_parking_browser",
    "country_check_fsc",
    "robust_reconcile",
    "ledger_witnessing",
    "portal_hostile_names",
    "robust_sync_order",
    "robust_retention",
    "cli_commands",
    "agreements_catch_up",
    "opendata_api",
    "fsc_state_machine",
    "exchange_lanes_gateways",
    "steering_fsc_check",
    "exchange_borders",
    "agreements_country",
)
"""Shares that take more than ten seconds, in the order in which they begin: not all that starts nodes at once."""

# The rules of hypothesis are about what comes out, not about how fast: a busy machine may not fail them.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def anchors(authority: Authority) -> TrustAnchors:
    return TrustAnchors(authority.root_pem)


@pytest.fixture(scope="session")
def new_keypair(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., KeyPair]:
    """Makes a key pair for a peer: `new_keypair("00000099000000001000", "Gemeente")`."""

    def make(peer_id: str, name: str = "Organisatie", **options: object) -> KeyPair:
        folder = tmp_path_factory.mktemp(f"peer-{peer_id}")
        return KeyPair.load(*authority.issue(folder, peer_id, name, **options))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def external_data() -> Path:
    """The folder with exams that others wrote; skips, saying so, where it is absent."""
    if not _DATA.is_dir():
        pytest.skip(f"the public test data is not at {_DATA}")
    return _DATA


def _share(nodeid: str) -> str:
    """What a test belongs to that one process runs."""
    file = Path(nodeid.partition("::")[0]).stem.removeprefix("test_")
    return next((name for name, files in _TOGETHER.items() if file in files), file)


class _Shares(LoadScopeScheduling):
    """Processes get one share after the other, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return _share(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Shares:
    # Not xdist's own groups (--dist loadgroup): xdist 3.8 marks them in a member that tests of pytest 9.2 do not have.
    config.option.loadscopereorder = False
    return _Shares(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one process of several
        order = {name: number for number, name in enumerate(_LONG)}
        items.sort(key=lambda item: order.get(_share(item.nodeid), len(_LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and with CI=true nothing may be: {report.longrepr}"
    return report
