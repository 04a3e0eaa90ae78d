"""Labels and annotations in files: when the Secret and its mirror are written."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from farlet import errors
from unit.planning import model, objects
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness

WRITES = r"^(POST|PATCH|PUT|DELETE) "
SECRET = rf"^PATCH .*/namespaces/{FOREIGN}/secrets/"
MIRROR = rf"^PATCH .*/namespaces/{FOREIGN}/pods/web$"
SPEC: dict[str, Any] = {
    "volumes": [
        {
            "name": "info",
            "downwardAPI": {
                "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
            },
        }
    ]
}


def _running(s: Harness, *, mode: str) -> None:
    pod: JSON = model.clone(objects.home(reads_token=mode == "home"))
    volumes = [*pod["spec"].get("volumes", ()), *SPEC["volumes"]]
    pod["spec"]["volumes"] = volumes
    pod["metadata"]["labels"] = {"istio.io/rev": "one"}
    s.home_server.create("pods", HOME, pod, by=USER)
    s.wait(2.0)
    s.runs()
    s.wait(2.0)


def _label(s: Harness, value: str) -> None:
    body = {"metadata": {"labels": {"istio.io/rev": value}}}
    s.home_server.patch(("pods", HOME, "web"), body, by=USER, status=False, strategic=False)


def _relabel(s: Harness, labels: dict[str, str | None]) -> None:
    body: JSON = {"metadata": {"labels": labels}}
    s.home_server.patch(("pods", HOME, "web"), body, by=USER, status=False, strategic=False)
    s.wait(5.0)


def _file(s: Harness) -> str:
    (secret,) = s.secrets()
    return base64.b64decode(secret["data"]["labels"]).decode()


@pytest.mark.parametrize("mode", ["disabled", "home"])
def test_a_label_that_stays_at_home_is_written_to_the_secret_and_then_the_mirror_is_touched(
    mode: str,
) -> None:
    with harness.running() as s:
        _running(s, mode=mode)
        assert _file(s) == 'istio.io/rev="one"'
        assert not s.foreign.requests(SECRET)
        before = len(s.foreign.requests(MIRROR))
        _label(s, "two")
        s.wait(2.0)
        assert _file(s) == 'istio.io/rev="two"'
        writes = [one.request for one in s.foreign.requests(f"{SECRET}|{MIRROR}")][before:]
        assert ["secrets" in one for one in writes] == [True, False]


def test_a_canary_that_becomes_stable_loses_its_labels_and_gets_others() -> None:
    """Progressive delivery changes labels of running pods, which read them from a file."""
    with harness.running() as s:
        _running(s, mode="home")
        _relabel(s, {"role": "canary", "canary-weight": "20"})
        assert _file(s) == 'canary-weight="20"\nistio.io/rev="one"\nrole="canary"'
        _relabel(s, {"role": "stable", "canary-weight": None})
        assert _file(s) == 'istio.io/rev="one"\nrole="stable"'
        mirror = s.mirror()
        assert mirror is not None
        labels = mirror["metadata"]["labels"]
        assert labels["role"] == "stable"
        assert "canary-weight" not in labels


def test_nothing_is_written_while_no_label_changes_also_after_a_restart() -> None:
    with harness.running() as s:
        _running(s, mode="disabled")
        before = [len(one.requests(WRITES)) for one in (s.home, s.foreign)]
        s.wait(600.0)
        s.kill()
        s.start()
        s.wait(60.0)
        changed = [one.request for one in s.foreign.requests(WRITES)][before[1] :]
        assert not [one for one in changed if "secrets" in one or "pods" in one]


def test_a_pod_without_a_token_costs_one_request_for_its_labels() -> None:
    with harness.running() as s:
        _running(s, mode="disabled")
        assert len(s.foreign.requests(r"^POST .*/secrets$")) == 1
        assert not s.foreign.requests(MIRROR)


def test_the_mirror_is_touched_after_a_secret_that_could_not_be_written_at_once() -> None:
    with harness.running() as s:
        _running(s, mode="disabled")
        s.foreign.refusing[SECRET] = s.foreign.silence
        _label(s, "two")
        s.wait(5.0)
        assert not s.foreign.requests(MIRROR)
        s.foreign.refusing.clear()
        s.wait(20.0)
        assert _file(s) == 'istio.io/rev="two"'
        assert len(s.foreign.requests(MIRROR)) == 1


def test_a_secret_that_the_foreign_cluster_refuses_does_not_hold_up_the_status() -> None:
    with harness.running() as s:
        s.foreign.refusing[r"^POST .*/secrets$"] = s.foreign.refusal(
            errors.Forbidden, 403, "secrets is forbidden", reason="Forbidden"
        )
        _running(s, mode="disabled")
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["phase"] == "Running"
