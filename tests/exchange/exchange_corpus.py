"""Reads `corpus/`: messages that try to be read in two ways. The form of the files is told in corpus/README.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stelsel.base.errors import Fault
from stelsel.exchange.headers import fields_of
from stelsel.exchange.wire import END, RequestHead, RequestReader, ResponseHead, ResponseReader, WireLimits

FOLDER = Path(__file__).parent / "corpus"

_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_LETTERS = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
_REPEAT = re.compile(r"\{([^{}]+)\*([0-9]+)\}")
_GET = "GET {path} HTTP/1.1\r\nHost: x\r\n"


@dataclass(frozen=True)
class Case:
    """One message, or several behind each other, and what a strict reader makes of it."""

    family: str
    title: str
    expected: tuple[str, ...]
    """What is written behind `>`, part by part."""
    lines: tuple[str, ...]

    @property
    def messages(self) -> list[tuple[str, str, int]]:
        """(method, target, bytes of body) of every whole request."""
        found = [part.split(" ") for part in self.expected if " " in part]
        return [(method, target, int(size)) for method, target, size in found]

    @property
    def refused(self) -> bool:
        return self.expected[-1] == "refused" or self.expected[-1].isdigit()

    @property
    def unfinished(self) -> bool:
        return self.expected[-1] == "..."

    @property
    def ended(self) -> bool:
        """Whether the connection ends after the last whole request, whatever follows."""
        return self.expected[-1] == "!"

    def data(self, authority: bytes = b"") -> bytes:
        """The bytes; `authority` is the header lines with which a request is allowed."""
        return b"".join(_bytes(line, authority) for line in self.lines)

    def __str__(self) -> str:
        return f"{self.family}: {self.title}"


def _bytes(line: str, authority: bytes) -> bytes:
    ends = len(line) - len(line.rstrip("\\"))
    end = b"" if ends % 2 else b"\r\n"
    text = line[:-1] if ends % 2 else line
    if text == "@authority":
        return authority
    if text in ("@get", "@post"):
        return f"{text[1:].upper()} /a HTTP/1.1\r\nHost: x\r\n".encode() + authority
    if text in ("@next", "@smuggled"):
        return _GET.format(path=f"/{text[1:]}").encode() + authority + b"\r\n"
    text = _REPEAT.sub(lambda match: match[1] * int(match[2]), text)
    return _ESCAPE.sub(_unescaped, text.encode("latin-1")) + end


def _part(part: str) -> str:
    """A message without a size has no body."""
    part = _REPEAT.sub(lambda match: match[1] * int(match[2]), part.replace("\\\\", "\\"))
    _, space, rest = part.partition(" ")
    return f"{part} 0" if space and " " not in rest and not rest[:3].isdigit() else part


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16)]) if match[1] else _LETTERS[match[2]]


@cache
def cases(folder: str = ".") -> tuple[Case, ...]:
    """All cases of a folder in the corpus."""
    found: list[Case] = []
    for path in sorted((FOLDER / folder).glob("*.http")):
        lines = iter(path.read_text("utf-8").split("\n"))
        for line in lines:
            if line.startswith("=== "):
                expected = next(lines)
                assert expected.startswith("> "), f"{path.name}: {line} does not say what is expected"
                data: list[str] = []
                while (part := next(lines)) != "--":
                    data.append(part)
                ending = expected[2:].removesuffix(" !")
                parts = [_part(part) for part in ending.split(", ")] + (["!"] if ending != expected[2:] else [])
                found.append(Case(path.stem, line[4:], tuple(parts), tuple(data)))
            else:
                assert not line or line.startswith("#"), f"{path.name}: {line}"
    return tuple(found)


def events(reader: RequestReader | ResponseReader, pieces: list[bytes]) -> list[object]:
    """What a reader makes of the pieces: heads as tuples, bodies joined, `END`, and a fault as its status."""
    found: list[object] = []
    try:
        for piece in pieces:
            reader.receive(piece)
            while (event := reader.next_event()) is not None:
                if isinstance(event, bytes):
                    if found and isinstance(found[-1], bytes):
                        found[-1] += event
                    else:
                        found.append(event)
                elif isinstance(event, RequestHead):
                    found.append((event.method, event.target, event.minor, event.length, _fields(event)))
                elif isinstance(event, ResponseHead):
                    found.append((event.status, event.length, event.has_body, _fields(event)))
                else:
                    found.append(event)
    except Fault as fault:
        found.append(fault.status)
    return found


def _fields(head: RequestHead | ResponseHead) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((one.name, one.value) for one in fields_of(head))


def outcome(data: bytes, limits: WireLimits | None = None) -> list[str]:
    """What our reader makes of requests, in the words of the corpus."""
    reader = RequestReader(limits or WireLimits())
    return _told(events(reader, [data]), unfinished=reader.unread > 0)


def _told(found: list[object], *, unfinished: bool) -> list[str]:
    told: list[str] = []
    begun, size = "", 0
    for event in found:
        if isinstance(event, tuple):
            method, target = event[0], event[1]
            begun, size = f"{method.decode()} {target.decode('latin-1')}", 0
        elif isinstance(event, bytes):
            size = len(event)
        elif event is END:
            told.append(f"{begun} {size}")
            begun = ""
        else:
            told.append(str(event))
    if (begun or unfinished) and not (told and told[-1].isdigit()):
        told.append("...")
    return told


def answer_outcome(pieces: list[bytes], method: bytes = b"GET") -> str:
    """What our reader makes of the first answer, in the words of the corpus: a service's connection serves no more."""
    reader = ResponseReader(WireLimits())
    reader.expect(method)
    found: list[object] = []
    for piece in pieces:
        found += events(reader, [piece])
        if END in found or isinstance(found[-1:], int):
            break
    head = next((event for event in found if isinstance(event, tuple)), None)
    size = sum(len(event) for event in found[: found.index(END)] if isinstance(event, bytes)) if END in found else 0
    if head is None:
        return str(found[-1]) if found else "..."
    return f"{head[0]}:{size}" if END in found else "..."
