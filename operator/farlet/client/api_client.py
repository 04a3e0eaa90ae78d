"""What the rest of farlet can ask of one API server: typed verbs on resources.

The verbs stand on five raw requests by path, which `cluster.Cluster` sends and tests play. Objects
are the JSON of the answer; their types are a promise of the API, nothing is parsed or copied.

All raise kinds of `ApiError` for an answer other than 2xx, `Unreachable` for none (a write may
have been applied then), and `NotLeading` for a write that was not sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Protocol, TypeVar, cast
from urllib.parse import quote

from farlet import errors
from farlet.client import raw_response, resources, shapes
from farlet.client.decode import WatchEvent
from farlet.client.resources import ObjectList, Resource
from farlet.constants import JSON

T = TypeVar("T")

PAGE = 500
"""Objects in one answer to a list, as client-go asks for."""

SMALLER = 8
"""After a page that was too large, pages have fewer objects by this factor."""

MAX_PAGES = 2000
"""A list of more pages does not end."""

TURN_SECONDS = 0.02
"""How long objects of a list are processed until other tasks run."""

Body = Mapping[str, object]


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The objects of a page. Other tasks run in between if the work for each takes long.

    Their owners choose how large they are, and the Lease is renewed in the same event loop.
    """
    began = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - began > TURN_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()


