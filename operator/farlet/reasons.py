"""What each reason means, and who can fix it how. `docs/reference/reasons.md` is generated from it.

The message on a pod describes the case of that pod. A guide describes what applies to all pods with
the reason. Every member of `constants.Reason` has a guide; a test and the check of the generated
pages fail without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from farlet.constants import Reason
from farlet.errors import CONTEXTS


class Who(StrEnum):
    """Who can fix it."""

    OWNER = "owner of the pod"
    EITHER = "owner of the pod, or administrator of the foreign cluster"
    ADMIN = "administrator of farlet"
    FOREIGN_ADMIN = "administrator of the foreign cluster"
    NO_ACTION = "no action needed"
    DEVELOPERS = "developers of farlet"


@dataclass(frozen=True, slots=True)
class Guide:
    """One row of the page."""

    who: Who
    meaning: str
    fix: str


GUIDES: Mapping[Reason, Guide] = MappingProxyType(
    {
        Reason.INVALID_API_SERVER_SUPPORT: Guide(
            Who.OWNER,
            "The value of the annotation `liqo.io/api-server-support` is not an access mode. "
            "farlet does not guess: a wrong guess could give the pod more access than intended.",
            "Recreate the pod with one of the values in the message (`farlet access-modes` lists "
            "them too), spelled exactly like that, or without the annotation.",
        ),
        Reason.INVALID_REMOTE_SERVICE_ACCOUNT: Guide(
            Who.OWNER,
            "The pod has the annotation `liqo.io/remote-service-account-name`, but its access mode "
            "is not `remote`, or the value is not a valid name of a ServiceAccount.",
            "Recreate the pod with mode `remote`, with a valid name, or without the annotation.",
        ),
        Reason.SERVICE_ACCOUNT_NOT_FOUND: Guide(
            Who.FOREIGN_ADMIN,
            "The pod has mode `remote`, and its ServiceAccount does not exist in the foreign "
            "namespace.",
            "Create the ServiceAccount in the foreign namespace that the message names. The pod "
            "then starts automatically.",
        ),
        Reason.SERVICE_ACCOUNT_NOT_ALLOWED: Guide(
            Who.FOREIGN_ADMIN,
            "The pod has mode `remote`, and `--remote-service-accounts` does not allow the foreign "
            "ServiceAccount that it names.",
            "With `labelled`: `kubectl label serviceaccount NAME farlet.io/offloadable=true` in "
            "the foreign namespace. With `same-name`: remove the annotation with the name. Or "
            "change the setting.",
        ),
        Reason.UNSUPPORTED_POD: Guide(
            Who.OWNER,
            "The pod uses a feature that has no counterpart in another cluster, such as resource "
            "claims or pod certificates, needs tokens for more than 32 audiences, names a Secret "
            "with ServiceAccount tokens, reads more than 512 KiB of labels and annotations in "
            "files, or, with `--storage-class-map`, has a PersistentVolumeClaim that does not "
            "exist, is of a class that is not mapped, or has a volume that this node did not "
            "provide.",
            "Remove it from the pod, or keep the pod off this node. If the message names a value "
            "of `spec.allowPodFeatures`, the administrator of farlet can allow it.",
        ),
        Reason.KEPT_AT_HOME: Guide(
            Who.OWNER,
            "The pod refers to a ConfigMap or Secret with the label "
            '`farlet.io/keep-at-home: "true"`, which never leaves the home cluster.',
            "Remove the reference or the label, or keep the pod off this node. The pod then starts "
            "automatically.",
        ),
        Reason.POD_FEATURE_NOT_ALLOWED: Guide(
            Who.ADMIN,
            "Something in the pod reaches beyond it: to its node, which is a machine of the "
            "foreign cluster, to other pods there, or to a foreign identity. farlet is stricter "
            "than the Pod Security level `baseline`.",
            "Allow the feature that the message names in `spec.allowPodFeatures` of the "
            "VirtualNode, or with `--allow-pod-feature`; the Pod Security label of the foreign "
            "namespace must allow it, too: see [pod features](../pod-features.md#allow-a-feature). "
            "Or the owner removes it from the pod, or keeps the pod off this node.",
        ),
        Reason.DAEMONSET_NOT_ALLOWED: Guide(
            Who.ADMIN,
            "The DaemonSet controller created this pod for a virtual node, where DaemonSet pods "
            "are not allowed. It stays Pending: if it were Failed, the DaemonSet would recreate it "
            "again and again.",
            "Keep DaemonSets off virtual nodes: apply `manifests/home/daemonset-policy.yaml`, or "
            "give this one the node affinity `type NotIn [virtual-kubelet]`. Or set "
            "`--daemonset-pods=run` (`spec.extraArgs` of a VirtualNode).",
        ),
        Reason.NAMESPACE_NOT_OFFLOADED: Guide(
            Who.ADMIN,
            "The pod's namespace is not offloaded: no `--namespace-map` contains it, and the "
            "template is disabled or produces a name that is reserved or already used.",
            "Add the namespace to `spec.namespaces.map` of the VirtualNode, or to "
            "`--namespace-map`. Or keep pods of that namespace off this node.",
        ),
        Reason.NAMESPACE_NOT_FOUND: Guide(
            Who.FOREIGN_ADMIN,
            "The foreign namespace for the pod's namespace does not exist or is being deleted. "
            "By default farlet does not create namespaces (`--create-namespaces`).",
            "If it is being deleted, wait until it is gone. For a node of `farlet connect`, run "
            "the command in the message with your contexts: it creates the namespace with its Pod "
            "Security label, and farlet's Role and RoleBinding in it, see "
            "[namespaces](../namespaces.md#add-a-namespace). For a node that you installed by "
            "hand, create them as in [installation](../installation.md#foreign-cluster). Pods "
            "then start automatically within 15 s.",
        ),
        Reason.FOREIGN_UNAUTHORIZED: Guide(
            Who.ADMIN,
            "The foreign API server does not accept farlet's credentials (401): the token has "
            "expired or was revoked. Mirror pods keep running; their status in the home cluster "
            "can be outdated.",
            f"For a node of `farlet connect`: `farlet connect {CONTEXTS} --node NODE`, with your "
            "contexts. For a node that you installed by hand, put a kubeconfig with new "
            "credentials into the Secret `farlet-NODE-foreign`, see "
            "[renewal](../how-to/renew-credentials.md#foreign-token). Running farlet pods use it "
            "within two minutes, usually sooner, and pods then continue automatically.",
        ),
        Reason.FOREIGN_NAMESPACE_IN_USE: Guide(
            Who.ADMIN,
            "The foreign namespace for the pod's namespace belongs to another home namespace, of "
            "this home cluster or of another one. Pods of two home namespaces never share a "
            "foreign namespace. The ConfigMap `farlet-home-namespace` in it names its holder.",
            "Select another foreign namespace: `--namespace-map`, `--foreign-namespace-template`, "
            "or another `--home-name`. If the holder no longer uses it: `kubectl delete configmap "
            "farlet-home-namespace -n NAMESPACE` in the foreign cluster.",
        ),
        Reason.FOREIGN_NAMESPACE_KEPT: Guide(
            Who.ADMIN,
            "An Event on the Node: farlet created a foreign namespace and does not delete it, "
            "since it contains objects that do not belong to this virtual node, or farlet cannot "
            "read whether the home namespace still exists.",
            "Follow the message: delete the objects, or allow farlet to read home namespaces "
            "([namespaces](../namespaces.md)). farlet checks again every five minutes.",
        ),
        Reason.FOREIGN_FORBIDDEN: Guide(
            Who.FOREIGN_ADMIN,
            "farlet lacks a permission in the foreign namespace that the message names, or the "
            "namespace does not exist: an API server answers 403 in both cases.",
            "For a node of `farlet connect`, run the command in the message with your contexts, "
            "see [namespaces](../namespaces.md#add-a-namespace). For a node that you installed by "
            "hand, in the foreign cluster: `kubectl create namespace NAMESPACE; kubectl label "
            "namespace NAMESPACE pod-security.kubernetes.io/enforce=baseline; kubectl apply -n "
            "NAMESPACE -f manifests/foreign/offloaded-namespace.yaml`. Pods then start "
            "automatically within 15 s.",
        ),
        Reason.FOREIGN_REJECTED: Guide(
            Who.EITHER,
            "The foreign API server, or an admission policy there such as Pod Security, rejected "
            "the pod. The message contains its error.",
            "Change the pod, or the administrator of the foreign cluster changes the policy. For "
            "`violates PodSecurity`, that is the label of the foreign namespace: see "
            "[pod features](../pod-features.md#allow-a-feature). `farlet render` prints what "
            "farlet sends.",
        ),
        Reason.FOREIGN_QUOTA_EXCEEDED: Guide(
            Who.FOREIGN_ADMIN,
            "A ResourceQuota of the foreign namespace is used up.",
            "Raise the quota, or delete what uses it. Pods then start automatically.",
        ),
        Reason.FOREIGN_UNREACHABLE: Guide(
            Who.ADMIN,
            "The foreign API server does not answer. Pods keep running there; their status in the "
            "home cluster can be outdated.",
            "Check the network and the foreign API server. farlet keeps trying and recovers "
            "automatically; `farlet_foreign_up` shows when.",
        ),
        Reason.VOLUME_NOT_BOUND: Guide(
            Who.OWNER,
            "A PersistentVolumeClaim of the pod has no volume yet, and the home scheduler has not "
            "selected this node for it: the pod was created with `spec.nodeName`.",
            "Create the pod without `spec.nodeName`, for example with a node selector.",
        ),
        Reason.PROVISIONING_FAILED: Guide(
            Who.FOREIGN_ADMIN,
            "An Event on a PersistentVolumeClaim of a class in `--storage-class-map`: the foreign "
            "cluster did not provide its volume, or did not let it grow. The message contains its "
            "error.",
            "See [volumes](../volumes.md). farlet keeps trying to create the foreign claim, and "
            "the foreign provisioner keeps trying to create the volume.",
        ),
        Reason.FOREIGN_REACHABLE: Guide(
            Who.NO_ACTION,
            "An Event on the Node: the foreign API server serves farlet again.",
            "No action needed.",
        ),
        Reason.FOREIGN_CLUSTER_UNCONFIRMED: Guide(
            Who.ADMIN,
            "farlet cannot confirm that this is the foreign cluster that runs the mirrors of this "
            "node, or another farlet uses that cluster. farlet changes nothing in either "
            "cluster: mirrors keep running, and deleted pods stay Terminating.",
            "See [recovery](../recovery.md). The condition `farlet.io/ForeignReachable` of the "
            "Node says what differs, and how to continue.",
        ),
        Reason.HOME_API_NOT_CONFIGURED: Guide(
            Who.ADMIN,
            "The pod uses the home API, and farlet has no address at which pods in the foreign "
            "cluster reach it: neither a flag nor a Service `home-api` in farlet's foreign system "
            "namespace gives one.",
            "Install the gateway (`farlet connect` does; by hand: `manifests/foreign/gateway`) or "
            "`manifests/api-proxy`, or set `--home-api-server-host`, `--home-api-server-port` or "
            "both (`spec.homeAPIServer` of a VirtualNode). Or the owner of the pod selects the "
            "mode `remote` or `disabled`.",
        ),
        Reason.HOME_API_CERTIFICATE_INVALID: Guide(
            Who.ADMIN,
            "The server at the home API address for pods has a certificate that another CA signed, "
            "that does not contain the name that pods dial, or that is expired or not yet valid. "
            "farlet sends no token there.",
            "Set `--home-api-server-host` to one of the names in the message, set "
            "`--home-api-server-ca-file` to the right CA, or renew the certificate.",
        ),
        Reason.HOME_API_UNVERIFIED: Guide(
            Who.ADMIN,
            "farlet has not verified the certificate at the home API address for pods: it cannot "
            "reach the address, or the home kubeconfig disables verification. The message says "
            "which.",
            "If the address was set by flags and pods reach it, no action is required. Pods wait "
            "if `--home-api-preflight=require` is set, or if the address is that of the Service "
            "`home-api`: then follow the message.",
        ),
        Reason.HOME_API_ENDPOINT_CHANGED: Guide(
            Who.OWNER,
            "New pods reach the home API server at a different address than this pod does. A "
            "running pod gets new tokens and a new CA, but not a new address.",
            "No action is required while the old address answers. Recreate the pod before the old "
            "address is removed: `kubectl rollout restart`, or delete it.",
        ),
        Reason.TOKEN_REQUEST_FAILED: Guide(
            Who.OWNER,
            "The home API server did not issue a token for the pod's ServiceAccount. The message "
            "contains its error.",
            "If the ServiceAccount was deleted, create it again. Otherwise ask the administrator "
            "of farlet to check that farlet is allowed to create `serviceaccounts/token`.",
        ),
        Reason.NAME_CONFLICT: Guide(
            Who.OWNER,
            "The foreign namespace contains a pod, Secret, ConfigMap or PersistentVolumeClaim that "
            "does not belong to this pod, and has the name that farlet requires. farlet never "
            "changes it.",
            "Rename or delete one of the two. The pod then starts automatically.",
        ),
        Reason.HOME_NAMESPACE_FORBIDDEN: Guide(
            Who.ADMIN,
            "farlet, with the identity of a ServiceAccount, lacks its RoleBinding in a home "
            "namespace, or permissions in it. Without the binding it cannot report anything on the "
            "pods there, which stay Pending without a reason: see the Event on the Node. With "
            "`--reflect=services`, for every identity: farlet lacks the ClusterRole "
            "`farlet-services`.",
            "In the home cluster: `kubectl create rolebinding farlet-NODE -n NAMESPACE "
            "--clusterrole farlet-NODE-pods --serviceaccount farlet:farlet-NODE`; if the "
            "message names `--reflect=services`, `kubectl apply -f "
            "manifests/home/reflected-services.yaml`. "
            "Pods then start automatically.",
        ),
        Reason.UNKNOWN_ANNOTATION: Guide(
            Who.OWNER,
            "The pod has an annotation that looks like one of farlet's and is misspelled. farlet "
            "ignores it.",
            "Recreate the pod with one of the keys in the message.",
        ),
        Reason.UNSCHEDULABLE: Guide(
            Who.OWNER,
            "The scheduler of the foreign cluster found no node for the mirror pod. The message "
            "contains its error; the nodes in it are those of the foreign cluster.",
            "Reduce the pod's requests, or change its node selector, affinity or tolerations. Or "
            "the administrator of the foreign cluster adds nodes. The pod then starts "
            "automatically.",
        ),
        Reason.MIRROR_LOST: Guide(
            Who.OWNER,
            "The mirror was deleted before farlet saw how it ended, and the restartPolicy of the "
            "pod or of one of its containers does not allow another run. The home pod is Failed.",
            "A controller creates a new pod; recreate a pod without a controller manually. Find "
            "out in the foreign cluster who deleted the mirror.",
        ),
        Reason.DEADLINE_EXCEEDED: Guide(
            Who.OWNER,
            "The pod was active for longer than its `activeDeadlineSeconds`, counted from its "
            "start time. The foreign kubelet ends it as soon as it has the mirror. Before that, "
            "while the pod waits or its mirror is not scheduled, farlet does. The pod is Failed.",
            "Find out what the pod waited for (its Events), or allow it more time.",
        ),
        Reason.MIRROR_BACK_OFF: Guide(
            Who.FOREIGN_ADMIN,
            "The mirrors of the pod are deleted soon after farlet has created them, for example by "
            "a policy or a cleaner in the foreign cluster. farlet creates the next one after a "
            "pause that grows to five minutes. It starts at one second again after a mirror has "
            "existed for ten minutes.",
            "Find out in the foreign cluster who deletes the mirrors (its audit log names them), "
            "and exempt pods with the label `farlet.io/virtual-node-id`.",
        ),
        Reason.MIRROR_CREATED: Guide(
            Who.NO_ACTION,
            "farlet created the mirror of the pod in the foreign cluster. A pod gets this Event "
            "only if it had to wait before, with a reason in its status.",
            "No action needed.",
        ),
        Reason.STATUS_REJECTED: Guide(
            Who.DEVELOPERS,
            "The home API server rejected a status as invalid, so the pod shows an outdated one.",
            "Please report it, with the message and farlet's log. "
            "`farlet_status_rejected_total` counts such statuses.",
        ),
        Reason.SPEC_ADJUSTED: Guide(
            Who.NO_ACTION,
            "The mirror differs from the home pod in fields that farlet cannot copy. The Event "
            "lists them.",
            "No action needed. `farlet render --explain` gives the reason for each field.",
        ),
        Reason.SPEC_FIELDS_DROPPED: Guide(
            Who.OWNER,
            "The foreign API server accepted the mirror and stored it without fields of its spec, "
            "which its version of Kubernetes does not know or has disabled. The Event lists them. "
            "The mirror runs without them.",
            "Remove the fields from the pod if it depends on none of them. Otherwise keep the pod "
            "off this node until the foreign cluster supports them: [versions](../versions.md).",
        ),
        Reason.CHANGE_REJECTED: Guide(
            Who.OWNER,
            "The pod was changed while it was running, and the foreign API server, or a policy "
            "there, rejected the change. The Event names the fields and contains the error. The "
            "mirror stays as it was, and farlet does not send this change again.",
            "Change the pod to something that the foreign cluster allows, or recreate it. If the "
            "policy there was changed since, change the pod once more, for example an annotation.",
        ),
        Reason.EPHEMERAL_CONTAINER_REJECTED: Guide(
            Who.OWNER,
            "An ephemeral container (`kubectl debug`) cannot be added to the mirror: the foreign "
            "API server or a policy there rejected it, or farlet does not allow a feature that it "
            "uses. The container is terminated with the error. The pod keeps running.",
            "Add another one that needs less: `kubectl debug --profile=baseline`, or "
            "`--profile=restricted` if the foreign namespace enforces that level of Pod Security. "
            "The message names how administrators allow a feature.",
        ),
        Reason.TOKEN_REFRESH_FAILED: Guide(
            Who.ADMIN,
            "farlet failed to refresh a home token of a running pod that has used up 80 % of its "
            "lifetime.",
            "Check that farlet reaches the home API server and is allowed to create "
            "`serviceaccounts/token`. When the token expires, the pod gets 401 Unauthorized.",
        ),
        Reason.INTERNAL_ERROR: Guide(
            Who.DEVELOPERS,
            "An unexpected error occurred while farlet worked on this pod. farlet retries with "
            "backoff.",
            "Please report it, with the traceback in farlet's log.",
        ),
    }
)
