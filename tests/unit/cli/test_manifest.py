"""What `render` accepts as a Pod, and how it completes one."""

import json
from typing import Any

import pytest

import pods
from farlet.access.changes import ChangeKind
from farlet.cli import manifest
from farlet.cli.manifest import RESOLVED
from farlet.errors import UsageError

BARE = """\
apiVersion: v1
kind: Pod
metadata: {name: web, creationTimestamp: 2026-01-02T03:04:05Z}
spec:
  containers: [{name: app, image: x}]
"""


def _with(line: str) -> str:
    return f"{BARE}{line}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", ["is empty"], id="nothing"),
        pytest.param("---\n# only a comment\n---\n", ["is empty"], id="only comments"),
        pytest.param(f"{BARE}---\n{BARE}", ["2 documents", "one Pod"], id="two documents"),
        pytest.param("a: [", ["not valid YAML or JSON", "line"], id="no YAML"),
        pytest.param("text", ["not an object", "str"], id="a string"),
        pytest.param("apiVersion: v1\nkind: Service", ["Service", "one of its Pods"], id="kind"),
        pytest.param(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}",
            ["spec is missing"],
            id="a Deployment without a template",
        ),
        pytest.param("apiVersion: v1\nkind: List\nitems: []", ["List (v1)"], id="a list"),
        pytest.param("kind: Pod", ["no apiVersion"], id="no version"),
        pytest.param("metadata: {}", ["without kind"], id="no kind"),
        pytest.param("apiVersion: v1\nkind: Pod", ["metadata is missing"], id="no metadata"),
        pytest.param("apiVersion: v1\nkind: Pod\nmetadata: {}", ["neither name"], id="no name"),
        pytest.param(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}", ["spec is missing"], id="no spec"
        ),
        pytest.param(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}",
            ["spec.containers is missing"],
            id="no containers",
        ),
        pytest.param(_with("  volumes: [{emptyDir: {}}]"), ["spec.volumes[0] has no name"], id="v"),
        pytest.param(_with("  volumes: {a: b}"), ["spec.volumes is not a list"], id="mapping"),
        pytest.param(
            BARE.replace("image: x", "env: [{name: A, value: 1}]"), ["is 1", "quote"], id="number"
        ),
        pytest.param(
            BARE.replace("name: web", "name: web, labels: {a: true}"), ["True", "quote"], id="label"
        ),
        pytest.param(
            BARE.replace("image: x", "volumeMounts: [{name: a}]"), ["no mountPath"], id="mount"
        ),
        pytest.param(
            BARE.replace("name: web", "name: web, labels: [a]"), ["labels", "mapping"], id="labels"
        ),
        pytest.param(
            BARE.replace("image: x", "envFrom: [null]"),
            ["spec.containers[0].envFrom[0] is null"],
            id="an empty item",
        ),
    ],
)
def test_a_file_without_a_valid_pod_is_reported_with_its_name(text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        manifest.read(text, source="pod.yaml")
    assert str(caught.value).startswith("pod.yaml")
    assert all(word in str(caught.value) for word in words)


def test_yaml_and_json_are_read_alike_and_times_stay_strings() -> None:
    pod = manifest.read(BARE, source="-")
    assert pod["metadata"]["creationTimestamp"] == "2026-01-02T03:04:05Z"
    assert manifest.read(json.dumps(pod), source="-") == pod


PLAIN_VALUES: dict[str, tuple[str, object]] = {
    "a time": ("20:30", "20:30"),
    "a time with seconds": ("1:30:00.5", "1:30:00.5"),
    "an equals sign": ("=", "="),
    "an octal number": ("0400", 256),
    "an octal number of YAML 1.2": ("0o400", 256),
    "a number": ("1_000", 1000),
    "a fraction": ("0.5", 0.5),
    "an exponent": ("1e3", 1000.0),
}


@pytest.mark.parametrize(("text", "value"), PLAIN_VALUES.values(), ids=PLAIN_VALUES)
def test_plain_values_are_read_as_kubectl_reads_them(text: str, value: object) -> None:
    pod = manifest.read(BARE.replace("image: x", f"args: [-at, {text}]"), source="-")
    assert pod["spec"]["containers"][0]["args"] == ["-at", value]


def test_a_pod_from_a_server_is_completed_by_nothing() -> None:
    pod = pods.pod()
    completed, added = manifest.complete(pod, namespace="other", node="other")
    assert completed == pod
    assert added == ()


def test_a_bare_pod_gets_what_home_admission_adds_and_nothing_invented() -> None:
    pod = manifest.read(BARE, source="-")
    completed, added = manifest.complete(pod, namespace="default", node=None)
    assert completed["metadata"]["namespace"] == "default"
    assert completed["metadata"]["uid"] == RESOLVED
    spec = completed["spec"]
    assert (spec["nodeName"], spec["serviceAccountName"]) == (RESOLVED, "default")
    (volume,) = spec["volumes"]
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert volume["name"] == mount["name"] == f"kube-api-access-{RESOLVED}"
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    assert [change.kind for change in added] == [ChangeKind.ADDED]
    assert pod == manifest.read(BARE, source="-")


def test_null_is_absent() -> None:
    text = """
    {apiVersion: v1, kind: Pod, metadata: {name: web, labels: null}, spec: {volumes: [
    {name: all, projected: null, emptyDir: {}}], containers: [
    {name: main, image: i, env: [{name: A, value: null}]}]}}
    """
    pod = manifest.read(text, source="-")
    assert pod["metadata"] == {"name": "web"}
    assert pod["spec"]["volumes"] == [{"name": "all", "emptyDir": {}}]
    assert pod["spec"]["containers"][0]["env"] == [{"name": "A"}]


@pytest.mark.parametrize("line", ["emptyDir:", "emptyDir: {}", "projected:", "csi: null"])
def test_a_volume_without_a_source_is_an_empty_directory(line: str) -> None:
    text = _with(f"  automountServiceAccountToken: false\n  volumes:\n  - name: tmp\n    {line}")
    completed, _ = manifest.complete(
        manifest.read(text, source="-"), namespace="default", node="far"
    )
    assert completed["spec"]["volumes"] == [{"name": "tmp", "emptyDir": {}}]


@pytest.mark.parametrize(
    ("fields", "account"),
    [
        pytest.param({"serviceAccount": "robot"}, "robot", id="the alias alone"),
        pytest.param({"serviceAccount": "old", "serviceAccountName": "new"}, "new", id="both"),
    ],
)
def test_the_account_of_a_bare_pod(fields: dict[str, str], account: str) -> None:
    pod = manifest.read(BARE, source="-")
    pod["spec"].update(fields)  # type: ignore[typeddict-item]
    completed, _ = manifest.complete(pod, namespace="default", node=None)
    assert completed["spec"]["serviceAccountName"] == account


MOUNT = {"name": "own", "mountPath": pods.TOKEN_MOUNT}


@pytest.mark.parametrize(
    ("spec", "volumes"),
    [
        pytest.param({"automountServiceAccountToken": False}, 0, id="switched off"),
        pytest.param(
            {"containers": [pods.container(volumeMounts=[MOUNT])]}, 0, id="mounted by the user"
        ),
        pytest.param(
            {"containers": [pods.container(volumeMounts=[MOUNT]), pods.container("b")]},
            1,
            id="by one container only",
        ),
    ],
)
def test_a_bare_pod_gets_no_token_where_admission_would_give_none(
    spec: dict[str, Any], volumes: int
) -> None:
    pod = pods.pod(**spec)
    del pod["metadata"]["uid"]  # type: ignore[misc]
    completed, added = manifest.complete(pod, namespace="default", node="far")
    assert len(completed["spec"].get("volumes", [])) == len(added) == volumes


def test_a_generated_name_is_not_invented() -> None:
    pod = manifest.read(BARE.replace("name: web", "generateName: web-"), source="-")
    completed, _ = manifest.complete(pod, namespace="default", node=None)
    assert completed["metadata"]["name"] == f"web-{RESOLVED}"