class ApiClient(Protocol):
    """One API server."""

    @property
    def name(self) -> str:
        """Which one: `home` or `foreign`."""
        ...

    @property
    def connection(self) -> object:
        """What requests are sent with: server, CA and client certificate. Equal while unchanged."""
        return None

    # --- raw requests by path -----------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = resources.JSON_BODY,
        accept: str | None = None,
    ) -> JSON:
        """One request; `path` contains the query. Returns the JSON of the answer."""
        ...

    async def call_unqueued(
        self, method: str, path: str, *, body: object = None, seconds: float
    ) -> JSON:
        """Like `call`, but waits for no other request, asks no guard, and ends after `seconds`."""
        ...

    async def call_aggregated(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET, whatever they are. Raises `Unreachable`."""
        ...

    def watch_path(
        self,
        path: str,
        *,
        accept: str | None = None,
        bookmarks: bool = True,
        opened: Callable[[], None],
    ) -> AsyncIterator[WatchEvent[JSON]]:
        """Events of one watch request; `path` contains the query.

        `bookmarks` False: silence does not mean that the connection is dead.
        """
        ...

    async def open_path(
        self, method: str, path: str, headers: raw_response.Headers
    ) -> raw_response.RawResponse:
        """One request on a connection of its own."""
        ...

    # --- verbs --------------------------------------------------------------------------------

    async def get(self, resource: Resource[T], name: str, *, namespace: str = "") -> T:
        path = resource.path(namespace, name)
        answer = await self.call("GET", path, accept=resource.accept)
        return self._checked(resource, answer, f"GET {path}")

    async def list(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
    ) -> ObjectList[T]:
        """Read a collection with one request; no more than `limit` objects, if that is given."""
        selected = resources.query(
            label_selector=label_selector, field_selector=field_selector, limit=limit
        )
        path = resource.path(namespace)
        page = await self.call(
            "GET", f"{path}?{selected}" if selected else path, accept=resource.accept_list
        )
        self._check_page(page, path)
        return ObjectList(page.get("items") or (), page["metadata"]["resourceVersion"])

    async def list_all(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        checked: bool = True,
    ) -> ObjectList[T]:
        """Read a collection of any size, in pages. All of it is as of one version.

        Raises `Unreachable` for an item of another shape, unless the caller checks them itself
        (`checked` False).
        """
        request = f"GET {resource.path(namespace)}"
        items: list[T] = []
        version = ""
        async for page in self.pages(
            resource,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
        ):
            items += [
                self._checked(resource, item, request) if checked else item
                async for item in in_turns(page.items)
            ]
            version = page.version
        return ObjectList(items, version)

    async def pages(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[ObjectList[T]]:
        """The pages of a collection, all as of one version. Only one of them is in memory."""
        limit, following = PAGE, ""
        path = resource.path(namespace)
        for _ in range(MAX_PAGES):
            selected = resources.query(
                label_selector=label_selector, field_selector=field_selector, limit=limit
            )
            try:
                page = await self.call(
                    "GET", f"{path}?{selected}{following}", accept=resource.accept_list
                )
            except errors.AnswerTooLarge:
                if limit == 1:
                    raise
                limit = max(limit // SMALLER, 1)
                continue
            self._check_page(page, path)
            yield ObjectList(page.get("items") or (), page["metadata"]["resourceVersion"])
            token = page["metadata"].get("continue")
            if not token:
                return
            following = f"&continue={quote(token)}"
        raise errors.Unreachable(
            cluster=self.name, request=f"GET {path}", cause=f"a list of more than {MAX_PAGES} pages"
        )

    def watch(
        self,
        resource: Resource[T],
        *,
        version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[WatchEvent[T]]:
        """Events after `version` until the server ends the watch, bookmarks included.

        `opened` is called once the server has accepted the watch. Raises `Gone` when `version` is
        too old.
        """
        selected = resources.query(label_selector=label_selector, field_selector=field_selector)
        joined = f"{selected}&" if selected else ""
        events = self.watch_path(
            f"{resource.path(namespace)}?{joined}resourceVersion={version}",
            accept=resource.accept,
            bookmarks=resource.bookmarks,
            opened=opened,
        )
        return cast("AsyncIterator[WatchEvent[T]]", events)

    async def watch_object(
        self,
        resource: Resource[T],
        name: str,
        *,
        version: str,
        namespace: str = "",
        opened: Callable[[], None] = lambda: None,
        at_least: float,
    ) -> AsyncIterator[WatchEvent[T]]:
        """Like `watch`, of one object. Takes at least `at_least` seconds, unless it is left before:
        a server that ends watches immediately must not be asked without a pause.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        async for event in self.watch(
            resource,
            version=version,
            namespace=namespace,
            field_selector=f"metadata.name={name}",
            opened=opened,
        ):
            if event.kind != "BOOKMARK":
                request = f"WATCH {resource.path(namespace, name)}"
                event = WatchEvent(event.kind, self._checked(resource, event.object, request))
            yield event
        await asyncio.sleep(max(0.0, at_least - (loop.time() - started)))

    async def create(
        self, resource: Resource[T], body: Body, *, namespace: str = "", name: str = ""
    ) -> T:
        """POST an object. `name`: of the object whose subresource it is."""
        path = resource.path(namespace, name)
        answer = await self.call("POST", path, body=body)
        return self._checked(resource, answer, f"POST {path}")

    async def create_dry(self, resource: Resource[T], body: Body, *, namespace: str = "") -> None:
        """Like `create`, but the API server only checks the object: nothing is created."""
        await self.call("POST", f"{resource.path(namespace)}?dryRun=All", body=body)

    async def patch(
        self,
        resource: Resource[T],
        name: str,
        body: Body,
        *,
        namespace: str = "",
        content_type: str = resources.MERGE_PATCH,
    ) -> T:
        """PATCH one object. Returns it as the server has it now."""
        path = resource.path(namespace, name)
        answer = await self.call("PATCH", path, body=body, content_type=content_type)
        return self._checked(resource, answer, f"PATCH {path}")

    async def replace(
        self, resource: Resource[T], name: str, body: Body, *, namespace: str = ""
    ) -> T:
        """PUT one object of the resourceVersion in `body`. Returns it as the server has it now."""
        path = resource.path(namespace, name)
        answer = await self.call("PUT", path, body=body)
        return self._checked(resource, answer, f"PUT {path}")

    async def apply(
        self, resource: Resource[T], name: str, body: Body, *, namespace: str = "", manager: str
    ) -> T:
        """Server-side apply: create the object, or set the fields in `body`.

        `manager` then owns these fields, also those that others owned before, and a later apply
        without one of them removes it. Returns the object as the server has it now.
        """
        path = resource.path(namespace, name)
        answer = await self.call(
            "PATCH",
            f"{path}?fieldManager={quote(manager)}&force=true",
            body=body,
            content_type=resources.APPLY_PATCH,
        )
        return self._checked(resource, answer, f"PATCH {path}")

    async def delete(
        self, resource: Resource[T], name: str, body: Body, *, namespace: str = ""
    ) -> JSON:
        """DELETE one object; `body` is the DeleteOptions. Returns the object, or a Status."""
        return await self.call("DELETE", resource.path(namespace, name), body=body)

    async def request_unqueued(
        self,
        method: str,
        resource: Resource[T],
        name: str = "",
        *,
        namespace: str = "",
        body: Body | None = None,
        seconds: float,
    ) -> T:
        """One request that waits for no other, asks no guard, and ends after `seconds`.

        For Leases and logins: whether the others can be sent depends on them.
        """
        path = resource.path(namespace, name)
        answer = await self.call_unqueued(method, path, body=body, seconds=seconds)
        return self._checked(resource, answer, f"{method} {path}")

    def _check_page(self, page: JSON, path: str) -> None:
        """Raises `Unreachable` for a list without a version, or of another shape."""
        problem = shapes.problem(shapes.Page, page)
        if problem is None and not shapes.is_version(page["metadata"]["resourceVersion"]):
            problem = "metadata.resourceVersion: it is not a number"
        if problem is not None:
            cause = f"a list that is not valid ({problem})"
            raise errors.Unreachable(cluster=self.name, request=f"GET {path}", cause=cause)

    def _checked(self, resource: Resource[T], answer: JSON | T, request: str) -> T:
        """The answer as an object. Raises `Unreachable`: another shape counts as no answer."""
        obj, problem = shapes.read(resource.shape, answer)
        if problem is not None:
            cause = f"an object that is not valid ({problem})"
            raise errors.Unreachable(cluster=self.name, request=request, cause=cause)
        return cast("T", obj)

    async def server_version(self) -> str | None:
        """Such as `v1.36.3`."""
        return str((await self.call("GET", "/version")).get("gitVersion", "")) or None

    async def get_aggregated(
        self, resource: Resource[T], *, namespace: str = "", label_selector: str = ""
    ) -> tuple[int, bytes]:
        """Status and body of a list that the API server passes on to another server.

        A missing or broken aggregated API says nothing about the API server, which answers 404
        and 503 as plain text then. Raises `Unreachable` only.
        """
        selected = resources.query(label_selector=label_selector)
        return await self.call_aggregated(f"{resource.path(namespace)}?{selected}")

    async def open_stream(
        self,
        method: str,
        resource: Resource[T],
        name: str,
        *,
        namespace: str,
        query: str,
        headers: raw_response.Headers = (),
    ) -> raw_response.RawResponse:
        """One request on a connection of its own, whatever its status. Waits without a limit."""
        path = resource.path(namespace, name)
        return await self.open_path(method, f"{path}?{query}", headers)
