"""The commands as a user types them: output, errors in one line, exit codes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from farlet import app, errors, settings
from farlet.cli import main
from farlet.settings import loading

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers: [{name: main, image: shop/web:1}]
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in settings.Settings.model_fields:
        monkeypatch.delenv(loading.env_name(field), raising=False)


def farlet(*args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main.cli, args, input=stdin, prog_name="farlet")


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text("{}")
    return str(path)


# --- run --------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[settings.Settings]:
    """What `app.run` was called with; it stands in for the process, which other tests start."""
    calls: list[settings.Settings] = []

    def run(wanted: settings.Settings) -> int:
        calls.append(wanted)
        return 0

    monkeypatch.setattr(app, "run", run)
    return calls


def test_run_hands_over_the_settings(started: list[settings.Settings], kubeconfig: str) -> None:
    result = farlet(
        *("run", "--nodename", "far", "--foreign-kubeconfig", kubeconfig),
        *("--kubeconfig", kubeconfig, "--foreign-context", "f"),
        *(
            "--allow-pod-feature",
            "host-path",
            "--allow-pod-feature",
            "host-pid,host-ipc",
            "--workers",
            "3",
        ),
    )
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    (wanted,) = started
    assert wanted.nodename == "far"
    assert wanted.home_kubeconfig == Path(kubeconfig)
    assert wanted.allow_pod_feature == {"host-path", "host-pid", "host-ipc"}
    assert wanted.workers == 3


@pytest.mark.parametrize(
    ("args", "says"),
    [
        pytest.param((), "--nodename (FARLET_NODENAME) is required", id="nothing given"),
        pytest.param(
            ("--home-api-server-port", "0"),
            "(FARLET_HOME_API_SERVER_PORT): '0' is too small; expected at least 1",
            id="a port out of range",
        ),
        pytest.param(
            ("--home-api-server-host", "https://home"),
            "--home-api-server-host (FARLET_HOME_API_SERVER_HOST): 'https://home' is a URL",
            id="a URL as host",
        ),
        pytest.param(
            ("--home-api-server-host", ""),
            "--home-api-server-host (FARLET_HOME_API_SERVER_HOST): is empty",
            id="an empty host",
        ),
        pytest.param(("--config", "/none"), "/none cannot be read", id="no such file"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_2(
    started: list[settings.Settings], args: tuple[str, ...], says: str
) -> None:
    result = farlet("run", *args)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.startswith("farlet: ")
    assert result.stderr.count("\n") == 1
    assert started == []


def test_an_unknown_flag_exits_2() -> None:
    result = farlet("run", "--node-name", "far")
    assert result.exit_code == 2
    assert "--node-name" in result.stderr


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        pytest.param(errors.StartError("port\ntaken"), 1, "farlet: port taken\n", id="no start"),
        pytest.param(errors.StartError("a\x1b[31mb"), 1, "farlet: a [31mb\n", id="hostile text"),
        pytest.param(errors.UsageError("bad"), 2, "farlet: bad\n", id="wrong usage"),
        pytest.param(KeyboardInterrupt(), 0, "", id="Ctrl-C"),
    ],
)
def test_what_run_raises_becomes_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    kubeconfig: str,
    raised: BaseException,
    code: int,
    says: str,
) -> None:
    def run(_wanted: settings.Settings) -> int:
        raise raised

    monkeypatch.setattr(app, "run", run)
    result = farlet("run", "--nodename", "far", "--foreign-kubeconfig", kubeconfig)
    assert (result.exit_code, result.stderr) == (code, says)


# --- render -----------------------------------------------------------------------------------


def test_render_prints_mirror_and_secret_as_yaml() -> None:
    result = farlet("render", "-f", "-", "--home-api-server-host", "10.0.0.1", stdin=POD)
    assert result.exit_code == 0, result.stderr
    mirror, secret = yaml.safe_load_all(result.stdout)
    assert mirror["kind"] == "Pod"
    assert mirror["metadata"]["namespace"] == "shop-home"
    assert mirror["metadata"]["annotations"]["farlet.io/home-node"] == "<resolved at run time>"
    env = {e["name"]: e["value"] for e in mirror["spec"]["containers"][0]["env"]}
    assert env["KUBERNETES_SERVICE_HOST"] == "10.0.0.1"
    assert env["KUBERNETES_SERVICE_PORT"] == "<resolved at run time>"
    assert secret["data"]["token"] == "<redacted>"


def test_render_prints_json() -> None:
    result = farlet("render", "-f", "-", "-o", "json", stdin=POD)
    assert json.loads(result.stdout)["items"][0]["kind"] == "Pod"


def test_render_takes_flags_variables_and_a_file_made_for_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    (tmp_path / "farlet.yaml").write_text("nodename: far\nworkers: 3\nhome-name: h\n")
    monkeypatch.setenv("FARLET_HOME_NAME", "h2")
    result = farlet(
        *("render", "-f", str(tmp_path / "pod.yaml"), "--config", str(tmp_path / "farlet.yaml")),
        *("--home-id", "id"),
    )
    assert result.exit_code == 0, result.stderr
    mirror = next(yaml.safe_load_all(result.stdout))
    assert mirror["metadata"]["namespace"] == "shop-h2"
    assert mirror["metadata"]["annotations"]["farlet.io/home-node"] == "far"
    assert re.fullmatch("[0-9a-f]{32}", mirror["metadata"]["labels"]["farlet.io/virtual-node-id"])


def test_render_puts_the_ca_file_into_the_secret(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca.crt").write_text(pem)
    result = farlet(
        *("render", "-f", "-", "--home-api-server-ca-file", str(tmp_path / "ca.crt")), stdin=POD
    )
    _, secret = yaml.safe_load_all(result.stdout)
    assert secret["data"]["ca.crt"].startswith("LS0tLS1CRUdJTi")


def test_render_explains_each_change_in_a_line() -> None:
    result = farlet("render", "-f", "-", "--explain", stdin=POD)
    assert result.exit_code == 0, result.stderr
    assert "spec.serviceAccountName dropped: " in result.stdout
    assert "kind: Pod" not in result.stdout


def test_render_diffs() -> None:
    result = farlet("render", "-f", "-", "--diff", stdin=POD)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("--- home/shop/web\n+++ foreign/shop-home/web\n")


def test_render_names_the_reason_of_a_refused_pod_and_exits_1() -> None:
    refused = POD.replace(
        "namespace: shop", "namespace: shop, annotations: {liqo.io/api-server-support: x}"
    )
    result = farlet("render", "-f", "-", stdin=refused)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("farlet: InvalidAPIServerSupport: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "stdin", "says"),
    [
        pytest.param(("-f", "/none"), "", "-f): /none cannot be read", id="no such file"),
        pytest.param(("-f", "/"), "", "-f): / cannot be read", id="a folder"),
        pytest.param(("-f", "-"), "", "standard input is empty", id="no input"),
        pytest.param(("-f", "-"), "a: [", "standard input is not valid YAML", id="no YAML"),
        pytest.param(("-f", "-"), "a: b\nc: [", "(line 2)", id="the line of malformed YAML"),
        pytest.param(("-f", "-"), "a: !!int x", "is not valid YAML", id="no integer"),
        pytest.param(("-f", "-"), "- a", "expected one Pod", id="a list"),
        pytest.param(("-f", "-"), "apiVersion: v1\nkind: Service\n", "Service", id="no Pod"),
        pytest.param(("-f", "-"), f"{POD}---{POD}", "2 documents", id="two Pods"),
        pytest.param(("-f", "-", "-n", "A"), POD, "--namespace (-n): ", id="a bad namespace"),
        pytest.param(
            ("-f", "-", "--diff", "-o", "json"), POD, "--output formats", id="a format for a diff"
        ),
        pytest.param(
            ("-f", "-", "--home-name", "A"), POD, "--home-name (FARLET_HOME_NAME)", id="a setting"
        ),
    ],
)
def test_bad_input_of_render_is_one_line_and_exits_2(
    args: tuple[str, ...], stdin: str, says: str
) -> None:
    result = farlet("render", *args, stdin=stdin)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


MALFORMED = {
    "a missing key": "volumes: [{name: a, projected: {sources: [{serviceAccountToken: {}}]}}]",
    "text in place of a mapping": "securityContext: x",
    "a list in place of text": "priorityClassName: [x]",
}


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("explain", [["--explain"], []], ids=["explain", "yaml"])
def test_a_manifest_that_no_api_server_accepts_is_wrong_usage(
    line: str, explain: list[str]
) -> None:
    bare = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: main}]"
    result = farlet("render", "-f", "-", *explain, stdin=f"{bare}\n  {line}\n")
    assert result.exit_code == 2
    assert "kubectl create --dry-run=server -f FILE" in result.stderr


def test_render_reads_no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert farlet("render", "-f", "-", stdin=POD).exit_code == 0
    assert "--kubeconfig" not in farlet("render", "--help").stdout


# --- the rest -----------------------------------------------------------------------------------


def test_access_modes_are_listed_with_their_package() -> None:
    lines = farlet("access-modes").stdout.splitlines()
    assert lines[0].split() == ["NAME", "PACKAGE", "SUMMARY"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["disabled", "farlet"],
        ["home", "farlet"],
        ["remote", "farlet"],
    ]


def test_version_names_what_matters_in_a_report() -> None:
    lines = farlet("version").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["farlet", "Python", *main.SHOWN_VERSIONS]
    assert all(re.fullmatch(r"\S+ \d+\.\d+\S*", line) for line in lines)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        pytest.param("run", settings.Settings, id="run"),
        pytest.param("render", settings.MirrorSettings, id="render"),
        pytest.param("gateway", settings.GatewaySettings, id="gateway"),
    ],
)
def test_help_shows_every_setting_with_its_variable(
    command: str, kind: type[settings.MirrorSettings | settings.GatewaySettings]
) -> None:
    shown = farlet(command, "--help-all").stdout
    for field in kind.model_fields:
        assert f"{loading.flag_name(field)} " in shown or f"{loading.flag_name(field)}," in shown
        assert loading.env_name(field) in shown


@pytest.mark.parametrize("command", ["run", "check"])
def test_short_help_shows_eight_settings_and_how_to_see_the_rest(command: str) -> None:
    shown = farlet(command, "--help").stdout
    assert "--help-all  " in shown
    variables = re.findall(r"\bFARLET_[A-Z_]+", shown)
    assert sorted(set(variables) - {"FARLET_"}) == [
        "FARLET_CONFIG",
        "FARLET_FOREIGN_CONTEXT",
        "FARLET_FOREIGN_KUBECONFIG",
        "FARLET_HOME_API_SERVER_HOST",
        "FARLET_HOME_API_SERVER_PORT",
        "FARLET_HOME_CONTEXT",
        "FARLET_HOME_KUBECONFIG",
        "FARLET_NODENAME",
    ]


def test_the_list_of_commands_fits_into_a_small_terminal() -> None:
    lines = farlet("--help").stdout.split("Commands:\n")[1].splitlines()
    assert len(lines) == len(main.cli.commands)
    for line in lines:
        assert line.endswith(".")
        assert not line.endswith("...")
        assert len(line) <= 80


def test_version_is_a_flag_as_well() -> None:
    assert re.fullmatch(r"farlet \d+\.\d+\S*\n", farlet("--version").stdout)


def test_node_means_nodename(started: list[settings.Settings], kubeconfig: str) -> None:
    farlet("run", "--node", "far", "--foreign-kubeconfig", kubeconfig)
    assert started[0].nodename == "far"


def test_context_means_the_home_context(started: list[settings.Settings], kubeconfig: str) -> None:
    farlet(
        *("run", "--nodename", "far", "--foreign-kubeconfig", kubeconfig),
        *("--kubeconfig", kubeconfig, "--context", "h"),
    )
    assert started[0].home_context == "h"


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        pytest.param("/usr/bin/farlet", "farlet", id="the command"),
        pytest.param("/usr/bin/kubectl-farlet", "kubectl farlet", id="the plugin of kubectl"),
    ],
)
def test_usage_shows_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, shown: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "version", "--help"])
    with pytest.raises(SystemExit):
        main.main()
    assert capsys.readouterr().out.startswith(f"Usage: {shown} version ")


def test_shells_complete_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_FARLET_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "farlet acc")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setattr(sys, "argv", ["farlet"])
    with pytest.raises(SystemExit):
        main.main()
    assert capsys.readouterr().out == "plain,access-modes\n"


@pytest.mark.parametrize(
    ("variable", "coloured"),
    [
        pytest.param(None, True, id="on a terminal"),
        pytest.param("1", False, id="NO_COLOR"),
        pytest.param("", True, id="NO_COLOR is empty"),
    ],
)
def test_no_color_is_honoured(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if variable is not None:
        monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setattr("importlib.metadata.version", lambda _name: click.style("1", fg="red"))
    result = CliRunner().invoke(main.cli, ["version"], prog_name="farlet", color=True)
    assert ("\x1b[" in result.stdout) is coloured


def test_the_group_lists_its_commands() -> None:
    assert isinstance(main.cli, click.Group)
    assert set(main.cli.commands) >= {
        "check",
        "connect",
        "disconnect",
        "explain",
        "gateway",
        "gateway-keys",
        "render",
        "run",
        "access-modes",
        "version",
    }
    assert farlet("--help").exit_code == 0
