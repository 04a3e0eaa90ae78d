"""The start of the manager: what it refuses, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from farlet import errors
from farlet.manager import process
from farlet.settings import ManagerSettings, loading


def kubeconfig(path: Path) -> Path:
    user = {"name": "a", "user": {"token": "x"}}
    cluster = {"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
    content = {"users": [user], "clusters": [cluster], "contexts": [context]}
    path.write_text(yaml.safe_dump({**content, "current-context": "a"}))
    return path


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
