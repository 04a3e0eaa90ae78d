"""Copies of ConfigMaps and Secrets: their names, their content, and references to them."""

import dataclasses
import re
from typing import Any, cast

import pytest

import pods
from farlet import names
from farlet.access import load_strategies
from farlet.access.changes import ChangeLog
from farlet.constants import KUBE_ROOT_CA, USED_BY
from farlet.forge import copies, pod, references, status
from farlet.forge.copies import Source
from farlet.forge.references import Kind
from unit.forge.test_references import GROUPS, _config_maps, _secrets
from unit.planning import objects

CONTEXT = pods.context()
APP = Source(Kind.CONFIG_MAP, "shop", "app")
LONG = "a" * 253
SPECS = {**_secrets("n"), **_config_maps("n")}


def _name(source: Source, **changes: Any) -> str:
    return copies.copy_name(source, dataclasses.replace(CONTEXT, **changes))


def test_a_copy_has_the_name_of_its_object_and_a_hash() -> None:
    assert re.fullmatch(r"app-[0-9a-f]{16}", _name(APP))


@pytest.mark.parametrize(
    ("other", "changes"),
    [
        pytest.param(APP._replace(kind=Kind.SECRET), {}, id="another kind"),
        pytest.param(APP._replace(namespace="other"), {}, id="another home namespace"),
        pytest.param(APP, {"home_id": "another"}, id="another home cluster"),
    ],
)
def test_the_hash_depends_on_what_the_copy_is_of(other: Source, changes: dict[str, Any]) -> None:
    assert _name(other, **changes) != _name(APP)


def test_virtual_nodes_of_one_home_cluster_share_a_copy() -> None:
    assert _name(APP, node="another") == _name(APP)


@pytest.mark.parametrize("length", [236, 237, 253])
def test_a_long_name_is_cut_and_stays_unique(length: int) -> None:
    one, other = (_name(APP._replace(name=f"{'a' * (length - 1)}{end}")) for end in ("b", "c"))
    assert one != other
    assert max(len(one), len(other)) <= names.SUBDOMAIN_LENGTH


def test_a_name_is_not_cut_after_a_dot() -> None:
    cut = _name(APP._replace(name=f"{'a' * 219}.{'b' * 33}"))
    assert re.fullmatch(r"a{219}-[0-9a-f]{32}", cut)


@pytest.mark.parametrize("path", SPECS)
def test_every_reference_is_rewritten(path: str) -> None:
    before = pods.pod(**SPECS[path])["spec"]
    kind = next(references.references(before)).kind
    after = copies.rewritten(before, "shop", CONTEXT, ChangeLog())
    expected = references.Reference(kind, path, _name(Source(kind, "shop", "n")))
    assert list(references.references(after)) == [expected]
    assert next(references.references(before)).name == "n", "the home pod is unchanged"


def test_all_references_of_one_pod_are_rewritten_and_everything_else_is_kept() -> None:
    def merged(first: Any, second: Any) -> Any:
        return {k: [*first.get(k, []), *second.get(k, [])] for k in {**first, **second}}

    spec: Any = {"nodeName": "far"}
    for one in SPECS.values():
        spec = {**spec, **merged({k: spec[k] for k in one if k in spec}, one)}
    after = copies.rewritten(spec, "shop", CONTEXT, ChangeLog())
    found = list(references.references(after))
    assert len(found) == len(list(references.references(spec))) == len(SPECS)
    assert all(one.name == _name(Source(one.kind, "shop", "n")) for one in found)
    back = references.renamed(after, lambda _kind, _name: "n")
    assert back == spec


def test_a_spec_without_references_is_the_same_object() -> None:
    spec = pods.pod()["spec"]
    assert copies.rewritten(spec, "shop", CONTEXT, ChangeLog()) is spec


@pytest.mark.parametrize("mode", ["home", "remote", "disabled"])
def test_mirrors_of_every_access_mode_refer_to_copies(mode: str) -> None:
    home = objects.home(
        annotations={"liqo.io/api-server-support": mode},
        spec={
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "app", "configMap": {"name": "app"}},
                {"name": "ca", "configMap": {"name": KUBE_ROOT_CA}},
            ],
        },
    )
    forged = pod.forge_mirror(
        home,
        strategy=load_strategies()[mode],
        ctx=objects.CONTEXT,
        anchor=None,
        token_times={},
        restarts={},
    )
    named = {one.path: one.name for one in references.references(forged.pod["spec"])}
    for kind, path, name in (
        (Kind.SECRET, "spec.imagePullSecrets[0].name", "pull"),
        (Kind.CONFIG_MAP, "spec.volumes[app].configMap.name", "app"),
    ):
        source = Source(kind, objects.KEY.namespace, name)
        assert named.pop(path) == copies.copy_name(source, objects.CONTEXT)
    expected = {
        "home": {"spec.volumes[ca].secret.secretName": names.secret_name(objects.HOME)},
        "remote": {"spec.volumes[ca].configMap.name": KUBE_ROOT_CA},
        "disabled": {"spec.volumes[ca].configMap.name": KUBE_ROOT_CA},
    }
    assert named == expected[mode]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        pytest.param(SPECS["spec.imagePullSecrets[0].name"], {"n"}, id="a Secret"),
        pytest.param(
            {"volumes": [{"name": "ca", "configMap": {"name": KUBE_ROOT_CA}}]},
            set(),
            id="the CA, which every namespace has",
        ),
        pytest.param(
            {"volumes": [{"name": "ca", "secret": {"secretName": KUBE_ROOT_CA}}]},
            {KUBE_ROOT_CA},
            id="a Secret of that name",
        ),
        *(
            pytest.param({"imagePullSecrets": [{"name": name}]}, set(), id=f"no name: {name[:9]}")
            for name in ("a,metadata.namespace=b", "../x", "A", "a.", "a" * 254, "a\n")
        ),
        pytest.param({"imagePullSecrets": [{"name": LONG}]}, {LONG}, id="the longest name"),
        pytest.param(
            SPECS[f"spec.{GROUPS[2]}[x].envFrom[0].secretRef.name"],
            {"n"},
            id="an ephemeral container",
        ),
    ],
)
def test_only_objects_that_the_mirror_can_use_are_followed(
    spec: dict[str, Any], found: set[str]
) -> None:
    assert {one.name for one in copies.sources(pods.pod(**spec))} == found


