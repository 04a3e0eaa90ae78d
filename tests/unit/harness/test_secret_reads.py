"""The check of farlet's reads of Secrets: what it finds."""

from typing import Any

import pytest

import secret_reads
from clusters import auditlog
from unit.harness.test_refusals import NODE, entry, log

MANAGER = "system:serviceaccount:t-1:farlet-manager"


def read(tmp_path: Any, verb: str, name: str, *, user: str = NODE) -> list[auditlog.Entry]:
    reference = {"resource": "secrets", "namespace": "shop", **({"name": name} if name else {})}
    one = entry(verb, "secrets", code=200, user=user, objectRef=reference)
    return [*log(tmp_path, one).entries()]


@pytest.mark.parametrize(
    ("verb", "name", "found"),
    [
        pytest.param("watch", "login", False, id="one Secret by its name"),
        pytest.param("watch", "unreferenced", True, id="one that no pod refers to"),
        pytest.param("get", "unreferenced", True, id="a get of one that no pod refers to"),
        pytest.param("get", "unreferenced-7", True, id="a get of one of many in a namespace"),
        pytest.param("list", "", True, id="all of a namespace"),
    ],
)
def test_reads_of_unreferenced_secrets_are_found(
    tmp_path: Any, verb: str, name: str, found: bool
) -> None:
    assert bool(secret_reads.wrong_reads(read(tmp_path, verb, name))) is found


def test_a_manager_reads_the_secrets_of_its_namespace(tmp_path: Any) -> None:
    assert secret_reads.wrong_reads(read(tmp_path, "list", "", user=MANAGER)) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("login-0123456789abcdef", False, id="of one that a pod refers to"),
        pytest.param("unreferenced-0123456789abcdef", True, id="of one that no pod refers to"),
    ],
)
def test_copies_of_unreferenced_secrets_are_found(tmp_path: Any, name: str, found: bool) -> None:
    assert bool(secret_reads.copies(read(tmp_path, "create", name))) is found
