"""What `render` prints, from the Pod to the text."""

import json
from typing import Any, cast

import pytest
import yaml

import pods
from farlet import access
from farlet.access.changes import ChangeKind
from farlet.cli import render
from farlet.cli.manifest import RESOLVED
from farlet.context import Allowance, Context, NamespaceMap, Verified
from farlet.errors import Refused
from farlet.forge import copies, references
from farlet.forge.copies import Source
from farlet.forge.references import Kind
from farlet.k8s_types import Pod

STRATEGIES = access.load_strategies()


def _render(pod: Pod, **fields: Any) -> render.Rendered:
    return render.render(
        pod, namespace="default", strategies=STRATEGIES, ctx=pods.context(**fields)
    )


def _bare(**spec: Any) -> Pod:
    pod = pods.pod(**spec)
    del pod["metadata"]["uid"]  # type: ignore[misc]
    del pod["spec"]["nodeName"]
    return pod


def _stored(**spec: Any) -> Pod:
    pod = pods.pod(**spec)
    pod["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    return pod


def _env(rendered: render.Rendered) -> dict[str, str]:
    return {e["name"]: e["value"] for e in rendered.mirror["spec"]["containers"][0]["env"]}


def test_a_known_pod_is_printed_as_it_would_be_sent() -> None:
    text = render.to_yaml(_render(pods.pod(volumes=[pods.projected(pods.token())])))
    mirror, secret = yaml.safe_load_all(text)
    assert (mirror["kind"], secret["kind"]) == ("Pod", "Secret")
    assert (
        mirror["metadata"]["labels"]["farlet.io/virtual-node-id"] == pods.context().virtual_node_id
    )
    assert secret["metadata"]["name"] == f"farlet-{pods.UID}"
    assert "&" not in text


def test_labels_and_annotations_in_files_are_in_the_secret() -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    volumes = [{"name": "info", "downwardAPI": {"items": items}}]
    for pod, expected in ((_bare(volumes=volumes), True), (_stored(volumes=volumes), False)):
        _, secret = json.loads(render.to_json(_render(pod)))["items"]
        assert secret["data"]["labels"] == "YXBwPSJ3ZWIi"
        mark = secret["metadata"]["annotations"]["farlet.io/metadata-files"]
        assert (mark == RESOLVED) is expected


def test_a_secret_without_tokens_names_no_certificate_authority() -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    pod = _stored(volumes=[{"name": "info", "downwardAPI": {"items": items}}])
    pod["metadata"]["annotations"] = {"liqo.io/api-server-support": "disabled"}
    _, secret = json.loads(render.to_json(_render(pod, home_ca=RESOLVED)))["items"]
    assert "farlet.io/home-ca" not in secret["metadata"]["annotations"]


def test_token_values_and_what_only_a_running_farlet_knows_are_never_printed() -> None:
    rendered = _render(_bare(), home_ca=RESOLVED, node=RESOLVED, home_id=RESOLVED)
    mirror, secret = json.loads(render.to_json(rendered))["items"]
    assert secret["data"] == {
        "token": render.REDACTED,
        "ca.crt": RESOLVED,
        "namespace": "c2hvcA==",
    }
    assert secret["metadata"]["ownerReferences"][0]["uid"] == RESOLVED
    assert mirror["metadata"]["annotations"]["farlet.io/tokens"] == RESOLVED
    assert mirror["metadata"]["annotations"]["farlet.io/home-uid"] == RESOLVED
    for item in (mirror, secret):
        assert item["metadata"]["labels"]["farlet.io/virtual-node-id"] == RESOLVED


def test_a_mirror_alone_is_json_without_a_list() -> None:
    pod = pods.pod(annotations={"liqo.io/api-server-support": "disabled"})
    assert json.loads(render.to_json(_render(pod)))["kind"] == "Pod"


@pytest.mark.parametrize(
    ("host", "port", "expected", "aliases"),
    [
        pytest.param(
            None,
            None,
            {
                "KUBERNETES_SERVICE_HOST": RESOLVED,
                "KUBERNETES_SERVICE_PORT": RESOLVED,
                "KUBERNETES_PORT": f"tcp://{RESOLVED}:{RESOLVED}",
            },
            False,
            id="nothing known",
        ),
        pytest.param(
            "192.0.2.1",
            None,
            {
                "KUBERNETES_SERVICE_HOST": "192.0.2.1",
                "KUBERNETES_SERVICE_PORT": RESOLVED,
                "KUBERNETES_PORT": f"tcp://192.0.2.1:{RESOLVED}",
            },
            True,
            id="the host",
        ),
        pytest.param(
            None,
            6443,
            {
                "KUBERNETES_SERVICE_HOST": RESOLVED,
                "KUBERNETES_SERVICE_PORT": "6443",
                "KUBERNETES_PORT": f"tcp://{RESOLVED}:6443",
            },
            False,
            id="the port",
        ),
        pytest.param(
            "192.0.2.1",
            443,
            {
                "KUBERNETES_SERVICE_HOST": "192.0.2.1",
                "KUBERNETES_SERVICE_PORT": "443",
                "KUBERNETES_PORT": "tcp://192.0.2.1:443",
            },
            True,
            id="both",
        ),
    ],
)
def test_an_address_that_flags_leave_open_is_not_invented(
    host: str | None, port: int | None, expected: dict[str, str], aliases: bool
) -> None:
    rendered = _render(pods.pod(), home_api=Verified(render.endpoint(host, port)))
    env = _env(rendered)
    assert expected.items() <= env.items()
    assert not any("_0_" in name for name in env)
    assert bool(rendered.mirror["spec"].get("hostAliases")) is aliases
    open_flag = "-host is" if host is None else "-port is" if port is None else "set"
    [about_aliases] = [c for c in rendered.changes if c.path == "spec.hostAliases"]
    assert (open_flag in about_aliases.why) is (None in (host, port))
    assert about_aliases.kind is (ChangeKind.ADDED if aliases else ChangeKind.UNCHANGED)


def test_a_name_of_the_home_api_server_without_a_port_has_its_own_limit() -> None:
    rendered = _render(pods.pod(), home_api=Verified(render.endpoint("api.example", None)))
    [about_aliases] = [c for c in rendered.changes if c.path == "spec.hostAliases"]
    assert "the home API server at api.example:443 has a DNS name" in about_aliases.why


def test_an_open_address_does_not_concern_a_remote_pod() -> None:
    pod = pods.pod(annotations={"liqo.io/api-server-support": "remote"})
    rendered = _render(pod, home_api=Verified(render.endpoint(None, None)))
    assert rendered.mirror["spec"]["containers"] == pod["spec"]["containers"]
    assert "ServiceAccount default required in foreign namespace shop-home" in render.explain(
        rendered
    )


def test_each_difference_is_explained_in_one_line() -> None:
    rendered = _render(_bare(readinessGates=[{"conditionType": "x"}], starboard={}))
    lines = render.explain(rendered).splitlines()
    objects = ("Namespace ", "Pod ", "Secret ")
    differences = [line for line in lines if not line.startswith(objects)]
    assert len(differences) == len(rendered.changes) + 1 + len(rendered.token_specs)
    for words in (
        f"spec.volumes[kube-api-access-{RESOLVED}] added: the home API server adds it",
        "spec.readinessGates dropped: ",
        "spec.starboard copied: this version of farlet does not know",
        "token token requested from home: audience of the API server, 3600 s",
    ):
        assert any(line.startswith(words) for line in lines)


def test_the_diff_leads_from_the_home_pod_to_the_mirror() -> None:
    lines = render.diff(_render(pods.pod(nodeName="far"))).splitlines()
    assert lines[:2] == ["--- home/shop/web", "+++ foreign/shop-home/web"]
    assert "-  nodeName: far" in lines
    assert "+  automountServiceAccountToken: false" in lines


def test_a_refused_pod_is_refused_with_the_message_of_the_operator() -> None:
    with pytest.raises(Refused, match="--allow-pod-feature=host-network"):
        _render(pods.pod(hostNetwork=True))


def test_an_ephemeral_container_is_left_out_with_the_flag_that_allows_it() -> None:
    debugger = pods.container("dbg", securityContext={"capabilities": {"add": ["SYS_PTRACE"]}})
    rendered = _render(pods.pod(ephemeralContainers=[debugger]))
    [line] = [text for text in render.explain(rendered).splitlines() if "[dbg]" in text]
    assert line.startswith("spec.ephemeralContainers[dbg].securityContext.capabilities.add[0]")
    assert line.endswith("--allow-pod-feature=debug-tracing")
    assert "ephemeralContainers" not in rendered.mirror["spec"]


def test_the_pod_that_was_read_is_left_alone() -> None:
    pod = _bare()
    _render(pod)
    assert pod == _bare()


def test_what_names_the_virtual_node_is_left_out_without_any_flag() -> None:
    ctx = Context(
        node=RESOLVED,
        home_id=RESOLVED,
        namespaces=NamespaceMap(home="home", own="farlet"),
        home_api=Verified(render.endpoint(None, None)),
        home_ca=RESOLVED,
    )
    pod = _bare(
        tolerations=[{"key": "farlet.io/virtual-node", "operator": "Exists"}],
        nodeSelector={"type": "virtual-kubelet"},
    )
    rendered = render.render(pod, namespace="default", strategies=STRATEGIES, ctx=ctx)
    assert rendered.mirror["spec"].keys().isdisjoint({"tolerations", "nodeSelector"})


def test_copies_are_explained_by_name_and_never_look_known_when_they_are_not() -> None:
    pod = pods.pod(imagePullSecrets=[{"name": "pull"}])
    source = Source(Kind.SECRET, "shop", "pull")
    known = _render(pod)
    name = copies.copy_name(source, pods.context())
    (reference,) = references.references(known.mirror["spec"])
    assert reference.name == name
    where = known.mirror["metadata"]["namespace"]
    line = f"Secret pull copied to {name} in foreign namespace {where}, if it exists\n"
    assert line in render.explain(known)
    unknown = _render(pod, home_id=RESOLVED)
    (reference,) = references.references(unknown.mirror["spec"])
    assert reference.name == f"pull-{RESOLVED}"
    assert f"Secret pull copied to pull-{RESOLVED} in" in render.explain(unknown)


def test_every_foreign_object_that_a_pod_needs_or_gets_is_named() -> None:
    template = {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}
    pod = pods.pod(
        runtimeClassName="nvidia",
        priorityClassName="batch",
        volumes=[
            pods.projected(pods.token()),
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-0"}},
            {"name": "scratch", "ephemeral": template},
            {"name": "other", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
        ],
    )
    lines = render.explain(_render(pod)).splitlines()
    secret = f"farlet-{pods.UID}"
    assert [line for line in lines if " required " in line] == [
        (
            "Namespace shop-home required in the foreign cluster, unless farlet creates it "
            "(--create-namespaces)"
        ),
        "RuntimeClass nvidia required in the foreign cluster",
        "PriorityClass batch required in the foreign cluster",
        "PersistentVolumeClaim data-0 required in foreign namespace shop-home",
        "StorageClass fast required in the foreign cluster, for the volume scratch",
        "A default StorageClass required in the foreign cluster, for the volume other",
    ]
    assert [line for line in lines if " created in " in line] == [
        "Pod web created in foreign namespace shop-home",
        f"Secret {secret} created in foreign namespace shop-home, with ca.crt, namespace, token",
        "PersistentVolumeClaim web-scratch created in foreign namespace shop-home, by its cluster",
        "PersistentVolumeClaim web-other created in foreign namespace shop-home, by its cluster",
    ]


_SNAPSHOT = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "base"}


def _ephemeral(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"storageClassName": "fast", **spec}}
    return {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}


