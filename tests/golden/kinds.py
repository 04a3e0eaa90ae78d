"""Kinds of fault, and the cases that guard against each of them.

A mirror that is wrong for one program is wrong for all programs of its kind, so each kind has cases
from several products. A case is a golden (`pods/NAME`, `statuses/NAME`) or, where no golden can
show it, a test (`tests/unit/…::test_name`). Put a new case into its kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Author(Enum):
    """What the author of a case knew."""

    REPORT = "a report or a manifest of the product"
    SENTENCE = "the sentence of the kind alone, not the code"


@dataclass(frozen=True, slots=True)
class Example:
    """A case, by the product whose pods it has."""

    product: str
    case: str
    author: Author = Author.REPORT


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which a mirror, or what home shows of it, can be wrong."""

    sentence: str
    examples: tuple[Example, ...]


CHANGES = "tests/unit/reconcile/test_changes.py::"
CLI = "tests/unit/cli/test_cli.py::"
DEADLINES = "tests/unit/reconcile/test_deadlines.py::"
EPHEMERAL = "tests/unit/reconcile/test_ephemeral_containers.py::"
EVENTS = "tests/unit/reconcile/test_mirror_events.py::"
FILES = "tests/unit/reconcile/test_metadata_files.py::"
MANIFEST = "tests/unit/cli/test_manifest.py::"
RENDER = "tests/unit/cli/test_render.py::"
SENT = "tests/unit/planning/test_changes.py::test_a_change_is_sent"
WORKLOADS = "tests/unit/cli/test_workloads.py::"

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "A": Kind(
            "What admission of the home cluster adds to each pod counts as a wish of its owner.",
            (
                Example("EKS Pod Identity webhook", "pods/cloud-identity-home"),
                Example("AKS", "pods/injected-address-home"),
                Example("OpenShift", "pods/scc-ranges-dropped"),
                Example("OpenShift", "pods/token-volume-with-a-service-ca"),
                Example("k3k", "pods/priority-class-mapped"),
                Example("Datadog", "pods/socket-of-an-agent"),
                Example("Security Profiles Operator", "pods/profiles-bound-by-an-operator"),
                Example("Kafka clients", "pods/zone-from-its-labels-remote"),
                Example("GKE Sandbox", "pods/sandbox-with-overhead", Author.SENTENCE),
            ),
        ),
        "B": Kind(
            "Controllers of the foreign cluster act on labels and annotations of the mirror.",
            (
                Example("Istio", "pods/sidecar-of-a-mesh"),
                Example("Kueue", "pods/kept-marks-home"),
                Example("Linkerd", "pods/mesh-proxy"),
                Example("Vault Agent", "pods/own-token-volume"),
                Example("Dapr", "pods/marks-of-injectors"),
                Example("Cilium", "pods/pools-of-addresses"),
                Example("Kube-OVN", "pods/address-of-the-home-network", Author.SENTENCE),
            ),
        ),
        "C": Kind(
            "A pod learns a name, namespace, account, uid or node other than its home one.",
            (
                Example("RabbitMQ", "pods/queue-member"),
                Example("Strimzi", "pods/rack-of-its-node"),
                Example("Spilo", "pods/database"),
                Example("cert-manager", "pods/certificate-of-a-driver"),
                Example("Kubernetes conformance", "pods/own-metadata-home"),
                Example("Vault", "pods/member-of-a-raft-cluster", Author.SENTENCE),
            ),
        ),
        "D": Kind(
            "A reference to a namespace means another one, or none, in the foreign cluster.",
            (
                Example("Mimir", "pods/ring-member"),
                Example("kube-prometheus", "pods/alert-senders-apart"),
                Example("NodeLocal DNSCache", "pods/dns-of-home"),
                Example("Capsule", "pods/tenants-apart", Author.SENTENCE),
            ),
        ),
        "E": Kind(
            "A duty of a kubelet remains undone while no kubelet, or no container, does it.",
            (
                Example("GitLab Runner", "pods/build-with-a-deadline"),
                Example(
                    "GitLab Runner",
                    DEADLINES
                    + "test_a_pod_whose_mirror_still_waits_for_a_node_is_failed_at_the_deadline",
                ),
                Example("AWS Load Balancer Controller", "pods/updated-in-place"),
                Example("Kubernetes Jobs", "statuses/evicted-in-the-foreign-cluster"),
                Example(
                    "kubectl debug",
                    EPHEMERAL + "test_each_container_is_one_write_and_its_status_comes_back",
                ),
                Example("GKE", "statuses/load-balancer-attaches-later", Author.SENTENCE),
            ),
        ),
        "F": Kind(
            "A change of a running pod does not reach its containers.",
            (
                Example("Tekton", "pods/pipeline-step"),
                Example("Tekton", SENT + "[an annotation]"),
                Example(
                    "OpenKruise",
                    CHANGES + "test_labels_annotations_and_images_reach_the_mirror_in_one_request",
                ),
                Example(
                    "Vertical Pod Autoscaler",
                    CHANGES + "test_a_resize_reaches_the_mirror_by_its_subresource",
                ),
                Example(
                    "Argo Rollouts",
                    FILES + "test_a_canary_that_becomes_stable_loses_its_labels_and_gets_others",
                    Author.SENTENCE,
                ),
            ),
        ),
        "G": Kind(
            "A guard lets a pod reach foreign nodes, or refuses what its access mode allows.",
            (
                Example("Docker in Docker", "pods/build-runner"),
                Example("Agones", "pods/game-server"),
                Example("Tailscale", "pods/vpn-sidecar"),
                Example("BuildKit", "pods/image-builder"),
                Example("Istio", "pods/certificates-of-the-foreign-cluster"),
                Example("k3k", "pods/operator-of-the-system"),
                Example("windows_exporter", "pods/windows-host-process", Author.SENTENCE),
            ),
        ),
        "H": Kind(
            "Home does not say what a pod waits for, or what it needs in the foreign cluster.",
            (
                Example(
                    "Apache Spark",
                    EVENTS + "test_an_event_of_a_mirror_is_shown_on_its_home_pod",
                ),
                Example(
                    "NVIDIA GPU Operator",
                    RENDER + "test_every_foreign_object_that_a_pod_needs_or_gets_is_named",
                ),
                Example("Kubernetes scheduler", "statuses/unschedulable-in-the-foreign-cluster"),
                Example("CronJobs with long names", "pods/names-too-long"),
                Example("NodeLocal DNSCache", "pods/dns-of-home"),
                Example("Secrets Store CSI Driver", "pods/secrets-of-a-store", Author.SENTENCE),
                Example(
                    "Secrets Store CSI Driver",
                    RENDER + "test_what_must_exist_is_named[the class of a secret store]",
                    Author.SENTENCE,
                ),
            ),
        ),
        "I": Kind(
            "A rewritten field loses its meaning: optional, mode, order or default.",
            (
                Example("istiod", "pods/mesh-control-plane"),
                Example("Linkerd", "pods/mesh-proxy"),
                Example("Vault Agent", "pods/own-token-volume"),
                Example("Agones", "pods/game-with-a-sidecar"),
                Example("trust-manager", "pods/certificates-in-layers", Author.SENTENCE),
            ),
        ),
        "J": Kind(
            "farlet render shows another mirror than farlet creates, or fails.",
            (
                Example("Kyverno", MANIFEST + "test_the_account_of_a_bare_pod"),
                Example("Helm", MANIFEST + "test_null_is_absent"),
                Example(
                    "Kubernetes StatefulSets",
                    WORKLOADS + "test_a_workload_is_read_as_the_pod_of_its_template",
                ),
                Example(
                    "kube-downscaler",
                    MANIFEST + "test_plain_values_are_read_as_kubectl_reads_them",
                ),
                Example(
                    "manifests written by hand",
                    CLI + "test_a_manifest_that_no_api_server_accepts_is_wrong_usage",
                ),
                Example(
                    "Helm",
                    MANIFEST + "test_a_volume_without_a_source_is_an_empty_directory",
                    Author.SENTENCE,
                ),
            ),
        ),
    }
)

