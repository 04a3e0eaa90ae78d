"""Where each kind of resource lives in the Kubernetes API."""

_CORE = "/api/v1"
_GROUPS = {
    **dict.fromkeys(("leases",), "/apis/coordination.k8s.io/v1"),
    **dict.fromkeys(
        ("roles", "rolebindings", "clusterroles", "clusterrolebindings"),
        "/apis/rbac.authorization.k8s.io/v1",
    ),
    **dict.fromkeys(("deployments", "replicasets", "daemonsets", "statefulsets"), "/apis/apps/v1"),
    **dict.fromkeys(("jobs", "cronjobs"), "/apis/batch/v1"),
    "certificatesigningrequests": "/apis/certificates.k8s.io/v1",
    "selfsubjectreviews": "/apis/authentication.k8s.io/v1",
    "subjectaccessreviews": "/apis/authorization.k8s.io/v1",
    "tokenreviews": "/apis/authentication.k8s.io/v1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
    **dict.fromkeys(
        (
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ),
        "/apis/admissionregistration.k8s.io/v1",
    ),
    "storageclasses": "/apis/storage.k8s.io/v1",
    "priorityclasses": "/apis/scheduling.k8s.io/v1",
}


def path(
    resource: str,
    *,
    namespace: str | None = None,
    name: str | None = None,
    subresource: str | None = None,
) -> str:
    """The URL path of a resource, named by its plural or by `GROUP/VERSION/PLURAL`."""
    group, _, plural = resource.rpartition("/")
    words = [f"/apis/{group}" if group else _GROUPS.get(plural, _CORE)]
    words += ["namespaces", namespace] if namespace is not None else []
    words.append(plural)
    words += [word for word in (name, subresource) if word is not None]
    return "/".join(words)
