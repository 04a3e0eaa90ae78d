"""A small client for tests, the demo and benchmarks: raw JSON objects over aiohttp.

It shares no code with farlet's own clients, so that an error there cannot hide itself here.

    async with cluster.api() as api:
        await api.create("pods", manifest, namespace="a")
        pod = await api.until("pods", phase("Running"), namespace="a", name="p", seconds=20)
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from clusters import errors, kubeconfig
from clusters.resources import path

Object = dict[str, Any]
Condition = Callable[[Object | None], bool]
_PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
USER_AGENT = "farlet-tests"
PATIENCE = 90.0
"""Seconds that `until` waits, for what takes one of them on an idle machine."""


class ApiError(Exception):
    """An error response of the API server, with its `code` and `reason`."""

    def __init__(self, code: int, reason: str, message: str, *, request: str) -> None:
        super().__init__(f"{request}: {code} {reason}: {message}")
        self.code = code
        self.reason = reason


class Api:
    """One API server as one user; open it with `async with`."""

    def __init__(self, config: Path, *, user_agent: str = USER_AGENT) -> None:
        self._access = kubeconfig.read(config)
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"User-Agent": self._user_agent, "Accept": "application/json"}
        if self._access.token is not None:
            headers["Authorization"] = f"Bearer {self._access.token}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._access.ssl_context(), limit=0),
            timeout=aiohttp.ClientTimeout(total=60),
            headers=headers,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Any request; the decoded answer, or ApiError."""
        async with self._open.request(
            method,
            self._access.server + url,
            data=None if body is None else json.dumps(body),
            params=params,
            headers={"Content-Type": content_type},
        ) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise _error(answer.status, text, request=f"{method} {url}")
            try:
                decoded: Object = json.loads(text)
            except json.JSONDecodeError:  # /readyz, /metrics and the like are plain text
                return {"text": text}
            return decoded

    async def get(
        self,
        resource: str,
        *,
        name: str,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> Object:
        url = path(resource, namespace=namespace, name=name, subresource=subresource)
        return await self.request("GET", url)

    async def find(
        self, resource: str, *, name: str, namespace: str | None = None
    ) -> Object | None:
        """The object, or None when there is none."""
        try:
            return await self.get(resource, name=name, namespace=namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def list(
        self, resource: str, *, namespace: str | None = None, **params: str
    ) -> list[Object]:
        """All objects; `labelSelector` and the like as keywords."""
        answer = await self.request("GET", path(resource, namespace=namespace), params=params)
        items: list[Object] = answer["items"]
        return items

    async def create(
        self,
        resource: str,
        body: Object,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
        **params: str,
    ) -> Object:
        url = path(resource, namespace=namespace, name=name, subresource=subresource)
        return await self.request("POST", url, body=body, params=params)

    async def replace(
        self, resource: str, body: Object, *, subresource: str | None = None
    ) -> Object:
        meta = body["metadata"]
        url = path(
            resource,
            namespace=meta.get("namespace"),
            name=meta["name"],
            subresource=subresource,
        )
        return await self.request("PUT", url, body=body)

    async def patch(
        self,
        resource: str,
        body: object,
        *,
        name: str,
        namespace: str | None = None,
        subresource: str | None = None,
        kind: str = "merge",
        **params: str,
    ) -> Object:
        """`kind` is merge, json, strategic or apply."""
        url = path(resource, namespace=namespace, name=name, subresource=subresource)
        return await self.request(
            "PATCH", url, body=body, params=params, content_type=_PATCHES[kind]
        )

    async def delete(
        self, resource: str, *, name: str, namespace: str | None = None, **params: str
    ) -> None:
        """Request the deletion; no error if it is gone. `gracePeriodSeconds="0"` as a keyword."""
        try:
            await self.request("DELETE", path(resource, namespace=namespace, name=name),
                               params=params)  # fmt: skip
        except ApiError as error:
            if error.code != 404:
                raise

    async def logs(self, name: str, *, namespace: str, **params: str) -> str:
        """The output of a pod's container."""
        url = path("pods", namespace=namespace, name=name, subresource="log")
        async with self._open.get(self._access.server + url, params=params) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise _error(answer.status, text, request=f"GET {url}")
            return text

    async def watch(
        self, resource: str, *, namespace: str | None = None, **params: str
    ) -> AsyncIterator[tuple[str, Object]]:
        """Pairs of event type and object until the server ends the watch."""
        async with self._open.get(
            self._access.server + path(resource, namespace=namespace),
            params={"watch": "true", **params},
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            if answer.status >= 400:
                raise _error(answer.status, await answer.text(), request=f"WATCH {resource}")
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]

    async def until(
        self,
        resource: str,
        condition: Condition,
        *,
        name: str,
        namespace: str | None = None,
        seconds: float = PATIENCE,
    ) -> Object:
        """The object once `condition` holds for it; `gone` gets None, and gives {}.

        Errors of the connection do not end it: a killed API server may come back, and one that
        has just started answers 429 or 5xx until its caches are filled.
        """
        last: Object | None = None
        url = path(resource, namespace=namespace)
        deadline = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while time.monotonic() < deadline:
                    try:
                        selected = {"fieldSelector": f"metadata.name={name}"}
                        found = await self.request("GET", url, params=selected)
                        last = found["items"][0] if found["items"] else None
                        if condition(last):
                            return last or {}
                        selected["resourceVersion"] = found["metadata"]["resourceVersion"]
                        async for kind, seen in self.watch(
                            resource, namespace=namespace, **selected
                        ):
                            if kind not in {"ADDED", "MODIFIED", "DELETED"}:
                                break  # the version was too old: list again
                            last = None if kind == "DELETED" else seen
                            if condition(last):
                                return last or {}
                    except (aiohttp.ClientError, ConnectionError):  # down for now
                        await asyncio.sleep(0.1)
                    except ApiError as error:
                        if error.code != 429 and error.code < 500:
                            raise
                        await asyncio.sleep(0.1)
        where = f"{namespace}/{name}" if namespace else name
        state = "it does not exist" if last is None else json.dumps(last.get("status"), indent=1)
        raise AssertionError(
            f"{resource} {where} at {self._access.server} did not meet the condition within "
            f"{seconds:.0f} s; last seen: {state}"
        )

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise errors.HarnessError("this Api is not open; use `async with cluster.api() as api`")
        return self._session


def phase(*wanted: str) -> Condition:
    """A condition: the pod's phase is one of these."""
    return lambda seen: seen is not None and seen.get("status", {}).get("phase") in wanted


def reason(wanted: str) -> Condition:
    """A condition: `status.reason` is this."""
    return lambda seen: seen is not None and seen.get("status", {}).get("reason") == wanted


def ready(seen: Object | None) -> bool:
    """A condition: the Ready condition is True."""
    found = seen.get("status", {}).get("conditions", []) if seen is not None else []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in found)


def gone(seen: Object | None) -> bool:
    """A condition: the object does not exist."""
    return seen is None


def exists(seen: Object | None) -> bool:
    """A condition: the object exists."""
    return seen is not None


def _error(status: int, text: str, *, request: str) -> ApiError:
    try:
        answer = json.loads(text)
    except json.JSONDecodeError:  # not from the API machinery
        return ApiError(status, "", text.strip(), request=request)
    return ApiError(status, answer.get("reason", ""), answer.get("message", ""), request=request)
