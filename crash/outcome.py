"""What a trial came to: counts, and what was found."""

from __future__ import annotations

from dataclasses import dataclass, field

from crash import check

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
