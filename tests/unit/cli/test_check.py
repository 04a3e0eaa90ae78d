"""What `farlet check` finds, and how it reports it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from aiohttp import web
from click.testing import CliRunner

from farlet import constants, errors, settings
from farlet.cli import check as checking
from farlet.cli import main
from farlet.cli.checks.findings import Finding, Outcome
from farlet.gateway import keys
from unit import certificates
from unit.cli.check_environment import (
    ADDRESS,
    USUAL,
    Environment,
    environment,
    version,
)
from unit.homeapi.discovery import stage
from unit.reconcile import apiserver

MIXED = (
    Finding("one", Outcome.OK, "v1.33.1"),
    Finding("the other", Outcome.FAILED, "no\nanswer", "look\nthere"),
)


async def test_all_is_well(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        found = await env.findings("shop")
    assert {one.outcome for one in found.values()} == {Outcome.OK}, found
    assert found["home identity"].seen == "system:node:far"
    assert found["foreign namespace of shop"].seen == "shop-home, not used yet"
    (pods,) = [
        asked
        for where, asked in env.reviewed
        if (where, asked["verb"], asked["resource"]) == ("home", "list", "pods")
    ]
    assert pods["fieldSelector"] == {"rawSelector": "spec.nodeName=far"}
    assert found["home API server"].seen.startswith("v1.36.3 at https://127.0.0.1:")
    assert found[ADDRESS].seen == "kubernetes.default.svc:443 at 10.96.3.4"
    assert ", ".join(USUAL) in found["certificate at that address"].seen
    assert checking.good(tuple(found.values()))
    assert env.foreign.received == b""


@pytest.mark.parametrize(
    ("denied", "provisioner", "outcome", "text"),
    [
        pytest.param(set(), "farlet.io/foreign", Outcome.OK, "far=fast", id="fine"),
        pytest.param(
            {("home", "create", "persistentvolumes")},
            "farlet.io/foreign",
            Outcome.FAILED,
            "ClusterRole farlet-volumes",
            id="a missing permission",
        ),
        pytest.param(set(), "disks", Outcome.FAILED, "provisioner is disks", id="another class"),
    ],
)
async def test_volumes_are_checked_as_at_a_start(
    denied: set[tuple[str, str, str]],
    provisioner: str,
    outcome: Outcome,
    text: str,
    tmp_path: Path,
) -> None:
    async with environment(tmp_path) as env:
        env.denied = denied
        path = "/apis/storage.k8s.io/v1/storageclasses/far"
        found_class = {
            "kind": "StorageClass",
            "metadata": {"name": "far", "uid": "s"},
            "provisioner": provisioner,
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        env.refused[f"home {path}"] = web.json_response(found_class)
        found = await env.findings(storage_class_map="far=fast")
    assert found["volumes"].outcome is outcome
    assert text in found["volumes"].seen


def test_a_row_of_the_table_is_no_longer_than_is_useful() -> None:
    found = (Finding("one", Outcome.FAILED, "s" * 400, "h" * 4000),)
    row, fix = checking.table(found).splitlines()[1:]
    assert "s" * 290 in row
    assert "s" * 301 not in row
    assert {one[-20:] for one in (row, fix)} == {" (-o json shows all)"}
    assert len(fix) < 1100
    assert "s" * 400 in checking.to_json(found)


def _no_service(env: Environment) -> dict[str, str]:
    env.foreign.service = None
    return {}


def _another_ca(env: Environment) -> dict[str, str]:
    env.foreign.present(*USUAL, ca=certificates.authority("another CA"))
    return {}


def _no_ready_pod(env: Environment) -> dict[str, str]:
    env.foreign.pods = []
    return {}


def _forbidden(env: Environment) -> dict[str, str]:
    env.foreign.forbids = stage.SERVICES
    return {}


def _dead(side: str) -> Callable[[Environment], dict[str, str]]:
    def flags(env: Environment) -> dict[str, str]:
        path = apiserver.kubeconfig(env.folder / "dead", "http://127.0.0.1:1")
        return {f"{side}_kubeconfig": str(path)}

    return flags


def _garbage(env: Environment) -> dict[str, str]:
    (env.folder / "garbage").write_text("}{ no yaml")
    return {"foreign_kubeconfig": str(env.folder / "garbage")}


def _no_keys(env: Environment) -> dict[str, str]:
    (env.folder / "keys").mkdir()
    return {"gateway_keys": str(env.folder / "keys")}


def _no_gateway(env: Environment) -> dict[str, str]:
    own, _ = keys.write(env.folder / "keys")
    return {"gateway_keys": str(own)}


def _evicted(env: Environment) -> dict[str, str]:
    env.gateways.append({**stage.pod("evicted"), "status": {"phase": "Failed"}})
    return _no_gateway(env)


def _no_image(env: Environment) -> dict[str, str]:
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling g:1"}
    containers = [{"name": "gateway", "state": {"waiting": waiting}}]
    pod = {**stage.pod("pending"), "status": {"phase": "Pending", "containerStatuses": containers}}
    env.gateways.append(pod)
    return _no_gateway(env)


def _no_ready_pod_and_no_gateway(env: Environment) -> dict[str, str]:
    return {**_no_ready_pod(env), **_no_gateway(env)}


@pytest.mark.parametrize(
    ("wrong", "what", "text"),
    [
        pytest.param(_no_service, ADDRESS, "apply manifests/foreign/gateway", id="no Service"),
        pytest.param(_another_ca, ADDRESS, "not signed by the home CA", id="another CA"),
        pytest.param(_no_ready_pod, ADDRESS, "no pod behind", id="no pod behind the Service"),
        pytest.param(_forbidden, ADDRESS, "manifests/foreign", id="no right to see the Service"),
        pytest.param(_dead("home"), "home API server", "--home-kubeconfig", id="a dead home"),
        pytest.param(_dead("foreign"), "foreign API server", "--foreign-k", id="a dead foreign"),
        pytest.param(_dead("foreign"), ADDRESS, "foreign API server", id="and no way to ask it"),
        pytest.param(_garbage, "foreign API server", "garbage", id="a kubeconfig of garbage"),
        pytest.param(_no_keys, "gateway keys", "gateway-keys", id="no keys"),
        pytest.param(_no_gateway, "gateways", "manifests/foreign/gateway", id="no gateway"),
        pytest.param(_evicted, "gateways", "no running pod", id="none that runs"),
        pytest.param(
            _no_image, "gateways", "pending: ImagePullBackOff: Back-off pulling g:1", id="no image"
        ),
        pytest.param(
            _no_ready_pod_and_no_gateway, ADDRESS, "no pod behind", id="no pod and no gateway"
        ),
    ],
)
async def test_what_is_wrong_is_found_and_says_what_to_do(
    tmp_path: Path, wrong: Callable[[Environment], dict[str, str]], what: str, text: str
) -> None:
    async with environment(tmp_path) as env:
        found = await env.findings(**wrong(env))
    assert found[what].outcome is Outcome.FAILED
    assert found[what].hint
    assert text in f"{found[what].seen} {found[what].hint}"
    assert not checking.good(tuple(found.values()))


RECORDED = {
    constants.FOREIGN_CLUSTER: "cluster-a",
    constants.HOME_CLUSTER: "home-1",
    constants.TERM: "t1",
}
FOREIGN = "foreign cluster"


@pytest.mark.parametrize(
    ("node", "term", "adopt", "outcome", "text"),
    [
        pytest.param(None, None, None, Outcome.OK, "not recorded yet", id="a new node"),
        pytest.param(RECORDED, "t1", None, Outcome.OK, "as the Node records", id="the same"),
        pytest.param(
            RECORDED | {constants.FOREIGN_CLUSTER: "cluster-b"},
            "t1",
            None,
            Outcome.FAILED,
            "--adopt-foreign-cluster=cluster-a.",
            id="another cluster",
        ),
        pytest.param(
            RECORDED,
            "t9",
            None,
            Outcome.FAILED,
            "--adopt-foreign-cluster=cluster-a/t9",
            id="a clone of home",
        ),
        pytest.param(
            RECORDED,
            "t9",
            "cluster-a/t9",
            Outcome.WARNING,
            "Never become Failed with reason MirrorLost",
            id="a clone that is adopted",
        ),
    ],
)
async def test_the_foreign_cluster_is_compared_with_the_record(
    tmp_path: Path,
    node: dict[str, str] | None,
    term: str | None,
    adopt: str | None,
    outcome: Outcome,
    text: str,
) -> None:
    async with environment(tmp_path) as env:
        env.node, env.term = node, term
        found = await env.findings(**({} if adopt is None else {"adopt_foreign_cluster": adopt}))
    assert found[FOREIGN].outcome is outcome
    assert text in f"{found[FOREIGN].seen} {found[FOREIGN].hint}"


async def test_pods_that_ran_in_another_foreign_namespace_are_named(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        env.node, env.term, env.namespaces = RECORDED, "t1", {"shop-elsewhere": "shop"}
        found = await env.findings()
    assert found[FOREIGN].outcome is Outcome.FAILED
    assert "--namespace-map shop=shop-elsewhere" in found[FOREIGN].hint


ACCOUNT = "system:serviceaccount:farlet:farlet"


@pytest.mark.parametrize(
    ("authenticated", "user", "same"),
    [
        pytest.param(True, ACCOUNT, True, id="its ServiceAccount"),
        pytest.param(False, ACCOUNT, False, id="a token that home rejects"),
        pytest.param(True, "alice@example.org", False, id="a user of a shared issuer"),
    ],
)
async def test_home_as_foreign_cluster_is_found_by_the_token(
    tmp_path: Path, authenticated: bool, user: str, same: bool
) -> None:
    async with environment(tmp_path) as env:
        env.review = {"authenticated": authenticated, "user": {"username": user}}
        found = await env.findings()
    assert (found[FOREIGN].outcome is Outcome.FAILED) is same
    assert ("the foreign cluster is the home cluster" in found[FOREIGN].hint) is same
    assert ("Set --foreign-kubeconfig" in found[FOREIGN].hint) is same
    assert "first" not in found[FOREIGN].seen.split()


async def test_home_as_foreign_cluster_is_found_by_server_and_ca(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        copied = tmp_path / "copied"
        shutil.copy(env.flags["home_kubeconfig"], copied)
        found = await env.findings(foreign_kubeconfig=str(copied))
    assert found[FOREIGN].outcome is Outcome.FAILED
    assert "the same CA" in found[FOREIGN].hint


async def test_an_address_that_only_pods_may_reach_is_a_warning(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        found = await env.findings(home_api_server_host="127.0.0.1", home_api_server_port="1")
    assert found[ADDRESS].outcome is Outcome.WARNING
    assert "connection refused" in found[ADDRESS].hint
    assert "kubectl --context FOREIGN run t " in found[ADDRESS].hint
    assert "--image=curlimages/curl -- -kv https://127.0.0.1:1" in found[ADDRESS].hint
    assert "certificate at that address" not in found
    assert checking.good(tuple(found.values()))


async def test_the_command_that_tests_an_address_names_the_given_context(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        found = await env.findings(
            home_api_server_host="127.0.0.1", home_api_server_port="1", foreign_context="one"
        )
    assert "kubectl --context one run t " in found[ADDRESS].hint


async def test_an_address_where_each_pod_meets_itself_is_a_warning(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        pair = certificates.issue(
            env.foreign.ca, user="api", uses=(certificates.SERVER,), hosts=("127.0.0.1",)
        )
        tls = certificates.server_context(pair, tmp_path / "here-tls")
        async with apiserver.listening(tls) as here:
            port = here.url.rpartition(":")[2]
            found = await env.findings(home_api_server_host="127.0.0.1", home_api_server_port=port)
    assert found[ADDRESS].outcome is Outcome.WARNING
    assert "each pod reaches itself" in found[ADDRESS].hint
    assert found["certificate at that address"].outcome is Outcome.OK


async def test_a_home_that_is_lost_meanwhile_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "ANSWER_SECONDS", 2.0)

    async def lost(request: web.Request) -> web.StreamResponse:
        return await (version if request.path == "/version" else apiserver.status(503))(request)

    async with environment(tmp_path) as env, apiserver.listening() as at_home:
        at_home.answer = lost
        env.flags.pop("home_id")
        path = apiserver.kubeconfig(tmp_path / "lost", at_home.url)
        async with asyncio.timeout(20):
            found = await env.findings(home_kubeconfig=str(path))
    assert found[ADDRESS].outcome is Outcome.FAILED
    assert "503" in found[ADDRESS].hint


def test_the_table_has_a_line_for_each_and_what_to_do_below() -> None:
    assert click.unstyle(checking.table(MIXED)) == (
        "CHECK      RESULT  SEEN\n"
        "one        ok      v1.33.1\n"
        "the other  failed  no answer\n"
        "  > look there\n"
    )


def test_only_results_that_need_attention_are_coloured() -> None:
    table = checking.table((*MIXED, Finding("last", Outcome.WARNING, "")))
    assert re.findall(r"\x1b\[(\d+)m(\w+)", table) == [("31", "failed"), ("33", "warning")]


def test_the_table_contains_a_brief_text_and_json_the_full_one() -> None:
    found = (Finding("one", Outcome.OK, "a, b, c", brief="a and 2 more"),)
    assert checking.table(found).endswith("one    ok      a and 2 more\n")
    assert json.loads(checking.to_json(found))["checks"][0]["seen"] == "a, b, c"


def test_no_text_from_outside_acts_on_the_terminal() -> None:
    hostile = "\x1b]0;pwned\x07 \x9b31m \u202e"
    table = checking.table((Finding("one", Outcome.OK, f"{hostile}a", f"{hostile}b"),))
    assert not {char for char in table if not char.isprintable() and char != "\n"}
    assert "a\n  > ]0;pwned 31m b\n" in table


def test_programs_get_json() -> None:
    assert json.loads(checking.to_json(MIXED)) == {
        "ok": False,
        "checks": [
            {"what": "one", "outcome": "ok", "seen": "v1.33.1", "hint": ""},
            {
                "what": "the other",
                "outcome": "failed",
                "seen": "no\nanswer",
                "hint": "look\nthere",
            },
        ],
    }


@pytest.mark.parametrize(
    ("result", "code"),
    [
        pytest.param(MIXED[:1], 0, id="all is well"),
        pytest.param((Finding("one", Outcome.WARNING, "", "look"),), 0, id="a warning"),
        pytest.param(MIXED, 1, id="something failed"),
        pytest.param(errors.UsageError("the same credentials"), 2, id="wrong usage"),
        pytest.param(KeyboardInterrupt(), 130, id="interrupted"),
    ],
)
def test_the_exit_code_is_that_of(
    monkeypatch: pytest.MonkeyPatch, result: tuple[Finding, ...] | BaseException, code: int
) -> None:
    def check(_wanted: settings.Settings, _offloaded: tuple[str, ...]) -> tuple[Finding, ...]:
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(checking, "check", check)
    arguments = ["check", "--nodename", "far", "--foreign-kubeconfig", "/dev/null", "-o", "json"]
    answer = CliRunner().invoke(main.cli, arguments)
    assert answer.exit_code == code, answer.output
