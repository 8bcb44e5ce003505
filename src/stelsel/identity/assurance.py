"""Levels of assurance of eIDAS as `acr` values (OIDC-NLGOV: acr; eIDAS implementing regulation 2015/1502)."""

from __future__ import annotations

from typing import Literal, get_args

Level = Literal["low", "substantial", "high"]

LEVELS: tuple[Level, ...] = get_args(Level)

_PREFIX = "http://eidas.europa.eu/LoA/"

ACR_VALUES = tuple(_PREFIX + level for level in LEVELS)
"""All `acr` values that the provider knows, lowest first."""


def acr(level: Level) -> str:
    """The `acr` value of a level."""
    return _PREFIX + level


def level_of(value: str) -> Level | None:
    """The level that an `acr` value names, or None when it names none."""
    for level in LEVELS:
        if value == _PREFIX + level:
            return level
    return None


def at_least(level: Level, least: Level) -> bool:
    """Whether `level` is as high as `least`, or higher."""
    return LEVELS.index(level) >= LEVELS.index(least)
