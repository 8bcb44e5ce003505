"""Provide a program that a target needs: find it, or install its Debian package when root, or say what is left out.

With CI=true leaving out is an error.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_PROGRAMS = {
    "chromium": ("chromium", ("chromium", "chromium-browser", "google-chrome"), "the tests of pages in a real browser"),
    "postgresql": (
        "postgresql",
        ("/usr/lib/postgresql/*/bin/initdb", "initdb"),
        "the tests and measurements of a ledger in PostgreSQL",
    ),
    "strace": ("strace", ("strace",), "the test that watches in which order nodes write, sync and send"),
    "nginx": ("nginx", ("nginx", "/usr/sbin/nginx"), "what is compared with nginx, and tests against it"),
}


def main(names: list[str]) -> int:
    """Exit code 0 when all is there, or may be left out."""
    missing = [name for name in names if not _present(name) and not _install(name)]
    for name in missing:
        print(f"{name} is not here and cannot be installed: {_PROGRAMS[name][2]} will be skipped.", file=sys.stderr)
        print(f"Next step: install {name}, or run this as root on Debian.", file=sys.stderr)
    return 1 if missing and os.environ.get("CI") == "true" else 0


def _present(name: str) -> bool:
    candidates = _PROGRAMS[name][1]
    return any(shutil.which(candidate) or any(Path("/").glob(candidate.lstrip("/"))) for candidate in candidates)


def _install(name: str) -> bool:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    print(f"Installing {name} (Debian package)", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", _PROGRAMS[name][0]],
    )
    for command in commands:
        if subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
            return False
    return _present(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
