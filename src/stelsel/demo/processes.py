"""Real processes: start them, wait until they answer, stop them cleanly, never leave one behind."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from stelsel.base.errors import ConfigurationFault

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Asks Linux to end this process when its parent ends, however that ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """One program of the country. What it prints goes to its own log file."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = [sys.executable, "-m", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it; it gets no signals of our terminal, so that stopping has one order."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_until(self, address: str, seconds: float = 30) -> None:
        """Wait until `host:port` or `unix:/path` accepts connections. Raises when the program ends or is late."""
        deadline = time.monotonic() + seconds
        while not answers(address):
            if not self.running():
                raise ConfigurationFault(f"{self.name} did not start: {self.last_words()}", next_step=f"see {self.log}")
            if time.monotonic() > deadline:
                raise ConfigurationFault(f"{self.name} does not answer on {address}", next_step=f"see {self.log}")
            time.sleep(0.02)

    def stop(self, seconds: float = 10) -> None:
        """Ask it to stop, then insist."""
        if self._process is None:
            return
        if self.running():
            self._process.send_signal(signal.SIGTERM)
        self.await_end(seconds)

    def ask_to_stop(self) -> None:
        if self._process is not None and self.running():
            self._process.send_signal(signal.SIGTERM)

    def await_end(self, seconds: float = 10) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The last thing that it printed, a complaint rather than the next step that follows one."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it printed nothing"
        complaints = [line for line in lines if line.startswith("stelsel: ")]
        return (complaints or lines or ["it printed nothing"])[-1]

    def memory(self) -> int:
        """Resident memory in KiB, 0 when it cannot be read."""
        try:
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        except OSError:
            pass
        return 0


def answers(address: str) -> bool:
    """Whether somebody accepts connections on `host:port` or `unix:/path`."""
    family = socket.AF_UNIX if address.startswith("unix:") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        try:
            if family == socket.AF_UNIX:
                probe.connect(address.removeprefix("unix:"))
            else:
                host, _, port = address.rpartition(":")
                probe.connect((host, int(port)))
        except OSError:
            return False
    return True


def free_base(candidates: Sequence[int], ports: Sequence[int]) -> int:
    """The first base for which none of base + ports is taken. Raises when all are."""
    for base in candidates:
        if not any(answers(f"127.0.0.1:{base + port}") for port in ports):
            return base
    raise ConfigurationFault(
        "all port ranges of the demo are taken", next_step="stop the other demo, or choose --base-port"
    )
