"""Access mode home: details of tokens, files, variables and refusals beyond the golden cases."""

import base64
import re
from typing import Any

import pytest

import pods
from farlet import context
from farlet.access import Token
from farlet.access.changes import ChangeKind
from farlet.access.home import HomeAccess
from farlet.constants import Reason
from farlet.context import Endpoint, NotConfigured, Verified
from farlet.errors import Refused
from farlet.k8s_types import OwnerReference

HOME = HomeAccess()
OWNER: OwnerReference = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "m"}
ROOT_CA: dict[str, Any] = {"configMap": {"name": "kube-root-ca.crt"}}


@pytest.mark.parametrize(
    ("requested", "settings", "expected"),
    [
        pytest.param({}, {}, 3600, id="one hour by default"),
        pytest.param({"expirationSeconds": 7200}, {}, 7200, id="as requested"),
        pytest.param({"expirationSeconds": 3607}, {}, 3600, id="3607 would be a year"),
        pytest.param({"expirationSeconds": 3607, "audience": "x"}, {}, 3600, id="any audience"),
        pytest.param(
            {"expirationSeconds": 3607},
            {"token_as_requested": True},
            3607,
            id="3607 if the setting allows it",
        ),
        pytest.param({"expirationSeconds": 600}, {"token_lifetime": 86400}, 86400, id="setting"),
        pytest.param({}, {"token_lifetime": 3607}, 3600, id="3607 as a setting"),
    ],
)
def test_lifetime_of_a_token(
    requested: dict[str, Any], settings: dict[str, Any], expected: int
) -> None:
    pod = pods.pod(volumes=[pods.projected(pods.token(**requested))])
    (token_spec,) = HOME.token_specs(pod, pods.context(**settings))
    assert token_spec.expiration_seconds == expected


def test_one_token_per_audience_with_the_shortest_lifetime() -> None:
    pod = pods.pod(
        volumes=[
            pods.projected(pods.token(audience="vault", expirationSeconds=7200)),
            pods.projected(pods.token(), pods.token("t", audience="vault", expirationSeconds=600)),
            pods.projected(pods.token(audience=""), name="empty-is-none"),
            pods.projected(pods.token(audience="https://mesh/äö\n"), name="odd"),
        ]
    )
    token_specs = HOME.token_specs(pod, pods.context())
    assert [(c.audience, c.expiration_seconds) for c in token_specs] == [
        ("vault", 600),
        (None, 3600),
        ("https://mesh/äö\n", 3600),
    ]
    assert len({token_spec.key for token_spec in token_specs}) == 3
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", token_spec.key) for token_spec in token_specs)
    assert [token_spec.key for token_spec in token_specs if token_spec.audience is None] == [
        "token"
    ]


@pytest.mark.parametrize(
    ("volumes", "containers", "needed"),
    [
        pytest.param([], [pods.container()], False, id="a pod without token has no Secret"),
        pytest.param([pods.projected(pods.token())], [pods.container()], True, id="token"),
        pytest.param([{"name": "ca", **ROOT_CA}], [pods.container()], True, id="CA volume"),
        pytest.param([pods.projected(ROOT_CA)], [pods.container()], True, id="projected CA"),
        pytest.param(
            [],
            [pods.container(envFrom=[{"configMapRef": {"name": "kube-root-ca.crt"}}])],
            True,
            id="CA by envFrom",
        ),
        pytest.param(
            [{"name": "c", "configMap": {"name": "other"}}], [pods.container()], False, id="other"
        ),
    ],
)
def test_a_secret_exists_exactly_if_the_pod_reads_a_file_of_it(
    volumes: list[Any], containers: list[Any], needed: bool
) -> None:
    pod = pods.pod(volumes=volumes, containers=containers)
    ctx = pods.context()
    secrets = HOME.objects(pod, {}, ctx, OWNER)
    mutated = HOME.mutate(pod["spec"], pod, ctx).spec
    assert bool(secrets) is needed
    assert (f"farlet-{pods.UID}" in str(mutated)) is needed


