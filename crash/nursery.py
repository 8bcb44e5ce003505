"""A fork server: a process that has everything imported, so that what it forks is up in milliseconds.

Starting an interpreter takes longer than a thousand kills should. The nursery does one thing at a time, on request,
and has no threads, so that forking is safe. It reaps what it forked itself: a process id cannot be given to another
process before it, and nothing is ever killed but what was started here.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from stelsel.demo.patience import Patience

Json = dict[str, Any]

_PR_SET_PDEATHSIG = 1
_ROOT = Path(__file__).parents[1]
_PATIENCE = 20.0


class Nursery:
    """The trial's side. Roles are `module:function`; a role is called in its own process with JSON arguments."""

    def __init__(self, roles: tuple[str, ...]) -> None:
        """`roles` are imported before anything is forked."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crash.nursery", str(there.fileno()), *roles],
                pass_fds=[there.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), *_paths())))},
                start_new_session=True,
            )
        self._socket = here
        self._lock = threading.Lock()

    def start(self, name: str, role: str, log: Path, **arguments: Any) -> int:
        """Start a process under a name that no living process has; its process id."""
        answer = self._ask(do="start", name=name, role=role, log=str(log), arguments=arguments)
        if "pid" not in answer:
            raise RuntimeError(f"{name} was started while it lives")  # else nobody would kill the first one any more
        return int(answer["pid"])

    def kill(self, name: str) -> bool:
        """kill -9, and wait until it is gone; whether it was still alive."""
        return bool(self._ask(do="kill", name=name)["alive"])

    def stop(self, name: str) -> bool:
        """Ask it to end; whether it did so in time."""
        return bool(self._ask(do="stop", name=name)["alive"])

    def ended(self) -> dict[str, int]:
        """What ended by itself since it was started: name to wait status. Each is told once."""
        return {str(name): int(status) for name, status in self._ask(do="ended")["ended"].items()}

    def close(self) -> None:
        """End everything that was started here."""
        self._socket.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, **request: Any) -> Json:
        with self._lock:
            self._socket.send(json.dumps(request).encode())
            answer = self._socket.recv(65536)
        if not answer:
            raise RuntimeError("the nursery is gone")
        document: Json = json.loads(answer)
        return document


class _Server:
    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._pids: dict[str, int] = {}
        self._ended: dict[str, int] = {}

    def run(self) -> None:
        while request := self._line.recv(65536):
            told = json.loads(request)
            do = {"start": self._start, "kill": self._kill, "stop": self._stop, "ended": self._tell}[told.pop("do")]
            self._line.send(json.dumps(do(told)).encode())
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)

    def _start(self, told: Json) -> Json:
        self._reap()
        if told["name"] in self._pids:
            return {}
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _live(told, parent, self._line)
        self._pids[told["name"]] = pid
        return {"pid": pid}

    def _kill(self, told: Json) -> Json:
        return {"alive": self._end(told["name"], signal.SIGKILL)}

    def _stop(self, told: Json) -> Json:
        name = told["name"]
        pid = self._pids.get(name)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            patience = Patience(_PATIENCE)
            while name in self._pids and not patience.is_over():
                self._reap()
                time.sleep(0.01)
        return {"alive": not self._end(name, signal.SIGKILL)}

    def _end(self, name: str, number: signal.Signals) -> bool:
        self._reap()
        pid = self._pids.pop(name, None)
        if pid is None:
            return False
        os.kill(pid, number)
        os.waitpid(pid, 0)
        return True

    def _tell(self, told: Json) -> Json:
        del told
        self._reap()
        ended, self._ended = self._ended, {}
        return {"ended": ended}

    def _reap(self) -> None:
        for name, pid in list(self._pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._pids[name]
                self._ended[name] = status


def _live(told: Json, parent: int, line: socket.socket) -> None:
    """What a forked process does; it never comes back."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nothing outlives the nursery (prctl(2))
        if os.getppid() != parent:
            os._exit(1)
        os.setsid()
        line.close()
        log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for file in (1, 2):
            os.dup2(log, file)
        role(told["role"])(**told["arguments"])
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is belongs in its log
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)


def role(name: str) -> Callable[..., Any]:
    """The function behind `module:function`."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _paths() -> tuple[str, ...]:
    """Where modules are looked for here, so that a test can give roles of its own."""
    return tuple(path for path in sys.path if path)


if __name__ == "__main__":
    _line = socket.socket(fileno=int(sys.argv[1]))
    for _role in sys.argv[2:]:
        role(_role)
    gc.freeze()
    _Server(_line).run()
