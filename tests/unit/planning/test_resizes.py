"""Changed resources, which are sent to a subresource of their own."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from farlet.constants import APPLIED
from farlet.forge import applied
from farlet.planning import changes
from unit.planning.changed_pods import TWO, due, home, mirror_of
from unit.planning.objects import MIRROR


def _sized(main: Any = None, proxy: Any = None, first: Any = None) -> dict[str, Any]:
    """Fields of H with these requests and limits."""
    return {
        "spec__containers": [
            {"name": "main", "image": "example.org/app:1", "resources": main or {}},
            {"name": "proxy", "image": "example.org/proxy:1", "resources": proxy or {}},
        ],
        "spec__initContainers": [
            {"name": "first", "image": "example.org/first:1", "resources": first or {}}
        ],
    }


@pytest.mark.parametrize(
    ("changed", "spec"),
    [
        pytest.param(_sized(), None, id="nothing"),
        pytest.param(
            _sized(main=TWO),
            {"containers": [{"name": "main", "resources": TWO}]},
            id="a container",
        ),
        pytest.param(
            _sized(proxy={**TWO, "claims": [{"name": "gpu"}]}, first=TWO),
            {
                "containers": [{"name": "proxy", "resources": TWO}],
                "initContainers": [{"name": "first", "resources": TWO}],
            },
            id="a container and an init container",
        ),
        pytest.param({"spec__resources": TWO}, {"resources": TWO}, id="the pod"),
    ],
)
def test_resources_are_sent_to_the_subresource(changed: dict[str, Any], spec: Any) -> None:
    pod = home(**changed, metadata__generation=9)
    found = due(pod, mirror_of(home()))
    assert found.update is None
    if spec is None:
        assert found.resize is None
        return
    assert found.resize is not None
    assert found.resize.body == {"metadata": {"uid": MIRROR}, "spec": spec}
    record = found.resize.record
    assert record.home == 9
    assert not applied.changed(pod, record)


def test_a_change_and_a_resize_record_only_what_they_have_written() -> None:
    pod = home(spec__resources=TWO, metadata__labels={"app": "api"}, metadata__generation=9)
    mirror = mirror_of(home())
    found = due(pod, mirror)
    assert found.update is not None
    assert found.resize is not None
    mirror["metadata"]["annotations"] |= found.update.body["metadata"]["annotations"]
    record = applied.read(mirror)
    assert record is not None
    assert applied.changed(pod, record) == {"spec.resources"}
    assert applied.changed(pod, found.resize.record) == {"metadata.labels"}
    assert record.home == found.resize.record.home == 2
    after = due(pod, mirror)
    assert after.update is None
    assert after.resize is not None
    assert applied.changed(pod, after.resize.record) == set()
    assert after.resize.record.home == 9


def test_resources_of_a_mirror_whose_record_lacks_them_are_not_written() -> None:
    mirror = mirror_of(home())
    record = orjson.loads(mirror["metadata"]["annotations"][APPLIED])
    record["digests"] = {k: v for k, v in record["digests"].items() if "resources" not in k}
    mirror["metadata"]["annotations"][APPLIED] = orjson.dumps(record).decode()
    pod = home(spec__resources=TWO)
    assert due(pod, mirror) == changes.NOTHING_DUE
