"""Home tokens of a running mirror: when none is requested, and what a refused one delays."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from farlet import errors
from farlet.constants import Reason
from farlet.context import Context, Refused
from unit.planning import model, objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, Harness

TOKEN = r"POST .*/serviceaccounts/default/token$"
SECRETS = f"/api/v1/namespaces/{FOREIGN}/secrets"
HALF_LIFE = 2000.0
"""A token of one hour is due after this many seconds."""

BLOCKED: Context = dataclasses.replace(
    objects.CONTEXT,
    home_api=Refused(
        Reason.HOME_API_CERTIFICATE_INVALID,
        "the address answers with another CA",
        objects.CONTEXT.endpoint,
    ),
)


def _refuse_tokens(s: Harness) -> None:
    s.home.refusing[TOKEN] = s.home.refusal(
        errors.Forbidden, 403, "serviceaccounts/token is forbidden", reason="Forbidden"
    )


def _running(s: Harness) -> None:
    s.create(mode="home")
    s.wait(2.0)
    s.runs()
    s.wait(2.0)
    assert len(s.secrets()) == 1
    assert len(s.home.requests(TOKEN)) == 1


def _restarts_shown(s: Harness) -> int:
    pod = s.pod()
    assert pod is not None
    count: int = pod["status"]["containerStatuses"][0]["restartCount"]
    return count


def test_a_token_is_requested_while_caches_lag_and_no_more_once_it_is_granted() -> None:
    with harness.running() as s:
        s.home.refusing[TOKEN] = s.home.refusal(
            errors.Forbidden,
            403,
            "no relationship found between node 'far' and this object",
            reason="Forbidden",
        )
        s.create(mode="home")
        s.wait(0.55)
        refused = len(s.home.requests(TOKEN))
        assert 7 <= refused <= 12, "soon at first, then ten times a second"
        assert s.mirror() is None
        assert s.reason() is None
        s.home.refusing.clear()
        s.wait(2.0)
        s.runs()
        s.wait(HALF_LIFE - 600)
        assert len(s.secrets()) == 1
        assert len(s.home.requests(TOKEN)) == refused + 1


def test_no_token_is_refreshed_while_the_address_of_home_is_refused() -> None:
    with harness.running() as s:
        _running(s)
        s.ctx = BLOCKED
        s.scopes.wake_all()
        s.wait(HALF_LIFE)
        assert len(s.home.requests(TOKEN)) == 1
        assert _restarts_shown(s) == 0
        assert s.reason() is None, "what runs is not disturbed"
        s.ctx = objects.CONTEXT
        s.scopes.wake_all()
        s.wait(2.0)
        assert len(s.home.requests(TOKEN)) == 2


def test_no_first_secret_is_provided_while_the_address_of_home_is_refused() -> None:
    with harness.running() as s:
        s.foreign.refusing[rf"POST {SECRETS}"] = s.foreign.silence
        s.create(mode="home")
        s.wait(2.0)
        assert s.mirror() is not None
        s.kill()
        s.foreign.refusing.clear()
        s.ctx = BLOCKED
        before = len(s.home.requests(TOKEN))
        s.start()
        s.wait(60.0)
        assert len(s.home.requests(TOKEN)) == before
        assert s.secrets() == []
        s.ctx = objects.CONTEXT
        s.scopes.wake_all()
        s.wait(2.0)
        assert len(s.secrets()) == 1


def test_a_token_that_is_held_goes_nowhere_while_the_address_of_home_is_refused() -> None:
    with harness.running() as s:
        s.foreign.refusing[rf"POST {SECRETS}"] = s.foreign.silence
        s.create(mode="home")
        s.wait(2.0)
        s.ctx = BLOCKED
        s.foreign.refusing.clear()
        s.wait(60.0)
        assert s.secrets() == []


def test_a_crash_shows_in_home_although_tokens_are_refused() -> None:
    with harness.running() as s:
        _running(s)
        _refuse_tokens(s)
        s.wait(HALF_LIFE)
        assert len(s.home.requests(TOKEN)) > 2, "the refresh is tried"
        s.runs(restarts=1)
        s.wait(1.0)
        assert _restarts_shown(s) == 1


def test_a_crash_shows_in_home_although_the_secret_is_refused() -> None:
    with harness.running() as s:
        _running(s)
        s.foreign.refusing[rf"PATCH {SECRETS}"] = s.foreign.refusal(
            errors.Forbidden, 403, "secrets is forbidden", reason="Forbidden"
        )
        s.wait(HALF_LIFE)
        s.runs(restarts=1)
        s.wait(1.0)
        assert _restarts_shown(s) == 1
        assert s.events() == ["ForeignRejected"]


def test_a_crash_shows_in_home_although_the_first_secret_is_refused() -> None:
    with harness.running() as s:
        s.foreign.refusing[rf"POST {SECRETS}"] = s.foreign.silence
        s.create(mode="home")
        s.wait(5.0)
        s.runs(ready=False)
        s.wait(1.0)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["phase"] == "Running"


def test_a_refused_refresh_is_tried_again_with_longer_and_longer_pauses() -> None:
    with harness.running() as s:
        _running(s)
        _refuse_tokens(s)
        s.wait(HALF_LIFE)
        at = [one.at for one in s.home.requests(TOKEN)][1:]
        pauses = [b - a for a, b in itertools.pairwise(at)]
        assert pauses[0] < 1.0
        assert pauses[-1] == pytest.approx(15.0, abs=0.1)
        assert pauses == sorted(pauses) or max(pauses) < 15.1
        s.home.refusing.clear()
        s.wait(20.0)
        tried = len(s.home.requests(TOKEN))
        s.wait(600.0)
        assert len(s.home.requests(TOKEN)) == tried, "one that was granted ends it"


@pytest.mark.thorough
def test_a_refused_refresh_is_reported_once_and_its_age_once() -> None:
    with harness.running() as s:
        _running(s)
        _refuse_tokens(s)
        s.wait(HALF_LIFE)
        assert s.events() == ["TokenRequestFailed"]
        s.wait(3600.0)
        assert s.events() == ["TokenRequestFailed", "TokenRefreshFailed"]


def test_a_refused_refresh_writes_no_home_status() -> None:
    with harness.running() as s:
        _running(s)
        before = len(s.home.requests("PATCH"))
        _refuse_tokens(s)
        s.wait(HALF_LIFE)
        assert len(s.home.requests("PATCH")) == before


def test_a_mirror_that_ends_while_tokens_are_refused_ends_in_home() -> None:
    with harness.running() as s:
        s.create(mode="home", policy="Never")
        s.wait(2.0)
        s.runs()
        _refuse_tokens(s)
        s.wait(HALF_LIFE)
        body = {"status": objects.mirror(phase="Succeeded").get("status", {})}
        where = ("pods", FOREIGN, "web")
        s.foreign_server.patch(where, body, by=harness.KUBELET, status=True, strategic=False)
        s.wait(1.0)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["phase"] == "Succeeded"


# --- Secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [{}, {"farlet.io/virtual-node-id": "another-node"}],
    ids=["of an unrelated pod", "of another node"],
)
def test_a_secret_of_that_name_is_never_overwritten(labels: dict[str, str]) -> None:
    with harness.running() as s:
        s.feeding = False
        pod = s.create(mode="home")
        theirs = model.clone(s.secret(pod, labels=labels))
        s.feeding = True
        s.pods.event("ADDED", model.clone(pod))
        s.wait(60.0)
        assert s.secrets() == [theirs]
        assert not s.foreign.requests(rf"(PATCH|DELETE) {SECRETS}")
        assert s.events() == ["NameConflict"]
        s.foreign_server.delete(("secrets", FOREIGN, theirs["metadata"]["name"]), by=harness.USER)
        s.wait(20.0)
        (ours,) = s.secrets()
        assert ours["metadata"]["labels"] == {
            "farlet.io/virtual-node-id": objects.CONTEXT.virtual_node_id
        }


def test_a_refresh_names_the_uid_of_the_secret_that_it_changes() -> None:
    with harness.running() as s:
        _running(s)
        (secret,) = s.secrets()
        s.wait(HALF_LIFE)
        (patch,) = s.foreign.requests(rf"PATCH {SECRETS}")
        assert patch.body["metadata"]["uid"] == secret["metadata"]["uid"]


def test_a_secret_that_an_unrelated_one_replaced_is_not_overwritten() -> None:
    with harness.running() as s:
        _running(s)
        (secret,) = s.secrets()
        s.foreign.lag = 10_000.0
        s.foreign_server.delete(("secrets", FOREIGN, secret["metadata"]["name"]), by=harness.USER)
        pod = s.pod()
        assert pod is not None
        theirs = model.clone(s.secret(pod))
        s.wait(HALF_LIFE)
        assert s.foreign.requests(rf"PATCH {SECRETS}"), "it was tried"
        assert s.secrets() == [theirs]


def test_a_home_pod_that_a_lagging_cache_does_not_know_is_deleted_in_the_end() -> None:
    """NodeRestriction of an API server that has just started answers 404 for pods that exist."""
    with harness.running() as s:
        s.create(mode="disabled")
        s.wait(2.0)
        s.home.refusing[r"DELETE .*/pods/web$"] = s.home.refusal(
            errors.NotFound, 404, 'pod "web" not found', reason="NotFound"
        )
        s.remove()
        s.delete()
        s.wait(5.0)
        assert s.pod() is not None
        s.home.refusing.clear()
        s.wait(30.0)
        assert s.pod() is None
