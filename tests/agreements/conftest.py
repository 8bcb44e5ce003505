"""Fixtures of this room's tests; see `agreements_peers`."""

from agreements_peers import country, group, keypairs, terms

__all__ = ["country", "group", "keypairs", "terms"]
