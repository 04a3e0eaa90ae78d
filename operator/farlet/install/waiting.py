"""What a step waits for: one line for each reason, with what keeps pods from running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from farlet import redaction
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.install import requests
from farlet.manager import rollout

SHOWN_CHARS = 400
"""Limit of the problem of one pod."""
LINE_CHARS = 600
"""Limit of all of it."""


class Waiting:
    """Reports each reason once, however often it returns."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._reported: set[str] = set()
        self._why = ""
        self._problems: dict[str, dict[str, str]] = {}
        """Label selector to name of a pod to its problem."""

    def because(self, why: str) -> None:
        """Why the step is not done yet; empty: it is done, or nothing is known."""
        self._why = why
        self._show()

    def __str__(self) -> str:
        """The last reason, and the pods with a problem that it does not name itself."""
        causes: dict[str, list[str]] = {}
        for name, text in self._pods.items():
            if name not in self._why:
                causes.setdefault(text, []).append(name)
        pods = (
            redaction.cut(f"pod {', '.join(names)}: {text}", SHOWN_CHARS)
            for text, names in causes.items()
        )
        return redaction.cut("; ".join((self._why, *pods)), LINE_CHARS)

    @property
    def lacks_image(self) -> bool:
        """Whether a pod cannot run because its image cannot be pulled."""
        return any(map(rollout.lacks_image, self._pods.values()))

    @property
    def _pods(self) -> dict[str, str]:
        return {name: text for found in self._problems.values() for name, text in found.items()}

    @contextlib.asynccontextmanager
    async def watching(
        self, cluster: ApiClient, namespace: str, *label_selectors: str
    ) -> AsyncIterator[None]:
        """Add the problems of these pods to every reason within the block."""
        tasks = [
            asyncio.create_task(self._watch(cluster, namespace, one), name=f"pods {one}")
            for one in label_selectors
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in label_selectors:
                self._problems.pop(one, None)

    async def _watch(self, cluster: ApiClient, namespace: str, label_selector: str) -> None:
        async for pods in requests.states(
            cluster, kinds.PODS, namespace=namespace, label_selector=label_selector
        ):
            self._problems[label_selector] = rollout.pod_problems(pods)
            self._show()

    def _show(self) -> None:
        text = str(self)
        if self._why and text not in self._reported:
            self._reported.add(text)
            self._report(f"      waiting: {text}")
