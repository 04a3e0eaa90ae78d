"""Files of a login are checked while it is in use: a new token is used before the old one fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing
from kubernetes_asyncio.config import incluster_config

from farlet.client import cluster as clusters
from farlet.client import credentials
from farlet.client.credential_sources import ClusterSource
from farlet.telemetry.metrics import Metrics
from unit import certificates
from unit.client.credentials.scene import PATH, Clock, takes_only
from unit.reconcile import apiserver

BROKEN = {
    "half of its text": "{half of",
    "an invalid boolean": "[WHOLE, !!bool hush]",
    "an invalid integer": "[WHOLE, !!int '']",
    "an invalid time": "[WHOLE, !!timestamp hush]",
    "a number that is too large for a float": "{hush: 1" + ":1" * 300 + ".5, clusters: []}",
    "too many levels": "[" * 800 + "hush",
    "a long number with colons": "hush: 1" + ":1" * 64_000,
    "a list of entries without names": "{clusters: [{hush: {}}]}",
}

Write = Callable[[Path, str, str], None]


def _in_the_kubeconfig(folder: Path, server: str, token: str) -> None:
    apiserver.kubeconfig(folder / "kubeconfig", server, token=token)


def _in_a_file(folder: Path, server: str, token: str) -> None:
    (folder / "token").write_text(f"{token}\n")
    if not (folder / "kubeconfig").exists():
        user = {"tokenFile": "token"}
        apiserver.kubeconfig(folder / "kubeconfig", server, user=user)


def _as_a_kubelet_does(folder: Path, server: str, token: str) -> None:
    """The token is read through two symbolic links, one of which is replaced."""
    version = folder / token
    version.mkdir()
    (version / "token").write_text(token)
    (folder / "..new").symlink_to(version)
    (folder / "..new").rename(folder / "..data")
    if not (folder / "kubeconfig").exists():
        (folder / "token").symlink_to("..data/token")
        apiserver.kubeconfig(folder / "kubeconfig", server, user={"tokenFile": "token"})


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(_in_the_kubeconfig, id="in the kubeconfig"),
        pytest.param(_in_a_file, id="in a file beside it"),
        pytest.param(_as_a_kubelet_does, id="in a mounted volume"),
    ],
)
async def test_a_token_is_rotated_without_a_401(write: Write, tmp_path: Path, clock: Clock) -> None:
    async with apiserver.listening() as front:
        write(tmp_path, front.url, "first")
        async with apiserver.connection(tmp_path / "kubeconfig") as cluster:
            front.answer = takes_only("first")
            await cluster.call("GET", PATH)
            write(tmp_path, front.url, "second")
            front.answer = takes_only("second")
            clock.late += credentials.CHECK_SECONDS
            with structlog.testing.capture_logs() as logs:
                await cluster.call("GET", PATH)
            assert len(front.asked) == 2
            assert [entry["event"] for entry in logs] == ["credentials reloaded"]


async def test_a_file_that_is_written_again_with_the_same_token_is_not_worth_a_line(
    tmp_path: Path, clock: Clock
) -> None:
    async with apiserver.connected(tmp_path) as (_, cluster):
        await cluster.call("GET", PATH)
        same = (tmp_path / "kubeconfig").read_text()
        (tmp_path / "kubeconfig").unlink()
        (tmp_path / "kubeconfig").write_text(same)
        clock.late += credentials.CHECK_SECONDS
        with structlog.testing.capture_logs() as logs:
            await cluster.call("GET", PATH)
        assert logs == []


async def test_the_token_of_the_pod_is_rotated_without_a_401(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = certificates.authority()
    certificate = certificates.issue(ca, hosts=["127.0.0.1"], uses=[certificates.SERVER])
    (tmp_path / "ca.crt").write_text(ca.pem)
    (tmp_path / "token").write_text("first")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    tls = certificates.server_context(certificate, tmp_path)
    async with apiserver.listening(tls) as front:
        host, _, port = front.url.removeprefix("https://").partition(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        own = clusters.Cluster("home", ClusterSource(None, None), metrics=Metrics().client("home"))
        async with own as cluster:
            front.answer = takes_only("first")
            await cluster.call("GET", PATH)
            (tmp_path / "token").write_text("second")
            front.answer = takes_only("second")
            clock.late += credentials.CHECK_SECONDS
            await cluster.call("GET", PATH)
            assert len(front.asked) == 2


async def test_unchanged_files_are_not_read_again(
    tmp_path: Path, clock: Clock, loads: list[ClusterSource]
) -> None:
    async with apiserver.connected(tmp_path) as (_, cluster):
        for _ in range(5):
            await cluster.call("GET", PATH)
            clock.late += credentials.CHECK_SECONDS
        assert len(loads) == 1


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_the_previous_login_stays_in_use_after_a_kubeconfig_with(
    broken: str, tmp_path: Path, clock: Clock
) -> None:
    async with apiserver.connected(tmp_path) as (front, cluster):
        whole = (tmp_path / "kubeconfig").read_text()
        (tmp_path / "kubeconfig").write_text(broken.replace("WHOLE", whole))
        with structlog.testing.capture_logs() as logs:
            clock.late += credentials.CHECK_SECONDS
            await cluster.call("GET", PATH)
        assert [entry["event"] for entry in logs] == ["failed to reload credentials"]
        assert f"{tmp_path / 'kubeconfig'}" in logs[0]["err"]
        assert "hush" not in str(logs)
        apiserver.kubeconfig(tmp_path / "kubeconfig", front.url, token="second")
        front.answer = takes_only("second")
        clock.late += credentials.CHECK_SECONDS
        await cluster.call("GET", PATH)
        assert len(front.asked) == 2
