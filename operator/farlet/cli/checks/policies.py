"""Whether admission policies limit what farlet does with permissions that RBAC cannot limit.

The foreign API server is asked with dry runs for what the shipped policy forbids. So nothing is
created, no further permission is required, and a policy that names another user is noticed.
"""

from __future__ import annotations

from typing import Any

from farlet import errors
from farlet.cli.checks import installed
from farlet.cli.checks.findings import Finding, Outcome, of
from farlet.cli.checks.subjects import Subject
from farlet.client import resources
from farlet.client.resources import Resource
from farlet.constants import JSON
from farlet.foreign import created_namespaces
from farlet.forge import foreign_namespace
from farlet.settings import Settings

_NAME = "farlet-policy-check"
_DENIED = "ValidatingAdmissionPolicy '"
"""Part of the message where a policy denies a request (`validating/dispatcher.go` of
`k8s.io/apiserver`)."""


async def creation(settings: Settings, subject: Subject) -> Finding | None:
    """With `--create-namespaces`: whether farlet can create only what it creates."""
    if not settings.create_namespaces:
        return None
    what, foreign = "policy for created namespaces", subject.cluster
    if not subject.is_caller:
        why = f"it is about requests of {subject.user.name} only"
        return installed.not_checked(what, why, settings)
    hint = (
        "a client with farlet's token can become an administrator of the foreign cluster: in the "
        f"foreign cluster, kubectl apply -k {created_namespaces.ROLES}; the policy there names the "
        "ServiceAccount farlet in the namespace farlet (docs/namespaces.md)"
    )
    namespace: JSON = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAME}}
    binding = {**foreign_namespace.role_binding(_NAME), "metadata": {"name": _NAME}}

    in_own = settings.foreign_system_namespace
    forbidden: tuple[tuple[Resource[Any], JSON, str, str], ...] = (
        (resources.NAMESPACES, namespace, "", "any namespace"),
        (resources.ROLE_BINDINGS, binding, in_own, "RoleBindings in any namespace"),
    )

    async def check() -> Finding:
        for resource, body, where, allowed in forbidden:
            try:
                await foreign.create_dry(resource, body, namespace=where)
            except errors.Forbidden as err:
                if _DENIED in err.message:
                    continue
                return Finding(what, Outcome.WARNING, f"not checked: {err.message}", hint)
            except errors.Conflict:
                pass  # it exists, and no policy denied it
            seen = f"no policy applies: farlet can create {allowed}"
            return Finding(what, Outcome.WARNING, seen, hint)
        return Finding(what, Outcome.OK, "farlet can create only namespaces of its own")

    return await of(what, check(), hint=hint)