REPORTED: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        4: ("pods/kept-marks-home", "pods/kept-marks-remote"),
        8: ("pods/kept-marks-home", "pods/marks-of-injectors"),
        9: ("pods/priority-class-mapped", "pods/priority-class-dropped"),
        10: (
            "pods/cloud-identity-home",
            "pods/cloud-identity-remote",
            "pods/cloud-identity-disabled",
        ),
        12: ("pods/needed-objects", "statuses/unschedulable-in-the-foreign-cluster"),
        15: ("pods/legacy-token-refused", "pods/legacy-token-allowed"),
        16: (
            "pods/home-api-port-6443",
            EVENTS + "test_an_event_of_a_mirror_is_shown_on_its_home_pod",
        ),
        17: ("pods/sidecar-of-a-mesh",),
        18: ("pods/mesh-proxy",),
        19: (
            "pods/own-metadata-home",
            FILES + "test_a_canary_that_becomes_stable_loses_its_labels_and_gets_others",
        ),
        20: (
            "pods/own-metadata-home",
            SENT + "[an annotation]",
        ),
        21: ("pods/services-endpoint-home",),
        22: ("pods/own-variables-home", "pods/build-runner"),
        23: ("pods/storage-scheduler", "pods/sandbox-with-overhead"),
        24: ("pods/rack-of-its-node",),
        25: ("pods/names-too-long", "pods/long-names"),
        26: ("pods/address-of-the-home-network",),
        27: ("pods/game-server", "pods/game-with-a-sidecar"),
        28: ("pods/dns-of-home",),
        30: ("pods/database", "pods/token-mode-fs-group"),
        31: ("pods/own-token-volume",),
        32: ("pods/certificates-of-the-foreign-cluster", "pods/trust-bundle-refused"),
        33: ("pods/tracked-by-deployer",),
        34: ("pods/burst-to-virtual",),
        35: ("pods/scc-ranges-dropped", "pods/scc-ranges-kept"),
        36: (MANIFEST + "test_the_account_of_a_bare_pod",),
        37: ("pods/legacy-token-refused",),
        38: ("pods/operator-of-the-system", "pods/reach-refused"),
    }
)
"""The first collection of public reports, by its numbers: the goldens and tests of each case."""
