"""The check `tls`: is a peer's manager reachable over safe TLS only, with a certificate of its own that holds?"""

from __future__ import annotations

from stelsel.steering.checks.check import Check
from stelsel.steering.checks.tls.norm import judge
from stelsel.steering.checks.tls.probe import probe
from stelsel.steering.obligations import Words

NAME = "tls"
VERSION = 1
DESCRIPTION = Words(
    nl="Meet welke TLS-versies en versleuteling een koppelpunt aanneemt, en of het certificaat klopt",
    en="Measures which TLS versions and ciphers a manager accepts, and whether its certificate holds",
)

CHECK = Check(NAME, VERSION, DESCRIPTION, probe, judge)
