"""HTTP of the tree, for anyone: C2SP tlog-tiles under `/stelsel/v1/ledger/tlog`. Nothing in it is about a person.

    checkpoint                       the newest that enough witnesses cosigned; without witnesses the newest
    keys                             (our own) the words of peers for the keys that signed it, as JSON
    tile/<L>/<N>[.p/<W>]             hashes of the tree
    tile/entries/<N>[.p/<W>]         what stands in the tree for each record: its commitment, 32 bytes

What a tile or bundle holds never changes, so it may be kept for ever; a checkpoint for a few seconds.
"""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from stelsel.base.errors import NotFound
from stelsel.ledger.cosignature import Cosigned
from stelsel.ledger.merkle import TILE_WIDTH
from stelsel.ledger.service import Ledger

PREFIX = "/stelsel/v1/ledger/tlog"
_PATH = re.compile(
    r"(?P<level>entries|0|[1-9][0-9]?)/(?P<number>(?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_BRIEFLY = {"Cache-Control": "public, max-age=2"}


def routes(ledger: Ledger) -> list[BaseRoute]:
    """The routes, for the manager and for the website."""

    async def newest() -> Cosigned:
        return ledger.cosigned or Cosigned(await ledger.checkpoint(), ledger.endorsement, ())

    async def checkpoint(_: Request) -> Response:
        return PlainTextResponse((await newest()).checkpoint.text, headers=_BRIEFLY)

    async def keys(_: Request) -> Response:
        shown = await newest()
        document = {"endorsement": shown.endorsement, "witnesses": list(shown.witnesses)}
        return JSONResponse(document, headers=_BRIEFLY)

    async def tile(request: Request) -> Response:
        level, number, width = read_path(request.path_params["path"])
        if level is None:
            data = await ledger.entries(number, width)
        else:
            data = await ledger.tile(level, number, width)
        return Response(data, media_type="application/octet-stream", headers=_FOR_EVER)

    return [
        Route(f"{PREFIX}/checkpoint", checkpoint, methods=["GET"]),
        Route(f"{PREFIX}/keys", keys, methods=["GET"]),
        Route(f"{PREFIX}/tile/{{path:path}}", tile, methods=["GET"]),
    ]


def read_path(path: str) -> tuple[int | None, int, int]:
    """(level, number, width) out of `<L>/<N>[.p/<W>]`; level None: entries. Raises `NotFound`.

    There is one way to write each: no more path elements than the number needs, and no width for a full tile.
    """
    found = _PATH.fullmatch(path)
    if found is None:
        raise NotFound("a tile is asked as <level>/<number>, see C2SP tlog-tiles")
    number, width = found["number"], found["width"]
    if number.startswith("x000/") or (width is not None and int(width) >= TILE_WIDTH):
        raise NotFound("a tile is asked in one way only, see C2SP tlog-tiles")
    level = None if found["level"] == "entries" else int(found["level"])
    return level, int(number.replace("/", "").replace("x", "")), TILE_WIDTH if width is None else int(width)
