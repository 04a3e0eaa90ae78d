"""The example of the plugin guide: a package that adds an access mode, installed as users do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import pods
from farlet.access import AccessStrategy

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "access-mode"
GUIDE = ROOT / "docs" / "access-modes-plugin.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package; built without network."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", folder, EXAMPLE]
    subprocess.run([str(part) for part in command], check=True, timeout=120)
    return folder


def _farlet(installed: Path, *arguments: str, content: str = "") -> str:
    path = os.pathsep.join([str(installed), str(ROOT / "operator")])
    answer = subprocess.run(
        [sys.executable, "-m", "farlet", *arguments],
        input=content,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _pod(mode: str) -> dict[str, Any]:
    pod = pods.pod(volumes=[pods.projected(pods.token())])
    pod["metadata"]["annotations"] = {"liqo.io/api-server-support": mode}
    return dict(pod)


@pytest.mark.thorough
def test_farlet_lists_the_mode_of_an_installed_package(installed: Path) -> None:
    lines = _farlet(installed, "access-modes").splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["disabled", "home", "home-short", "remote"]
    assert "farlet-home-short" in next(line for line in lines if line.startswith("home-short"))


@pytest.mark.thorough
def test_a_pod_with_the_mode_is_rendered_as_in_mode_home(installed: Path) -> None:
    flags = ("--nodename", "far", "--home-api-server-host", "192.0.2.2", "-o", "json", "-f", "-")
    rendered = [
        json.loads(_farlet(installed, "render", *flags, content=yaml.safe_dump(_pod(mode))))
        for mode in ("home", "home-short")
    ]
    specs = [one["items"][0]["spec"] for one in rendered]
    assert specs[0] == specs[1]
    labels = rendered[1]["items"][0]["metadata"]["labels"]
    assert labels["farlet.io/access-mode"] == "home-short"


def test_its_tokens_live_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    module = __import__("farlet_home_short")
    strategy: AccessStrategy = module.HomeShort()
    specs = strategy.token_specs(pods.pod(volumes=[pods.projected(pods.token())]), pods.context())
    assert [spec.expiration_seconds for spec in specs] == [600]


@pytest.mark.parametrize("name", ["pyproject.toml", "farlet_home_short.py"])
def test_the_guide_shows_the_files_of_the_example(name: str) -> None:
    assert (EXAMPLE / name).read_text() in GUIDE.read_text()
