"""Make the compiled form of Stelsel, as a wheel with it has it, beside the source: build/compiled/bin/python runs it.

    python tools/compile.py [--where FOLDER]

The path of every request is compiled by mypyc: the same source, so the same behaviour, in less than half the time. It
needs a C compiler and Python's headers; as root on Debian they are installed when they are not there. Done once, and
again when the source changed. Exit code 0 also when it cannot be made, and then says so, but not with CI=true.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_NEEDED = ("pyproject.toml", "README.md", "LICENSE", "src")


def main(where: Path) -> int:
    """Make it in `where`."""
    stamp, present = where / "made-of", _fingerprint()
    if stamp.exists() and stamp.read_text() == present:
        return 0
    if not _can_compile() and not (_install() and _can_compile()):
        print("There is no C compiler here, or no headers of this Python: Stelsel runs uncompiled.", file=sys.stderr)
        print("Next step: install gcc and the headers (python3-dev), or run this as root on Debian.", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    print("Compiling the path of every request (once, about a minute)", file=sys.stderr)
    shutil.rmtree(where, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="stelsel-compile-") as name:
        copy = Path(name) / "stelsel"
        copy.mkdir()
        for needed in _NEEDED:
            source = _ROOT / needed
            if source.is_dir():
                shutil.copytree(source, copy / needed, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            else:
                shutil.copy(source, copy / needed)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        environment = {**os.environ, "HATCH_BUILD_HOOKS_ENABLE": "1"}
        run = subprocess.run(
            [*command, "--wheel-dir", name, str(copy)], env=environment, check=False, capture_output=True, text=True
        )
        wheels = list(Path(name).glob("*.whl"))
        if run.returncode != 0 or not wheels:
            print(run.stdout[-3000:], run.stderr[-3000:], sep="\n", file=sys.stderr)
            print("Stelsel could not be compiled; it runs uncompiled.", file=sys.stderr)
            return 1
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(where / "lib")
    venv.create(where, with_pip=False, symlinks=True)
    # The compiled package comes first; all else is that of the environment which this runs in.
    (where / _packages() / "stelsel.pth").write_text(f"{where / 'lib'}\n{sysconfig.get_path('purelib')}\n")
    stamp.write_text(present)
    return 0


def _packages() -> str:
    return sysconfig.get_path("purelib", "posix_prefix", {"base": "."}).removeprefix("./")


def _can_compile() -> bool:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    there = shutil.which(os.environ.get("CC", compiler)) or shutil.which("cc")
    return there is not None and (Path(sysconfig.get_path("include")) / "Python.h").exists()


def _install() -> bool:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    headers = f"libpython3.{sys.version_info.minor}-dev"
    print(f"Installing gcc and {headers} (Debian packages)", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "gcc", "libc6-dev", headers],
    )
    return all(
        subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL).returncode == 0
        for command in commands
    )


def _fingerprint() -> str:
    files = [_ROOT / "pyproject.toml", *sorted((_ROOT / "src").rglob("*.py"))]
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(str(file.relative_to(_ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", type=Path, default=_ROOT / "build" / "compiled")
    sys.exit(main(parser.parse_args().where.resolve()))
