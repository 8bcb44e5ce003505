"""The tools behind `make`: what is missing is said plainly, and with CI=true missing is an error; publiccode.yml."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import stelsel

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import environment  # noqa: E402
import provide  # noqa: E402


def _provide(path: Path, *names: str, ci: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the tool where nothing is found but what is in `path`: no package can be installed there either."""
    variables = {name: value for name, value in os.environ.items() if name not in ("CI", "PATH")}
    variables |= {"PATH": str(path)} | ({"CI": ci} if ci is not None else {})
    command = [sys.executable, str(ROOT / "tools" / "provide.py"), *names]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=variables)


def _program(folder: Path, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("ci", "code"), [("true", 1), (None, 0), ("false", 0)])
def test_a_missing_program_is_said_and_is_an_error_only_where_nothing_may_be_left_out(
    tmp_path: Path, ci: str | None, code: int
) -> None:
    told = _provide(tmp_path, "chromium", ci=ci)
    assert told.returncode == code
    first, second = told.stderr.splitlines()
    assert first == (
        "chromium is not here and cannot be installed: the tests of pages in a real browser will be skipped."
    )
    assert second == "Next step: install chromium, or run this as root on Debian."
    assert told.stdout == ""


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_program_that_is_there_under_any_of_its_names_is_left_alone(tmp_path: Path, name: str) -> None:
    _program(tmp_path, name)
    told = _provide(tmp_path, "chromium", ci="true")
    assert (told.returncode, told.stderr) == (0, "")


def test_of_several_programs_each_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(provide, "_present", lambda name: name == "chromium")
    monkeypatch.setattr(provide, "_install", lambda name: False)
    assert provide.main(["chromium", "nginx"]) == 1
    told = capsys.readouterr().err
    assert "nginx is not here" in told
    assert "chromium" not in told


@pytest.mark.parametrize("failing", ["update", "install", None])
def test_root_installs_the_package_and_a_failure_of_it_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: str | None
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if command[1] == "install" and failing is None:
            _program(tmp_path, "chromium")
        return subprocess.CompletedProcess(command, 100 if command[1] == failing else 0)

    _program(tmp_path, "apt-get")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(subprocess, "run", run)
    assert provide.main(["chromium"]) == (0 if failing is None else 1)
    assert [command[:2] for command in asked] == [["apt-get", "update"], ["apt-get", "install"]][
        : 1 if failing == "update" else 2
    ]
    assert ("cannot be installed" in capsys.readouterr().err) == (failing is not None)


def test_who_is_not_root_installs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "apt-get")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it tried to install"))
    assert provide.main(["chromium"]) == 0
    assert not environment._install_venv()


def test_the_environment_is_made_anew_over_a_broken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr(environment.venv, "create", lambda folder, **options: made.append(options))
    assert environment.main(tmp_path / "v") == 0
    assert made == [{"with_pip": True, "clear": True}]


def test_a_python_without_venv_is_said_in_two_lines_and_nothing_half_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def create(folder: Path, **_: object) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise subprocess.CalledProcessError(1, "ensurepip")

    monkeypatch.setattr(environment.venv, "create", create)
    monkeypatch.setattr(environment, "_install_venv", lambda: False)
    assert environment.main(tmp_path / "v") == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "This Python cannot make a virtual environment with pip."
    assert second.startswith("Next step: install your system's package for it")
    assert not (tmp_path / "v").exists()


def test_the_environment_is_tried_again_after_its_package_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[bool] = []

    def create(folder: Path, **_: object) -> None:
        if not installed:
            raise SystemExit(1)

    monkeypatch.setattr(environment.venv, "create", create)
    monkeypatch.setattr(environment, "_install_venv", lambda: installed.append(True) or True)
    assert environment.main(tmp_path / "v") == 0
    assert installed == [True]


def test_a_python_that_is_too_old_is_said_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "version", "3.9.2 (default)")
    assert environment.main(tmp_path / "v") == 1
    told = capsys.readouterr().err
    assert "needs Python 3.11 or newer; this is 3.9.2." in told
    assert "Next step: make PYTHON=" in told


def test_publiccode_says_what_this_software_is() -> None:
    about = yaml.safe_load((ROOT / "publiccode.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert about["softwareVersion"] == stelsel.__version__
    assert about["legal"]["license"] == "EUPL-1.2"
    assert "EUPL-1.2" in str(project["license"])
    assert about["name"].lower() == project["name"]
    needed = {"publiccodeYmlVersion", "name", "platforms", "categories", "developmentStatus", "softwareType"}
    assert needed | {"description", "legal", "maintenance", "localisation"} <= about.keys()
    assert set(about["description"]) == set(about["localisation"]["availableLanguages"]) == {"nl", "en"}
    for told in about["description"].values():
        assert 0 < len(told["shortDescription"]) <= 150
        assert 150 <= len(told["longDescription"]) <= 10_000
        assert told["features"]
