"""The words of the frame around every page, in the two languages of the interface."""

from __future__ import annotations

from typing import Literal

Language = Literal["nl", "en"]
LANGUAGES: tuple[Language, ...] = ("nl", "en")

WORDS: dict[str, tuple[str, str]] = {
    "skip": ("Naar de inhoud", "Skip to the content"),
    "navigation": ("Hoofdmenu", "Main menu"),
    "other_language": ("English", "Nederlands"),
    "demo_band": (
        "Dit is een demonstratie. Alle mensen en organisaties op deze pagina's zijn verzonnen.",
        "This is a demonstration. All people and organisations on these pages are invented.",
    ),
    "footer": (
        "Stelsel: afspraken die machines naleven, en die u kunt nakijken.",
        "Stelsel: agreements that machines keep, and that you can check.",
    ),
    "home": ("Begin", "Home"),
    "my_data": ("Mijn gegevens", "My data"),
    "agreements": ("Afspraken", "Agreements"),
    "open_data": ("Open data", "Open data"),
    "board": ("Verplichte afspraken", "Obligations"),
    "goals": ("Doelen", "Goals"),
    "sign_in": ("Inloggen", "Log in"),
    "sign_out": ("Uitloggen", "Log out"),
}


def word(key: str, language: Language) -> str:
    """One of the frame's words. Raises `KeyError` for a word that is not there."""
    return WORDS[key][LANGUAGES.index(language)]
