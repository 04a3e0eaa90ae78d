"""kubernetes-asyncio loads what farlet uses of it, without its model classes.

In processes of their own: an import cannot be undone.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

_LIGHT = "from farlet.client import lean_import; lean_import.install(); import sys"


@pytest.mark.thorough
def test_farlet_run_loads_no_model_class() -> None:
    assert _python(f"{_LIGHT}; import farlet.app; {_MODELS}") == "0"


@pytest.mark.thorough
def test_without_lean_import_there_are_hundreds_of_model_classes() -> None:
    assert int(_python(f"import sys; import farlet.app; {_MODELS}")) > 500


@pytest.mark.thorough
def test_a_package_that_kopf_has_imported_is_left_unchanged() -> None:
    script = f"import kopf, kubernetes_asyncio as before; {_LIGHT}; import farlet.app"
    assert _python(f"{script}; print(sys.modules['kubernetes_asyncio'] is before)") == "True"


@pytest.mark.thorough
def test_a_kubeconfig_with_certificates_and_an_exec_plugin_is_loaded(tmp_path: Path) -> None:
    answer = (
        '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
        '"status": {"token": "given-by-plugin"}}'
    )
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "echo",
        "args": [answer],
        "interactiveMode": "Never",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "one", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "one", "user": {"exec": plugin}}],
                "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
                "current-context": "one",
            }
        )
    )
    script = f"""
{_LIGHT}
import asyncio
from farlet.client import cluster as clusters
from farlet.client import credential_sources as sources
from farlet.telemetry.metrics import Metrics

async def main():
    source = sources.ClusterSource(kubeconfig={str(path)!r}, context=None)
    async with clusters.Cluster("home", source, metrics=Metrics().client("home")) as cluster:
        print(cluster.server, (await cluster.login()).authorization)

asyncio.run(main())
"""
    assert _python(script) == "https://127.0.0.1:1 Bearer given-by-plugin"


_MODELS = "print(sum(name.startswith('kubernetes_asyncio.client.models') for name in sys.modules))"


def _python(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
