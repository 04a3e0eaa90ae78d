"""A login is loaded for the first time: broken ones refuse the start, and none shows its token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farlet import errors
from farlet.client import credentials
from farlet.client.credential_sources import ClusterSource
from unit.reconcile import apiserver

BROKEN = {
    "no base64": {"certificate-authority-data": "%%%"},
    "no certificate": {"certificate-authority-data": "bm9uZQ=="},
    "an empty certificate": {
        "certificate-authority-data": (
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K"
        )
    },
    "a file that is not there": {"certificate-authority": "/nowhere/ca.crt"},
}


@pytest.mark.parametrize("cluster", BROKEN.values(), ids=BROKEN)
async def test_a_broken_ca_refuses_the_start(cluster: dict[str, Any], tmp_path: Path) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", **cluster)
    with pytest.raises(errors.StartError, match=r"foreign.*kubeconfig"):
        async with apiserver.connection(path):
            pass


async def test_a_login_does_not_show_its_token(tmp_path: Path) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", token="hush")
    async with apiserver.connection(path) as cluster:
        login = await cluster.login()
    assert login.authorization == "Bearer hush"
    assert "hush" not in repr(login) + json.dumps([str(part) for part in login.connecting])


FILES: dict[str, tuple[str | None, str | None, str]] = {
    "no file": (None, None, "FILE does not exist"),
    "an empty file": ("", None, "FILE is empty"),
    "a comment": ("# later", None, "FILE is empty"),
    "no YAML": ("a: b\nc: {hush", None, "FILE is not valid YAML (line 2)"),
    "a token alone": (
        "hush",
        None,
        "FILE is not a kubeconfig: expected a mapping with clusters, contexts, users",
    ),
    "a list": (
        "[hush]",
        None,
        "FILE is not a kubeconfig: expected a mapping with clusters, contexts, users",
    ),
    "another context": ("", "nope", "FILE has no context nope; it has: one"),
    "no current context": (
        "current-context",
        None,
        "FILE has no current-context, and no context was selected; it has: one",
    ),
    "no contexts": ("contexts", None, "FILE has no context one; it has: none"),
    "a user that is missing": (
        "users",
        None,
        "the context one in FILE names the user one, which it lacks",
    ),
    "a cluster that is missing": (
        "clusters",
        None,
        "the context one in FILE names the cluster one, which it lacks",
    ),
}


@pytest.mark.parametrize(("content", "context", "cause"), FILES.values(), ids=FILES)
async def test_a_kubeconfig_that_cannot_be_used_is_explained(
    content: str | None, context: str | None, cause: str, tmp_path: Path
) -> None:
    path = tmp_path / "kubeconfig"
    whole = json.loads(apiserver.kubeconfig(path, "https://127.0.0.1:1", token="hush").read_text())
    if content in whole:  # a part that is left out
        del whole[content]
        path.write_text(json.dumps(whole))
    elif content is None:
        path.unlink()
    elif context is None:
        path.write_text(content)
    with pytest.raises(errors.StartError) as raised:
        await credentials.load("foreign", ClusterSource(kubeconfig=str(path), context=context))
    assert str(raised.value) == (
        f"cannot load the configuration of the foreign cluster: {cause}. Set --foreign-kubeconfig "
        "to a valid kubeconfig"
    ).replace("FILE", str(path))
