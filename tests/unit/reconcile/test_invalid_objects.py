"""An object whose form is not valid: its pod is unknown, and no other pod is affected."""

from __future__ import annotations

from typing import Any, cast

import pytest

from farlet.constants import ObjectKey
from farlet.k8s_types import Pod
from unit.planning import model
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, KUBELET, Harness

FORMS: dict[str, Any] = {
    "spec": "none",
    "status": [],
    "annotations": {"a": 1},
}


def _break(s: Harness, field: str) -> None:
    """The next version of the mirror `web` is not valid."""
    value = FORMS[field]

    def policy(resource: str, obj: JSON) -> None:
        if resource == "pods" and obj["metadata"]["name"] == "web":
            (obj["metadata"] if field == "annotations" else obj)[field] = value

    s.foreign_server.policy = policy
    where = ("pods", FOREIGN, "web")
    body = {"metadata": {"labels": {"any": "change"}}}
    s.foreign_server.patch(where, body, by=KUBELET, status=False, strategic=False)
    s.foreign_server.policy = lambda _resource, _obj: None


@pytest.mark.parametrize("field", FORMS)
@pytest.mark.parametrize("restarts", [False, True], ids=["while it runs", "and farlet restarts"])
def test_a_mirror_that_is_not_valid_is_unknown_and_other_pods_run(
    field: str, restarts: bool
) -> None:
    with harness.running() as s:
        for name in ("web", "other"):
            s.create(name, policy="Never")
        s.wait(3.0)
        for name in ("web", "other"):
            s.runs(name)
        s.wait(3.0)
        _break(s, field)
        s.wait(5.0)
        if restarts:
            s.kill()
            s.start()
        s.wait(5.0)
        s.runs("other", restarts=3)
        s.create("third")
        s.wait(20.0)
        web, other = s.pod("web"), s.pod("other")
        assert web is not None
        assert other is not None
        assert web["status"]["phase"] == "Running", "it is neither lost nor gone"
        assert other["status"]["containerStatuses"][0]["restartCount"] == 3
        assert s.mirror("third") is not None
        assert s.mirror("web") is not None
        s.delete("web")
        s.wait(20.0)
        assert s.pod("web") is not None, "its mirror is unknown"


def test_a_home_pod_that_is_not_valid_keeps_its_mirror() -> None:
    with harness.running() as s:
        pod = s.create()
        s.create("other")
        s.wait(3.0)
        s.runs()
        s.wait(3.0)
        broken = {**model.clone(pod), "spec": None, "status": "none"}
        for kind in ("MODIFIED", "DELETED"):
            s.pods.event(kind, cast("Pod", broken))
        s.pods.event("MODIFIED", {"metadata": None})  # type: ignore[typeddict-item]
        s.wait(10.0)
        assert s.mirror() is not None
        assert s.store.home.doubted(ObjectKey(HOME, "web"))
        s.runs("other", restarts=2)
        s.wait(5.0)
        other = s.pod("other")
        assert other is not None
        assert other["status"]["containerStatuses"][0]["restartCount"] == 2
        label = {"metadata": {"labels": {"a": "b"}}}
        where = ("pods", HOME, "web")
        s.home_server.patch(where, label, by=KUBELET, status=False, strategic=False)
        s.wait(5.0)
        assert not s.store.home.doubted(ObjectKey(HOME, "web"))


def test_a_home_pod_whose_deletion_was_not_valid_is_found_by_a_resync() -> None:
    with harness.running() as s:
        pod = s.create()
        s.wait(3.0)
        s.runs()
        s.feeding = False
        s.delete(grace=0)
        s.pods.event("DELETED", cast("Pod", {**model.clone(pod), "spec": "none"}))
        s.wait(5.0)
        assert s.mirror() is not None
        s.wait(2 * 310.0)
        mirror = s.mirror()
        assert mirror is not None
        assert "deletionTimestamp" in mirror["metadata"]


def test_a_home_pod_of_a_list_that_cannot_be_trimmed_concerns_no_other() -> None:
    with harness.running() as s:
        s.create()
        s.create("other")
        s.wait(5.0)
        trimmed = s.store.home.trimmed

        def fails(pod: Pod) -> Pod:
            if pod["metadata"]["name"] == "web":
                raise TypeError
            return trimmed(pod)

        s.store.home.trimmed = fails  # type: ignore[assignment,method-assign]
        s.pods.rewound()
        s.wait(5.0)
        assert s.store.home.doubted(ObjectKey(HOME, "web"))
        assert not s.store.home.doubted(ObjectKey(HOME, "other"))
        assert s.pods.has_synced