def test_a_refresh_contains_only_new_tokens() -> None:
    pod = pods.pod(volumes=[pods.projected(pods.token(), pods.token("v", audience="vault"))])
    (secret,) = HOME.objects(pod, {"token": Token("secret-value", 0, 1)}, pods.context(), OWNER)
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert data == {"token": "secret-value", "ca.crt": "PEM", "namespace": "shop"}
    assert secret["metadata"]["ownerReferences"] == [OWNER]
    assert secret["metadata"]["namespace"] == "shop-home"


MODES = [
    pytest.param({}, {}, None, id="no user: default mode, like a native token"),
    pytest.param(
        {"runAsUser": 1000},
        {},
        0o444,
        id="all as 1000: readable by all, since a native token has that owner",
    ),
    pytest.param({"runAsUser": 0}, {}, 0o600, id="all as root"),
    pytest.param({"fsGroup": 2000}, {}, 0o600, id="fsGroup adds group read"),
    pytest.param({"runAsUser": 1000, "fsGroup": 2000}, {}, 0o600, id="fsGroup overrides the user"),
    pytest.param({"runAsUser": 1000, "fsGroup": 0}, {}, 0o600, id="fsGroup 0 counts"),
    pytest.param({"runAsUser": 1000}, {"runAsUser": 1001}, None, id="two users: default mode"),
    pytest.param({}, {"runAsUser": 1000}, None, id="only one container has a user"),
    pytest.param({"runAsUser": 0}, {"runAsUser": 1000}, None, id="root and another"),
]


@pytest.mark.parametrize(("of_pod", "of_second", "expected"), MODES)
@pytest.mark.parametrize("init", [False, True], ids=["two containers", "an init container"])
def test_every_process_that_can_read_a_native_token_can_read_ours(
    of_pod: dict[str, int], of_second: dict[str, int], expected: int | None, init: bool
) -> None:
    second = pods.container("second", securityContext=of_second)
    pod = pods.pod(
        securityContext=of_pod,
        containers=[pods.container(), *([] if init else [second])],
        initContainers=[second] if init else [],
        volumes=[pods.projected(pods.token(), defaultMode=0o400)],
    )
    spec = HOME.mutate(pod["spec"], pod, pods.context()).spec
    (source,) = spec["volumes"][0]["projected"]["sources"]
    (item,) = source["secret"]["items"]
    assert item.get("mode") == expected
    assert spec["volumes"][0]["projected"]["defaultMode"] == 0o400


def test_the_last_of_two_sources_for_one_file_wins_as_in_a_kubelet() -> None:
    sources = [pods.token(audience="a"), pods.token(audience="b")]
    pod = pods.pod(volumes=[pods.projected(*sources)])
    spec = HOME.mutate(pod["spec"], pod, pods.context()).spec
    (source,) = spec["volumes"][0]["projected"]["sources"]
    (token_spec,) = [c for c in HOME.token_specs(pod, pods.context()) if c.audience == "b"]
    assert source["secret"]["items"] == [{"key": token_spec.key, "path": "token"}]


