"""The check of 403s: what it excuses, and that it excuses nothing else."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from clusters import auditlog, refusals

NODE, REAL = "system:node:virtual-1", "system:node:home-real"
NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
ACCOUNT = "system:serviceaccount:farlet:virtual-1"
CANNOT = 'User "x" cannot list resource "pods" in API group ""'
ENDING = "unable to create new content in namespace shop because it is being terminated"
LAG = "User cannot create: no relationship found between node 'virtual-1' and this object"


def log(folder: Path, *entries: dict[str, Any]) -> auditlog.Log:
    path = folder / "audit.log"
    path.write_text("".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries))
    return auditlog.Log(path)


def at(seconds: float) -> datetime.datetime:
    return NOON + datetime.timedelta(seconds=seconds)


def entry(
    verb: str,
    resource: str,
    *,
    code: int = 403,
    user: str = NODE,
    agent: str = "farlet/1",
    seconds: float = 0,
    took: float = 0,
    message: str = "",
    namespace: str = "shop",
    **more: Any,
) -> dict[str, Any]:
    """An audit entry of `seconds` after noon; `resource` may have a subresource."""
    what, _, part = resource.partition("/")
    return {
        "stage": "ResponseComplete",
        "requestReceivedTimestamp": at(seconds - took).isoformat(),
        "stageTimestamp": at(seconds).isoformat(),
        "verb": verb,
        "user": {"username": user},
        "userAgent": agent,
        "requestURI": "/",
        "objectRef": {"resource": what, "subresource": part, "namespace": namespace},
        "responseStatus": {"message": message, "code": code},
        **more,
    }


TOKEN = "serviceaccounts/token"
BOUND = entry("create", "pods", code=201, user="system:kube-scheduler", seconds=0)
READY = entry("get", "", code=200, user="admin", seconds=-40, requestURI="/readyz")


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([BOUND, entry("create", TOKEN, seconds=9, message=LAG)], id="just bound"),
        pytest.param([BOUND, entry("get", "secrets", seconds=9, message=LAG)], id="a reference"),
        pytest.param(
            [
                entry("create", TOKEN, seconds=-1, message=LAG),
                entry("create", "pods", code=201, seconds=0, took=2),
            ],
            id="the answer to the binding came later",
        ),
        pytest.param(
            [
                entry("deletecollection", "pods", code=200, seconds=100),
                entry("create", TOKEN, seconds=101, message=LAG),
            ],
            id="gone with its namespace",
        ),
        pytest.param(
            [READY, entry("create", TOKEN, seconds=-34, message=LAG)],
            id="a server that took long to start",
        ),
        pytest.param(
            [
                entry("delete", "pods", code=200, seconds=100),
                entry("create", TOKEN, seconds=101, message=LAG),
            ],
            id="just gone",
        ),
        pytest.param(
            [entry("create", TOKEN, seconds=-55, message=LAG)], id="a server just started"
        ),
        pytest.param(
            [entry("list", "pods", user=ACCOUNT, seconds=-55, message=CANNOT)],
            id="an account, by a server just started",
        ),
        pytest.param(
            [entry("create", "events", message=ENDING)], id="an Event as its namespace ends"
        ),
        pytest.param([entry("create", TOKEN, code=201)], id="allowed"),
        pytest.param([entry("list", "pods", user=REAL)], id="a real kubelet"),
        pytest.param([entry("list", "pods", user="system:anonymous")], id="another user"),
        pytest.param([entry("list", "pods", agent="farlet-tests")], id="a test's own request"),
    ],
)
def test_a_refusal_in_the_home_cluster_is_excused(
    tmp_path: Path, entries: list[dict[str, Any]]
) -> None:
    assert refusals.in_home(log(tmp_path, *entries), starts=[at(-60)], kubelet=REAL) == []


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([entry("create", TOKEN, message=LAG)], id="no pod"),
        pytest.param([BOUND, entry("create", TOKEN, seconds=11, message=LAG)], id="too late"),
        pytest.param([BOUND, entry("create", TOKEN, seconds=-1, message=LAG)], id="too early"),
        pytest.param(
            [BOUND, entry("create", TOKEN, seconds=1, namespace="bank", message=LAG)],
            id="a pod of another namespace",
        ),
        pytest.param(
            [READY, entry("create", TOKEN, seconds=-29, message=LAG)],
            id="long after the server was ready",
        ),
        pytest.param(
            [
                {**READY, "responseStatus": {"code": 500}},
                entry("create", TOKEN, seconds=-34, message=LAG),
            ],
            id="a server that is not ready and took long",
        ),
        pytest.param([BOUND, entry("create", TOKEN, message="not yours")], id="another cause"),
        pytest.param([BOUND, entry("list", "nodes", seconds=1, message=LAG)], id="no reference"),
        pytest.param([entry("create", "events", message=CANNOT)], id="an Event without permission"),
        pytest.param([entry("create", "pods", message=ENDING)], id="a pod as its namespace ends"),
        pytest.param(
            [{**BOUND, "responseStatus": {"code": 403}}, entry("create", TOKEN, message=LAG)],
            id="a pod that was refused",
        ),
        pytest.param([entry("list", "pods", user=ACCOUNT, message=CANNOT)], id="an account"),
        pytest.param(
            [entry("list", "pods", seconds=-55, message=CANNOT)],
            id="a node, whose rights are no Roles, by a server just started",
        ),
        pytest.param(
            [entry("list", "pods", user="admin", impersonatedUser={"username": NODE})],
            id="through the door of a fault test",
        ),
    ],
)
def test_a_refusal_in_the_home_cluster_is_reported(
    tmp_path: Path, entries: list[dict[str, Any]]
) -> None:
    (told,) = refusals.in_home(log(tmp_path, *entries), starts=[at(-60)], kubelet=REAL)
    assert told.code == 403


@pytest.mark.parametrize(
    ("user", "seconds", "count"),
    [
        pytest.param("farlet", 0, 1, id="farlet"),
        pytest.param("farlet-0-ab", 0, 1, id="a farlet of a test"),
        pytest.param("farlets", 0, 0, id="another name"),
        pytest.param("other", 0, 0, id="another user"),
        pytest.param("farlet", -55, 0, id="farlet, by a server just started"),
    ],
)
def test_in_the_foreign_cluster_only_a_server_that_just_started_is_excused(
    tmp_path: Path, user: str, seconds: float, count: int
) -> None:
    found = log(tmp_path, entry("create", "pods", user=user, seconds=seconds, message=CANNOT))
    assert len(refusals.in_foreign(found, starts=[at(-60)])) == count


@pytest.mark.parametrize(
    ("side", "seconds", "told"),
    [
        pytest.param("foreign", 5, False, id="while a test wants it"),
        pytest.param("foreign", 11, True, id="after the test"),
        pytest.param("foreign", -1, True, id="before the test"),
        pytest.param("home", 5, True, id="on the other side"),
    ],
)
def test_a_test_that_wants_refusals_excuses_those_of_its_time(
    tmp_path: Path, side: str, seconds: float, told: bool
) -> None:
    (refused,) = log(tmp_path, entry("create", "pods", seconds=seconds)).refused()
    excuse = refusals.Excuse("foreign", at(0), at(10))
    assert list(refusals.unexcused(side, [refused], [excuse])) == (
        [f"{side}: {NODE}: create pods in shop: "] if told else []
    )
