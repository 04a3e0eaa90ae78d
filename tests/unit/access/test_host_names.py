"""Host name and FQDN of a mirror: as in the home cluster, or reported."""

from __future__ import annotations

from typing import Any

import pytest

import pods
from farlet import access
from farlet.access.changes import ChangeKind
from farlet.context import NamespaceMap

STRATEGIES = access.load_strategies()
HOME_FQDN = "web.site.shop.svc.cluster.local"
AS_FQDN = {"subdomain": "site", "setHostnameAsFQDN": True}
SAME = pods.context(namespaces=NamespaceMap(home="h", own="farlet", pairs=(("shop", "shop"),)))
LONG = "x" * 35
"""With this host name the FQDN has 63 characters."""


def _mutated(mode: str, ctx: Any = None, **spec: Any) -> tuple[dict[str, Any], list[str]]:
    """Names in the mirror's spec, and the paths of reported differences."""
    pod = pods.pod(**spec)
    mutation = STRATEGIES[mode].mutate(pod["spec"], pod, ctx or pods.context())
    fields = ("hostname", "subdomain", "setHostnameAsFQDN", "hostnameOverride")
    found: dict[str, Any] = dict(mutation.spec)
    return (
        {name: found[name] for name in fields if name in found},
        [change.path for change in mutation.changes if not change.routine],
    )


@pytest.mark.parametrize("mode", ["disabled", "home"])
@pytest.mark.parametrize(
    ("spec", "expected", "reported"),
    [
        pytest.param({}, {}, [], id="a pod's name is its host name"),
        pytest.param({"hostname": "db"}, {"hostname": "db"}, [], id="a host name is copied"),
        pytest.param(
            {"setHostnameAsFQDN": True},
            {"setHostnameAsFQDN": True},
            [],
            id="an FQDN needs a subdomain",
        ),
        pytest.param(
            {"subdomain": "site"},
            {"subdomain": "site"},
            ["spec.subdomain"],
            id="another FQDN is reported",
        ),
        pytest.param(
            AS_FQDN,
            {"subdomain": "site", "hostnameOverride": HOME_FQDN},
            ["spec.setHostnameAsFQDN"],
            id="the FQDN of home stays the host name",
        ),
        pytest.param(
            {**AS_FQDN, "hostname": "db"},
            {
                "hostname": "db",
                "subdomain": "site",
                "hostnameOverride": HOME_FQDN.replace("web", "db"),
            },
            ["spec.setHostnameAsFQDN"],
            id="with a host name",
        ),
        pytest.param(
            {**AS_FQDN, "hostname": LONG},
            {
                "hostname": LONG,
                "subdomain": "site",
                "hostnameOverride": HOME_FQDN.replace("web", LONG),
            },
            ["spec.setHostnameAsFQDN"],
            id="the longest that a kubelet does not cut",
        ),
        pytest.param(
            {**AS_FQDN, "hostname": f"{LONG}x"},
            {**AS_FQDN, "hostname": f"{LONG}x"},
            ["spec.setHostnameAsFQDN"],
            id="a longer one is reported",
        ),
        pytest.param(
            {"subdomain": "site", "hostnameOverride": "own.example"},
            {"subdomain": "site", "hostnameOverride": "own.example"},
            [],
            id="an override has no namespace",
        ),
        pytest.param(
            {**AS_FQDN, "hostNetwork": True}, AS_FQDN, [], id="the host network has the node's name"
        ),
    ],
)
def test_names_of_a_pod(
    mode: str, spec: dict[str, Any], expected: dict[str, Any], reported: list[str]
) -> None:
    assert len(HOME_FQDN.replace("web", LONG)) == 63
    assert _mutated(mode, **spec) == (expected, reported)


@pytest.mark.parametrize("mode", ["disabled", "home"])
def test_nothing_is_reported_where_the_foreign_namespace_has_the_same_name(mode: str) -> None:
    assert _mutated(mode, SAME, **AS_FQDN) == (AS_FQDN, [])


def test_a_native_pod_has_the_names_of_the_foreign_cluster() -> None:
    assert _mutated("remote", **AS_FQDN) == (AS_FQDN, [])


def test_the_report_has_both_names() -> None:
    pod = pods.pod(subdomain="site")
    (change,) = (
        change
        for change in STRATEGIES["home"].mutate(pod["spec"], pod, pods.context()).changes
        if change.path == "spec.subdomain"
    )
    assert change.kind is ChangeKind.UNCHANGED
    assert "web.site.shop-home.svc" in change.why
    assert HOME_FQDN in change.why
