"""Fixtures of this room's tests; see `agreements_peers`."""

from agreements_peers import country, group, keypairs, terms
from hypothesis import settings

__all__ = ["country", "group", "keypairs", "terms"]

# These rules are about what comes out, not about how fast: a busy machine may not fail them.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
