"""`farlet connect` and `disconnect` as a user types them: dry run, wrong usage, unreachable."""

from __future__ import annotations

import asyncio
import base64
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from farlet import errors
from farlet.cli import access, main
from farlet.cli.commands import Connection
from farlet.cli.connect import print_next
from farlet.install import checks, credentials
from farlet.install.credentials import ForeignServer
from unit import certificates
from unit.reconcile import apiserver


def farlet(*arguments: str) -> Result:
    return CliRunner().invoke(main.cli, arguments, prog_name="farlet")


def documents(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one]


def test_dry_run_prints_both_sides_without_secrets() -> None:
    result = farlet(*("connect", "--node", "far", "--image", "f:1", "-n", "shop", "--dry-run"))
    assert result.exit_code == 0, result.output
    found = documents(result.stdout)
    kinds = [one["kind"] for one in found]
    assert {"VirtualNode", "CustomResourceDefinition", "Deployment", "Role"} <= set(kinds)
    assert [one["metadata"]["name"] for one in found if one["kind"] == "Secret"] == ["farlet-token"]
    assert not [one for one in found if one.get("data") or one.get("stringData")]
    for needed in ("create token farlet -n farlet-far", "farlet-far-foreign", "keys/home"):
        assert needed in result.stdout


@pytest.mark.parametrize(
    ("side", "kind", "namespace"),
    [
        pytest.param("home", "VirtualNode", "farlet", id="home"),
        pytest.param("foreign", "ServiceAccount", "farlet-far", id="foreign"),
    ],
)
def test_dry_run_prints_one_side(side: str, kind: str, namespace: str) -> None:
    result = farlet("connect", "--node", "far", "--image", "f:1", f"--dry-run={side}")
    found = documents(result.stdout)
    names = {(one["kind"], one["metadata"].get("namespace")) for one in found}
    assert (kind, namespace) in names
    assert names.isdisjoint({("VirtualNode", "farlet"), ("ServiceAccount", "farlet-far")} - {
        (kind, namespace)
    })  # fmt: skip


LONG = "a" * 41


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--node", "Far"], "--node: 'Far' is not a DNS label", id="node"),
        pytest.param(["--node", LONG], "has more than 40 characters", id="long node"),
        pytest.param(["--node", "manager"], "the manager's own objects", id="manager"),
        pytest.param(["--node", "far", "-n", "A"], "--namespace: 'A'", id="namespace"),
        pytest.param(
            ["--node", "far", "--capacity", "cpu=8"],
            "--capacity: it does not contain memory, pods",
            id="capacity",
        ),
        pytest.param(["--node", "far", "--timeout", "x"], "--timeout: 'x'", id="timeout"),
        pytest.param(["--node", "far"], "select the same credentials", id="one context"),
        pytest.param(
            ["--node", "far", "--dry-run"], "--image is required with --dry-run", id="dry run"
        ),
    ],
)
def test_wrong_usage_of_connect(arguments: list[str], message: str) -> None:
    result = farlet("connect", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    "flags",
    [("--home-only", "--foreign-only"), ("--keep-volumes", "--delete-volumes")],
    ids=["clusters", "claims"],
)
def test_wrong_usage_of_disconnect(flags: tuple[str, str]) -> None:
    result = farlet("disconnect", "--node", "far", *flags)
    assert result.exit_code == 2
    assert f"{flags[0]} and {flags[1]} exclude each other" in result.stderr


@pytest.mark.parametrize("command", ["connect", "disconnect"])
def test_an_unreachable_cluster_is_one_line(command: str, tmp_path: Path) -> None:
    foreign = str(apiserver.kubeconfig(tmp_path / "foreign", "https://192.0.2.1"))
    missing = str(tmp_path / "missing")
    files = ("--home-kubeconfig", missing, "--foreign-kubeconfig", foreign)
    result = farlet(command, "--node", "far", *files)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert missing in result.stderr


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("https://127.0.0.1:6443", "leads to the machine itself", id="loopback"),
        pytest.param("https://[::1]:6443", "leads to the machine itself", id="IPv6 loopback"),
        pytest.param("https://localhost:6443", "leads to the machine itself", id="localhost"),
        pytest.param("http://192.0.2.1", "is not the URL of an API server", id="without TLS"),
        pytest.param("192.0.2.1:6443", "is not the URL of an API server", id="no URL"),
    ],
)
def test_addresses_that_pods_of_the_home_cluster_do_not_reach(url: str, message: str) -> None:
    with pytest.raises(errors.UsageError, match=message):
        checks.foreign_server(url)


