"""Make the virtual environment of this project, and say plainly what is missing when that cannot be done."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path


def main(folder: Path) -> int:
    """Exit code 0 when `folder` holds a working environment with pip."""
    if sys.version_info < (3, 11):
        print(f"Stelsel needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        print("Next step: make PYTHON=/path/to/python3.12 demo", file=sys.stderr)
        return 1
    for attempt in (1, 2):
        try:
            venv.create(folder, with_pip=True, clear=True)
            return 0
        except (subprocess.CalledProcessError, SystemExit, ImportError):
            shutil.rmtree(folder, ignore_errors=True)
            if attempt == 2 or not _install_venv():
                break
    print("This Python cannot make a virtual environment with pip.", file=sys.stderr)
    print("Next step: install your system's package for it, for instance python3-venv on Debian.", file=sys.stderr)
    return 1


def _install_venv() -> bool:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    package = f"python3.{sys.version_info.minor}-venv"
    commands = (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", package])
    return all(subprocess.run(command, check=False).returncode == 0 for command in commands)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
