"""The foreign objects that farlet would create for one home Pod, computed without a cluster.

The pure packages of a running farlet do the work, so the output is what farlet would send, with
three visible exceptions: values that only a running farlet knows print as `RESOLVED`, tokens print
as `REDACTED`, and additions of the home API server to a bare manifest are marked as such. This
module does no I/O.
"""

from __future__ import annotations

import base64
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import yaml

from farlet import constants
from farlet.access import (
    AccessStrategy,
    ServiceAccountRequirement,
    Token,
    TokenSpec,
    choice,
    environment,
)
from farlet.access import home as home_access
from farlet.access.changes import Change
from farlet.cli import foreign_objects, json_output, manifest
from farlet.cli.manifest import RESOLVED
from farlet.constants import TOKENS, VIRTUAL_NODE_ID
from farlet.context import Context, Endpoint
from farlet.forge import claims, copies, guards, references
from farlet.forge import pod as forge
from farlet.forge.copies import Source
from farlet.k8s_types import NewPod, OwnerReference, Pod, Secret

REDACTED = "<redacted>"


class _UnknownPort(int):
    """An unknown port of the home API server: prints as `RESOLVED`, in names of variables too."""

    def __str__(self) -> str:
        return RESOLVED

    def __format__(self, _spec: str) -> str:
        return RESOLVED


UNKNOWN_PORT = _UnknownPort(0)

ANCHOR: OwnerReference = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "name": RESOLVED,
    "uid": RESOLVED,
    "controller": True,
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """One home Pod as farlet reads it, and the foreign objects for it."""

    home: Pod
    mirror: NewPod
    secrets: tuple[Secret, ...]
    access: str
    changes: tuple[Change, ...]
    unknown_fields: tuple[str, ...]
    token_specs: tuple[TokenSpec, ...]
    requirements: tuple[ServiceAccountRequirement, ...]
    copies: Mapping[Source, str]
    """What is copied for the pod, and the name of each copy."""
    foreign_claims: Mapping[str, str]
    """By claim of the pod, that in the foreign cluster; empty without `--storage-class-map`."""


def endpoint(host: str | None, port: int | None) -> Endpoint:
    """The home API server as far as flags name it; the rest prints as `RESOLVED`."""
    return Endpoint(host=host or RESOLVED, port=port or UNKNOWN_PORT)


def render(
    pod: Pod, *, namespace: str, strategies: Mapping[str, AccessStrategy], ctx: Context
) -> Rendered:
    """Forge `pod` (as `manifest.read` returns it) with what is known offline.

    `ctx` holds `RESOLVED` as `node`, `home_id` or `home_ca` where no flag names them, and
    `endpoint(...)`. `namespace` is that of a Pod that names none. Raises `Refused` with the
    message that a running farlet would put on the pod.
    """
    node = None if ctx.node == RESOLVED else ctx.node
    home, added = manifest.complete(pod, namespace=namespace, node=node)
    guards.check_controller(home, ctx)
    strategy = choice.choose(home, strategies, ctx)
    requirements = strategy.requirements(home, ctx)
    token_specs = strategy.token_specs(home, ctx)
    names = claims.claim_names(home) if ctx.storage_class_map else ()
    foreign_claims = {name: f"{name}-{RESOLVED}" for name in names}  # a hash of the claim's uid
    forged = forge.forge_mirror(
        home,
        strategy=strategy,
        ctx=ctx,
        anchor=ANCHOR,
        token_times={},
        restarts={},
        foreign_claims=foreign_claims,
    )
    mirror = forged.pod
    copied = {source: copies.copy_name(source, ctx) for source in sorted(copies.sources(home))}
    if ctx.home_id == RESOLVED:  # a hash of an unknown would look like the real one
        shown = {name: f"{source.name}-{RESOLVED}" for source, name in copied.items()}
        copied = {source: shown[name] for source, name in copied.items()}
        mirror["spec"] = references.renamed(
            mirror["spec"], lambda _kind, name: shown.get(name, name)
        )
    if token_specs:
        mirror["metadata"]["annotations"][TOKENS] = RESOLVED
    tokens = {
        token_spec.key: Token(value=REDACTED, issued=0, expires=0) for token_spec in token_specs
    }
    owner: OwnerReference = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": mirror["metadata"]["name"],
        "uid": RESOLVED,
    }
    secrets = strategy.objects(home, tokens, ctx, owner)
    unknown = {
        constants.HOME_CA: ctx.home_ca == RESOLVED,
        # a file of annotations contains it
        constants.METADATA_FILES: home["metadata"].get("creationTimestamp") == RESOLVED,
    }
    for marks in (secret["metadata"]["annotations"] for secret in secrets):
        marks |= {key: RESOLVED for key in marks if unknown.get(key)}
    if RESOLVED in (ctx.home_id, ctx.node):  # a hash of an unknown would look like the real one
        for item in (mirror, *secrets):
            item["metadata"]["labels"][VIRTUAL_NODE_ID] = RESOLVED
    return Rendered(
        home=home,
        mirror=mirror,
        secrets=tuple(_readable(secret) for secret in secrets),
        access=strategy.name,
        changes=(*added, *_known(forged.changes, ctx)),
        unknown_fields=forged.unknown_fields,
        token_specs=token_specs,
        requirements=requirements,
        copies=copied,
        foreign_claims=foreign_claims,
    )


