"""What each reason means, who can cure it and how; `docs/reference/reasons.md` is made from it.

The message on a pod says what is wrong with that pod. Here stands what holds for all of them,
for people who look a reason up. Every member of `vocabulary.Reason` has its row; the check of
the reference and a test fail for one without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from farlet.constants import Reason


class Who(StrEnum):
    """Who can cure it."""

    OWNER = "owner of the pod"
    ADMIN = "administrator of farlet"
    FOREIGN_ADMIN = "administrator of the foreign cluster"
    NOBODY = "nobody needs to"
    DEVELOPERS = "developers of farlet"


@dataclass(frozen=True, slots=True)
class Guide:
    """One row."""

    who: Who
    meaning: str
    cure: str


GUIDES: Mapping[Reason, Guide] = MappingProxyType(
    {
        Reason.INVALID_API_SERVER_SUPPORT: Guide(
            Who.OWNER,
            "The annotation `liqo.io/api-server-support` has a value that is no access mode. "
            "farlet does not guess: a guess would give a pod more access than was meant.",
            "Create the pod again with one of the values that the message lists "
            "(`farlet access-modes` shows them too), spelled exactly so, or without it.",
        ),
        Reason.INVALID_REMOTE_SERVICE_ACCOUNT: Guide(
            Who.OWNER,
            "The annotation `liqo.io/remote-service-account-name` stands on a pod whose mode is "
            "not `remote`, or its value is no name of a ServiceAccount.",
            "Create the pod again with mode `remote`, or with a valid name, or without that "
            "annotation.",
        ),
        Reason.SERVICE_ACCOUNT_NOT_FOUND: Guide(
            Who.FOREIGN_ADMIN,
            "The pod has mode `remote`, and the foreign namespace lacks the ServiceAccount it is "
            "to run as.",
            "Create the ServiceAccount in the foreign namespace that the message names. The pod "
            "goes on by itself.",
        ),
        Reason.SERVICE_ACCOUNT_NOT_ALLOWED: Guide(
            Who.FOREIGN_ADMIN,
            "The pod has mode `remote`, and `--remote-service-accounts` keeps it from running as "
            "the foreign ServiceAccount it names.",
            "With `labelled`: put the label `farlet.io/offloadable=true` on the ServiceAccount. "
            "With `same-name`: leave the name annotation out. Or widen the setting.",
        ),
        Reason.UNSUPPORTED_POD: Guide(
            Who.OWNER,
            "The pod uses something that has no counterpart in another cluster, as resource "
            "claims or pod certificates.",
            "Take it out of the pod or keep the pod off this node. The administrator of farlet "
            "may let it pass with `--allow-pod-feature`.",
        ),
        Reason.POD_FEATURE_NOT_ALLOWED: Guide(
            Who.ADMIN,
            "The pod wants the network, the processes or the files of its machine, which would "
            "be a machine of the foreign cluster.",
            "Take that out of the pod, keep the pod off this node, or start farlet with the "
            "`--allow-pod-feature` that the message names.",
        ),
        Reason.DAEMONSET_NOT_ALLOWED: Guide(
            Who.ADMIN,
            "A DaemonSet put the pod on the virtual node, which is no machine to run an agent on. "
            "It stays Pending: were it Failed, the DaemonSet would make it again for ever.",
            "Keep DaemonSets off virtual nodes: apply `manifests/home/daemonset-policy.yaml`, or "
            "give this one the node affinity `type NotIn [virtual-kubelet]`. Or start farlet with "
            "`--daemonset-pods=run`.",
        ),
        Reason.NAMESPACE_NOT_OFFLOADED: Guide(
            Who.ADMIN,
            "The pod's namespace is not offloaded: no `--namespace-map` names it, and the "
            "template is off or makes a name that is taken or reserved.",
            "Add a `--namespace-map`, or keep pods of that namespace off this node.",
        ),
        Reason.NAMESPACE_NOT_FOUND: Guide(
            Who.FOREIGN_ADMIN,
            "The foreign namespace that belongs to the pod's namespace does not exist, or is "
            "being deleted. farlet has no right to create namespaces.",
            "Create it, with farlet's Role and RoleBinding in it. Pods go on by themselves, within "
            "15 s.",
        ),
        Reason.FOREIGN_FORBIDDEN: Guide(
            Who.FOREIGN_ADMIN,
            "farlet's account in the foreign cluster lacks a right that the message names.",
            "Put farlet's Role and RoleBinding into the foreign namespace. Pods go on by "
            "themselves, within 15 s.",
        ),
        Reason.FOREIGN_REJECTED: Guide(
            Who.OWNER,
            "The foreign API server, or an admission policy there such as Pod Security, does not "
            "take the pod as it is. Its words stand in the message.",
            "Change the pod, or have the policy changed. `farlet render` prints what is sent.",
        ),
        Reason.FOREIGN_QUOTA_EXCEEDED: Guide(
            Who.FOREIGN_ADMIN,
            "A ResourceQuota of the foreign namespace is used up.",
            "Raise the quota or free some of it. Pods go on by themselves.",
        ),
        Reason.FOREIGN_UNREACHABLE: Guide(
            Who.ADMIN,
            "The foreign API server does not answer. Pods that run there go on running; what "
            "home shows of them may be old.",
            "Look at the network and at that API server; `farlet_foreign_up` tells when it is "
            "back. farlet keeps trying.",
        ),
        Reason.HOME_API_NOT_CONFIGURED: Guide(
            Who.ADMIN,
            "The pod is to reach the home API, and no address is known at which pods abroad reach "
            "it: neither a flag names one nor the Service `home-api` in farlet's own namespace.",
            "Apply `manifests/foreign/gateway` or `manifests/api-proxy`, or set "
            "`--home-api-server-host` or `--home-api-server-port`, or both. The owner may choose "
            "the mode `remote` or `disabled` instead.",
        ),
        Reason.HOME_API_CERTIFICATE_INVALID: Guide(
            Who.ADMIN,
            "What answers at the home API address for pods has a certificate of another CA, of "
            "other names, or out of its time. No token is sent there.",
            "The message lists the names in the certificate: set `--home-api-server-host` to one "
            "of them, or give `--home-api-server-ca-file`, or renew the certificate.",
        ),
        Reason.HOME_API_UNVERIFIED: Guide(
            Who.ADMIN,
            "farlet cannot reach the home API address for pods from where it runs, so it has not "
            "seen the certificate there. It may be reachable only from abroad.",
            "If pods reach it, nothing. With `--home-api-preflight=require` pods wait until "
            "farlet reaches it.",
        ),
        Reason.HOME_API_ENDPOINT_CHANGED: Guide(
            Who.OWNER,
            "The home API server is reached at another address than when this pod was started. A "
            "running pod gets new tokens and a new CA, but no new address.",
            "None while the old address answers. Before it goes, make the pod again: `kubectl "
            "rollout restart`, or delete it.",
        ),
        Reason.TOKEN_REQUEST_FAILED: Guide(
            Who.OWNER,
            "The home API server gave no token for the pod's ServiceAccount; its words stand in "
            "the message.",
            "Mostly the ServiceAccount is gone: create it again. Else the administrator looks at "
            "farlet's right to create `serviceaccounts/token`.",
        ),
        Reason.NAME_CONFLICT: Guide(
            Who.OWNER,
            "The foreign namespace has a pod or Secret of that name which is not this pod's. "
            "farlet never touches it.",
            "Rename or delete one of the two. The pod goes on by itself.",
        ),
        Reason.MIRROR_LOST: Guide(
            Who.OWNER,
            "The mirror vanished without a known end, and the pod's restartPolicy forbids to run "
            "it again. The home pod is Failed.",
            "Its controller makes a new pod; one without a controller is created again by hand. "
            "Look abroad for who deleted the mirror.",
        ),
        Reason.MIRROR_CREATED: Guide(
            Who.NOBODY, "The mirror of the pod was created in the foreign cluster.", "None needed."
        ),
        Reason.STATUS_REJECTED: Guide(
            Who.DEVELOPERS,
            "The home API server refused a status as invalid, so home shows an old one.",
            "Please report it, with the message and farlet's log. "
            "`farlet_status_rejected_total` counts these.",
        ),
        Reason.SPEC_ADJUSTED: Guide(
            Who.NOBODY,
            "The mirror differs from the home pod in fields that cannot travel; the Event lists "
            "them.",
            "None needed. `farlet render --explain` gives the reason for each.",
        ),
        Reason.TOKEN_REFRESH_FAILED: Guide(
            Who.ADMIN,
            "A home token of a running pod has used up four fifths of its life and could not be "
            "refreshed.",
            "Look at whether farlet reaches the home API server and may create "
            "`serviceaccounts/token`. When the token ends, the pod gets 401 Unauthorized.",
        ),
        Reason.INTERNAL_ERROR: Guide(
            Who.DEVELOPERS,
            "farlet met an error that it did not foresee when it worked on this pod. It tries "
            "again with backoff.",
            "Please report it, with the traceback in farlet's log.",
        ),
    }
)