def test_the_address_of_the_foreign_api_server() -> None:
    assert checks.foreign_server("https://192.0.2.1:6443/") == "https://192.0.2.1:6443"


CA = certificates.authority("foreign CA").pem
SERVER = ForeignServer("https://192.0.2.1:6443", CA, "foreign")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(credentials.kubeconfig(SERVER, "t"), "t", id="of this server"),
        pytest.param(
            credentials.kubeconfig(ForeignServer("https://192.0.2.2", CA, "foreign"), "t"),
            None,
            id="of another server",
        ),
        pytest.param("{}", None, id="empty"),
        pytest.param("no JSON: [", None, id="not JSON"),
    ],
)
def test_a_token_is_reused_only_for_its_server(text: str, expected: str | None) -> None:
    secret = {"data": {"kubeconfig": base64.b64encode(text.encode()).decode()}}
    assert credentials.token_for(secret, SERVER) == expected


@pytest.mark.parametrize(
    ("version", "tested"),
    [
        pytest.param("v1.33.9", False, id="older"),
        pytest.param("v1.34.0", True, id="oldest"),
        pytest.param("v1.37.1-gke.1", True, id="newest"),
        pytest.param("v1.38.0", False, id="newer"),
        pytest.param(None, False, id="unknown"),
    ],
)
def test_versions_that_no_test_covers_are_marked(version: str | None, tested: bool) -> None:
    assert ("not a tested version" in checks.shown_version(version)) is not tested


def test_an_interruption_says_that_the_command_continues(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    # A background process of a shell ignores the signal from its start, and so would this one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended:
            access.run(work(), "Interrupted. It continues")
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted. It continues\n"


def test_dry_run_names_the_given_foreign_server() -> None:
    given = ("connect", "--node", "far", "--image", "f:1", "--dry-run", "--foreign-server")
    assert "--server https://192.0.2.7:6443 " in farlet(*given, "https://192.0.2.7:6443/").output
    refused = farlet(*given, "https://127.0.0.1:6443")
    assert refused.exit_code == 2
    assert "leads to the machine itself" in refused.output


@pytest.mark.parametrize(
    ("flags", "namespace"),
    [([], "farlet"), (["--foreign-system-namespace=farlet-far"], "farlet-far")],
    ids=["default", "given"],
)
def test_gateway_keys_prints_commands_for_the_system_namespace(
    tmp_path: Path, flags: list[str], namespace: str
) -> None:
    keys = tmp_path / "keys"
    assert farlet("gateway-keys", str(keys), "--node=far", *flags).output.splitlines() == [
        (
            "kubectl --context HOME create secret generic farlet-far-gateway --namespace=farlet "
            f"--from-file={keys}/home"
        ),
        (
            "kubectl --context FOREIGN create secret generic farlet-gateway "
            f"--namespace={namespace} --from-file={keys}/foreign"
        ),
    ]


HOME, FOREIGN = Connection("home", "home", None), Connection("foreign", "far", None)


@pytest.mark.parametrize(
    ("namespaces", "printed"),
    [
        pytest.param(
            (),
            "farlet connect --home-context home --foreign-context far --node far --namespace NAME",
            id="none",
        ),
        pytest.param(
            ("shop", "blog"), "kubectl --context home run hello -n shop --image=nginx", id="two"
        ),
    ],
)
def test_the_last_lines_fit_the_offloaded_namespaces(
    namespaces: tuple[str, ...], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_next("far", namespaces, HOME, FOREIGN)
    lines = capsys.readouterr().out
    assert printed in lines
    assert ("No namespace is offloaded yet" in lines) is (not namespaces)
    assert "NAMESPACE" not in lines
