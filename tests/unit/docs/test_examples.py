"""The YAML examples of pages are valid: VirtualNodes by their schema, pods by `farlet render`."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from farlet import settings
from farlet.cli import main
from farlet.manager import schema
from farlet.manager.virtual_node import VirtualNode
from farlet.settings import loading

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("manifests/*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = re.compile(r"^```(?:sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:kubectl .* -- |\S+=\S+ )?farlet ([^|\n]+)", re.MULTILINE)
PODS = {"Pod", "Deployment", "StatefulSet", "Job", "CronJob"}


def _commands() -> list[Any]:
    """The words of each `farlet ...` command of the pages, without shell syntax."""
    found = []
    for page in PAGES:
        for block in BLOCKS.findall(page.read_text(encoding="utf-8")):
            for line in COMMAND.findall(block.replace("\\\n", " ")):
                words = shlex.split(line, comments=True)
                if "..." not in words:
                    end = words.index(">") if ">" in words else len(words)
                    name = page.relative_to(ROOT)
                    found.append(pytest.param(words[:end], id=f"{name} {' '.join(words[:end])}"))
    return found


def _examples(*kinds: str) -> list[Any]:
    return list(_parameters(kinds))


def _parameters(kinds: tuple[str, ...]) -> Iterator[Any]:
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for example in yaml.safe_load_all(block):
                if isinstance(example, dict) and (not kinds or example.get("kind") in kinds):
                    name = page.relative_to(ROOT)
                    yield pytest.param(example, id=f"{name} {example.get('kind', '')}")


def unknown(value: object, known: dict[str, Any], path: str = "") -> Iterator[str]:
    """Paths of fields that a structural schema does not contain."""
    if isinstance(value, dict) and "properties" in known:
        for key, one in value.items():
            if key not in known["properties"]:
                yield f"{path}.{key}"
            else:
                yield from unknown(one, known["properties"][key], f"{path}.{key}")
    elif isinstance(value, list):
        for one in value:
            yield from unknown(one, known.get("items", {}), f"{path}[]")


@pytest.mark.parametrize("example", _examples("VirtualNode"))
def test_a_virtual_node_has_only_fields_of_the_schema(example: dict[str, Any]) -> None:
    (version,) = schema.custom_resource_definition()["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert list(unknown(example["spec"], spec, "spec")) == []
    VirtualNode.parse({**example, "metadata": {**example["metadata"], "uid": "u"}})


def test_a_misspelled_field_is_found() -> None:
    (version,) = schema.custom_resource_definition()["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    wrong = {"homeAPIServer": {"hosts": "192.0.2.2"}, "replica": 1, "taints": [{"name": "x"}]}
    assert list(unknown(wrong, spec, "spec")) == [
        "spec.homeAPIServer.hosts",
        "spec.replica",
        "spec.taints[].name",
    ]


@pytest.mark.parametrize("example", _examples(*PODS))
def test_farlet_renders_a_pod(example: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for field in settings.Settings.model_fields:
        monkeypatch.delenv(loading.env_name(field), raising=False)
    flags = ["--nodename", "far", "--home-api-server-host", "192.0.2.2", "-f", "-"]
    result = CliRunner().invoke(main.cli, ["render", *flags], input=yaml.safe_dump(example))
    assert result.exit_code == 0, result.output


def test_every_yaml_block_is_yaml() -> None:
    assert len(_examples()) > 5


@pytest.mark.parametrize("words", _commands())
def test_farlet_accepts_the_commands_of_a_page(words: list[str]) -> None:
    name, *arguments = words
    if name == "--version":
        return
    command = main.cli.get_command(click.Context(main.cli), name)
    assert command is not None
    command.make_context(name, arguments, parent=click.Context(main.cli))