def _local(profile: str) -> dict[str, str]:
    return {"type": "Localhost", "localhostProfile": profile}


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
TERMS = [
    {
        "matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["a", "b"]},
            {"key": "gpu", "operator": "Exists"},
            {"key": "hot", "operator": "DoesNotExist"},
        ]
    },
    {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["8"]}]},
]
ANY_LINUX = {
    "matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]
}
SECRET_STORE = {
    "driver": "secrets-store.csi.k8s.io",
    "volumeAttributes": {"secretProviderClass": "vault"},
}
REQUIREMENTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "labels of nodes": (
        {"nodeSelector": {"kubernetes.io/os": "linux", "pool": "ssd", "gpu": ""}},
        ["Node with the labels gpu=, pool=ssd required in the foreign cluster"],
    ),
    "labels that all nodes have": ({"nodeSelector": {"kubernetes.io/arch": "amd64"}}, []),
    "what a volume is made from, in another namespace": (
        {"volumes": [_ephemeral(dataSourceRef={**_SNAPSHOT, "namespace": "golden"})]},
        ["VolumeSnapshot base required in foreign namespace golden, for the volume scratch"],
    ),
    "what a volume is made from": (
        {"volumes": [_ephemeral(dataSource=_SNAPSHOT)]},
        ["VolumeSnapshot base required in foreign namespace shop-home, for the volume scratch"],
    ),
    "labels of nodes, by an affinity": (
        {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": TERMS}}}},
        ["Node with zone in (a, b), gpu, !hot; or with cores > 8 required in the foreign cluster"],
    ),
    "an affinity to labels that all nodes have": (
        {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [*TERMS, ANY_LINUX]}}}},
        [],
    ),
    "profiles that confine containers": (
        {
            "securityContext": {"seccompProfile": _local("pod.json")},
            "containers": [
                pods.container("app", securityContext={"appArmorProfile": _local("app")}),
                pods.container("twin", securityContext={"seccompProfile": _local("pod.json")}),
                pods.container(
                    "other", securityContext={"seccompProfile": {"type": "RuntimeDefault"}}
                ),
            ],
        },
        [
            "Seccomp profile pod.json required on foreign nodes",
            "AppArmor profile app required on foreign nodes",
        ],
    ),
    "the class of a secret store": (
        {"volumes": [{"name": "ks", "csi": SECRET_STORE}]},
        [
            "CSI driver secrets-store.csi.k8s.io required on foreign nodes",
            "SecretProviderClass vault required in foreign namespace shop-home, for the volume ks",
        ],
    ),
    "attributes of a volume": (
        {"volumes": [_ephemeral(volumeAttributesClassName="gold")]},
        ["VolumeAttributesClass gold required in the foreign cluster, for the volume scratch"],
    ),
}


