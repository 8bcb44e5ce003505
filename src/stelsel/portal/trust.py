"""The group's trust anchors for everyone: with them anybody checks a receipt, without us (FSC Core 4.1.5)."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from stelsel.base.errors import Unavailable

PATH = "/vertrouwen/trust-anchors.pem"


def route(trust_anchors: Path) -> BaseRoute:
    """The certificates in the PEM file `trust_anchors` as a download; whatever else is in the file stays there."""

    async def answer(request: Request) -> Response:
        del request
        try:
            roots = x509.load_pem_x509_certificates(trust_anchors.read_bytes())
        except (OSError, ValueError) as error:
            raise Unavailable("the trust anchors cannot be read here", next_step="try again later") from error
        return Response(
            b"".join(root.public_bytes(Encoding.PEM) for root in roots),
            media_type="application/x-pem-file",
            headers={"Content-Disposition": 'attachment; filename="trust-anchors.pem"', "Cache-Control": "no-cache"},
        )

    return Route(PATH, answer)
