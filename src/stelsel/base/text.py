"""Hostile strings made inert before they reach a log line, a page or a terminal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """A text for people, in both languages of the interface."""

    nl: str
    en: str

    def in_language(self, language: str) -> str:
        return self.en if language == "en" else self.nl

    def to_json(self) -> dict[str, str]:
        return {"nl": self.nl, "en": self.en}


def inert(text: str, limit: int = 500) -> str:
    """`text` on one line, without control, bidirectional or invisible characters, at most `limit` long.

    What is taken out shows as `\\u{...}`, so that a reader sees that something was there. HTML is escaped by the
    templates, not here.
    """
    shown = "".join(
        character if character.isprintable() else f"\\u{{{ord(character):x}}}" for character in text[:limit]
    )
    return shown if len(text) <= limit else shown + "…"