@pytest.mark.parametrize(("spec", "named"), REQUIREMENTS.values(), ids=REQUIREMENTS)
def test_what_must_exist_is_named(spec: dict[str, Any], named: list[str]) -> None:
    rendered = _render(pods.pod(**spec), allow_pod_feature=frozenset({Allowance.INLINE_CSI}))
    lines = render.explain(rendered).splitlines()
    usual = ("Namespace ", "StorageClass ")
    required = [line for line in lines if " required " in line and not line.startswith(usual)]
    assert required == named


def test_what_only_other_modes_or_settings_need_is_named() -> None:
    pod = pods.pod(
        annotations={"liqo.io/api-server-support": "remote"},
        resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "gpus"}],
        volumes=[
            pods.projected({"clusterTrustBundle": {"signerName": "ca.example/x", "path": "p"}})
        ],
    )
    lines = render.explain(_render(pod)).splitlines()
    assert [line for line in lines if " required " in line][1:] == [
        "ServiceAccount default required in foreign namespace shop-home",
        "ResourceClaimTemplate gpus required in foreign namespace shop-home",
        "ClusterTrustBundle of signer ca.example/x required in the foreign cluster",
    ]


def test_claims_are_shown_with_names_that_only_the_home_cluster_can_give() -> None:
    volumes = [{"name": "disk", "persistentVolumeClaim": {"claimName": "data"}}]
    rendered = _render(pods.pod(volumes=volumes), storage_class_map=(("far", "fast"),))
    (volume,) = cast("Any", rendered.mirror["spec"])["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == f"data-{RESOLVED}"
    assert "Claim data of a class in --storage-class-map required" in render.explain(rendered)
    plain = _render(pods.pod(volumes=volumes))
    assert cast("Any", plain.mirror["spec"])["volumes"] == volumes
    assert "PersistentVolumeClaim data required in foreign namespace" in render.explain(plain)
