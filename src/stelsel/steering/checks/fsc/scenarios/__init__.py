"""What is tried, component by component. The ids are those of the published suite; `Extra-` ones are ours."""

from __future__ import annotations

from stelsel.steering.checks.fsc.model import REGISTRY, Scenario
from stelsel.steering.checks.fsc.scenarios import (
    integration,
    inway,
    manager,
    manager_contents,
    manager_listings,
    manager_signatures,
    manager_tokens,
    outway,
)

_COMPONENTS = ("Manager", "Inway", "Outway", "Integration")
_MODULES = (manager, manager_contents, manager_listings, manager_signatures, manager_tokens, inway, outway, integration)

ALL: tuple[Scenario, ...] = tuple(sorted(REGISTRY, key=lambda one: (_COMPONENTS.index(one.component), one.extra)))
"""Every scenario, in the order in which they run: component by component, the suite's own first."""

__all__ = ["ALL"]
