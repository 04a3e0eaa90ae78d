"""`make clusters` as a user runs it: the printed commands work when pasted into a shell."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters import images

pytestmark = [pytest.mark.clusters, pytest.mark.takes(120)]

ROOT = Path(__file__).parents[2]
SOON = 120
MINUTES = 300  # of `farlet connect`, by default


class Shell:
    """A shell for the printed commands, with the variables set that they set."""

    def __init__(self, printed: str) -> None:
        commands = re.findall(r"^    (\S.*(?:\n     .*)*)", printed, re.MULTILINE)
        exports = [command for command in commands if command.startswith("export ")]
        self.commands = [command for command in commands if command not in exports]
        self._exports = "\n".join(exports)

    def run(self, command: str) -> str:
        """Run a command that must succeed; return its output."""
        answer = subprocess.run(
            ["bash", "-euc", f"{self._exports}\n{command}"],
            capture_output=True,
            text=True,
            timeout=MINUTES,
            check=False,
        )
        assert answer.returncode == 0, f"{command}: {answer.stderr}"
        return answer.stdout

    def read(self, command: str) -> Any:
        """The object that kubectl prints."""
        return json.loads(self.run(f"{command} -o json"))

    @contextlib.contextmanager
    def running(self, command: str, log: Path) -> Iterator[None]:
        """Run the command for the duration of the context."""
        with (
            log.open("w") as output,
            subprocess.Popen(
                ["bash", "-euc", f"{self._exports}\nexec {command}"], stdout=output, stderr=output
            ) as process,
        ):
            yield
            process.terminate()


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    with subprocess.Popen(
        [sys.executable, "-m", "clusters", "up"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    ) as process:
        assert process.stdout is not None
        printed = ""
        while "Ctrl-C stops everything" not in printed:
            line = process.stdout.readline()
            assert line, f"it ended with {process.wait()} after printing {printed}"
            printed += line
        yield Shell(printed)
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == 0


@pytest.mark.parametrize("kind", ["clusters", "users", "contexts"])
def test_the_two_kubeconfigs_merge_without_a_shared_name(shell: Shell, kind: str) -> None:
    merged = shell.read("kubectl config view --flatten")
    assert sorted(entry["name"] for entry in merged[kind]) == ["foreign", "home"]


@pytest.mark.parametrize("context", ["home", "foreign"])
def test_a_pod_without_a_node_selector_gets_the_real_node_or_stays_pending(
    shell: Shell, context: str
) -> None:
    kubectl = f"kubectl --context {context}"
    image = f"--image={images.CLIENTS} --image-pull-policy=Never"
    resources = {"requests": {"cpu": "999"}}
    container = {"name": "large", "image": images.CLIENTS, "resources": resources}
    large = json.dumps({"spec": {"containers": [container]}})
    shell.run(f"{kubectl} run usual {image} -- sleep inf")
    shell.run(f"{kubectl} run large {image} --overrides='{large}'")
    shell.run(f"{kubectl} wait pod/usual --for=condition=Ready --timeout={SOON}s")
    assert shell.read(f"{kubectl} get pod usual")["spec"]["nodeName"] == f"{context}-real"
    unplaced = "--for=condition=PodScheduled=false"
    shell.run(f"{kubectl} wait pod/large {unplaced} --timeout={SOON}s")
    (condition,) = shell.read(f"{kubectl} get pod large")["status"]["conditions"]
    assert condition["reason"] == "Unschedulable"
    assert "1 Insufficient cpu, 2 node(s) had untolerated taint(s)" in condition["message"]
    shell.run(f"{kubectl} delete pod usual large --now")


def test_the_commands_of_the_readme_work_as_printed(shell: Shell) -> None:
    """They end without farlet in either cluster."""
    *_, whoami, _, explained, checked, removed = shown = [
        shell.run(command) for command in _between(shell, "namespace shop", "namespace farlet")
    ]
    assert len(shown) == 10
    assert "system:serviceaccount:shop:default" in whoami
    assert "shop/hello" in explained
    assert "home API for foreign pods" in checked
    assert "manager: deleted" in removed


def test_the_printed_commands_run_a_pod_of_a_process_of_this_machine(
    shell: Shell, tmp_path: Path
) -> None:
    *namespaces, farlet = _between(shell, "create namespace farlet", " run hello")
    for command in namespaces:
        shell.run(command)
    with shell.running(farlet, tmp_path / "farlet.log"):
        wait = f"kubectl --context home wait --timeout={SOON}s"
        shell.run(f"{wait} node/local --for=create")
        shell.run(f"{wait} node/local --for=condition=Ready")
        ask, *others = _between(shell, " home run hello", None)
        shell.run(ask)
        shell.run(f"{wait} pod/hello --for=jsonpath='{{.status.phase}}'=Succeeded")
        printed = [shell.run(command) for command in others]
        shell.run("kubectl --context home delete pod hello --now")
    assert "hello" in printed[0]
    assert "system:serviceaccount:default:default" in printed[1]


def _between(shell: Shell, first: str, last: str | None) -> list[str]:
    """The commands from the one with the text `first` to the one before `last`."""
    commands = shell.commands
    start = next(number for number, one in enumerate(commands) if first in one)
    ends = (n for n, one in enumerate(commands) if n > start and last and last in one)
    return commands[start : next(ends, len(commands))]
