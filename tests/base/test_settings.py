"""Settings files: every mistake is one line with the file, the key and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from stelsel.base.errors import ConfigurationFault
from stelsel.base.settings import RelativePath, Settings, describe, read_toml


class Inner(Settings):
    listen: str = Field(description="where to listen")
    limit: int = Field(10, ge=1, description="how many")


class Outer(Settings):
    data: RelativePath = Field(description="folder")
    inner: Inner | None = Field(None, description="the inner part")
    many: tuple[Inner, ...] = Field((), description="more of them")


def _write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_a_path_is_relative_to_the_folder_of_the_file(tmp_path: Path) -> None:
    assert read_toml(_write(tmp_path, 'data = "here"'), Outer).data == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ('data = "x"\ndat = 1', "unknown key dat", "did you mean data?"),
        ('data = "x"\n[inner]\nlisten = "a"\nlimits = 3', "unknown key inner.limits", "did you mean inner.limit?"),
        ("", "the key data is missing", "add data to the file"),
        ('data = "x"\n[inner]\nlisten = "a"\nlimit = 0', "inner.limit", "correct inner.limit"),
        ("data = ", "is not TOML", ""),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key_and_the_fix(
    tmp_path: Path, text: str, message: str, fix: str
) -> None:
    with pytest.raises(ConfigurationFault) as caught:
        read_toml(_write(tmp_path, text), Outer)
    assert message in caught.value.detail
    assert "\n" not in caught.value.detail
    assert fix in caught.value.next_step


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault) as caught:
        read_toml(tmp_path / "none.toml", Outer)
    assert "stelsel init" in caught.value.next_step


def test_every_setting_is_described_with_its_full_key() -> None:
    keys = [key for key, *_ in describe(Outer)]
    assert keys == ["data", "inner.listen", "inner.limit", "many[].listen", "many[].limit"]
