"""What an earlier `farlet connect` has stored: a later run needs only flags that change something.

The VirtualNode has all of it, except the address of the foreign API server, which is in the Secret.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.install import credentials, requests
from farlet.install.connection import HOME_SYSTEM, Connection
from farlet.manager.virtual_node import Identity, foreign_secret

IDENTITIES = {"node": Identity.NODE, "service-account": Identity.SERVICE_ACCOUNT}
"""Values of `--identity`."""
SUM = "sum"
"""Value of `--capacity` for the sum over the foreign nodes."""


@dataclass(frozen=True, slots=True)
class Given:
    """Flags of `connect` that a later run can leave out; `None`: left out."""

    home_name: str | None = None
    foreign_system: str | None = None
    capacity: tuple[tuple[str, str], ...] | None = None
    """Empty: the sum over the foreign nodes."""
    identity: Identity | None = None
    home_api_host: str | None = None
    home_api_port: int | None = None
    gateway: bool = False
    """Whether the gateway was asked for. Without it, and without an address, it is the default."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The virtual node that is wanted, and the flags whose values an earlier run has stored."""

    connection: Connection
    flags: tuple[str, ...] = ()


async def read(home: ApiClient, node: str) -> tuple[JSON | None, str | None]:
    """The VirtualNode and the address of its foreign API server; `None`: there is none."""
    found = await requests.find(home, kinds.VIRTUAL_NODES, node, namespace=HOME_SYSTEM)
    if found is None:
        return None, None
    secret = await requests.find(home, kinds.SECRETS, foreign_secret(found), namespace=HOME_SYSTEM)
    config = credentials.of_secret(secret)
    if config is not None:
        return found, config.server
    return found, (found.get("status") or {}).get("foreignServer")


def connection(
    node: str, image: str, namespaces: tuple[str, ...], given: Given, found: JSON | None
) -> Kept:
    """What was given, completed by the VirtualNode that exists. Pure."""
    wanted = Connection(
        node=node,
        image=image,
        namespaces=namespaces,
        home_name=given.home_name or "home",
        foreign_system=given.foreign_system or "",
        capacity=given.capacity or (),
        identity=given.identity or Identity.NODE,
        home_api_host=given.home_api_host,
        home_api_port=given.home_api_port,
    )
    if found is None:
        return Kept(wanted)
    before, kept = wanted, _of(found, given)
    wanted = replace(wanted, **kept)
    return Kept(wanted, tuple(_flags(before, wanted)))


def _of(found: JSON, given: Given) -> dict[str, Any]:
    """Fields of the connection that were left out, as the VirtualNode has them."""
    spec = found.get("spec") or {}
    kept: dict[str, Any] = {}
    if given.home_name is None and (name := (spec.get("namespaces") or {}).get("homeName")):
        kept["home_name"] = name
    if given.foreign_system is None and (
        system := (spec.get("foreign") or {}).get("systemNamespace")
    ):
        kept["foreign_system"] = system
    if given.identity is None and spec.get("identity") in set(Identity):
        kept["identity"] = Identity(spec["identity"])
    if given.capacity is None:
        kept["capacity"] = tuple((name, str(value)) for name, value in _capacity(found).items())
    address = spec.get("homeAPIServer") or {}
    if not given.gateway and given.home_api_host is None and given.home_api_port is None:
        kept["home_api_host"], kept["home_api_port"] = address.get("host"), address.get("port")
    return kept


def _flags(before: Connection, now: Connection) -> list[str]:
    """The flags that would have given what was kept, as far as it is not the default."""
    shown = {
        "--home-name": (before.home_name, now.home_name),
        "--foreign-system-namespace": (before.system, now.system),
        "--capacity": (listed(before.capacity), listed(now.capacity)),
        "--identity": (_word(before.identity), _word(now.identity)),
        "--home-api-server-host": (before.home_api_host, now.home_api_host),
        "--home-api-server-port": (before.home_api_port, now.home_api_port),
    }
    return [f"{flag} {new}" for flag, (old, new) in shown.items() if new != old]


def change_of_capacity(found: JSON | None, wanted: Connection) -> str:
    """In a few words; empty: it is the same, or the VirtualNode is new."""
    before = tuple((name, str(value)) for name, value in _capacity(found).items())
    if found is None or dict(before) == dict(wanted.capacity):
        return ""
    return f"capacity now {listed(wanted.capacity)}, before {listed(before)}"


def _capacity(found: JSON | None) -> dict[str, object]:
    return ((found or {}).get("spec") or {}).get("capacity") or {}


def listed(capacity: tuple[tuple[str, str], ...]) -> str:
    """As the value of `--capacity`."""
    return ",".join(f"{name}={value}" for name, value in capacity) or SUM


def _word(identity: Identity) -> str:
    return next(word for word, value in IDENTITIES.items() if value is identity)
