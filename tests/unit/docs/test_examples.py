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
INLINE = re.compile(r"`(?:kubectl [^`]* -- )?farlet ([a-z-]+ [^`]*-[^`]*)`")
FILE = re.compile(r"-[fk] ((?:manifests|crds|charts)\b[\w./-]*)")
COPIES = {"manifests/home/nodes/near"}  # the page creates them
CREDENTIAL = re.compile(r"(?:>|-out|-keyout|--kubeconfig) ([\w-]+\.(?:kubeconfig|key|csr|crt))\b")
REMOVED = re.compile(r"^rm (?:-r )?([^#\n]+)", re.MULTILINE)
PODS = {"Pod", "Deployment", "StatefulSet", "Job", "CronJob"}


def _commands() -> list[Any]:
    """The words of each `farlet ...` command in blocks of the pages, without shell syntax."""
    return [
        one
        for page in PAGES
        for block in BLOCKS.findall(page.read_text(encoding="utf-8"))
        for line in COMMAND.findall(block.replace("\\\n", " "))
        for one in _words(page, line)
    ]


def _inline_commands() -> list[Any]:
    """The same in sentences, where a command can be shortened."""
    return [
        one
        for page in PAGES
        for line in INLINE.findall(page.read_text(encoding="utf-8"))
        for one in _words(page, " ".join(line.split()))
    ]


def _words(page: Path, line: str) -> Iterator[Any]:
    words = shlex.split(line, comments=True)
    if not any("..." in word for word in words):
        end = words.index(">") if ">" in words else len(words)
        name = page.relative_to(ROOT)
        yield pytest.param(words[:end], id=f"{name} {' '.join(words[:end])}")


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
    command = _command(name)
    command.make_context(name, arguments, parent=click.Context(main.cli))


@pytest.mark.parametrize("words", _inline_commands())
def test_farlet_has_the_flags_of_a_command_in_a_sentence(words: list[str]) -> None:
    name, *arguments = words
    command = _command(name)
    command.make_parser(click.Context(command)).parse_args(arguments)


@pytest.mark.parametrize("words", [*_commands(), *_inline_commands()])
def test_pages_name_the_contexts_of_both_clusters_in_the_same_way(words: list[str]) -> None:
    """`--home-context` beside `--foreign-context`; `--context` is a flag of kubectl."""
    assert "--context" not in words


def _command(name: str) -> click.Command:
    command = main.cli.get_command(click.Context(main.cli), name)
    assert command is not None
    return command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_manifests_that_a_page_applies_exist(page: Path) -> None:
    found = FILE.findall(page.read_text(encoding="utf-8"))
    assert [one for one in found if not (ROOT / one).exists() and one not in COPIES] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_removes_each_file_with_a_credential_by_its_name(page: Path) -> None:
    blocks = "".join(BLOCKS.findall(page.read_text(encoding="utf-8")))
    removed = {word for line in REMOVED.findall(blocks) for word in line.split()}
    assert [one for one in removed if "*" in one] == []
    assert set(CREDENTIAL.findall(blocks)) - removed == set()