def to_yaml(rendered: Rendered) -> str:
    """The foreign objects as YAML documents."""
    return "---\n".join(_dump(item) for item in (rendered.mirror, *rendered.secrets))


def to_json(rendered: Rendered) -> str:
    """The foreign objects as JSON: the mirror, or a List of several objects, as kubectl does."""
    items = [rendered.mirror, *rendered.secrets]
    shown = items[0] if len(items) == 1 else {"apiVersion": "v1", "kind": "List", "items": items}
    return json_output.to_json(shown)


def explain(rendered: Rendered) -> str:
    """One line per difference between home pod and mirror, and per foreign object."""
    foreign = rendered.mirror["metadata"]["namespace"]
    lines = [str(change) for change in rendered.changes]
    lines += [
        f"spec.{name} copied: this version of farlet does not know the field"
        for name in rendered.unknown_fields
    ]
    lines += [
        f"token {token_spec.key} requested from home: audience "
        f"{token_spec.audience or 'of the API server'}, {token_spec.expiration_seconds} s"
        for token_spec in rendered.token_specs
    ]
    lines += [
        f"{source.kind} {source.name} copied to {name} in foreign namespace {foreign}, if it exists"
        for source, name in rendered.copies.items()
    ]
    lines += foreign_objects.required(
        rendered.mirror, rendered.requirements, rendered.foreign_claims
    )
    lines += foreign_objects.created(rendered.mirror, rendered.secrets)
    return "".join(f"{line}\n" for line in lines)


def diff(rendered: Rendered) -> str:
    """Unified diff of the YAML of home pod and mirror."""
    home, mirror = rendered.home["metadata"], rendered.mirror["metadata"]
    lines = difflib.unified_diff(
        _dump(rendered.home, ordered=True).splitlines(keepends=True),
        _dump(rendered.mirror, ordered=True).splitlines(keepends=True),
        f"home/{home['namespace']}/{home['name']}",
        f"foreign/{mirror['namespace']}/{mirror['name']}",
    )
    return "".join(lines)


def _known(changes: tuple[Change, ...], ctx: Context) -> list[Change]:
    """The changes, with another reason where they depend on an unknown address."""
    address = ctx.endpoint
    if address is None or (address.host != RESOLVED and address.port != UNKNOWN_PORT):
        return list(changes)
    return [
        change._replace(why=_why_open(address)) if change.path == "spec.hostAliases" else change
        for change in changes
    ]


def _why_open(address: Endpoint) -> str:
    """What follows from an address whose host or port is unknown."""
    if address.host == RESOLVED:
        return (
            "--home-api-server-host is not set: names of the home API server become host aliases "
            "if its address is an IP"
        )
    known = home_access.limits(replace(address, port=environment.SERVICE_PORT))
    return known or (
        "names of the home API server; --home-api-server-port is not set: if it is not "
        f"{environment.SERVICE_PORT}, clients that always use https://kubernetes.default.svc "
        "cannot reach it"
    )


def _readable(secret: Secret) -> Secret:
    """A Secret whose placeholders (`RESOLVED`, `REDACTED`) are plain text; the rest is base64."""
    words = {base64.b64encode(word.encode()).decode(): word for word in (RESOLVED, REDACTED)}
    data = {key: words.get(value, value) for key, value in secret.get("data", {}).items()}
    return {**secret, "data": data}


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: objects that share parts are still printed in full."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _dump(item: Mapping[str, object], *, ordered: bool = False) -> str:
    shown = {key: value for key, value in item.items() if key != "status"}
    return yaml.dump(shown, Dumper=_Dumper, sort_keys=ordered, width=1000, allow_unicode=True)
