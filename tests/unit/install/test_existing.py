"""Which existing VirtualNodes can become the desired one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from farlet.install import existing, home
from farlet.install.connection import Connection
from farlet.manager.schema import structural
from farlet.manager.virtual_node import Spec

BY_GATEWAY = Connection("far", "farlet:1")
BY_HOST = Connection("far", "farlet:1", home_api_host="192.0.2.1")


def found(connection: Connection, field: str, manager: str) -> dict[str, Any]:
    """A VirtualNode with a field of this field manager."""
    node = home.virtual_node(connection)
    fields: dict[str, Any] = {"f:spec": {f"f:{field}": {}}}
    node["metadata"]["managedFields"] = [{"manager": manager, "fieldsV1": fields}]
    return node


@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        pytest.param(
            found(BY_GATEWAY, "gateway", "farlet-connect"),
            BY_HOST,
            id="removed by server-side apply",
        ),
        pytest.param(found(BY_HOST, "homeAPIServer", "flux"), BY_HOST, id="the same"),
        pytest.param({"metadata": {"name": "far", "namespace": "farlet"}}, BY_HOST, id="no spec"),
    ],
)
def test_a_change_that_the_api_server_accepts_is_not_refused(
    present: dict[str, Any], wanted: Connection
) -> None:
    assert existing.refusal(present, home.virtual_node(wanted)) is None


@pytest.mark.parametrize(
    ("present", "wanted", "advice"),
    [
        (found(BY_GATEWAY, "gateway", "flux"), BY_HOST, "leave out --home-api-server-host; "),
        (found(BY_HOST, "homeAPIServer", "flux"), BY_GATEWAY, "leave out --gateway; "),
    ],
    ids=["gateway", "home API server"],
)
def test_a_field_of_others_that_excludes_the_wanted_one_is_refused(
    present: dict[str, Any], wanted: Connection, advice: str
) -> None:
    refusal = existing.refusal(present, home.virtual_node(wanted))
    assert refusal is not None
    assert "which flux has set" in refusal
    assert advice in refusal


def test_connect_knows_the_flag_of_every_immutable_field() -> None:
    def immutable(schema: dict[str, Any], *path: str) -> Iterator[tuple[str, ...]]:
        if any("oldSelf" in one["rule"] for one in schema.get("x-kubernetes-validations", ())):
            yield path
        for name, one in schema.get("properties", {}).items():
            yield from immutable(one, *path, name)

    assert set(immutable(structural(Spec))) == set(existing.IMMUTABLE)
