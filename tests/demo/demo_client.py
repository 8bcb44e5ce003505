"""Asks an ASGI application from a synchronous test, in one event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import httpx

T = TypeVar("T")


class AppClient:
    """`get` and `post` as in httpx; a mistake of the application arrives as its answer, not as an exception."""

    def __init__(self, app: Any, base_url: str = "http://localhost:7290") -> None:
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=base_url)

    def get(self, path: str) -> httpx.Response:
        return self.run(self._client.get(path))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self._client.post(path, **options))

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self._runner.run(wait())

    def close(self) -> None:
        self.run(self._client.aclose())
        self._runner.close()
