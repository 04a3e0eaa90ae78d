"""The first login: invalid credentials refuse the start, and no login shows its token."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.config import kube_config

from farlet import errors
from farlet.client import credentials, kubeconfig_files
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
    "an invalid boolean": ("a: !!bool hush", None, "FILE is not valid YAML"),
    "an invalid integer": ("a: !!int ''", None, "FILE is not valid YAML (line 1)"),
    "an invalid time": (
        "a: !!timestamp hush",
        None,
        "FILE contains a YAML tag (line 1) that farlet does not read",
    ),
    "too many levels": (
        "a: " + "[" * 800,
        None,
        "FILE is not valid YAML: more than 100 open brackets (line 1)",
    ),
    "a long number with colons": (
        "a: 1" + ":1" * 64_000,
        None,
        "FILE contains a number of more than 1000 characters (line 1)",
    ),
    "aliases": (
        "a: &hush [x]\nb: *hush",
        None,
        "FILE contains aliases (line 2), which farlet does not read",
    ),
    "too many bytes": ("#" * ((1 << 20) + 1), None, "FILE is larger than 1024 KiB"),
    "a context without content": (
        "{current-context: one, contexts: [{name: one, hush: hush}]}",
        None,
        "FILE: Invalid kube-config file. Expected key context in contexts of FILE",
    ),
    "entries that have no names": (
        "{current-context: one, contexts: [5, {name: [hush]}, {}]}",
        None,
        "FILE has no context one; it has: none",
    ),
    "a current context that is a list": (
        "{current-context: [hush]}",
        None,
        "the current-context of FILE is not a string; it has: none",
    ),
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
        "the context one in FILE names the user one, which does not exist there",
    ),
    "a cluster that is missing": (
        "clusters",
        None,
        "the context one in FILE names the cluster one, which does not exist there",
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
    fix = "Set --foreign-kubeconfig to a valid kubeconfig"
    if cause.endswith("; it has: one"):
        fix = "Set --foreign-context to one that exists"
    assert str(raised.value) == (
        f"cannot load the configuration of the foreign cluster: {cause}. {fix}"
    ).replace("FILE", str(path))


UNKNOWN = {
    "a date": "2026-01-02",
    "a time": "2026-01-02T03:04:05Z",
    "a number with a point": "1.5",
    "a number with colons": "1:30:00",
    "a number that is too large for a float": "1" + ":1" * 300 + ".5",
    "a hexadecimal number": "0x1f",
    "a key of a merge": "{<<: {a: b}}",
}


@pytest.mark.parametrize("value", UNKNOWN.values(), ids=UNKNOWN)
async def test_a_login_is_loaded_though_an_unknown_field_contains(
    value: str, tmp_path: Path
) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", token="hush")
    path.write_text(f"{path.read_text()[:-1]}, preferences: {value}}}")
    login = await credentials.load("foreign", ClusterSource(kubeconfig=str(path), context=None))
    assert login.authorization == "Bearer hush"


async def test_a_list_of_kubeconfigs_may_name_files_that_do_not_exist(tmp_path: Path) -> None:
    whole = apiserver.kubeconfig(tmp_path / "whole", "https://127.0.0.1:1", token="hush")
    content = json.loads(whole.read_text())
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(json.dumps({**content, "users": []}))
    second.write_text(json.dumps({"users": content["users"]}))
    paths = f"{tmp_path / 'missing'}:{first}::{second}"
    login = await credentials.load("foreign", ClusterSource(kubeconfig=paths, context=None))
    assert login.authorization == "Bearer hush"
    second.write_text("users: !!bool hush")
    with pytest.raises(errors.StartError, match=f"{second} is not valid YAML") as raised:
        await credentials.load("foreign", ClusterSource(kubeconfig=paths, context=None))
    assert "hush" not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_what_the_library_raises_is_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: object) -> None:
        raise KeyError("hush")

    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1")
    monkeypatch.setattr(kube_config.KubeConfigLoader, "load_and_set", late)
    with pytest.raises(errors.StartError, match=f"{path}: one of its fields") as raised:
        await credentials.load("foreign", ClusterSource(kubeconfig=str(path), context=None))
    assert "hush" not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_the_first_of_several_kubeconfigs_wins_as_with_kubectl(tmp_path: Path) -> None:
    paths = [
        apiserver.kubeconfig(tmp_path / name, f"https://{name}.example", token=name)
        for name in ("first", "second")
    ]
    other = json.loads(paths[1].read_text())
    other["contexts"].append({"name": "other", "context": other["contexts"][0]["context"]})
    paths[1].write_text(json.dumps({**other, "current-context": "other"}))
    kubeconfig = ":".join(map(str, paths))
    login = await credentials.load("foreign", ClusterSource(kubeconfig=kubeconfig, context=None))
    assert (login.server, login.authorization) == ("https://first.example", "Bearer first")


async def test_a_kubeconfig_is_parsed_once_and_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", token="hush")
    runs, parsed, parse = threading.Event(), 0, yaml.load

    def slow(*args: Any, **how: Any) -> Any:
        nonlocal parsed
        parsed += 1
        assert runs.wait(5), "the event loop waits for the file"
        return parse(*args, **how)

    monkeypatch.setattr(yaml, "load", slow)
    asyncio.get_running_loop().call_later(0.01, runs.set)
    login = await credentials.load("foreign", ClusterSource(kubeconfig=str(path), context=None))
    assert login.authorization == "Bearer hush"
    assert parsed == 1


async def test_thousands_of_entries_take_linear_time(tmp_path: Path) -> None:
    path = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", token="hush")
    content = json.loads(path.read_text())
    files = [
        kubeconfig_files.File(
            path,
            {**content, "users": [*content["users"], *({"name": f"u{n}"} for n in range(50_000))]},
        )
    ]
    begun = time.process_time()
    assert len(kubeconfig_files.merged(files).value["users"]) == 50_001
    assert time.process_time() - begun < 2.0, "the square takes hours"
