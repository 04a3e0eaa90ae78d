"""`/state` of a farlet pod, through a port-forward of the home API server.

The kubelet connects within the pod, so that no NetworkPolicy of farlet's namespace has to admit the
API server, which policies cannot select.
"""

from __future__ import annotations

import asyncio

import h11

from farlet.cli.reading import Absent, Unread, clean, read
from farlet.client.cluster import Cluster
from farlet.constants import ObjectKey
from farlet.gateway import port_forward
from farlet.k8s_types import Pod, PodPhase
from farlet.telemetry import state

_CHUNK = 16 * 1024
_REFUSED = "connection refused"
"""In what a kubelet says, beside the name of a network namespace and more."""
_MOST_CHARS = 200


async def of(home: Cluster, pod: Pod, port: int) -> state.State | Unread:
    """What the process reports, or why it is not known."""
    phase = (pod.get("status") or {}).get("phase")
    if phase != PodPhase.RUNNING:
        return Unread(f"the pod is {clean(phase or 'unknown', most=40)}")
    key = ObjectKey(pod["metadata"]["namespace"], pod["metadata"]["name"])
    try:
        raw = await read(_fetch(home, key, port))
        if isinstance(raw, Absent):
            return Unread("the pod does not exist any more")
        return raw if isinstance(raw, Unread) else state.read(raw)
    except (OSError, h11.RemoteProtocolError) as err:
        if _REFUSED in str(err):
            return Unread(f"port {port}: {_REFUSED}: its process starts, or has ended")
        return Unread(f"port {port}: {clean(err, most=_MOST_CHARS)}")
    except ValueError:
        return Unread(f"port {port} answered something other than a state: another version?")


async def _fetch(home: Cluster, pod: ObjectKey, port: int) -> bytes:
    """The body. Raises `FarletError`, `OSError`, `RemoteProtocolError` and `ValueError`."""
    async with port_forward.opened(home, pod, port) as forward:
        reader, writer = await asyncio.open_connection(sock=forward.socket)
        try:
            return await _get(reader, writer)
        except ConnectionError as err:
            raise ConnectionError(forward.kubelet_error or str(err)) from err
        finally:
            writer.close()


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_CHUNK)
    headers = [("Host", "farlet"), ("Connection", "close")]
    request = h11.Request(method="GET", target=state.PATH, headers=headers)
    writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_CHUNK)
            if not data and connection.their_state is h11.SEND_RESPONSE:
                raise ConnectionError("the connection ended without an answer")
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            if event.status_code != 200:
                raise ValueError(f"HTTP {event.status_code}")
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
            if len(body) > state.MAX_BYTES:
                raise ValueError("an answer that is too long")
        else:
            return body
