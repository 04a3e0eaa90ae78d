"""Which certificate request `farlet connect` approves: one refused case per condition."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from farlet.install import approval
from unit.install.memory_cluster import signing_request


def test_the_request_of_the_manager_for_this_node_is_approved() -> None:
    request = signing_request("far")
    assert approval.refusal(request, "far") is None
    assert approval.is_pending(request)
    granted = approval.approved(request)
    assert [one["type"] for one in granted["status"]["conditions"]] == ["Approved"]
    assert not approval.is_pending(granted)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        pytest.param(
            {"signerName": "kubernetes.io/kube-apiserver-client"}, "its signer is not", id="signer"
        ),
        pytest.param(
            {"username": "system:node:far"}, "its requester is not", id="another requester"
        ),
        pytest.param(
            {"username": "system:serviceaccount:shop:farlet-manager"},
            "its requester is not",
            id="an account of another namespace",
        ),
        pytest.param({"usages": ["server auth"]}, "its usages", id="usages"),
        pytest.param({"usages": ["client auth", "cert sign"]}, "its usages", id="one more usage"),
        pytest.param({"request": "bm8="}, "not a valid PKCS#10", id="no request"),
        pytest.param({"request": "%"}, "not a valid PKCS#10", id="not base64"),
        pytest.param(
            {"names": [("O", "system:nodes"), ("CN", "system:node:near")]},
            "its subject is not",
            id="another node",
        ),
        pytest.param(
            {"names": [("O", "system:masters"), ("CN", "system:node:far")]},
            "its subject is not",
            id="another group",
        ),
        pytest.param(
            {
                "names": [
                    ("O", "system:nodes"),
                    ("O", "system:masters"),
                    ("CN", "system:node:far"),
                ]
            },
            "its subject is not",
            id="one more group",
        ),
        pytest.param({"names": [("CN", "system:node:far")]}, "its subject is not", id="no group"),
        pytest.param({"sans": ["home"]}, "names of servers", id="names of servers"),
    ],
)
def test_every_other_request_is_refused(changed: dict[str, Any], why: str) -> None:
    refusal = approval.refusal(signing_request("far", **changed), "far")
    assert refusal is not None
    assert why in refusal


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, True, id="of the manager for the node"),
        pytest.param(
            {"names": [("O", "system:nodes"), ("CN", "system:node:near")]}, False, id="of another"
        ),
        pytest.param({"username": "system:node:far", "request": "%"}, True, id="of the node"),
        pytest.param({"request": "%"}, False, id="not readable"),
    ],
)
def test_requests_that_disconnect_deletes(changed: dict[str, Any], expected: bool) -> None:
    assert approval.belongs_to(signing_request("far", **changed), "far") is expected


def _changed(before: bytes, after: bytes) -> str:
    """A request with some bytes of its DER changed."""
    pem = base64.b64decode(signing_request("far")["spec"]["request"])
    lines = pem.splitlines()
    der = base64.b64decode(b"".join(lines[1:-1]))
    body = base64.encodebytes(der.replace(before, after, 1))
    return base64.b64encode(b"%b\n%b%b\n" % (lines[0], body, lines[-1])).decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"\x02\x01\x00", b"\x02\x01\x02", id="version"),
        pytest.param(b"system:node:", b"system:nod\xff:", id="name"),
    ],
)
def test_a_request_of_another_client_that_cannot_be_parsed_is_not_of_the_node(
    before: bytes, after: bytes
) -> None:
    request = signing_request("far", username="eve", request=_changed(before, after))
    assert not approval.belongs_to(request, "far")
