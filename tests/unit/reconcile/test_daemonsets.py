"""Pods of DaemonSets on the virtual node: reported once, never sent, no effect on other pods."""

from __future__ import annotations

import dataclasses

from farlet.context import Context, DaemonSetPods
from unit.planning import model, objects
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, Harness

RUN: Context = dataclasses.replace(objects.CONTEXT, daemonset_pods=DaemonSetPods.RUN)


def _daemon(s: Harness) -> JSON:
    """A pod as the DaemonSet controller makes it."""
    pod: JSON = model.clone(objects.daemon(objects.home()))
    return s.home_server.create("pods", harness.HOME, pod, by=harness.USER)


def test_a_pod_of_a_daemonset_stays_pending_and_costs_one_status_and_one_event() -> None:
    with harness.running() as s:
        _daemon(s)
        s.wait(3600.0)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["phase"] == "Pending"
        assert s.reason() == "DaemonSetNotAllowed"
        assert s.events() == ["DaemonSetNotAllowed"]
        assert len(s.home.requests("PATCH .*/pods/web/status")) == 1
        assert s.mirror() is None


def test_no_foreign_namespace_is_opened_for_pods_that_never_go_there() -> None:
    with harness.running() as s:
        _daemon(s)
        s.wait(600.0)
        assert not s.foreign.requests(rf"/namespaces/{FOREIGN}/")
        assert s.registered() == {}


def test_a_refused_pod_of_a_daemonset_goes_when_it_is_deleted() -> None:
    with harness.running() as s:
        _daemon(s)
        s.wait(10.0)
        s.delete()
        s.wait(10.0)
        assert s.pod() is None


def test_a_running_pod_keeps_running_after_the_setting_changes_until_its_mirror_is_lost() -> None:
    with harness.running(ctx=RUN) as s:
        _daemon(s)
        s.wait(10.0)
        s.runs()
        s.wait(1.0)
        s.kill()
        s.ctx = objects.CONTEXT
        s.start()
        s.wait(60.0)
        assert s.mirror() is not None
        assert s.reason() is None
        s.remove()
        s.wait(60.0)
        assert s.mirror() is None
        assert s.reason() == "DaemonSetNotAllowed"


def test_waiting_pods_start_when_the_setting_allows_them() -> None:
    with harness.running() as s:
        _daemon(s)
        s.wait(10.0)
        s.kill()
        s.ctx = RUN
        s.start()
        s.wait(10.0)
        assert s.mirror() is not None
