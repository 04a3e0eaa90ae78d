"""Where settings come from, which values are valid, and how wrong ones are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from farlet import context, errors, settings
from farlet.settings import loading, values


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in settings.Settings.model_fields:
        monkeypatch.delenv(loading.env_name(field), raising=False)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.kubeconfig"
    path.write_text("{}")
    return path


def load(kubeconfig: Path, **flags: object) -> settings.Settings:
    needed: dict[str, object] = {"nodename": "far", "foreign_kubeconfig": str(kubeconfig)}
    return loading.load(settings.Settings, needed | flags)


@pytest.mark.parametrize(
    ("flag", "variable", "in_file", "wins"),
    [
        pytest.param("flag", "variable", "file", "flag", id="a flag wins over all"),
        pytest.param(None, "variable", "file", "variable", id="a variable wins over the file"),
        pytest.param(None, None, "file", "file", id="the file wins over the default"),
        pytest.param(None, None, None, "home", id="else it is the default"),
        pytest.param("flag", None, "file", "flag", id="a flag wins over the file alone"),
    ],
)
def test_the_nearer_source_wins(
    kubeconfig: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flag: str | None,
    variable: str | None,
    in_file: str | None,
    wins: str,
) -> None:
    flags: dict[str, object] = {}
    if flag:
        flags["home_name"] = flag
    if variable:
        monkeypatch.setenv("FARLET_HOME_NAME", variable)
    if in_file:
        (tmp_path / "farlet.yaml").write_text(f"home-name: {in_file}\n")
        flags["config"] = str(tmp_path / "farlet.yaml")
    assert load(kubeconfig, **flags).home_name == wins


def test_a_variable_in_lower_case_is_another_variable(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARLET_HOME_NAME", "right")
    monkeypatch.setenv("farlet_home_name", "wrong")
    assert load(kubeconfig).home_name == "right"


def test_all_settings_may_come_from_variables(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "farlet.yaml").write_text("workers: 3\nnode-ip: null\nnamespace-map: {a: b}\n")
    monkeypatch.setenv("FARLET_CONFIG", str(tmp_path / "farlet.yaml"))
    monkeypatch.setenv("FARLET_NODENAME", "far")
    monkeypatch.setenv("FARLET_FOREIGN_KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("FARLET_ALLOW_POD_FEATURE", "host-path, pod-certificate")
    found = loading.load(settings.Settings, {})
    assert found.nodename == "far"
    assert found.workers == 3
    assert found.node_ip is None
    assert found.namespace_map == (("a", "b"),)
    assert found.allow_pod_feature == {
        context.Allowance.HOST_PATH,
        context.Allowance.POD_CERTIFICATE,
    }


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        pytest.param("home_api_server_host", "10.0.0.1", "10.0.0.1", id="an IPv4 host"),
        pytest.param("home_api_server_host", "fd00::1", "fd00::1", id="a bare IPv6 host"),
        pytest.param("home_api_server_host", "[FD00:0::1]", "fd00::1", id="a bracketed one"),
        pytest.param("home_api_server_host", "Api.Example.org", "api.example.org", id="a name"),
        pytest.param("home_api_server_host", "api", "api", id="a short name"),
        pytest.param("home_api_server_port", "1", 1, id="the lowest port"),
        pytest.param("home_api_server_port", "65535", 65535, id="the highest port"),
        pytest.param("home_token_lifetime", "600", 600, id="the shortest life"),
        pytest.param("home_token_lifetime", "as-requested", "as-requested", id="as requested"),
        pytest.param("metrics_bind_address", "0", None, id="no metrics"),
        pytest.param("metrics_bind_address", ":9", values.Address("", 9), id="all interfaces"),
        pytest.param(
            "metrics_bind_address", "[::1]:9", values.Address("::1", 9), id="an IPv6 interface"
        ),
        pytest.param("foreign_namespace_template", "none", "none", id="no template"),
        pytest.param(
            "namespace_map", ("a=b,c=d", "e=f"), (("a", "b"), ("c", "d"), ("e", "f")), id="pairs"
        ),
        pytest.param("home_kubeconfig", "in-cluster", "in-cluster", id="in-cluster by name"),
        pytest.param("node_ip", "FD00::0", "fd00::", id="an IP in canonical spelling"),
        pytest.param("workers", "1000", 1000, id="many workers"),
        pytest.param("kubelet_bind_address", "0", None, id="no kubelet API"),
    ],
)
def test_good_values_are_kept(kubeconfig: Path, field: str, given: object, kept: object) -> None:
    assert getattr(load(kubeconfig, **{field: given}), field) == kept


def test_the_kubelet_api_listens_at_the_port_that_the_node_reports(kubeconfig: Path) -> None:
    assert load(kubeconfig, kubelet_port="10251").kubelet_bind_address == values.Address("", 10251)


def test_a_default_that_follows_from_a_wrong_setting_is_not_reported_too(kubeconfig: Path) -> None:
    with pytest.raises(errors.UsageError) as raised:
        load(kubeconfig, kubelet_port="0")
    assert "--kubelet-port" in str(raised.value)
    assert "--kubelet-bind-address" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "given", "says"),
    [
        *(
            pytest.param("home_api_server_host", given, says, id=f"host {given!r}")
            for given, says in [
                ("https://10.0.0.1", "is a URL"),
                ("10.0.0.1/x", "is a URL"),
                ("10.0.0.1:6443", "has a port"),
                ("api.example.org:6443", "has a port"),
                ("[fd00::1]:6443", "has a port"),
                ("fe80::1%eth0", "zone ID"),
                ("[fe80::1%eth0]", "zone ID"),
                ("[10.0.0.1]", "brackets around an IPv4 address"),
                ("[api]", "not a valid IPv6 address"),
                ("fd00:::1", "not a valid IPv6 address"),
                ("10.0.0.256", "not a valid IPv4 address"),
                ("10.0.1", "not a valid IPv4 address"),
                ("", "is empty"),
                (" ", "is empty"),
                (" 10.0.0.1", "white space"),
                ("a b", "not a valid host"),
                ("api.", "not a valid host"),
                ("-api", "not a valid host"),
                ("a" * 64, "not a valid host"),
            ]
        ),
        *(
            pytest.param("home_api_server_port", given, says, id=f"port {given!r}")
            for given, says in [
                ("0", "too small; expected at least 1"),
                ("65536", "too large; expected at most 65535"),
                ("-1", "too small; expected at least 1"),
                ("https", "is not a whole number"),
                ("443.5", "is not a whole number"),
                ("", "is not a whole number"),
                (True, "not a number"),
            ]
        ),
        pytest.param("home_token_lifetime", "599", "from 10m on", id="a short life"),
        pytest.param("home_token_lifetime", "3607", "one year", id="the life of a year"),
        pytest.param("home_token_lifetime", "long", "or as-requested", id="a life in words"),
        pytest.param("home_api_preflight", "Warn", "one of warn, require", id="another case"),
        pytest.param(
            "allow_pod_feature", ("host-path,x",), "one of host-network", id="an unknown allowance"
        ),
        pytest.param("allow_pod_feature", "", "is empty", id="an empty list"),
        pytest.param("remote_service_accounts", "some", "one of all", id="an unknown limit"),
        pytest.param("api_access_default", "x", "disabled, home, remote", id="an unknown mode"),
        pytest.param("nodename", "Far", "DNS name", id="a node name in capitals"),
        pytest.param("home_name", "a.b", "DNS label", id="a home name with a dot"),
        pytest.param("foreign_system_namespace", "x" * 64, "DNS label", id="a long namespace"),
        pytest.param(
            "foreign_namespace_template",
            "x",
            "does not contain {namespace}",
            id="a constant template",
        ),
        pytest.param(
            "foreign_namespace_template",
            "{namespace}-{node}",
            "gives no valid namespace name",
            id="an unknown placeholder",
        ),
        pytest.param("namespace_map", "a", "HOME=FOREIGN", id="half a pair"),
        pytest.param("keep_labels", "", "is empty", id="no prefix of labels"),
        pytest.param("keep_labels", "a.example/,", "is empty", id="an empty prefix of labels"),
        pytest.param("keep_annotations", "a b", "prefix of a label", id="a bad prefix"),
        pytest.param("priority_class_map", "a", "HOME=drop", id="half a pair of classes"),
        pytest.param("storage_class_map", "a", "HOME=FOREIGN", id="half a pair of storage classes"),
        pytest.param("storage_class_map", "a=B", "DNS", id="a bad storage class"),
        pytest.param("priority_class_map", "a=B", "DNS", id="a bad class"),
        pytest.param("mirror_patch", "/nowhere", "cannot be read", id="a patch that is not there"),
        pytest.param("mirror_patch", [], "expected a mapping", id="a list as patch"),
        pytest.param(
            "mirror_patch", {"nodeselector": {}}, "not a field of a mirror patch", id="a typo"
        ),
        pytest.param(
            "mirror_patch", {"labels": {"a": True}}, "not a string; quote it", id="a label true"
        ),
        pytest.param(
            "mirror_patch",
            {"labels": {"farlet.io/x": "y"}},
            "reserved for farlet",
            id="a label of farlet",
        ),
        pytest.param(
            "mirror_patch",
            {"affinity": {"nodeAffinity": {"required": {}}}},
            "affinity.nodeAffinity.required is not a field",
            id="an unknown kind of affinity",
        ),
        pytest.param("reflect", "pods", "services", id="unknown reflection"),
        pytest.param("scc_ranges", "maybe", "keep, drop", id="unknown handling of ranges"),
        pytest.param("namespace_map", "a=B", "DNS label", id="a bad namespace in a pair"),
        pytest.param("node_ip", "far", "not an IP", id="a node IP that is a name"),
        pytest.param("node_ip", "fe80::1%1", "zone ID", id="a node IP with a zone"),
        pytest.param("metrics_bind_address", "8080", "HOST:PORT", id="a port without colon"),
        pytest.param("metrics_bind_address", ":65536", "HOST:PORT", id="a port out of range"),
        pytest.param("workers", "0", "too small; expected at least 1", id="no workers"),
        pytest.param("workers", "many", "'many' is not a whole number", id="workers in words"),
        pytest.param("workers", "4.5", "'4.5' is not a whole number", id="half a worker"),
        pytest.param("home_kubeconfig", "/none", "cannot be read: No such", id="a missing file"),
        pytest.param("home_kubeconfig", "/", "cannot be read: Is a dir", id="a directory"),
        pytest.param("home_context", "", "is empty", id="an empty context"),
        pytest.param("config", "/none", "cannot be read", id="a missing settings file"),
        pytest.param("log_level", "trace", "one of debug, info", id="an unknown level"),
    ],
)
def test_wrong_values_are_reported_with_flag_and_variable(
    kubeconfig: Path, field: str, given: object, says: str
) -> None:
    with pytest.raises(errors.UsageError) as caught:
        load(kubeconfig, **{field: given})
    message = str(caught.value)
    assert message.startswith(f"{loading.flag_name(field)} ({loading.env_name(field)}): ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param(
            {"namespace_map": "a=b,c=b"}, "in one pair only", id="two homes of one foreign"
        ),
        pytest.param({"namespace_map": "a=b,a=c"}, "in one pair only", id="one home twice"),
        pytest.param({"namespace_map": "a=farlet"}, "farlet's own", id="farlet's own namespace"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    kubeconfig: Path, flags: dict[str, object], says: str
) -> None:
    with pytest.raises(errors.UsageError, match=f"--namespace-map.*{says}"):
        load(kubeconfig, **flags)


def test_all_wrong_settings_are_reported_at_once() -> None:
    with pytest.raises(errors.UsageError) as caught:
        loading.load(settings.Settings, {"workers": "x"})
    message = str(caught.value)
    for name in ("--nodename", "--foreign-kubeconfig", "--workers"):
        assert name in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("home_name: x", "did you mean home-name", id="an underscore"),
        pytest.param("nodenam: x", "did you mean nodename", id="a misspelt key"),
        pytest.param("zzz: x", "expected one of ", id="a key like no other"),
        pytest.param("config: x", "unknown setting", id="a file that names a file"),
        pytest.param("- a", "a YAML mapping", id="a list"),
        pytest.param("a: b\nc: [", "is not valid YAML: expected the node", id="no YAML"),
        pytest.param("a: b\nc: [", "(line 2)", id="the line of malformed YAML"),
        pytest.param("a: 2026-13-01", "month must be in 1..12", id="a date that does not exist"),
        pytest.param(f"a: {'[' * 3000}", "recursion depth", id="many brackets"),
        pytest.param("a: !!bool x", "is not valid YAML", id="a tag with a wrong value"),
    ],
)
def test_a_wrong_file_is_reported_with_its_path(
    kubeconfig: Path, tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "farlet.yaml"
    path.write_text(content)
    with pytest.raises(errors.UsageError) as caught:
        load(kubeconfig, config=str(path))
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_an_empty_file_sets_nothing(kubeconfig: Path, tmp_path: Path) -> None:
    path = tmp_path / "farlet.yaml"
    path.write_text("# nothing\n")
    assert load(kubeconfig, config=path).home_name == "home"


def test_render_reads_a_file_made_for_run(tmp_path: Path) -> None:
    path = tmp_path / "farlet.yaml"
    path.write_text("nodename: far\nworkers: 3\nforeign-kubeconfig: /none\n")
    found = loading.load(settings.MirrorSettings, {"config": str(path)})
    assert found.nodename == "far"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("", "no PEM certificate", id="an empty file"),
        pytest.param(
            "-----BEGIN CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----",
            "private key",
            id="a key beside the certificate",
        ),
    ],
)
def test_a_ca_file_that_must_not_travel_is_refused(
    kubeconfig: Path, tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "ca.crt"
    path.write_text(content)
    with pytest.raises(errors.UsageError, match=f"--home-api-server-ca-file.*{says}"):
        load(kubeconfig, home_api_server_ca_file=str(path))


def test_misspelt_variables_are_found_and_those_of_services_are_not() -> None:
    names = [
        *("FARLET_NODENAME", "FARLET_WORKER", "FARLET_X", "HOME", "farlet_nodename"),
        *("FARLET_SERVICE_HOST", "FARLET_SERVICE_PORT", "FARLET_SERVICE_PORT_METRICS"),
        *("FARLET_PORT", "FARLET_PORT_8080_TCP", "FARLET_PORT_8080_TCP_ADDR"),
    ]
    assert loading.unknown_variables(settings.Settings, names) == {
        "FARLET_WORKER": "FARLET_WORKERS",
        "FARLET_X": None,
        "farlet_nodename": "FARLET_NODENAME",
    }


def test_settings_cannot_be_changed(kubeconfig: Path) -> None:
    found = load(kubeconfig)
    with pytest.raises(ValueError, match="frozen"):
        found.workers = 3


def test_every_setting_has_a_help_text_and_a_placeholder() -> None:
    for field, info in settings.Settings.model_fields.items():
        assert info.description, field
        assert info.description.endswith("."), field
        assert loading.flag_of(info).metavar, field


@pytest.mark.parametrize(
    ("lifetime", "seconds", "as_requested"),
    [
        pytest.param(None, None, False, id="unset: as the pod asks"),
        pytest.param("900", 900, False, id="a number replaces what the pod asks"),
        pytest.param("as-requested", None, True, id="as-requested keeps 3607"),
    ],
)
def test_the_context_carries_the_token_lifetime(
    kubeconfig: Path, lifetime: str | None, seconds: int | None, as_requested: bool
) -> None:
    found = load(kubeconfig, **({"home_token_lifetime": lifetime} if lifetime else {}))
    ctx = found.context(node="far", home_id="id", home_api=context.NotConfigured(), home_ca="pem")
    assert ctx.token_lifetime == seconds
    assert ctx.token_as_requested is as_requested


def test_services_are_reflected_only_between_connected_networks(kubeconfig: Path) -> None:
    with pytest.raises(errors.UsageError, match="requires --pod-network=connected"):
        load(kubeconfig, reflect="services")


def test_the_context_carries_all_that_shapes_a_mirror(kubeconfig: Path) -> None:
    found = load(
        kubeconfig,
        home_name="h",
        foreign_namespace_template="none",
        namespace_map="a=b",
        cluster_domain="k8s.test",
        api_access_default="disabled",
        remote_service_accounts="labelled",
        allow_pod_feature="host-path",
        keep_labels="a.example/,b",
        keep_annotations="none",
        priority_class_map="a=b,*=drop",
        storage_class_map="far=fast",
        mirror_patch={"labels": {"team": "guests"}, "runtimeClassName": "gvisor"},
        scc_ranges="drop",
        pod_network="connected",
        reflect="services",
        node_ip="10.0.0.9",
    )
    home_api = context.Verified(context.Endpoint("10.0.0.1", 443))
    assert found.context(
        node="far", home_id="id", home_api=home_api, home_ca="pem"
    ) == context.Context(
        node="far",
        home_id="id",
        namespaces=context.NamespaceMap(home="h", own="farlet", template=None, pairs=(("a", "b"),)),
        home_api=home_api,
        home_ca="pem",
        cluster_domain="k8s.test",
        access_default="disabled",
        remote_service_accounts=context.RemoteServiceAccounts.LABELLED,
        allow_pod_feature=frozenset({context.Allowance.HOST_PATH}),
        keep_labels=("a.example/", "b"),
        keep_annotations=(),
        priority_class_map=(("a", "b"), ("*", "drop")),
        storage_class_map=(("far", "fast"),),
        mirror_patch=context.MirrorPatch(labels={"team": "guests"}, runtime_class_name="gvisor"),
        scc_ranges=context.SCCRanges.DROP,
        pod_network=context.PodNetwork.CONNECTED,
        reflect=frozenset({context.Reflection.SERVICES}),
        node_ip="10.0.0.9",
    )
