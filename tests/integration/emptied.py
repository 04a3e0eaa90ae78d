"""Two clusters as `farlet connect` finds them: ready for farlet, and without one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from clusters import cordons, farletimage, kwok, pair, progress, rest

SYSTEM = "farlet"  # the namespace of farlet in the home cluster
SPACE = "shop"  # the home namespace of the pages, whose pods run in the foreign cluster


@contextlib.asynccontextmanager
async def emptied(clusters: pair.Clusters) -> AsyncIterator[tuple[rest.Api, rest.Api]]:
    """Home and foreign, with the image of farlet on their real nodes and no other node for pods.

    No path leads from foreign pods to the home API server, but for a gateway.
    """
    for cluster in (clusters.home, clusters.foreign):
        await asyncio.to_thread(
            farletimage.load, clusters.instance, cluster, progress=progress.Progress()
        )
    async with (
        clusters.home.api() as home,
        clusters.foreign.api() as foreign,
        contextlib.AsyncExitStack() as stack,
    ):
        for api in (home, foreign):
            fakes = [
                one["metadata"]["name"]
                for one in await api.list("nodes", labelSelector=f"{kwok.LABEL}=fake")
            ]
            await cordons.close(api, *fakes)
            stack.push_async_callback(cordons.reopen, api, *fakes)
            # Other tests have left their farlet there, or a namespace that still ends.
            for name in (SYSTEM, SPACE):
                await api.delete("namespaces", name=name)
                await api.until("namespaces", rest.gone, name=name)
        stack.push_async_callback(home.delete, "namespaces", name=SPACE)
        with clusters.without_home_door():
            yield home, foreign
