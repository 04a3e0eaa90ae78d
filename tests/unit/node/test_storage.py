"""What volumes require of the home cluster, verified at start."""

import asyncio
import dataclasses
from typing import Any

import pytest

from farlet import errors
from farlet.constants import JSON
from farlet.node import storage
from unit.fakeclient import FakeClient
from unit.planning import objects

CTX = dataclasses.replace(objects.CONTEXT, storage_class_map=(("far", "fast"),))
FINE = {"provisioner": "farlet.io/foreign", "volumeBindingMode": "WaitForFirstConsumer"}


class Home(FakeClient):
    """A home cluster with one StorageClass, or none."""

    def __init__(self, found: dict[str, Any] | None, *, denied: str = "") -> None:
        self.found = found
        self.denied = denied
        self.unreachable = False

    @property
    def name(self) -> str:
        return "home"

    async def call(self, method: str, path: str, **_: Any) -> JSON:
        assert (method, path) == ("GET", "/apis/storage.k8s.io/v1/storageclasses/far")
        if self.unreachable:
            raise errors.Unreachable(cluster="home", request="it", cause="refused")
        if self.found is None:
            raise errors.NotFound(
                cluster="home", request="it", code=404, status_reason="NotFound", message="it"
            )
        return {"metadata": {"name": "far", "uid": "u"}, **self.found}

    async def call_unqueued(self, method: str, path: str, *, body: Any = None, **_: Any) -> JSON:
        asked = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": f"{asked['verb']} {asked['resource']}" != self.denied}}


def check(home: Home) -> None:
    asyncio.run(storage.check(home, CTX))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        pytest.param(
            FINE | {"provisioner": "disks"}, "provisioner is disks", id="another provisioner"
        ),
        pytest.param(
            FINE | {"volumeBindingMode": "Immediate"}, "Immediate", id="immediate binding"
        ),
        pytest.param({"provisioner": FINE["provisioner"]}, "Immediate", id="no binding mode"),
    ],
)
def test_a_class_for_which_farlet_cannot_provide_is_refused(
    found: dict[str, Any], text: str
) -> None:
    with pytest.raises(errors.StartError, match=text):
        check(Home(found))


def test_a_missing_permission_is_refused_with_the_manifest_that_grants_it() -> None:
    with pytest.raises(
        errors.StartError, match=r"create persistentvolumes .*manifests/home/volumes"
    ):
        check(Home(FINE, denied="create persistentvolumes"))


def test_a_class_that_does_not_exist_yet_and_a_server_that_is_down_are_accepted() -> None:
    check(Home(FINE))
    check(Home(None))
    down = Home(FINE)
    down.unreachable = True
    check(down)