@pytest.mark.parametrize(
    ("settings", "reason", "word"),
    [
        pytest.param(
            {"home_api": NotConfigured()},
            Reason.HOME_API_NOT_CONFIGURED,
            "--home-api-server-host",
            id="no address",
        ),
        pytest.param(
            {
                "home_api": context.Refused(
                    Reason.HOME_API_CERTIFICATE_INVALID, "names only x", Endpoint("x", 443)
                )
            },
            Reason.HOME_API_CERTIFICATE_INVALID,
            "names only x",
            id="certificate",
        ),
        pytest.param(
            {"home_ca": ""},
            Reason.HOME_API_NOT_CONFIGURED,
            "--home-api-server-ca-file",
            id="no CA",
        ),
    ],
)
@pytest.mark.parametrize("automount", [True, False])
def test_a_pod_is_refused_while_foreign_pods_cannot_reach_the_home_api(
    settings: dict[str, Any], reason: Reason, word: str, automount: bool
) -> None:
    pod = pods.pod(automountServiceAccountToken=automount)
    ctx = pods.context(**settings)
    for refused in (
        lambda: HOME.requirements(pod, ctx),
        lambda: HOME.mutate(pod["spec"], pod, ctx),
    ):
        with pytest.raises(Refused) as caught:
            refused()
        assert caught.value.reason is reason
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("host", "port", "aliased", "limits"),
    [
        pytest.param("192.0.2.10", 443, True, [], id="an IP on 443 serves every client"),
        pytest.param("2001:db8::1", 443, True, [], id="an IPv6 address"),
        pytest.param("192.0.2.10", 6443, True, ["port 6443"], id="another port"),
        pytest.param("api.example", 443, False, ["DNS name"], id="a name"),
        pytest.param("api.example", 6443, False, ["DNS name", "port 6443"], id="both"),
    ],
)
def test_clients_of_the_service_name_get_aliases_or_a_report(
    host: str, port: int, aliased: bool, limits: list[str]
) -> None:
    pod = pods.pod()
    ctx = pods.context(home_api=Verified(Endpoint(host, port)), cluster_domain="corp.example")
    mutation = HOME.mutate(pod["spec"], pod, ctx)
    aliases = mutation.spec.get("hostAliases", [])
    assert [(a["ip"], a["hostnames"][-1]) for a in aliases] == (
        [(host, "kubernetes.default.svc.corp.example")] if aliased else []
    )
    [about] = [c for c in mutation.changes if c.path == "spec.hostAliases"]
    assert about.kind is (ChangeKind.ADDED if aliased else ChangeKind.UNCHANGED)
    assert about.routine is (not limits)
    if limits:
        assert all(word in about.why for word in (*limits, "Service home-api", "Kopf"))


def test_names_that_a_pod_sets_itself_are_not_added() -> None:
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    aliases = [{"ip": "192.0.2.9", "hostnames": [*names, "kubernetes.default.svc.cluster.local"]}]
    pod = pods.pod(hostAliases=aliases)
    ctx = pods.context(home_api=Verified(Endpoint("192.0.2.1", 6443)))
    mutation = HOME.mutate(pod["spec"], pod, ctx)
    assert mutation.spec["hostAliases"] == aliases
    [about] = [c for c in mutation.changes if c.path == "spec.hostAliases"]
    assert (about.kind, "port 6443" in about.why) == (ChangeKind.UNCHANGED, True)


@pytest.mark.parametrize(
    ("mount", "reported"),
    [
        pytest.param({"subPath": "t/token"}, True, id="the token itself"),
        pytest.param({"subPath": "t"}, True, id="its folder"),
        pytest.param({"subPath": "./t//token"}, True, id="the token by another path"),
        pytest.param({"subPath": "./"}, False, id="the whole volume by a path"),
        pytest.param({"subPathExpr": "$(X)"}, True, id="by a variable"),
        pytest.param({"subPathExpr": "t/token"}, True, id="by an expression without a variable"),
        pytest.param({"subPathExpr": "other"}, False, id="another file by an expression"),
        pytest.param({"subPath": "other"}, False, id="another file"),
        pytest.param({"subPath": "t/tok"}, False, id="a name with the same beginning"),
        pytest.param({}, False, id="the whole volume"),
    ],
)
def test_a_token_that_is_never_refreshed_is_reported(mount: dict[str, str], reported: bool) -> None:
    mounts = [{"name": "access", "mountPath": "/x", **mount}]
    pod = pods.pod(
        containers=[pods.container(volumeMounts=mounts)],
        volumes=[pods.projected(pods.token("t/token"))],
    )
    changes = HOME.mutate(pod["spec"], pod, pods.context()).changes
    assert any("never refreshed" in change.why for change in changes) is reported
