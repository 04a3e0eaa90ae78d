"""A base for fakes of one API server: an `ApiClient` that expects no request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from farlet.client import raw_response, resources
from farlet.client.api_client import ApiClient
from farlet.client.decode import WatchEvent
from farlet.constants import JSON


class FakeClient(ApiClient):
    """Override what the code under test sends; anything else fails the test."""

    @property
    def name(self) -> str:
        return "fake"

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = resources.JSON_BODY,
        accept: str | None = None,
    ) -> JSON:
        raise AssertionError(f"unexpected request: {method} {path}")

    async def call_unqueued(
        self, method: str, path: str, *, body: object = None, seconds: float
    ) -> JSON:
        raise AssertionError(f"unexpected unqueued request: {method} {path}")

    async def call_aggregated(self, path: str) -> tuple[int, bytes]:
        raise AssertionError(f"unexpected request to an aggregated API: {path}")

    def watch_path(
        self,
        path: str,
        *,
        accept: str | None = None,
        bookmarks: bool = True,
        opened: Callable[[], None],
    ) -> AsyncIterator[WatchEvent[JSON]]:
        raise AssertionError(f"unexpected watch: {path}")

    async def open_path(
        self, method: str, path: str, headers: raw_response.Headers
    ) -> raw_response.RawResponse:
        raise AssertionError(f"unexpected stream: {method} {path}")
