"""Pods that are as large as an API server allows cost linear work, and messages stay short."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import orjson
import pytest

from farlet import constants
from farlet.constants import JSON, Reason
from farlet.forge import applied, copies, status
from farlet.forge.conditions import Rejection
from farlet.k8s_types import Pod
from farlet.planning import changes, plan
from farlet.planning.actions import NOTHING, CreateMirror, PatchStatus, UpdateMirror
from farlet.planning.snapshot import Copied, Missing
from farlet.reconcile.event_recorder import MESSAGE_LIMIT
from farlet.store import Store, key_of
from unit.planning import objects

LONGEST_MESSAGE = 4200
"""Characters of the longest message in a status of farlet's own making."""


def _projected(*sources: JSON) -> JSON:
    return {"volumes": [{"name": "v", "projected": {"sources": list(sources)}}]}


def _token(number: int, **more: Any) -> JSON:
    return {"serviceAccountToken": {"path": f"dir-{number}/token", **more}}


def _mounts(number: int, path: str) -> JSON:
    mounts = [
        {"name": "v", "mountPath": path.format(i), "subPath": f"dir-{i}"} for i in range(number)
    ]
    return {"containers": [{"name": "main", "image": "i", "volumeMounts": mounts}]}


def _term(number: int) -> JSON:
    keys = [f"key-{i}" for i in range(number)]
    term = {
        "topologyKey": "zone",
        "mismatchLabelKeys": keys,
        "labelSelector": {
            "matchExpressions": [{"key": k, "operator": "NotIn", "values": ["x"]} for k in keys]
        },
    }
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    return {"affinity": {"podAntiAffinity": required}}


SPECS: dict[str, Callable[[int], JSON]] = {
    "tokens of one audience": lambda n: _projected(*map(_token, range(n))),
    "tokens of many audiences": lambda n: _projected(
        *(_token(i, audience=str(i)) for i in range(n))
    ),
    "tokens and other files": lambda n: _projected(
        *({"secret": {"name": "s", "items": [{"key": "k", "path": f"f-{i}"}]}} for i in range(n)),
        *map(_token, range(n)),
    ),
    "mounts of tokens by subPath": lambda n: (
        _projected(*map(_token, range(n))) | _mounts(n, "/a/{}")
    ),
    "long mount paths of tokens": lambda n: (
        _projected(_token(0)) | _mounts(n, "/" + "eyJ" * 1000 + "{}")
    ),
    "hostPath volumes": lambda n: {
        "volumes": [{"name": f"v{i}", "hostPath": {"path": "/" + "x" * 500}} for i in range(n)]
    },
    "Secrets where libraries look for tokens": lambda n: {
        "volumes": [{"name": f"v{i}", "secret": {"secretName": "s"}} for i in range(n)],
        "containers": [
            {
                "name": "main",
                "image": "i",
                "volumeMounts": [
                    {
                        "name": f"v{i}",
                        "mountPath": f"{constants.API_ACCESS_MOUNT}/{i}" + "/eyJ" * 1000,
                    }
                    for i in range(n)
                ],
            }
        ],
    },
    "capabilities": lambda n: {
        "containers": [
            {
                "name": "main",
                "image": "i",
                "securityContext": {"capabilities": {"add": [f"eyJ{i}" * 50 for i in range(n)]}},
            }
        ]
    },
    "affinity expressions": _term,
    "variables": lambda n: {
        "containers": [
            {
                "name": "main",
                "image": "i",
                "env": [{"name": f"V{i}", "value": "$(KUBERNETES_PORT)"} for i in range(n)]
                + [{"name": "KUBERNETES_PORT", "value": "x"}],
            }
        ]
    },
    "containers": lambda n: {"containers": [{"name": f"c{i}", "image": "i"} for i in range(n)]},
}


