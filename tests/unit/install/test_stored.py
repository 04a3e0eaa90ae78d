"""A later `connect` without the flags of the first one."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from farlet.install import credentials, home, stored
from farlet.install.connection import Connection
from farlet.install.credentials import ForeignServer
from farlet.install.stored import Given
from farlet.manager.virtual_node import Identity
from unit.install.memory_cluster import MemoryCluster, Process

FIRST = Connection(
    "far",
    "farlet:1",
    home_name="rome",
    foreign_system="far-system",
    capacity=(("cpu", "8"), ("memory", "32Gi"), ("pods", "110")),
    identity=Identity.SERVICE_ACCOUNT,
    home_api_host="192.0.2.1",
    home_api_port=6443,
)
FLAGS = (
    "--home-name rome",
    "--foreign-system-namespace far-system",
    "--capacity cpu=8,memory=32Gi,pods=110",
    "--identity service-account",
    "--home-api-server-host 192.0.2.1",
    "--home-api-server-port 6443",
)


def again(given: Given, first: Connection = FIRST) -> stored.Kept:
    return stored.connection("far", "farlet:1", (), given, home.virtual_node(first))


def test_everything_is_kept_and_named() -> None:
    assert again(Given()) == stored.Kept(FIRST, FLAGS)


def test_nothing_is_named_of_a_node_with_defaults() -> None:
    kept = again(Given(), Connection("far", "farlet:1"))
    assert kept.flags == ()
    assert home.virtual_node(kept.connection) == home.virtual_node(Connection("far", "farlet:1"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"capacity": ()}, {"capacity": ()}, id="the sum"),
        pytest.param(
            {"gateway": True}, {"home_api_host": None, "home_api_port": None}, id="the gateway"
        ),
        pytest.param(
            {"home_api_host": "192.0.2.2"},
            {"home_api_host": "192.0.2.2", "home_api_port": None},
            id="another address",
        ),
        pytest.param({"identity": Identity.NODE}, {"identity": Identity.NODE}, id="identity"),
    ],
)
def test_what_is_given_counts(given: dict[str, Any], expected: dict[str, Any]) -> None:
    found = again(Given(**given)).connection
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.home_name == "rome"


def test_a_new_node_has_the_defaults() -> None:
    kept = stored.connection("far", "f:1", ("shop",), Given(), None)
    assert kept == stored.Kept(Connection("far", "f:1", ("shop",)))


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        pytest.param("https://192.0.2.7:6443", "https://192.0.2.7:6443", id="of the Secret"),
        pytest.param(None, "https://192.0.2.9:6443", id="of the status, without a Secret"),
    ],
)
async def test_the_address_of_the_foreign_server(secret: str | None, expected: str) -> None:
    cluster = MemoryCluster("home", uid="h", process=Process())
    cluster.put("customresourcedefinitions", "", {"metadata": {"name": "virtualnodes.farlet.io"}})
    node = {**home.virtual_node(FIRST), "status": {"foreignServer": "https://192.0.2.9:6443"}}
    cluster.put("virtualnodes", "farlet", node)
    if secret is not None:
        text = credentials.kubeconfig(ForeignServer(secret, None), "token")
        content = {"kubeconfig": base64.b64encode(text.encode()).decode()}
        name = {"name": "farlet-far-foreign"}
        cluster.put("secrets", "farlet", {"metadata": name, "data": content})
    assert await stored.read(cluster, "other") == (None, None)
    assert (await stored.read(cluster, "far"))[1] == expected
