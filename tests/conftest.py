"""What all tests share: an authority for test certificates, a peer's key pair, the folder of public test data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stelsel.base.certificates import KeyPair, TrustAnchors
from stelsel.demo.authority import Authority

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and with CI=true nothing may be: {report.longrepr}"
    return report
