"""A throw-away PostgreSQL server: real, safe to kill, gone afterwards. For tests, measurements and trials.

It listens on a unix socket in its own folder and nowhere else, trusts who can reach that socket, and syncs to disk as
a server should. PostgreSQL refuses to run as root; for root it runs as the user `postgres`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stelsel.base.errors import ConfigurationFault
from stelsel.demo.patience import Patience

_PROGRAMS = Path("/usr/lib/postgresql")
_START_SECONDS = 30.0
_POLL_SECONDS = 0.02


def programs() -> Path | None:
    """The folder with `initdb` and `postgres`, of the newest version here; None when there is none."""
    found = shutil.which("initdb")
    if found is not None and (folder := Path(found).resolve().parent).joinpath("pg_isready").exists():
        return folder
    versions = [path.parent for path in _PROGRAMS.glob("*/bin/initdb")]
    return max(versions, key=lambda path: float(path.parent.name), default=None)


class ThrowawayPostgres:
    """One server in a temporary folder, between `start` (or `with`) and `remove`."""

    def __init__(self, folder: Path | None = None, **settings: str) -> None:
        """`folder`: where the temporary folder is made. `settings`: of the server, over the defaults.

        Raises `ConfigurationFault` when there is no PostgreSQL here.
        """
        found = programs()
        if found is None:
            raise ConfigurationFault(
                "there is no PostgreSQL server on this machine", next_step="python tools/provide.py postgresql"
            )
        self._programs = found
        self._user: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="stelsel-pg-", dir=folder))
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self.process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "server.log"
        self._begun = 0
        self._settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "unix_socket_permissions": "0700",
            "shared_buffers": "32MB",
            "max_connections": "50",
            "log_min_messages": "warning",
        } | settings
        self._run(
            "initdb",
            *("--pgdata", str(self.folder / "data"), "--username", "stelsel", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions", "--wal-segsize", "4"),
        )

    def url(self, database: str = "postgres", user: str = "stelsel") -> str:
        """The address of one of its databases."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)  # what a killed server leaves
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._begun = log.tell()
            self.process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self._user,
            )
        patience = Patience(_START_SECONDS)
        while not self._answers():
            if self.process.poll() is not None or patience.is_over():
                raise ConfigurationFault(f"the PostgreSQL server does not start: {self.said()[-1000:]}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Shut it down at once, in order: sessions are ended, everything is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill -9 the server and all that it runs, as a power cut does; wait until they are gone."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGSTOP)  # nothing may be answered between the first kill and the last
            for child in _children(self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        self._end(signal.SIGKILL)

    @property
    def ended_by_itself(self) -> bool:
        """Whether it was started, and is gone without having been stopped or killed as a whole."""
        return self.process is not None and self.process.poll() is not None

    def said(self) -> str:
        """What it wrote to its log since it was last started."""
        return self._log.read_bytes()[self._begun :].decode(errors="replace").strip()

    def freeze(self) -> None:
        """Stop every process of it where it is, as a machine does that hangs; `thaw` lets them go on."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and take its folder away."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _answers(self) -> bool:
        command = [str(self._programs / "pg_isready"), "-q", "-h", str(self.folder), "-U", "stelsel", "-d", "postgres"]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            **self._user,
        )
        if done.returncode != 0:
            raise ConfigurationFault(f"{program} of PostgreSQL failed: {done.stderr[-1000:]}")

    def _signal_all(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            for one in (self.process.pid, *_children(self.process.pid)):
                with suppress(ProcessLookupError):  # a session that just ended by itself
                    os.kill(one, number)

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        children = _children(process.pid)
        os.kill(process.pid, number)
        patience = Patience(_START_SECONDS)
        while process.poll() is None or any(_lives(child) for child in children):
            if patience.is_over():
                process.kill()
                process.wait()
                return
            time.sleep(_POLL_SECONDS)


def _children(parent: int) -> list[int]:
    """The processes that this one started; each backend of PostgreSQL leads a session of its own."""
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def _lives(process: int) -> bool:
    """Whether it still runs; what is dead and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False
