"""Settings that shape mirror pods: all that `farlet render` needs, and no connection."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from farlet import access
from farlet.context import (
    KEEP_ANNOTATIONS,
    KEEP_LABELS,
    Allowance,
    Context,
    DaemonSetPods,
    HomeAPI,
    MirrorPatch,
    NamespaceMap,
    PodNetwork,
    Reflection,
    RemoteServiceAccounts,
    SCCRanges,
)
from farlet.errors import UsageError
from farlet.settings import values
from farlet.settings.base import DNSLabel, Port, Several, Text
from farlet.settings.loading import Flag, Group
from farlet.settings.mirror_patch import read as read_patch
from farlet.settings.node import NodeShapeSettings


def _access_mode(value: object) -> str:
    known = sorted({e.name for e in metadata.entry_points(group=access.ENTRY_POINTS)})
    if value not in known:
        raise ValueError(f"{value!r} is not an access mode; expected one of {', '.join(known)}")
    return str(value)


class MirrorSettings(NodeShapeSettings):
    """Settings that shape mirror pods."""

    nodename: Annotated[
        str | None,
        Flag(Group.CLUSTERS, "NAME", aliases=("--node",)),
        BeforeValidator(values.dns_name),
    ] = Field(
        None, description="Name of the virtual node. Pods bound to it run in the foreign cluster."
    )
    home_name: Annotated[str, Flag(Group.NAMESPACES, "NAME"), DNSLabel] = Field(
        "home",
        description="Name of the home cluster in the names of foreign namespaces. Each home "
        "cluster that uses the same foreign cluster needs its own.",
    )
    home_id: Annotated[
        str | None,
        Flag(Group.CLUSTERS, "ID", default="uid of the home Service default/kubernetes"),
        Text,
    ] = Field(
        None,
        description="Identifies this home cluster on the objects that farlet creates in the "
        "foreign cluster. A change orphans existing mirror pods.",
    )
    foreign_system_namespace: Annotated[str, Flag(Group.NAMESPACES, "NAME"), DNSLabel] = Field(
        "farlet",
        description="Foreign namespace of farlet's own objects; it never receives pods.",
    )
    foreign_namespace_template: Annotated[
        str, Flag(Group.NAMESPACES, "TEMPLATE"), BeforeValidator(values.namespace_template)
    ] = Field(
        "{namespace}-{home}",
        description="Template for the name of the foreign namespace of a home namespace, with the "
        "variables {namespace} and {home}. A name of more than 63 characters is shortened and ends "
        "in a hash. 'none': only namespaces of --namespace-map are offloaded.",
    )
    namespace_map: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(values.namespace_pair)], ...],
        Flag(Group.NAMESPACES, "HOME=FOREIGN", many=True),
        Several,
    ] = Field(
        (),
        description="A home namespace and its foreign namespace; takes precedence over the "
        "template. Repeatable, or a comma-separated list.",
    )
    home_api_server_host: Annotated[
        str | None,
        Flag(
            Group.ACCESS,
            "HOST",
            default="the host of the home API server's URL if only the port is set",
            common=True,
        ),
        BeforeValidator(values.host),
    ] = Field(
        None,
        description="IP address or DNS name at which pods in the foreign cluster reach the home "
        "API server. The server's certificate must contain it (SAN).",
    )
    home_api_server_port: Annotated[
        Port | None,
        Flag(
            Group.ACCESS,
            "PORT",
            default="the port of the home API server's URL if only the host is set",
            common=True,
        ),
    ] = Field(
        None, description="Port at which pods in the foreign cluster reach the home API server."
    )
    home_api_server_ca_file: Annotated[
        Path | None,
        Flag(Group.ACCESS, "FILE", default="the CA of the home credentials"),
        BeforeValidator(values.certificates),
    ] = Field(
        None,
        description="PEM certificates of the CAs that issued the certificate of the home API "
        "server at the address that pods use; pods read them as ca.crt.",
    )
    cluster_domain: Annotated[
        str, Flag(Group.ACCESS, "DOMAIN"), BeforeValidator(values.dns_name)
    ] = Field("cluster.local", description="DNS domain of Services in the home cluster.")
    api_access_default: Annotated[
        str, Flag(Group.ACCESS, "MODE"), BeforeValidator(_access_mode)
    ] = Field(
        "home",
        description="Access mode of pods without the annotation liqo.io/api-server-support.",
    )
    home_token_lifetime: Annotated[
        int | Literal["as-requested"] | None,
        Flag(
            Group.ACCESS,
            "DURATION|as-requested",
            default="as the pod requests, 1h in place of 3607s",
        ),
        BeforeValidator(values.token_lifetime),
    ] = Field(
        None,
        description="Lifetime of home tokens, at least 10m. Without farlet, pods keep API access "
        "for about half of it. 'as-requested' keeps the 3607s that Kubernetes puts into pods, for "
        "which API servers grant a token of one year.",
    )
    remote_service_accounts: Annotated[
        RemoteServiceAccounts, Flag(Group.ACCESS, "|".join(RemoteServiceAccounts))
    ] = Field(
        RemoteServiceAccounts.ALL,
        description="Foreign ServiceAccounts that pods of mode remote may use: all, the one of the "
        "same name, or those with the label farlet.io/offloadable=true.",
    )
    allow_pod_feature: Annotated[
        frozenset[Allowance], Flag(Group.PODS, "|".join(Allowance), many=True), Several
    ] = Field(
        frozenset(),
        description="Pod feature that farlet otherwise refuses, since it reaches beyond the pod or "
        "exists only in the home cluster; docs/pod-features.md describes each. Repeatable, or a "
        "comma-separated list.",
    )
    keep_labels: Annotated[
        tuple[str, ...],
        Flag(Group.PODS, "PREFIX|none", many=True),
        BeforeValidator(values.prefixes),
    ] = Field(
        KEEP_LABELS,
        description="Prefix of label keys. These labels stay in the home cluster, since "
        "controllers of the foreign cluster would act on them; mirror pods of mode remote get "
        "them. Replaces the default. Repeatable, or a comma-separated list; 'none': mirror pods "
        "get all.",
    )
    keep_annotations: Annotated[
        tuple[str, ...],
        Flag(Group.PODS, "PREFIX|none", many=True),
        BeforeValidator(values.prefixes),
    ] = Field(KEEP_ANNOTATIONS, description="The same as --keep-labels for annotations.")
    priority_class_map: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(values.priority_class_pair)], ...],
        Flag(Group.PODS, "HOME=FOREIGN|drop", many=True),
        Several,
    ] = Field(
        (),
        description="A PriorityClass of the home cluster and the one that mirror pods get, or "
        "'drop' for none. '*' in place of a home class stands for all that are not named. Classes "
        "that are not mapped keep their name. Repeatable, or a comma-separated list.",
    )
    storage_class_map: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(values.storage_class_pair)], ...],
        Flag(Group.PODS, "HOME=FOREIGN", many=True),
        Several,
    ] = Field(
        (),
        description="A StorageClass of the home cluster with the provisioner farlet.io/foreign, "
        "and the one of the foreign cluster that provides its volumes (docs/volumes.md). "
        "Repeatable, or a comma-separated list.",
    )
    mirror_patch: Annotated[
        MirrorPatch, Flag(Group.PODS, "FILE", default="none"), BeforeValidator(read_patch)
    ] = Field(
        MirrorPatch(),
        description="YAML file with labels, nodeSelector, tolerations, affinity and "
        "runtimeClassName that mirror pods get in addition; docs/pod-features.md describes how "
        "they are combined with those of the pod.",
    )
    scc_ranges: Annotated[SCCRanges, Flag(Group.PODS, "|".join(SCCRanges))] = Field(
        SCCRanges.KEEP,
        description="Handling of user ids, volume groups and SELinux levels that an OpenShift home "
        "cluster wrote into pods. 'drop': another OpenShift cluster chooses its own.",
    )
    daemonset_pods: Annotated[DaemonSetPods, Flag(Group.PODS, "|".join(DaemonSetPods))] = Field(
        DaemonSetPods.REFUSE,
        description="Handling of DaemonSet pods on the virtual node. 'refuse': they stay Pending "
        "(DaemonSetNotAllowed) and get no mirror pod; pods that are already running keep running.",
    )
    pod_network: Annotated[PodNetwork, Flag(Group.PODS, "|".join(PodNetwork))] = Field(
        PodNetwork.ISOLATED,
        description="Whether the home cluster can route to the IPs of mirror pods. 'isolated' "
        "keeps them out of status.podIP.",
    )

    reflect: Annotated[
        frozenset[Reflection], Flag(Group.PODS, "|".join(Reflection), many=True), Several
    ] = Field(
        frozenset(),
        description="Home objects that farlet copies to the foreign namespace and keeps up to "
        "date. 'services': Services and their endpoints, so that mirror pods reach them by name "
        "and by environment variables. Requires --pod-network=connected, "
        "manifests/home/reflected-services.yaml and manifests/foreign/reflected-services.yaml.",
    )

    @model_validator(mode="after")
    def _endpoints_are_reachable(self) -> MirrorSettings:
        if self.reflect and self.pod_network is not PodNetwork.CONNECTED:
            raise ValueError(
                "--reflect=services requires --pod-network=connected: without a route between the "
                "pod networks, the endpoints of home Services are not reachable for mirror pods"
            )
        return self

    @model_validator(mode="after")
    def _namespaces_are_consistent(self) -> MirrorSettings:
        if self.foreign_system_namespace in {foreign for _, foreign in self.namespace_map}:
            raise ValueError(
                f"--namespace-map contains {self.foreign_system_namespace!r}, which is farlet's "
                "own namespace (--foreign-system-namespace); choose another name for one of the "
                "two"
            )
        try:
            self.namespaces()
        except UsageError as err:
            raise ValueError(str(err)) from err
        return self

    def namespaces(self) -> NamespaceMap:
        """The foreign namespace of each home namespace."""
        template = self.foreign_namespace_template
        return NamespaceMap(
            home=self.home_name,
            own=self.foreign_system_namespace,
            template=None if template == "none" else template,
            pairs=self.namespace_map,
        )

    def context(self, *, node: str, home_id: str, home_api: HomeAPI, home_ca: str) -> Context:
        """The context as far as settings define it, with what farlet found at its start.

        The caller replaces the IP of the node where none is set.
        """
        lifetime = self.home_token_lifetime
        return Context(
            node=node,
            home_id=home_id,
            namespaces=self.namespaces(),
            home_api=home_api,
            home_ca=home_ca,
            cluster_domain=self.cluster_domain,
            access_default=self.api_access_default,
            token_lifetime=lifetime if isinstance(lifetime, int) else None,
            token_as_requested=lifetime == "as-requested",
            remote_service_accounts=self.remote_service_accounts,
            allow_pod_feature=self.allow_pod_feature,
            keep_labels=self.keep_labels,
            keep_annotations=self.keep_annotations,
            priority_class_map=self.priority_class_map,
            storage_class_map=self.storage_class_map,
            mirror_patch=self.mirror_patch,
            scc_ranges=self.scc_ranges,
            daemonset_pods=self.daemonset_pods,
            pod_network=self.pod_network,
            reflect=self.reflect,
            node_ip=self.node_ip or "",
            node_labels=self.own_label_keys(),
            taints=self.taint_keys(),
        )
