"""The start of the manager: what it refuses, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from farlet import errors
from farlet.install import manager
from farlet.manager import process
from farlet.settings import ManagerSettings, loading


def kubeconfig(path: Path) -> Path:
    user = {"name": "a", "user": {"token": "x"}}
    cluster = {"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
    content = {"users": [user], "clusters": [cluster], "contexts": [context]}
    path.write_text(yaml.safe_dump({**content, "current-context": "a"}))
    return path


def test_the_image_is_that_of_the_manager_in_its_pod() -> None:
    containers = [{"name": "mesh", "image": "mesh:1"}, {"name": "manager", "image": "farlet:1"}]
    found = {"metadata": {"name": "a"}, "spec": {"containers": containers}}
    assert process.image_of(found) == "farlet:1"
    with pytest.raises(errors.StartError, match="no container named manager"):
        process.image_of({**found, "spec": {"containers": containers[:1]}})


def test_the_manager_knows_its_container() -> None:
    template = manager.deployment(image="x")["spec"]["template"]
    assert [one["name"] for one in template["spec"]["containers"]] == [process.CONTAINER]


def test_a_server_that_does_not_answer_ends_the_start(tmp_path: Path) -> None:
    settings = loading.load(
        ManagerSettings,
        {
            "home_kubeconfig": str(kubeconfig(tmp_path / "home")),
            "health_probe_bind_address": "0",
            "image": "farlet:0.2.0",
        },
    )
    with pytest.raises(errors.StartError, match="connection refused"):
        process.run(settings)
