"""Checks: each a folder of its own, of one shape.

`__init__.py` holds a `CHECK`; `probe.py` gathers facts from a live endpoint (I/O, within limits); `norm.py` is pure and
judges facts. A fact that could not be established is None: it makes the outcome `unknown` or `error`, never `met`.
"""

from __future__ import annotations

from stelsel.steering.checks import security_txt, tls
from stelsel.steering.checks.check import Check, Evidence, Target

CHECKS: dict[str, Check] = {check.reference: check for check in (tls.CHECK, security_txt.CHECK)}
"""The checks of this version, by name@version as obligations name them."""

__all__ = ["CHECKS", "Check", "Evidence", "Target"]
