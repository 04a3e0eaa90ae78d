"""Settings that farlet would not accept are reported by the field of the spec."""

from __future__ import annotations

from typing import Any

import pytest

from farlet.errors import UsageError
from farlet.manager import run_settings, variables
from farlet.settings import Settings
from unit.manager.nodes import EVERYTHING, node


def test_every_field_reaches_the_settings() -> None:
    checked = run_settings.check(node(**EVERYTHING))
    assert checked.nodename == "far"
    assert checked.foreign_system_namespace == "farlet-far"
    assert checked.home_name == "berlin"
    assert dict(checked.namespace_map) == {"shop": "shop-berlin", "blog": "blog-berlin"}
    assert checked.create_namespaces
    assert checked.api_access_default == "disabled"
    assert dict(checked.capacity) == {"cpu": "8", "memory": "32Gi", "pods": "110"}
    assert dict(checked.node_labels) == {"example.com/zone": "b", "example.com/area": "a"}
    assert [str(one.key) for one in checked.node_taints] == ["example.com/far"]
    assert {one.value for one in checked.allow_pod_feature} == {"host-ports", "privileged"}
    assert [one.value for one in checked.reflect] == ["services"]
    assert checked.mirror_events.value == "warnings"
    assert checked.drain_on_exit


def test_every_field_of_the_table_is_a_setting() -> None:
    assert variables.FIELDS.keys() <= Settings.model_fields.keys()


def test_no_taints_and_the_default_taint_are_different_things() -> None:
    assert run_settings.check(node(taints=[])).node_taints == ()
    assert len(run_settings.check(node()).node_taints) == 1


def test_the_environment_of_the_manager_is_not_the_one_of_farlet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FARLET_CAPACITY", "cpu=1")
    monkeypatch.setenv("FARLET_NODENAME", "other")
    checked = run_settings.check(node())
    assert (checked.nodename, checked.capacity) == ("far", ())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            {"capacity": {"cpu": "8"}},
            "spec.capacity does not contain memory, pods, without which the home scheduler places "
            "no pod on the Node. Set cpu, memory and pods, such as cpu=8,memory=32Gi,pods=110",
            id="capacity",
        ),
        pytest.param(
            {"labels": {"a": "not valid"}},
            "spec.labels: 'not valid' is not a valid label value",
            id="label",
        ),
        pytest.param(
            {"labels": {"type": "machine"}},
            "spec.labels: the label type=virtual-kubelet marks virtual nodes",
            id="the label of virtual nodes",
        ),
        pytest.param(
            {"access": {"default": "hoem"}},
            "spec.access.default: 'hoem' is not an access mode; expected one of disabled, home, "
            "remote",
            id="access mode",
        ),
        pytest.param(
            {"namespaces": {"template": "shared"}},
            "spec.namespaces.template: 'shared' does not contain {namespace}",
            id="template",
        ),
        pytest.param(
            {"namespaces": {"map": {"a": "farlet"}}},
            "spec.namespaces.map contains 'farlet', which is farlet's own namespace",
            id="a pair with the system namespace",
        ),
        pytest.param(
            {"homeAPIServer": {"host": "a:b"}},
            "spec.homeAPIServer.host: 'a:b' is not a valid IPv6 address",
            id="host",
        ),
        pytest.param(
            {"extraArgs": ["--wrokers=3"]},
            "spec.extraArgs: --wrokers is not a flag of farlet run; `farlet run --help-all` lists "
            "all",
            id="unknown flag",
        ),
        pytest.param(
            {"extraArgs": ["--workers=many"]},
            "spec.extraArgs: --workers: ",
            id="value of a flag",
        ),
        pytest.param(
            {"extraArgs": ["--capacity=cpu=1"]},
            "spec.extraArgs: set spec.capacity in place of --capacity",
            id="flag with a field",
        ),
        pytest.param(
            {"extraArgs": ["--nodename=x"]},
            "spec.extraArgs: --nodename cannot be set: it is metadata.name",
            id="flag of the manager",
        ),
        pytest.param(
            {"extraArgs": ["--mirror-patch=/etc/passwd"]},
            "spec.extraArgs: --mirror-patch names a file, and the pod has none",
            id="file",
        ),
        pytest.param(
            {"extraArgs": ["--workers=1", "--workers=2"]},
            "spec.extraArgs: --workers is set more than once; set it once",
            id="twice",
        ),
        pytest.param(
            {"extraArgs": ["--token=eyJhbGciOi.secret"]},
            "spec.extraArgs: --token is not a flag",
            id="a value is not repeated",
        ),
    ],
)
def test_a_wrong_setting(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        run_settings.check(node(**spec))
    assert str(raised.value).startswith(message)


def test_flags_that_can_be_repeated_are_collected() -> None:
    arguments = ["--priority-class-map=a=b", "--priority-class-map=*=drop"]
    checked = run_settings.check(node(extraArgs=arguments))
    assert checked.priority_class_map == (("a", "b"), ("*", "drop"))