OBJECT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "login",
        "namespace": "shop",
        "uid": "uid-1",
        "resourceVersion": "7",
        "labels": {"istio.io/rev": "x"},
        "annotations": {"reloader": "yes"},
        "finalizers": ["a/b"],
        "ownerReferences": [{"kind": "Thing"}],
    },
    "type": "kubernetes.io/dockerconfigjson",
    "data": {".dockerconfigjson": "e30="},
    "immutable": True,
}
LOGIN = Source(Kind.SECRET, "shop", "login")


def test_a_copy_has_the_content_of_its_object_and_no_other_metadata() -> None:
    assert copies.forge_copy(OBJECT, LOGIN, namespace="shop-home", existing=None, ctx=CONTEXT) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": _name(LOGIN),
            "namespace": "shop-home",
            "labels": {copies.mark(CONTEXT): "true"},
            "annotations": {
                "farlet.io/home-namespace": "shop",
                "farlet.io/home-name": "login",
                "farlet.io/home-uid": "uid-1",
                "farlet.io/home-version": "7",
            },
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": "e30="},
        "immutable": True,
    }


def test_a_copy_that_is_replaced_keeps_the_marks_of_other_virtual_nodes() -> None:
    existing: Any = {
        "uid": "copy-1",
        "resourceVersion": "9",
        "labels": {f"{USED_BY}other": "true", "unrelated": "x"},
    }
    obj = {"metadata": OBJECT["metadata"], "binaryData": {"raw": "AP8="}}
    copy = copies.forge_copy(obj, APP, namespace="shop-home", existing=existing, ctx=CONTEXT)
    assert copy["metadata"]["labels"] == {
        f"{USED_BY}other": "true",
        copies.mark(CONTEXT): "true",
    }
    assert (copy["metadata"]["uid"], copy["metadata"]["resourceVersion"]) == ("copy-1", "9")
    assert (copy["binaryData"], "data" in copy) == ({"raw": "AP8="}, False)


def test_the_mark_is_a_valid_label() -> None:
    prefix, _, name = copies.mark(CONTEXT).partition("/")
    assert prefix == "farlet.io"
    assert len(name) <= 63


def test_a_copy_is_recognized_by_its_name_only() -> None:
    metadata: Any = copies.forge_copy(
        OBJECT, LOGIN, namespace="shop-home", existing=None, ctx=CONTEXT
    )["metadata"]
    assert copies.source_of(metadata, Kind.SECRET, "shop", CONTEXT) == LOGIN
    assert copies.source_of(metadata, Kind.CONFIG_MAP, "shop", CONTEXT) is None
    assert copies.source_of(metadata, Kind.SECRET, "other", CONTEXT) is None
    forged = {**metadata, "annotations": {"farlet.io/home-name": "another"}}
    assert copies.source_of(cast("Any", forged), Kind.SECRET, "shop", CONTEXT) is None
    assert copies.source_of(cast("Any", {"name": "x"}), Kind.SECRET, "shop", CONTEXT) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param('configmap "{}" not found', 'configmap "app" not found', id="quoted"),
        pytest.param(
            "couldn't find key k in ConfigMap shop-home/{}",
            "couldn't find key k in ConfigMap shop-home/app",
            id="after a namespace",
        ),
        pytest.param("see {}.", "see app.", id="at the end of a sentence"),
        pytest.param("{0} and {0}", "app and app", id="twice"),
        pytest.param("x{}", "x{}", id="part of another name"),
        pytest.param("nothing", "nothing", id="no name"),
    ],
)
def test_messages_name_the_home_object(before: str, after: str) -> None:
    home = pods.pod(**_config_maps("app")["spec.volumes[v].configMap.name"])
    source = Source(Kind.CONFIG_MAP, home["metadata"]["namespace"], "app")
    copy = copies.copy_name(source, CONTEXT)
    text = copies.HomeNames(home, CONTEXT)(before.format(copy))
    assert text == after.format(copy)


def test_the_status_of_a_home_pod_names_the_home_object() -> None:
    env = [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "app", "key": "k"}}}]
    home = objects.home()
    cast("Any", home["spec"])["containers"][0]["env"] = env
    copy = copies.copy_name(APP._replace(namespace=objects.KEY.namespace), objects.CONTEXT)
    message = f'configmap "{copy}" not found'
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": message}}
    mirror = objects.mirror(phase="Pending", state=state)
    shown = status.reflect(home, mirror, ctx=objects.CONTEXT, now=objects.NOW).status
    (row,) = shown["containerStatuses"]
    assert row["state"]["waiting"]["message"] == 'configmap "app" not found'
    (unchanged,) = mirror["status"]["containerStatuses"]
    assert unchanged["state"]["waiting"]["message"] == message
