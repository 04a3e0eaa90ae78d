"""Labels and annotations in files: content as a kubelet at home writes it, from the Secret."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import pods
from farlet import access
from farlet.access import identity, metadata_files
from farlet.constants import METADATA_FILES, Reason
from farlet.context import MirrorPatch
from farlet.errors import Refused
from farlet.forge import pod as forge
from farlet.k8s_types import OwnerReference, Pod

GO = json.loads((Path(__file__).parents[2] / "golden/metadatafiles/expected.json").read_text())
STRATEGIES = access.load_strategies()
OWNER: OwnerReference = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "m"}
SECRET = f"farlet-{pods.UID}"
OWN_MODES = ("disabled", "home")
CREATED = "2026-01-02T03:04:05Z"
KUBELET = f'kubernetes.io/config.seen="{CREATED}"\nkubernetes.io/config.source="api"'

LABELS: dict[str, Any] = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
ANNOTATIONS: dict[str, Any] = {"path": "a/b", "fieldRef": {"fieldPath": "metadata.annotations"}}
NAME: dict[str, Any] = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}
CPU: dict[str, Any] = {
    "path": "cpu",
    "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu"},
}


def _key(kind: str, key: str, path: str = "one", **more: Any) -> dict[str, Any]:
    return {"path": path, "fieldRef": {"fieldPath": f"metadata.{kind}['{key}']"}, **more}


def _volume(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "info", "downwardAPI": {"items": list(items), **fields}}


def _pod(*volumes: dict[str, Any], annotations: dict[str, str] | None = None) -> Pod:
    pod = pods.pod(annotations=annotations or {"team": "a"}, volumes=list(volumes))
    pod["metadata"]["creationTimestamp"] = CREATED
    return pod


def _volumes(pod: Pod, mode: str, **settings: Any) -> list[Any]:
    mutated = STRATEGIES[mode].mutate(pod["spec"], pod, pods.context(**settings))
    return list(mutated.spec.get("volumes", ()))


def _data(pod: Pod, mode: str, **settings: Any) -> dict[str, str]:
    secrets = STRATEGIES[mode].objects(pod, {}, pods.context(**settings), OWNER)
    return {
        key: base64.b64decode(value).decode()
        for secret in secrets
        for key, value in secret["data"].items()
    }


@pytest.mark.parametrize(
    "sample", GO["samples"], ids=lambda sample: next(iter(sample["values"]), "-")
)
def test_a_map_is_written_as_go_writes_it(sample: dict[str, Any]) -> None:
    assert metadata_files.format_map(sample["values"]) == sample["text"]


@pytest.mark.thorough
def test_the_same_characters_are_escaped_as_in_go_of_the_same_unicode_version() -> None:
    bounds = zip(GO["printable"][::2], GO["printable"][1::2], strict=True)
    go = {code for first, last in bounds for code in range(first, last + 1)}
    codes = (code for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)
    ours = {code for code in codes if metadata_files.quote(chr(code))[1] != "\\"}
    ours |= {ord('"'), ord("\\")}
    assert go <= ours or ours <= go, "one of two Unicode versions contains the other"
    assert len(go ^ ours) < 12_000


@pytest.mark.parametrize("mode", OWN_MODES)
def test_all_labels_and_annotations_come_from_the_secret_with_their_paths_and_modes(
    mode: str,
) -> None:
    pod = _pod(
        _volume({**LABELS, "mode": 0o400}, NAME, ANNOTATIONS, CPU, defaultMode=0o640),
        pods.projected(
            {"downwardAPI": {"items": [NAME, LABELS]}},
            {"secret": {"name": "other"}},
            name="mixed",
            defaultMode=0o444,
        ),
    )
    assert _volumes(pod, mode) == [
        {
            "name": "info",
            "projected": {
                "defaultMode": 0o640,
                "sources": [
                    {
                        "secret": {
                            "name": SECRET,
                            "items": [
                                {"key": "labels", "path": "labels", "mode": 0o400},
                                {"key": "annotations", "path": "a/b"},
                            ],
                        }
                    },
                    {"downwardAPI": {"items": [NAME, CPU]}},
                ],
            },
        },
        pods.projected(
            {"secret": {"name": SECRET, "items": [{"key": "labels", "path": "labels"}]}},
            {"downwardAPI": {"items": [NAME]}},
            {"secret": {"name": "other"}},
            name="mixed",
            defaultMode=0o444,
        ),
    ]
    assert _data(pod, mode) == {
        "labels": 'app="web"',
        "annotations": f'{KUBELET}\nteam="a"',
    }


def test_farlets_own_annotation_on_the_home_pod_is_not_one_of_the_pod() -> None:
    own = {"farlet.io/foreign-pod-ip": "10.1.2.3", "iam.amazonaws.com/role": "r"}
    pod = _pod(_volume(ANNOTATIONS), annotations=own)
    assert _data(pod, "home") == {"annotations": f'iam.amazonaws.com/role="r"\n{KUBELET}'}


def test_the_last_of_two_items_for_one_file_wins_as_in_a_kubelet() -> None:
    pod = _pod(_volume(LABELS, {**ANNOTATIONS, "path": "./labels"}))
    (volume,) = _volumes(pod, "home")
    (source,) = volume["projected"]["sources"]
    assert source["secret"]["items"] == [{"key": "annotations", "path": "./labels"}]


@pytest.mark.parametrize("mode", OWN_MODES)
@pytest.mark.parametrize(
    ("items", "stored"),
    [
        pytest.param([NAME, CPU], False, id="no label"),
        pytest.param([_key("labels", "app")], True, id="a label that the mirror has"),
        pytest.param([_key("annotations", "team")], True, id="an annotation that the mirror has"),
        pytest.param([_key("labels", "missing")], True, id="a label that neither pod has"),
    ],
)
def test_a_file_that_the_mirror_can_provide_is_stored_but_not_mounted(
    items: list[Any], stored: bool, mode: str
) -> None:
    pod = _pod(_volume(*items))
    assert _volumes(pod, mode) == [_volume(*items)]
    assert bool(_data(pod, mode)) is stored


def test_a_native_pod_of_the_foreign_cluster_keeps_its_downward_api() -> None:
    volume = _volume(LABELS, ANNOTATIONS, _key("annotations", "iam.amazonaws.com/role"))
    assert _volumes(_pod(volume), "remote") == [volume]
    assert _data(_pod(volume), "remote") == {}


VALUES = {
    "labels": {
        "app": "web",
        "istio.io/rev": "stable",
        "farlet.io/access-mode": "mine",
        "zone": "home",
    },
    "annotations": {
        "team": "a",
        "iam.amazonaws.com/role": "r$(A)",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "kubernetes.io/config.hash": "h",
        "liqo.io/api-server-support": "home",
        "farlet.io/foreign-pod-ip": "10.1.2.3",
    },
}
SINGLE = [
    *((kind, key) for kind, values in VALUES.items() for key in values),
    ("labels", "farlet.io/virtual-node-id"),
    ("annotations", "farlet.io/home-uid"),
    ("annotations", "missing"),
]


@pytest.mark.parametrize(("kind", "key"), SINGLE)
@pytest.mark.parametrize("mode", OWN_MODES)
def test_one_label_or_annotation_has_the_home_value_in_variables_and_files(
    kind: str, key: str, mode: str
) -> None:
    ctx = pods.context(mirror_patch=MirrorPatch(labels={"zone": "foreign"}))
    field = f"metadata.{kind}['{key}']"
    pod = pods.pod(
        containers=[
            pods.container(env=[{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": field}}}])
        ],
        volumes=[_volume(_key(kind, key))],
    )
    pod["metadata"]["labels"] = VALUES["labels"]
    pod["metadata"]["annotations"] = {
        **VALUES["annotations"],
        "liqo.io/api-server-support": mode,
    }
    expected = "" if key == "farlet.io/foreign-pod-ip" else pod["metadata"][kind].get(key, "")  # type: ignore[literal-required]
    forged = forge.forge_mirror(
        pod, strategy=STRATEGIES[mode], ctx=ctx, anchor=None, token_times={}, restarts={}
    ).pod
    of_mirror = forged["metadata"][kind].get(key, "")  # type: ignore[literal-required]
    variable = forged["spec"]["containers"][0]["env"][-1]
    (volume,) = forged["spec"]["volumes"]
    if "valueFrom" in variable:
        assert variable["valueFrom"]["fieldRef"]["fieldPath"] == field
        assert of_mirror == expected
        assert "downwardAPI" in volume
    else:
        assert variable["value"].replace("$$", "$") == expected
        (source,) = volume["projected"]["sources"]
        (item,) = source["secret"]["items"]
        secrets = STRATEGIES[mode].objects(pod, {}, ctx, OWNER)
        assert base64.b64decode(secrets[0]["data"][item["key"]]).decode() == expected


@pytest.mark.parametrize("mode", OWN_MODES)
def test_a_changed_setting_changes_no_secret_of_a_running_pod(mode: str) -> None:
    pod = _pod(_volume(_key("annotations", "team")))
    kept = pods.context(keep_annotations=("team",))
    before, after = (
        STRATEGIES[mode].objects(pod, {}, ctx, OWNER) for ctx in (pods.context(), kept)
    )
    assert before == after


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("metadata.labels['a']", ("metadata.labels", "a")),
        ("metadata.labels['']", ("metadata.labels", "")),
        ("metadata.annotations['a[b]c']", ("metadata.annotations", "a[b]c")),
        ("metadata.labels", None),
        ("['a']", None),
        ("metadata.labels[a]", None),
    ],
)
def test_a_subscript_is_read_as_a_kubelet_reads_it(
    field: str, expected: tuple[str, str] | None
) -> None:
    assert identity.subscript(field) == expected


@pytest.mark.parametrize("mode", OWN_MODES)
def test_files_that_do_not_fit_into_a_secret_are_refused(mode: str) -> None:
    pod = _pod(_volume(ANNOTATIONS), annotations={"a": "\x01" * (metadata_files.MAX_BYTES // 4)})
    with pytest.raises(Refused) as caught:
        STRATEGIES[mode].mutate(pod["spec"], pod, pods.context())
    assert caught.value.reason is Reason.UNSUPPORTED_POD
    assert "512 KiB" in caught.value.message


def test_files_of_a_running_pod_that_do_not_fit_any_more_are_left_as_they_are() -> None:
    pod = _pod(_volume(ANNOTATIONS), pods.projected(pods.token()), annotations={"a": "b"})
    before = STRATEGIES["home"].objects(pod, {}, pods.context(), OWNER)[0]
    assert METADATA_FILES in before["metadata"]["annotations"]
    pod["metadata"]["annotations"] = {"a": "\x01" * metadata_files.MAX_BYTES}
    after = STRATEGIES["home"].objects(pod, {}, pods.context(), OWNER)[0]
    assert after["data"].keys() == {"ca.crt", "namespace"}
    assert METADATA_FILES not in after["metadata"]["annotations"]
