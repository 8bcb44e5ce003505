from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelsel.privacy.fields import in_words, words


@pytest.mark.parametrize(
    ("path", "nl", "en"),
    [
        ("naam.geslachtsnaam", "achternaam", "surname"),
        ("geslachtsnaam", "achternaam", "surname"),
        ("verblijfplaats.verblijfadres.postcode", "postcode", "postal code"),
        ("geboorte.datum.datum", "geboortedatum", "date of birth"),
        ("geboorte.datum.jaar", "geboortedatum (jaar)", "date of birth (year)"),
        ("partners.naam.voornamen", "voornamen van uw partner", "first names of your partner"),
        ("kinderen.geboorte.datum", "geboortedatum van uw kinderen", "date of birth of your children"),
        ("verblijfplaatsBinnenland.verblijfadres.woonplaats", "woonplaats", "town"),
        ("inkomen", "inkomen", "inkomen"),
        ("inkomen.brutoJaarloon", "bruto jaarloon (inkomen)", "bruto jaarloon (inkomen)"),
    ],
)
def test_a_field_has_plain_words(path: str, nl: str, en: str) -> None:
    assert (words(path).nl, words(path).en) == (nl, en)


def test_the_same_words_are_said_once() -> None:
    paths = ("geboorte.datum", "geboorte.datum.langFormaat", "leeftijd")
    assert in_words(paths) == ("geboortedatum", "leeftijd")
    assert in_words(paths, "en") == ("date of birth", "age")


@given(st.text())
def test_any_path_gets_harmless_words(path: str) -> None:
    found = words(path)
    assert found.nl
    assert found.en
    assert (found.nl + found.en).isprintable()


@pytest.mark.external
def test_every_field_of_a_person_has_words_in_both_languages(external_data: Path) -> None:
    lines = (external_data / "brp" / "fields-Persoon.csv").read_text().split()
    paths = lines[1:]
    assert len(paths) > 300
    for path in paths:
        found = words(path)
        assert found.nl.strip(), path
        assert found.en.strip(), path
        assert "omschrijving" not in found.nl, path
        last = path.rpartition(".")[2]
        known = found.nl != found.en or last in ("postcode", "aanhef")
        assert known, f"{path} has the same words in both languages: {found.nl}"