def _lines(work: Callable[[], object]) -> int:
    """How many lines of Python `work` runs; each round of a loop is one at least."""
    count = 0

    def trace(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def _linear(work: Callable[[int], Callable[[], object]]) -> bool:
    """Twice the size is about twice the work; four times if it grows with the square."""
    return _lines(work(1000)) < 2.5 * _lines(work(500))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_work_for_a_pod_grows_with_its_size_not_with_the_square(
    spec: Callable[[int], JSON],
) -> None:
    def work(size: int) -> Callable[[], object]:
        home = objects.home(reads_token=True, spec=spec(size))
        given = objects.snapshot(home, Missing.ABSENT, namespace_unused=True, mirror_gone=True)
        return lambda: plan.decide(given, ctx=objects.CONTEXT)

    assert _linear(work)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_messages_about_a_pod_are_short(spec: Callable[[int], JSON]) -> None:
    home = objects.home(reads_token=True, spec=spec(1000))
    given = objects.snapshot(
        home, Missing.ABSENT, namespace_unused=True, mirror_gone=True, copies={}
    )
    action = plan.decide(given, ctx=objects.CONTEXT).action
    if isinstance(action, PatchStatus):
        assert action.event is not None
        assert len(action.event[1]) < LONGEST_MESSAGE
        assert len(action.body["status"]["message"]) < LONGEST_MESSAGE
    else:
        assert isinstance(action, CreateMirror)
        assert all(len(notice) < MESSAGE_LIMIT for notice in action.notices)


@pytest.mark.parametrize(("audiences", "refused"), [(32, False), (33, True)])
def test_a_pod_gets_at_most_32_tokens(audiences: int, refused: bool) -> None:
    sources = (_token(i, audience=str(i % audiences)) for i in range(200))
    home = objects.home(reads_token=True, spec=_projected(*sources))
    given = objects.snapshot(home, Missing.ABSENT, namespace_unused=True, mirror_gone=True)
    action = plan.decide(given, ctx=objects.CONTEXT).action
    if refused:
        assert isinstance(action, PatchStatus)
        assert action.event is not None
        assert action.event[0] is Reason.UNSUPPORTED_POD
        assert "for 33 audiences, and farlet provides tokens for 32 at most" in action.event[1]
    else:
        assert isinstance(action, CreateMirror)
        assert len(action.token_specs) == 32


def _statuses(number: int, state: JSON) -> list[Any]:
    return [
        {
            "name": f"c{i}",
            "image": "i",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
        for i in range(number)
    ]


def test_the_work_for_a_status_grows_with_its_size_not_with_the_square() -> None:
    def work(size: int) -> Callable[[], object]:
        containers = [{"name": f"c{i}", "image": "i"} for i in range(size)]
        gates = [{"conditionType": f"gate-{i}"} for i in range(size)]
        home = objects.home(
            policy="Never", spec={"containers": containers, "readinessGates": gates}
        )
        home["status"]["containerStatuses"] = _statuses(size, objects.exited(0))
        mirror = objects.mirror()
        mirror["status"]["containerStatuses"] = _statuses(size, objects.RUNNING)
        return lambda: status.reflect(home, mirror, ctx=objects.CONTEXT, now=objects.NOW)

    assert _linear(work)


def test_the_work_for_messages_about_copies_grows_with_the_size_of_the_pod() -> None:
    """Each container refers to an object, and each message contains a hash."""

    def work(size: int) -> Callable[[], object]:
        containers = [
            {
                "name": f"c{i}",
                "image": "i",
                "envFrom": [{"configMapRef": {"name": f"app-{i}"}}],
            }
            for i in range(size)
        ]
        home = objects.home(spec={"containers": containers})
        mirror = objects.mirror(phase="Pending")
        waiting = {"reason": "ErrImagePull", "message": "pull of x-0123456789abcdef failed"}
        mirror["status"]["containerStatuses"] = _statuses(size, {"waiting": waiting})
        return lambda: status.reflect(home, mirror, ctx=objects.CONTEXT, now=objects.NOW)

    assert _linear(work)


def _tolerating(number: int) -> JSON:
    keys = range(number)
    return {"tolerations": [{"key": f"taint-{i}", "operator": "Exists"} for i in keys]}


def test_the_work_for_a_change_grows_with_its_size_not_with_the_square() -> None:
    def work(size: int) -> Callable[[], object]:
        home, mirror = _changed(_tolerating(size))
        home["spec"]["tolerations"].reverse()
        given = objects.snapshot(home, mirror)
        return lambda: plan.decide(given, ctx=objects.CONTEXT)

    assert _linear(work)


def test_a_rejected_change_costs_no_body() -> None:
    home, mirror = _changed(_tolerating(1000))
    home["spec"]["tolerations"].reverse()
    due = plan.decide(objects.snapshot(home, mirror), ctx=objects.CONTEXT).action
    assert isinstance(due, UpdateMirror)
    rejected = objects.snapshot(home, mirror, rejected={due.wanted: Rejection("no")})
    assert plan.decide(rejected, ctx=objects.CONTEXT) == NOTHING
    assert _lines(lambda: plan.decide(rejected, ctx=objects.CONTEXT)) < 3000


@pytest.mark.parametrize("missing", ["spec.activeDeadlineSeconds", "metadata.labels"])
def test_a_record_of_the_foreign_side_that_lacks_a_path_is_no_error(missing: str) -> None:
    home, mirror = _changed({"activeDeadlineSeconds": 600})
    record = orjson.loads(mirror["metadata"]["annotations"][constants.APPLIED])
    del record["digests"][missing]
    mirror["metadata"]["annotations"][constants.APPLIED] = orjson.dumps(record).decode()
    mirror["metadata"]["creationTimestamp"] = "2026-01-02T03:02:25Z"
    home["metadata"]["labels"] = {"stage": "x"}
    home["spec"]["resources"] = {"limits": {"cpu": "2"}}
    found = changes.due(
        home, mirror, selected="disabled", ctx=objects.CONTEXT, now=objects.NOW + 900
    )
    assert found.resize is not None
    assert missing in found.resize.record.digests


@pytest.mark.parametrize("generation", [2**63 - 1, 2**64 - 1])
def test_a_generation_of_the_foreign_side_is_bounded(generation: int) -> None:
    home, mirror = _changed({"activeDeadlineSeconds": 600})
    home["spec"]["activeDeadlineSeconds"] = 60
    cast("Any", mirror["metadata"]).update(generation=generation, resourceVersion="7")
    due = plan.decide(objects.snapshot(home, mirror), ctx=objects.CONTEXT).action
    assert isinstance(due, UpdateMirror)
    mirror["metadata"]["annotations"].update(due.body["metadata"]["annotations"])
    record = applied.read(mirror)
    assert record is not None
    assert record.mirror == 2**63 - 1


def _changed(spec: JSON) -> tuple[Pod, Pod]:
    """H, which shows the status of M, and M, which was written for H."""
    home = objects.home(phase="Running", state=objects.RUNNING, spec=spec)
    mirror = objects.mirror()
    cast("Any", mirror["spec"]).update(spec)
    record = applied.record(home, mirror=1, labels=(), annotations=())
    mirror["metadata"]["annotations"][constants.APPLIED] = cast("str", applied.encoded(record))
    return objects.shown(home, mirror), mirror


_WAITING_CONTAINERS: dict[str, JSON] = {
    "that can be added": {},
    "that farlet rejects": {"securityContext": {"privileged": True}},
    "that refer to a ConfigMap": {"envFrom": [{"configMapRef": {"name": "app"}}]},
}


@pytest.mark.parametrize("kept_out", [False, True], ids=["", "of a pod that keeps them out"])
@pytest.mark.parametrize("fields", _WAITING_CONTAINERS.values(), ids=_WAITING_CONTAINERS)
def test_the_work_for_ephemeral_containers_grows_with_the_size_of_the_pod(
    fields: JSON, kept_out: bool
) -> None:
    def work(size: int) -> Callable[[], object]:
        spec = SPECS["variables"](size) | {
            "ephemeralContainers": [{"name": f"e{i}", "image": "i", **fields} for i in range(size)]
        }
        home = objects.home(phase="Running", mirrored=objects.MIRROR, spec=spec)
        if kept_out:
            home["metadata"]["annotations"] = {constants.API_SERVER_SUPPORT: "remote"}
        copied = dict.fromkeys(copies.sources(home), Copied.SETTLED)
        given = objects.snapshot(home, objects.mirror(), copies=copied)
        return lambda: plan.decide(given, ctx=objects.CONTEXT)

    assert _linear(work)


def test_texts_of_a_mirror_are_cut_where_they_enter() -> None:
    """A kubelet's own texts are not: it writes 4,096 bytes of a termination message at most."""
    native, hostile = "x" * 4096, "y" * 900_000
    mirror = objects.mirror(state={"terminated": {"exitCode": 0, "message": native}})
    cast("Any", mirror["status"]).update(
        message=hostile,
        reason=hostile,
        podIPs=[{"ip": hostile}] * 1000,
        conditions=[
            {"type": kind, "status": "False", "reason": hostile, "message": hostile}
            for kind in ("PodScheduled", "Ready", "ContainersReady")
        ],
    )
    mirror["metadata"]["annotations"][constants.RESTARTS] = orjson.dumps(
        {f"container-{i}": 1 for i in range(10_000)}
    ).decode()
    mirror["metadata"]["resourceVersion"] = "1"
    store = Store()
    store.mirrors.put(mirror)
    kept = cast("Pod", store.mirrors.get(key_of(mirror)))
    home = objects.home(mirrored="earlier", phase="Running")
    shown = status.reflect(home, kept, ctx=objects.CONTEXT, now=objects.NOW)
    [container] = shown.status["containerStatuses"]
    assert container["state"]["terminated"]["message"] == native
    assert shown.status["message"] == "y" * 4096 + "... (900,000 characters)"
    assert len(orjson.dumps(shown.status)) < 64_000
    assert len(orjson.dumps(shown.annotations)) < 10_000
