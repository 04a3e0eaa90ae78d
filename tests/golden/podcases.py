"""Golden cases of mirrors: reads, forges and compares them.

A case is a folder of `pods/`. People write `home.yaml` (the home Pod as an API server returns it)
and `options.yaml` (differences from the default context below); farlet computes the rest:
`mirror.yaml`, `secret.yaml` where there is one, and `changes.txt`; or `refused.txt` alone.
`pytest tests/golden --update-golden` rewrites the computed files.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from farlet import access
from farlet.access import Token, TokenSpec, choice
from farlet.context import (
    Allowance,
    Context,
    DaemonSetPods,
    Endpoint,
    NamespaceMap,
    RemoteServiceAccounts,
    SCCRanges,
    Verified,
)
from farlet.errors import Refused
from farlet.forge import guards
from farlet.forge import pod as forge
from farlet.k8s_types import NewPod, OwnerReference, Pod, Secret
from farlet.settings import mirror_patch
from golden import homeapistates, reading

FOLDER = Path(__file__).parent / "pods"
COMPUTED = ("mirror.yaml", "secret.yaml", "changes.txt", "refused.txt")
ISSUED = 1_767_323_045.0
MIRROR_UID = "6f0a3f0c-2f6b-4c53-9d57-3f5b8f1d6a10"
ANCHOR: OwnerReference = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "name": "default-h",
    "uid": "1d6a1f0c-8a57-4d8e-b1a3-5c7f2e9b4d22",
    "controller": True,
}
HOME_CA = "-----BEGIN CERTIFICATE-----\nhome\n-----END CERTIFICATE-----\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def home(self) -> Pod:
        return cast("Pod", reading.read(self.folder / "home.yaml"))

    def options(self) -> dict[str, Any]:
        return dict(reading.read(self.folder / "options.yaml"))

    def recorded(self) -> dict[str, str]:
        """The files that farlet is expected to compute, by name."""
        paths = [self.folder / name for name in COMPUTED]
        return {path.name: path.read_text() for path in paths if path.exists()}

    def record(self, files: dict[str, str]) -> None:
        """Replaces the expected files."""
        for name in COMPUTED:
            (self.folder / name).unlink(missing_ok=True)
        for name, text in files.items():
            (self.folder / name).write_text(text)


@dataclass(frozen=True, slots=True)
class Result:
    """What farlet computes for a case that it does not refuse."""

    forged: forge.Forged
    secrets: tuple[Secret, ...]
    token_specs: tuple[TokenSpec, ...]
    requirements: tuple[access.ServiceAccountRequirement, ...]


def every() -> list[Case]:
    return [Case(path.parent) for path in sorted(FOLDER.glob("*/home.yaml"))]


def forge_case(case: Case, home: Pod | None = None) -> Result:
    """Forges a case, from `home` if it is given. Raises `Refused`."""
    options = case.options()
    restarts = options.pop("restarts", {})
    foreign_claims = options.pop("foreign_claims", {})
    ctx = context(options)
    home = home or case.home()
    guards.check_controller(home, ctx)
    strategy = choice.choose(home, access.load_strategies(), ctx)
    requirements = strategy.requirements(home, ctx)
    token_specs = strategy.token_specs(home, ctx)
    forged = forge.forge_mirror(
        home,
        strategy=strategy,
        ctx=ctx,
        anchor=ANCHOR,
        token_times={c.key: (ISSUED, ISSUED + c.expiration_seconds) for c in token_specs},
        restarts=restarts,
        foreign_claims=foreign_claims,
    )
    tokens = {c.key: Token(f"{c.key} of {c.audience}", ISSUED, ISSUED) for c in token_specs}
    owner: OwnerReference = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": forged.pod["metadata"]["name"],
        "uid": MIRROR_UID,
    }
    return Result(forged, strategy.objects(home, tokens, ctx, owner), token_specs, requirements)


def files(case: Case) -> dict[str, str]:
    """What farlet computes for a case, as the files of its folder."""
    try:
        result = forge_case(case)
    except Refused as refused:
        return {"refused.txt": f"{refused.reason}: {refused.message}\n"}
    computed = {"mirror.yaml": dump(result.forged.pod), "changes.txt": _changes(result)}
    for secret in result.secrets:
        computed["secret.yaml"] = dump(secret)
    return computed


def context(options: dict[str, Any]) -> Context:
    """The default context, changed by options: fields of `Context` and of its parts."""
    namespaces = NamespaceMap(
        home=options.pop("home_name", "home"),
        own=options.pop("own_namespace", "farlet"),
        template=options.pop("template", "{namespace}-{home}"),
        pairs=tuple(options.pop("namespace_map", {}).items()),
    )
    if "node_labels" in options:
        options["node_labels"] = frozenset(options["node_labels"])
    if "home_api" in options:
        options["home_api"] = homeapistates.state(**options["home_api"])
    if "allow_pod_feature" in options:
        allowed = options["allow_pod_feature"]
        options["allow_pod_feature"] = frozenset(Allowance(name) for name in allowed)
    if "mirror_patch" in options:
        options["mirror_patch"] = mirror_patch.read(options["mirror_patch"])
    if "priority_class_map" in options:
        options["priority_class_map"] = tuple(map(tuple, options["priority_class_map"]))
    if "scc_ranges" in options:
        options["scc_ranges"] = SCCRanges(options["scc_ranges"])
    if "daemonset_pods" in options:
        options["daemonset_pods"] = DaemonSetPods(options["daemonset_pods"])
    if "remote_service_accounts" in options:
        options["remote_service_accounts"] = RemoteServiceAccounts(
            options["remote_service_accounts"]
        )
    default = Context(
        node="far",
        home_id="c3a4e0a6-5d0c-4a55-8a5d-2f1f3f1e7b90",
        namespaces=namespaces,
        home_api=Verified(Endpoint("192.0.2.10", 443)),
        home_ca=HOME_CA,
    )
    return dataclasses.replace(default, **options)


def _changes(result: Result) -> str:
    lines = [f"{'  ' if change.routine else '* '}{change}" for change in result.forged.changes]
    lines += [f"unknown field {name}" for name in result.forged.unknown_fields]
    lines += [
        f"token {spec.key} audience={spec.audience} {spec.expiration_seconds} s"
        for spec in result.token_specs
    ]
    lines += [f"requires ServiceAccount {r.name} label={r.label}" for r in result.requirements]
    return "".join(f"{line}\n" for line in lines)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def dump(item: NewPod | Secret) -> str:
    return yaml.dump(dict(item), Dumper=_Dumper, sort_keys=False, width=100)
