"""Settings of the foreign namespaces that farlet creates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farlet import errors, settings
from farlet.context import NewNamespaces
from farlet.settings import loading


def load(folder: Path, **given: Any) -> settings.Settings:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text("")
    flags = {"nodename": "far", "foreign_kubeconfig": str(kubeconfig), **given}
    return loading.load(settings.Settings, flags)


def test_farlet_creates_no_namespaces_unless_it_is_set(tmp_path: Path) -> None:
    assert load(tmp_path).create_namespaces is False


def test_a_new_namespace_enforces_the_level_baseline_unless_another_one_is_set(
    tmp_path: Path,
) -> None:
    found = load(tmp_path, create_namespaces="true").namespace_defaults
    assert found == NewNamespaces(pod_security_level="baseline")


def test_defaults_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "defaults.yaml"
    file.write_text(
        "labels: {team: guests}\n"
        "annotations: {contact: 'a, b'}\n"
        "podSecurityLevel: restricted\n"
        "resourceQuota: {hard: {pods: 50, requests.memory: 64Gi}, scopes: [NotTerminating]}\n"
        "networkPolicy: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: []}]}\n"
    )
    found = load(tmp_path, create_namespaces="true", namespace_defaults=str(file))
    assert found.namespace_defaults == NewNamespaces(
        labels={"team": "guests"},
        annotations={"contact": "a, b"},
        pod_security_level="restricted",
        resource_quota={
            "hard": {"pods": "50", "requests.memory": "64Gi"},
            "scopes": ["NotTerminating"],
        },
        network_policy={"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": []}]},
    )


INVALID: dict[str, tuple[Any, str]] = {
    "an unknown field": ({"quota": {}}, "not a field of the defaults of namespaces"),
    "an unknown level": ({"podSecurityLevel": "open"}, "podSecurityLevel"),
    "the level as a label": (
        {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
        "set podSecurityLevel in place",
    ),
    "the label of the name": ({"labels": {"kubernetes.io/metadata.name": "x"}}, "API server"),
    "a label of farlet": ({"labels": {"farlet.io/created-namespace": "x"}}, "reserved for farlet"),
    "an annotation of farlet": (
        {"annotations": {"farlet.io/home-namespace": "x"}},
        "reserved for farlet",
    ),
    "an invalid label": ({"labels": {"team": "a b"}}, "not a valid label value"),
    "a number as label": ({"labels": {"team": 1}}, "quote it"),
    "a quota without resources": ({"resourceQuota": {"hard": {}}}, "resources to quantities"),
    "a quota without a quantity": ({"resourceQuota": {"hard": {"pods": "many"}}}, "many"),
    "a policy without a selector": ({"networkPolicy": {"ingress": []}}, "podSelector"),
    "an unknown type of policy": (
        {"networkPolicy": {"podSelector": {}, "policyTypes": ["All"]}},
        "policyTypes",
    ),
}


@pytest.mark.parametrize(("given", "text"), INVALID.values(), ids=INVALID)
def test_what_an_api_server_would_reject_is_rejected_at_start(
    tmp_path: Path, given: Any, text: str
) -> None:
    with pytest.raises(errors.UsageError, match="--namespace-defaults") as raised:
        load(tmp_path, create_namespaces="true", namespace_defaults=given)
    assert text in str(raised.value)


def test_defaults_without_the_creation_of_namespaces_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="no effect without --create-namespaces"):
        load(tmp_path, namespace_defaults={"labels": {"team": "guests"}})
