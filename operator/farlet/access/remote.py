"""Access mode `remote`: the pod reaches the foreign API, as a native pod of the foreign cluster.

Only the name of the ServiceAccount changes. The token volume that home admission injected works
unchanged in the foreign cluster: the foreign kubelet fills it with a foreign token, CA and
namespace, and foreign admission adds no second volume where a mount exists at that path
(`mountServiceAccountToken` in `plugin/pkg/admission/serviceaccount`).
"""

from __future__ import annotations

from collections.abc import Mapping

from farlet import redaction
from farlet.access import (
    Mutation,
    ServiceAccountRequirement,
    Token,
    TokenSpec,
    environment,
    identity,
    volumes,
)
from farlet.access.changes import ChangeLog
from farlet.constants import OFFLOADABLE_ACCOUNT, REMOTE, REMOTE_SERVICE_ACCOUNT_NAME, Reason
from farlet.context import Context, RemoteServiceAccounts
from farlet.errors import Refused
from farlet.k8s_types import OwnerReference, Pod, PodSpec, Secret


class RemoteAccess:
    """The pod is a client of the foreign cluster."""

    name = REMOTE
    summary = "the foreign API, as a ServiceAccount of the foreign cluster"

    def requirements(self, pod: Pod, ctx: Context) -> tuple[ServiceAccountRequirement, ...]:
        """The foreign account; raises `Refused` where the settings do not allow it."""
        account = _foreign_account(pod)
        home = identity.service_account(pod)
        match ctx.remote_service_accounts:
            case RemoteServiceAccounts.SAME_NAME if account != home:
                raise Refused(
                    Reason.SERVICE_ACCOUNT_NOT_ALLOWED,
                    f"the pod selects the foreign ServiceAccount {account}, but its own is {home}; "
                    "--remote-service-accounts=same-name allows only that name. "
                    f"Remove the annotation {REMOTE_SERVICE_ACCOUNT_NAME} or set "
                    f"spec.serviceAccountName to {account}",
                )
            case RemoteServiceAccounts.LABELLED:
                return (ServiceAccountRequirement(name=account, label=OFFLOADABLE_ACCOUNT),)
            case _:
                return (ServiceAccountRequirement(name=account),)

    def token_specs(self, pod: Pod, ctx: Context) -> tuple[TokenSpec, ...]:
        """None: the pod has no access to the home API."""
        return ()

    def mutate(self, spec: PodSpec, pod: Pod, ctx: Context) -> Mutation:
        """The spec with the foreign account's name. Raises as `requirements`."""
        self.requirements(pod, ctx)
        changes = ChangeLog()
        account = _foreign_account(pod)
        if spec.get("serviceAccountName") != account:
            spec = {**spec, "serviceAccountName": account}
            why = f"the foreign account of annotation {REMOTE_SERVICE_ACCOUNT_NAME}"
            changes.rewritten("spec.serviceAccountName", why, routine=True)
        _report_tokens(spec, changes)
        for path, container in volumes.containers(pod["spec"]):
            environment.report_own(container, path, changes)
        return Mutation(spec, tuple(changes))

    def objects(
        self, pod: Pod, tokens: Mapping[str, Token], ctx: Context, owner: OwnerReference
    ) -> tuple[Secret, ...]:
        return ()


def _report_tokens(spec: PodSpec, changes: ChangeLog) -> None:
    """Reports tokens for a cloud or another service, which trusts the issuer of a cluster."""
    for volume in spec.get("volumes") or ():
        for index, source in enumerate(volume.get("projected", {}).get("sources") or ()):
            if "serviceAccountToken" not in source:
                continue
            audience = volumes.audience(source["serviceAccountToken"])
            if audience is not None:
                changes.unchanged(
                    f"spec.volumes[{volume['name']}].projected.sources[{index}]",
                    f"the token for {redaction.value(audience)} is one of the foreign cluster: a "
                    "service that trusts the home cluster only rejects it",
                )


def _foreign_account(pod: Pod) -> str:
    annotations = pod["metadata"].get("annotations") or {}
    return annotations.get(REMOTE_SERVICE_ACCOUNT_NAME) or identity.service_account(pod)
