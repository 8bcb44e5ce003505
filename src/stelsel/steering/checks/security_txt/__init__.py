"""The check `security_txt`: does a peer's website say where to report a vulnerability (RFC 9116)?"""

from __future__ import annotations

from stelsel.steering.checks.check import Check
from stelsel.steering.checks.security_txt.norm import judge
from stelsel.steering.checks.security_txt.probe import probe
from stelsel.steering.obligations import Words

NAME = "security_txt"
VERSION = 1
DESCRIPTION = Words(
    nl="Leest /.well-known/security.txt van de website van een organisatie en toetst het aan RFC 9116",
    en="Reads /.well-known/security.txt of an organisation's website and holds it against RFC 9116",
)

CHECK = Check(NAME, VERSION, DESCRIPTION, probe, judge)
