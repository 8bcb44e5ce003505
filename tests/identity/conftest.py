"""A folder with the provider's keys, made once: an RSA key costs more than all conversations together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stelsel.identity.keys import TokenSigner, Vault


@pytest.fixture(scope="session")
def _made_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identity-keys")
    Vault.open(folder)
    TokenSigner.open(folder)
    return folder


@pytest.fixture
def folder(_made_keys: Path, tmp_path: Path) -> Path:
    """The provider's folder, with keys."""
    made = tmp_path / "identity"
    shutil.copytree(_made_keys, made)
    return made
