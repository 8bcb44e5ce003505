"""What is declared is documented: settings, commands, and links between pages."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from stelsel.base.settings import Settings, describe

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import reference  # noqa: E402


@pytest.mark.parametrize("kind", reference.FILES.values())
def test_every_setting_is_documented_with_what_it_is(kind: type[Settings]) -> None:
    page = (ROOT / "docs" / "run" / "settings.md").read_text()
    for key, _, _, description in describe(kind):
        assert description, f"the setting {key} has no description"
        assert f"| `{key}` |" in page, f"{key} is not in docs/run/settings.md: run tools/reference.py"


def test_every_command_is_documented_and_teaches() -> None:
    page = (ROOT / "docs" / "run" / "commands.md").read_text()
    found = list(reference.commands())
    assert len(found) >= 15
    for name, text in found:
        assert text, f"the command {name} has no help"
        assert f"## `stelsel {name}`\n" in page, f"{name} is not in docs/run/commands.md: run tools/reference.py"


def test_the_reference_pages_are_what_the_code_says_today() -> None:
    assert (ROOT / "docs" / "run" / "settings.md").read_text() == reference.settings_page()
    assert (ROOT / "docs" / "run" / "commands.md").read_text() == reference.commands_page()


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_every_decision_is_in_the_list_of_decisions() -> None:
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text()
    for page in ROOT.glob("docs/decisions/0*.md"):
        assert f"({page.name})" in listed
