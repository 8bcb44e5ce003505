"""What is tried, component by component. The ids are those of the published suite; `Extra-` ones are ours."""

from __future__ import annotations

from stelsel.steering.checks.fsc.model import REGISTRY, Scenario
from stelsel.steering.checks.fsc.scenarios import (
    integration,
    inway,
    manager,
    manager_access,
    manager_contents,
    manager_listings,
    manager_signatures,
    manager_tokens,
    outway,
)

_COMPONENTS = ("Manager", "Inway", "Outway", "Integration")
_MODULES = [
    module.__name__
    for module in (
        manager,
        manager_listings,
        manager_tokens,
        manager_contents,
        manager_signatures,
        manager_access,
        inway,
        outway,
        integration,
    )
]


def _place(one: Scenario) -> tuple[int, bool, int]:
    return _COMPONENTS.index(one.component), one.extra, _MODULES.index(one.run.__module__)


ALL: tuple[Scenario, ...] = tuple(sorted(REGISTRY, key=_place))
"""Every scenario, in the order in which they run: component by component, the suite's own first."""

__all__ = ["ALL"]
