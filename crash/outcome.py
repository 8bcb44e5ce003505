"""What a trial came to: counts, and what was found."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from crash import check
from stelsel.base.clock import moment

SEGMENTS, POSTGRES = "segments", "postgres"
MOST_SHOWN = 20


@dataclass
class Outcome:
    """What a trial came to."""

    journal: str
    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    started_again: int = 0
    """Starts that were tried again: the database was not there yet, or workers of a killed node still had its port."""
    answered: int = 0
    broken: int = 0
    seconds: float = 0.0
    records: int = 0
    checkpoints: int = 0
    findings: check.Findings = field(default_factory=check.Findings)
    faults: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        """Kills, of all."""
        return sum(self.kills.values())

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return not self.findings.any and not self.faults

    def line(self) -> str:
        """The line of figures."""
        found, consistent = self.findings, self.checkpoints - len(self.findings.inconsistent)
        return (
            f"{self.journal}: {self.killed:,} kills, {self.answered:,} answered requests, "
            f"{len(found.lost)} lost, {len(found.doubled)} doubled, {len(found.unrecorded)} unrecorded, "
            f"{consistent:,} checkpoints consistent"
        )

    def to_json(self) -> dict[str, object]:
        """For bench/out/crash.json."""
        found = self.findings
        return {
            "journal": self.journal,
            "seed": self.seed,
            "kills": self.killed,
            "kills_of": self.kills,
            "started_again": self.started_again,
            "seconds": round(self.seconds, 1),
            "answered_requests": self.answered,
            "broken_requests": self.broken,
            "records": self.records,
            "lost": len(found.lost),
            "doubled": len(found.doubled),
            "unrecorded": len(found.unrecorded),
            "misnumbered": len(found.misnumbered),
            "repeated_gets": found.repeated_looks,
            "checkpoints": self.checkpoints,
            "checkpoints_inconsistent": len(found.inconsistent),
            "faults": self.faults[:MOST_SHOWN],
        }


def write_down(outcomes: list[Outcome]) -> None:
    """Put them into bench/out/crash.json, in the place of earlier ones on the same journal."""
    file = Path(__file__).parents[1] / "bench" / "out" / "crash.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {each["journal"]: each for each in (json.loads(file.read_text()) if file.exists() else [])}
    known |= {outcome.journal: outcome.to_json() | {"at": moment(time.time())} for outcome in outcomes}
    file.write_text(json.dumps(list(known.values()), indent=2) + "\n")
