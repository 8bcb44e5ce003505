"""The command line without a node: what it makes, and how it says what is wrong."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from stelsel.demo.authority import Authority
from stelsel.settings import NodeSettings

GROUP = """
id = "test"
name = "Test"
trust_anchors = "anchors.pem"
directory_peer_id = "00000099000000001000"
directory_address = "https://localhost:8443"
"""


def _stelsel(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stelsel", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    (tmp_path / "anchors.pem").write_bytes(Authority().root_pem)
    file = tmp_path / "group.toml"
    file.write_text(GROUP)
    return file


def _init(
    folder: Path, group: Path, peer_id: str = "00000099000000003000", *more: str
) -> subprocess.CompletedProcess[str]:
    about = ("--peer-id", peer_id, "--name", "Gemeente", "--host", "node.example", "--group", str(group))
    return _stelsel("init", str(folder), *about, *more)


def test_init_makes_a_key_a_request_and_a_file_that_the_node_understands(tmp_path: Path, group: Path) -> None:
    from stelsel.base.settings import read_toml

    made = _init(tmp_path / "node", group)
    assert made.returncode == 0, made.stderr
    assert "Next step" in made.stdout
    assert stat.S_IMODE((tmp_path / "node" / "key.pem").stat().st_mode) == 0o600
    request = x509.load_pem_x509_csr((tmp_path / "node" / "request.csr").read_bytes())
    assert request.is_signature_valid
    assert "00000099000000003000" in request.subject.rfc4514_string()
    settings = read_toml(tmp_path / "node" / "node.toml", NodeSettings)
    assert settings.group.resolve() == group.resolve()
    run = _stelsel("run", str(tmp_path / "node" / "node.toml"))
    assert run.returncode == 1
    assert "certificate.pem" in run.stderr


def test_init_tells_a_program_what_was_made_and_what_is_next(tmp_path: Path, group: Path) -> None:
    made = _init(tmp_path / "node", group, "00000099000000003000", "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert set(told) == {"made", "next_steps"}
    assert {Path(file) for file in told["made"]} == set((tmp_path / "node").iterdir())
    assert [step.split()[0] for step in told["next_steps"]] == ["have", "stelsel"]


@pytest.mark.parametrize("flag", ["--json", "--log-json"])
def test_run_logs_as_json_under_either_name_of_the_option(tmp_path: Path, flag: str) -> None:
    refused = _stelsel("run", "nowhere.toml", flag, cwd=tmp_path)
    assert (refused.returncode, "there is no such file" in refused.stderr) == (1, True)


def test_init_changes_nothing_in_a_folder_that_is_not_empty(tmp_path: Path, group: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "mine.txt").write_text("mine")
    refused = _init(tmp_path / "node", group)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr
    assert [file.name for file in (tmp_path / "node").iterdir()] == ["mine.txt"]


def test_init_refuses_what_is_no_oin(tmp_path: Path, group: Path) -> None:
    refused = _init(tmp_path / "node", group, "123")
    assert refused.returncode == 1
    assert "20 digits" in refused.stderr
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("peers", "--node", "nowhere.toml"), "there is no such file"),
        (("verify", "nowhere.json"), "cannot be read"),
        (("agreement", "propose", "--peer", "1", "--service", "x", "--terms", "nowhere.toml"), "terms"),
        (("run", "nowhere.toml"), "there is no such file"),
        (("run", "nowhere.toml", "--log-level", "loud"), "log level"),
        (("demo", "--check", "--people", "0"), "people"),
        (("demo", "--people-file", "nowhere.csv", "--folder", "c"), "nowhere.csv"),
    ],
)
def test_a_mistake_is_one_line_and_a_next_step(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    refused = _stelsel(*arguments, cwd=tmp_path)
    assert refused.returncode == 1, refused.stdout
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("verify",), ("peers", "--nod", "x"), ("demo", "--people", "many")]
)
def test_a_command_line_that_is_not_understood_leaves_with_two(arguments: tuple[str, ...]) -> None:
    assert _stelsel(*arguments).returncode == 2


def test_terms_with_an_unknown_member_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "terms.toml").write_text('purpose = "x"\nporpose = "y"\n')
    refused = _stelsel("agreement", "propose", "--peer", "1", "--service", "x", "--terms", "terms.toml", cwd=tmp_path)
    assert refused.returncode == 1
    assert "nl.stelsel.terms" in refused.stderr


def test_a_receipt_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trust-anchors.pem").write_bytes(Authority().root_pem)
    for number, content in enumerate((b"", b"{}", b"\xff\x00", json.dumps({"format": "x"}).encode(), b"[" * 5000)):
        file = tmp_path / f"{number}.json"
        file.write_bytes(content)
        refused = _stelsel("verify", str(file))
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
