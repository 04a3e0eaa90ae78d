"""Access mode `remote`: the pod reaches the foreign API, as a native pod of the foreign cluster.

Only the name of the ServiceAccount changes. The token volume that home admission injected works
unchanged in the foreign cluster: the foreign kubelet fills it with a foreign token, CA and
namespace, and foreign admission adds no second volume where a mount exists at that path
(`mountServiceAccountToken` in `plugin/pkg/admission/serviceaccount`).
"""

from __future__ import annotations

from collections.abc import Mapping

from farlet.access import Mutation, ServiceAccountRequirement, Token, TokenSpec, identity
from farlet.access.changes import Change, ChangeKind
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
        account = _foreign_account(pod)
        if spec.get("serviceAccountName") == account:
            return Mutation(spec=spec)
        return Mutation(
            spec={**spec, "serviceAccountName": account},
            changes=(
                Change(
                    "spec.serviceAccountName",
                    ChangeKind.REWRITTEN,
                    f"the foreign account of annotation {REMOTE_SERVICE_ACCOUNT_NAME}",
                    routine=True,
                ),
            ),
        )

    def objects(
        self, pod: Pod, tokens: Mapping[str, Token], ctx: Context, owner: OwnerReference
    ) -> tuple[Secret, ...]:
        return ()


def _foreign_account(pod: Pod) -> str:
    annotations = pod["metadata"].get("annotations") or {}
    return annotations.get(REMOTE_SERVICE_ACCOUNT_NAME) or identity.service_account(pod)
