"""The settings that shape a mirror: all that `farlet render` needs, and no connection."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from farlet import access
from farlet.context import (
    Allowance,
    Context,
    DaemonSetPods,
    HomeAPI,
    NamespaceMap,
    PodNetwork,
    RemoteServiceAccounts,
)
from farlet.errors import UsageError
from farlet.settings import values
from farlet.settings.base import DNSLabel, Several, Text, whole
from farlet.settings.loading import Flag, Group
from farlet.settings.node import NodeLook


def _strategy_name(value: object) -> str:
    known = sorted({e.name for e in metadata.entry_points(group=access.ENTRY_POINTS)})
    if value not in known:
        raise ValueError(f"{value!r} is no access mode; give one of {', '.join(known)}")
    return str(value)


class MirrorSettings(NodeLook):
    """The settings that shape a mirror: all that `farlet render` needs."""

    nodename: Annotated[
        str | None, Flag(Group.CLUSTERS, "NAME"), BeforeValidator(values.dns_name)
    ] = Field(
        None, description="Name of the virtual node at home. Pods bound to it are sent abroad."
    )
    home_name: Annotated[str, Flag(Group.NAMESPACES, "NAME"), DNSLabel] = Field(
        "home",
        description="What the home cluster is called in names of foreign namespaces. Give each "
        "home that shares a foreign cluster its own.",
    )
    home_id: Annotated[
        str | None,
        Flag(Group.CLUSTERS, "ID", default="uid of the Service default/kubernetes at home"),
        Text,
    ] = Field(
        None,
        description="What tells this home cluster from others among the objects abroad. "
        "Changing it orphans the mirrors that exist.",
    )
    foreign_system_namespace: Annotated[str, Flag(Group.NAMESPACES, "NAME"), DNSLabel] = Field(
        "farlet",
        description="Foreign namespace for farlet's own objects; never receives pods.",
    )
    foreign_namespace_template: Annotated[
        str, Flag(Group.NAMESPACES, "TEMPLATE"), BeforeValidator(values.namespace_template)
    ] = Field(
        "{namespace}-{home}",
        description="Name of the foreign namespace of a home namespace. {namespace} and {home} "
        "are filled in; over 63 characters it is cut and gets a hash. 'none': only namespaces "
        "of --namespace-map receive pods.",
    )
    namespace_map: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(values.namespace_pair)], ...],
        Flag(Group.NAMESPACES, "HOME=FOREIGN", many=True),
        Several,
    ] = Field(
        (),
        description="An explicit pair of namespaces, which wins over the template. May be given "
        "more than once, or as a list with commas.",
    )
    home_api_server_host: Annotated[
        str | None,
        Flag(
            Group.ACCESS,
            "HOST",
            default="that of the home API server's URL if only the port is given",
        ),
        BeforeValidator(values.host),
    ] = Field(
        None,
        description="IP address or DNS name at which pods abroad reach the home API server. It "
        "must stand in that server's certificate.",
    )
    home_api_server_port: Annotated[
        int | None,
        Flag(
            Group.ACCESS,
            "PORT",
            default="that of the home API server's URL if only the host is given",
        ),
        whole(1, 65535),
    ] = Field(None, description="Port at which pods abroad reach the home API server.")
    home_api_server_ca_file: Annotated[
        Path | None,
        Flag(Group.ACCESS, "FILE", default="the CA of the home credentials"),
        BeforeValidator(values.certificates),
    ] = Field(
        None,
        description="PEM certificates that verify the home API server at that address; pods "
        "abroad read them as ca.crt.",
    )
    cluster_domain: Annotated[
        str, Flag(Group.ACCESS, "DOMAIN"), BeforeValidator(values.dns_name)
    ] = Field("cluster.local", description="DNS domain of Services at home.")
    api_access_default: Annotated[
        str, Flag(Group.ACCESS, "MODE"), BeforeValidator(_strategy_name)
    ] = Field(
        "home",
        description="Which API pods reach that carry no annotation liqo.io/api-server-support.",
    )
    home_token_lifetime: Annotated[
        int | Literal["as-requested"] | None,
        Flag(
            Group.ACCESS,
            "SECONDS|as-requested",
            default="as the pod asks, 3600 in place of 3607",
        ),
        BeforeValidator(values.token_lifetime),
    ] = Field(
        None,
        description="Life of home tokens, at least 600 s; pods survive about half of it without "
        "farlet. 'as-requested' keeps the 3607 s that Kubernetes puts into pods, for which API "
        "servers grant a token of a year.",
    )
    remote_service_accounts: Annotated[
        RemoteServiceAccounts, Flag(Group.ACCESS, "|".join(RemoteServiceAccounts))
    ] = Field(
        RemoteServiceAccounts.ALL,
        description="Which foreign ServiceAccounts pods of mode remote may take: every one, only "
        "that of the same name, or only those labelled farlet.io/offloadable=true.",
    )
    allow_pod_feature: Annotated[
        frozenset[Allowance], Flag(Group.PODS, "|".join(Allowance), many=True), Several
    ] = Field(
        frozenset(),
        description="A kind of pod that is refused otherwise. May be given more than once, or as "
        "a list with commas.",
    )
    daemonset_pods: Annotated[DaemonSetPods, Flag(Group.PODS, "|".join(DaemonSetPods))] = Field(
        DaemonSetPods.REFUSE,
        description="What becomes of pods that a DaemonSet puts on the virtual node. 'refuse': "
        "they stay Pending (DaemonSetNotAllowed) and nothing of them runs abroad; those that run "
        "already go on.",
    )
    pod_network: Annotated[PodNetwork, Flag(Group.PODS, "|".join(PodNetwork))] = Field(
        PodNetwork.ISOLATED,
        description="Whether home can route to the IPs of mirrors. 'isolated' keeps them out of "
        "status.podIP.",
    )

    @model_validator(mode="after")
    def _namespaces_fit(self) -> MirrorSettings:
        if self.foreign_system_namespace in {foreign for _, foreign in self.namespace_map}:
            raise ValueError(
                f"--namespace-map sends pods into {self.foreign_system_namespace!r}, which is "
                "farlet's own (--foreign-system-namespace); choose another for one of them"
            )
        try:
            self.namespaces()
        except UsageError as err:
            raise ValueError(str(err)) from err
        return self

    def namespaces(self) -> NamespaceMap:
        """How home namespaces are named abroad."""
        template = self.foreign_namespace_template
        return NamespaceMap(
            home=self.home_name,
            own=self.foreign_system_namespace,
            template=None if template == "none" else template,
            pairs=self.namespace_map,
        )

    def context(self, *, node: str, home_id: str, home_api: HomeAPI, home_ca: str) -> Context:
        """The part of the context that settings decide; what is found at start is given.

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
            daemonset_pods=self.daemonset_pods,
            pod_network=self.pod_network,
            node_ip=self.node_ip or "",
            node_labels=self.own_label_keys(),
            taints=self.taint_keys(),
        )
