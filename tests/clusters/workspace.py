"""The namespaces of one test in both clusters, with farlet's permissions in the foreign one.

Tests share clusters and are separated by namespaces. In the foreign cluster farlet only gets one
Role per namespace, and nothing cluster-wide.
"""

import asyncio
import dataclasses
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from clusters import rest

HOME_NAME = "home"  # --home-name
FARLET_NAMESPACE = "farlet"  # --foreign-system-namespace
USER = "farlet"  # farlet's user in the foreign cluster
ROLE = "farlet"
UNREFERENCED = "unreferenced"
"""A Secret in each home namespace to which no pod refers, so that no farlet may read it."""
_RIGHTS_SECONDS = 60.0
_CONTROLLERS_SECONDS = 180.0  # those of an API server that was killed come back with a backoff

Rules = list[dict[str, Any]]

MANIFESTS = Path(__file__).parents[2] / "manifests" / "foreign"


def shipped_rules(file: str) -> Rules:
    """The rules of the Role in a shipped manifest: farlet has no other permissions in tests."""
    documents = yaml.safe_load_all((MANIFESTS / file).read_text())
    (role,) = (d for d in documents if d["kind"] == "Role")
    rules: Rules = role["rules"]
    return rules


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The names of a test's two namespaces."""

    home: str
    foreign: str


async def create(
    home: rest.Api, foreign: rest.Api, *, name: str | None = None, rules: Rules | None = None
) -> Workspace:
    """Both namespaces with their default accounts, and farlet's Role in the foreign one."""
    made = Workspace(home=name or f"t-{secrets.token_hex(4)}", foreign="")
    made = dataclasses.replace(made, foreign=f"{made.home}-{HOME_NAME}")
    await home.create("namespaces", _namespace(made.home))
    await home.create("secrets", {"metadata": {"name": UNREFERENCED}}, namespace=made.home)
    await offload(foreign, namespace=made.foreign, rules=rules)
    for api, namespace in ((home, made.home), (foreign, made.foreign)):
        await api.until(
            "serviceaccounts",
            rest.exists,
            name="default",
            namespace=namespace,
            seconds=_CONTROLLERS_SECONDS,
        )
    return made


async def offload(foreign: rest.Api, *, namespace: str, rules: Rules | None = None) -> None:
    """Create a foreign namespace with farlet's Role."""
    await foreign.create("namespaces", _namespace(namespace))
    await grant(foreign, namespace=namespace, rules=rules)


async def delete(home: rest.Api, foreign: rest.Api, made: Workspace) -> None:
    """Request the deletion of both namespaces, and delete pods at once."""
    for api, namespace in ((home, made.home), (foreign, made.foreign)):
        for pod in await api.list("pods", namespace=namespace):
            await force(api, pod["metadata"]["name"], namespace=namespace)
        await api.delete("namespaces", name=namespace)


async def force(api: rest.Api, name: str, *, namespace: str) -> None:
    """Delete a pod at once, with its finalizers; no error if it is gone."""
    try:
        body = {"metadata": {"finalizers": None}}
        await api.patch("pods", body, name=name, namespace=namespace)
    except rest.ApiError as error:
        if error.code != 404:
            raise
    await api.delete("pods", name=name, namespace=namespace, gracePeriodSeconds="0")


async def create_farlet_namespace(
    foreign: rest.Api, *, name: str = FARLET_NAMESPACE, rules: Rules | None = None
) -> None:
    """Create farlet's own foreign namespace; no error if it exists."""
    if await foreign.find("namespaces", name=name) is None:
        await foreign.create("namespaces", _namespace(name))
    if await foreign.find("roles", name=ROLE, namespace=name) is None:
        rules = rules or shipped_rules("farlet-namespace.yaml")
        await grant(foreign, namespace=name, rules=rules)


async def grant(
    foreign: rest.Api,
    *,
    namespace: str,
    user: str = USER,
    rules: Rules | None = None,
) -> None:
    """A Role and RoleBinding for `user` in one foreign namespace: the shipped rules, or `rules`.

    They are effective when this returns: an API server learns of them by watches.
    """
    if rules is None:
        rules = shipped_rules("offloaded-namespace.yaml")
    await foreign.create(
        "roles",
        {"metadata": {"name": ROLE}, "rules": rules},
        namespace=namespace,
    )
    await foreign.create(
        "rolebindings",
        {
            "metadata": {"name": ROLE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ROLE},
            "subjects": [
                {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"},
            ],
        },
        namespace=namespace,
    )
    await until_allowed(foreign, user=user, namespace=namespace, rule=rules[0])


async def until_allowed(
    api: rest.Api, *, user: str, namespace: str, rule: Mapping[str, Any], allowed: bool = True
) -> None:
    """Return once the API server allows `user` the first verb of a rule, or denies it."""
    attributes = {
        "namespace": namespace,
        "group": rule["apiGroups"][0],
        "resource": rule["resources"][0].partition("/")[0],
        "subresource": rule["resources"][0].partition("/")[2],
        "verb": rule["verbs"][0],
        "name": rule.get("resourceNames", [""])[0],
    }
    review = {"spec": {"user": user, "resourceAttributes": attributes}}
    async with asyncio.timeout(_RIGHTS_SECONDS):
        while True:
            answer = await api.create("subjectaccessreviews", review)
            if answer["status"]["allowed"] is allowed:
                return
            await asyncio.sleep(0.05)


async def allow_listing_pods(api: rest.Api, *, namespace: str, account: str = "default") -> None:
    """Let a ServiceAccount list the pods of its namespace, as the test image's clients do.

    And watch them, as Kopf does.
    """
    await api.create(
        "roles",
        {
            "metadata": {"name": f"{account}-lists-pods"},
            "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
            ],
        },
        namespace=namespace,
    )
    await api.create(
        "rolebindings",
        {
            "metadata": {"name": f"{account}-lists-pods"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": f"{account}-lists-pods",
            },
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
        namespace=namespace,
    )
    await until_allowed(
        api,
        user=f"system:serviceaccount:{namespace}:{account}",
        namespace=namespace,
        rule={"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    )


def _namespace(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}
