"""A wire between a client and a PostgreSQL server on a unix socket, that breaks at the moment that a test asks for."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

_PORT = ".s.PGSQL.5432"


class FaultyWire:
    """Passes everything on, until what it waits for comes by; then it closes both ends without passing that on."""

    def __init__(self, server: Path, folder: Path) -> None:
        """`server`: the folder of the server's socket; `folder`: where this one makes its own."""
        self.folder = folder
        self._server = str(server / _PORT)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _PORT))
        self._listener.listen()
        self._lock = threading.Lock()
        self._requests = self._answers = b""
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_request(self, text: bytes) -> None:
        """Break before the next request with this in it reaches the server."""
        self._requests = text

    def lose_answer(self, text: bytes) -> None:
        """Break before the next answer with this in it reaches the client."""
        self._answers = text

    def close(self) -> None:
        """Take no more clients."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._server)
                except OSError:
                    server.close()
                    client.close()
                    continue
                for one, other, back in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._carry, args=(one, other, back), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, back: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 20):
                if self._breaks(data, back):
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _breaks(self, data: bytes, back: bool) -> bool:
        with self._lock:
            text = self._answers if back else self._requests
            if not text or text not in data:
                return False
            self._requests = self._answers = b""
            self.broken += 1
            return True
