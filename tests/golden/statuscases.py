"""Golden cases of statuses: folders of YAML under `statuses/`, read and computed.

home.yaml      the home pod
mirror.yaml    its mirror, where there is one
options.yaml   `call` (default reflect; waiting, stranded, lost, ended), `reason` and `message`
               for the calls that take them, and `context`: fields that differ from CONTEXT
desired.yaml   the result: status, and annotations
patch.yaml     the resulting PATCH, null where nothing differs
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from farlet.constants import JSON, Reason
from farlet.context import Context, Endpoint, NamespaceMap, PodNetwork, Verified
from farlet.forge import status
from farlet.k8s_types import Pod
from golden import homeapistates, reading

FOLDER = Path(__file__).parent / "statuses"
NOW = 1772366400.0
"""2026-03-01T12:00:00Z"""
CONTEXT = Context(
    node="virtual",
    home_id="home",
    namespaces=NamespaceMap(home="home", own="farlet"),
    home_api=Verified(Endpoint("192.0.2.10", 443)),
    node_ip="10.0.0.9",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One folder."""

    path: Path
    home: Pod
    mirror: Pod | None
    options: Mapping[str, Any]

    def desired(self) -> status.DesiredStatus:
        """The result of the call that the case names."""
        ctx = context(self.options.get("context", {}))
        match self.options.get("call", "reflect"):
            case "reflect":
                assert self.mirror is not None, f"{self.path.name} needs a mirror.yaml"
                return status.reflect(self.home, self.mirror, ctx=ctx, now=NOW)
            case "ended":
                return status.ended(self.home, self.mirror, ctx=ctx, now=NOW)
            case "lost":
                return status.lost(self.home, ctx=ctx, now=NOW)
            case "waiting" | "stranded" as name:
                return getattr(status, name)(  # type: ignore[no-any-return]
                    self.home,
                    reason=Reason(self.options["reason"]),
                    message=self.options["message"],
                    ctx=ctx,
                    now=NOW,
                )
            case other:
                raise AssertionError(f"{self.path.name}/options.yaml: no call {other!r}")

    def stored(self, name: str) -> Any:
        """The content of a file of the case."""
        return reading.read(self.path / name)


def load(name: str) -> Case:
    """The case in the folder of this name."""
    path = FOLDER / name
    mirror, options = path / "mirror.yaml", path / "options.yaml"
    return Case(
        path,
        home=reading.read(path / "home.yaml"),
        mirror=reading.read(mirror) if mirror.exists() else None,
        options=reading.read(options) if options.exists() else {},
    )


def names() -> list[str]:
    """All cases."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def context(changes: Mapping[str, Any]) -> Context:
    """CONTEXT with fields in their YAML form."""
    values = dict(changes)
    if "pod_network" in values:
        values["pod_network"] = PodNetwork(values["pod_network"])
    if "home_api" in values:
        values["home_api"] = homeapistates.state(**values["home_api"])
    return dataclasses.replace(CONTEXT, **values)


def dump(value: JSON | None) -> str:
    """YAML in the form of the golden files."""
    text: str = yaml.dump(value, Dumper=_Plain, sort_keys=False, width=100)
    return text


class _Plain(yaml.SafeDumper):
    """Writes parts that are shared in memory each time."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
