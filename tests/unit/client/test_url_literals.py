"""No path of the Kubernetes API outside `farlet.client`, and the check finds one."""

from __future__ import annotations

import pytest

import url_literals


def test_only_the_client_contains_api_paths() -> None:
    assert url_literals.violations() == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        pytest.param('x = "/api/v1/pods"', [1], id="core group"),
        pytest.param('x = "/apis/apps/v1"', [1], id="named group"),
        pytest.param('\nx = f"/api/v1/namespaces/{y}/pods"', [2], id="formatted string"),
        pytest.param('x = "/api"', [1], id="root"),
        pytest.param('x = "/apiary"', [], id="another word"),
        pytest.param('x = "see /api/v1"', [], id="within a text"),
        pytest.param('x = "/pods"', [], id="route of the kubelet API"),
    ],
)
def test_strings_that_begin_like_an_api_path_are_found(source: str, lines: list[int]) -> None:
    assert list(url_literals.found_in(source)) == lines
