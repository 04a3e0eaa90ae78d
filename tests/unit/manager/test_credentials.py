"""The credentials of a virtual node stay valid, and its condition says what to do."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from farlet import errors
from farlet.certs import key_pairs
from farlet.constants import ObjectKey
from farlet.manager import client_certificate, credentials, kubeconfigs
from farlet.manager.conditions import Condition
from farlet.manager.kubeconfigs import Kubeconfig
from unit import certificates
from unit.manager import clusters, nodes
from unit.manager.clusters import BINDING, CSRS, DAY, HOME_CA, SECRETS, START, TOKENS, Clusters

HOME, FOREIGN = "farlet-far-home", "farlet-far-foreign"
OTHER_CA = certificates.authority("another cluster", ends=START + 3650 * DAY)
HOUR = timedelta(hours=1)


class Harness(Clusters):
    """A VirtualNode with valid foreign credentials, reconciled by steps."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder)
        self.node = nodes.node(**spec)
        self.mounted: frozenset[str] = frozenset()
        """Further foreign Secrets that pods mount."""
        self.rejected: frozenset[str] = frozenset()
        """Foreign Secrets that pods report as not accepted."""
        self.foreign_server.put(BINDING, {"metadata": {"name": "farlet-token", "uid": "u-token"}})
        self.foreign_server.token = lambda asked: self.issue_token(
            life=timedelta(seconds=asked["expirationSeconds"]),
            bound=(asked.get("boundObjectRef") or {}).get("uid"),
        )
        self.give_token(self.issue_token())
        self.restart()

    def restart(self) -> None:
        """A new process of the manager: nothing is in memory."""
        self.manager = credentials.Credentials(self.home, now=self.now, connect=self.connect)

    def give_token(self, token: str, *, secret: str = FOREIGN) -> None:
        config = Kubeconfig("https://foreign.example:6443", authority=HOME_CA.pem, token=token)
        self.home_server.secret(secret, kubeconfig=config.text())

    def give_certificate(
        self,
        ca: certificates.Pair = HOME_CA,
        *,
        user: str = "system:node:far",
        life: timedelta = 7 * DAY,
        key: str | None = None,
    ) -> None:
        pair = certificates.issue(
            ca, user=user, groups=["system:nodes"], begins=self.time, ends=self.time + life
        )
        text = Kubeconfig(
            "https://10.96.0.1:443",
            authority=HOME_CA.pem,
            pair=key_pairs.parse(pair.pem.encode(), pair.key_pem.encode()),
        )
        self.home_server.secret(HOME, kubeconfig=text.text())

    def step(self, after: timedelta = timedelta(0)) -> Condition:
        self.time += after
        self.manager.changed(self.node.key)
        with structlog.testing.capture_logs():
            return asyncio.run(self.manager.reconcile(self.node, self.mounted, self.rejected))

    @property
    def leaf(self) -> Any:
        """The certificate in the Secret."""
        found = kubeconfigs.parse(self.home_server.read(HOME)["kubeconfig"].encode())
        assert found.pair is not None
        return found.pair.leaf

    @property
    def token(self) -> str:
        return self.token_in(FOREIGN)

    def token_in(self, secret: str) -> str:
        found = kubeconfigs.parse(self.home_server.read(secret)["kubeconfig"].encode())
        assert found.token is not None
        return found.token

    @property
    def request(self) -> Any:
        (csr,) = self.home_server.requests
        return csr


@pytest.fixture
def h(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def says(found: Condition) -> tuple[str, str]:
    return found.status, found.reason


# --- client certificate: the first ---------------------------------------------------------------


def test_the_first_certificate_waits_for_an_approval_with_the_command(h: Harness) -> None:
    found = h.step()
    name = h.request["metadata"]["name"]
    assert says(found) == ("False", "ApprovalRequired")
    assert f"kubectl certificate approve {name}" in found.message
    assert h.request["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    assert h.request["spec"]["usages"] == ["digital signature", "client auth"]
    assert h.request["spec"]["expirationSeconds"] == 7 * 86400
    assert h.request["spec"]["username"] == clusters.MANAGER
    assert "kubeconfig" not in h.home_server.read(HOME)


def test_an_approved_certificate_becomes_a_kubeconfig_without_files(h: Harness) -> None:
    h.step()
    h.grant()
    found = h.step()
    assert says(found) == ("True", "Valid")
    config = kubeconfigs.parse(h.home_server.read(HOME)["kubeconfig"].encode())
    assert config.server == "https://10.96.0.1:443"
    assert config.authority == HOME_CA.pem
    assert key_pairs.is_node(h.leaf, "far")
    assert "pending-key" not in h.home_server.read(HOME)
    metadata = h.home_server.objects[f"{SECRETS}/{HOME}"]["metadata"]
    assert metadata["ownerReferences"][0]["uid"] == "uid-of-far"


def test_a_restart_continues_with_the_same_request(h: Harness) -> None:
    h.step()
    h.restart()
    h.step()
    assert h.home_server.count("POST", CSRS) == 1
    h.grant()
    h.restart()
    assert says(h.step()) == ("True", "Valid")


def test_a_lost_answer_to_the_write_of_the_certificate_changes_nothing(h: Harness) -> None:
    h.step()
    h.grant()
    h.home_server.lost = {f"PATCH {SECRETS}/{HOME}"}
    with pytest.raises(errors.Unreachable):
        h.step()
    assert says(h.step()) == ("True", "Valid")
    assert h.home_server.count("POST", CSRS) == 1


@pytest.mark.parametrize("lost", [f"POST {SECRETS}", f"POST {CSRS}"])
def test_a_lost_answer_leads_to_the_same_request(h: Harness, lost: str) -> None:
    h.home_server.lost = {lost}
    with pytest.raises(errors.Unreachable):
        h.step()
    assert says(h.step()) == ("False", "ApprovalRequired")
    h.grant()
    assert says(h.step()) == ("True", "Valid")


def test_there_is_one_open_request_however_often_it_is_reconciled(h: Harness) -> None:
    for _ in range(20):
        h.step(after=timedelta(minutes=1))
    assert h.home_server.count("POST", CSRS) == 1


def test_a_request_that_kubernetes_deleted_is_created_again(h: Harness) -> None:
    h.step()
    h.home_server.objects.pop(f"{CSRS}/{h.request['metadata']['name']}")
    found = h.step(after=DAY)
    assert f"kubectl certificate approve {h.request['metadata']['name']}" in found.message


@pytest.mark.parametrize("decision", ["Denied", "Failed"])
def test_no_request_follows_one_that_was_refused_until_it_is_deleted(
    h: Harness, decision: str
) -> None:
    h.step()
    h.decide(decision)
    found = h.step()
    name = h.request["metadata"]["name"]
    assert says(found) == ("False", "RequestDenied")
    assert f"{decision}, Because: of it" in found.message
    assert f"kubectl delete csr {name}" in found.message
    for _ in range(30):
        h.step(after=timedelta(minutes=1))
    assert h.home_server.count("POST", CSRS) == 1
    h.home_server.objects.pop(f"{CSRS}/{name}")
    assert says(h.step()) == ("False", "ApprovalRequired")


def test_a_signer_that_issues_nothing_is_named(h: Harness) -> None:
    h.step()
    h.decide("Approved")
    found = h.step(after=timedelta(minutes=5))
    assert says(found) == ("False", "CertificateNotIssued")
    assert "kubernetes.io/kube-apiserver-client-kubelet has not issued" in found.message


def test_a_certificate_that_home_does_not_accept_is_not_stored(h: Harness) -> None:
    h.step()
    h.grant(ca=OTHER_CA)
    found = h.step()
    assert says(found) == ("False", "CertificateNotIssued")
    assert "does not accept its certificate" in found.message
    assert "kubeconfig" not in h.home_server.read(HOME)
    h.step(after=timedelta(minutes=5))
    assert h.home_server.count("POST", CSRS) == 1


def test_a_request_of_this_name_for_another_key_is_not_used(h: Harness) -> None:
    h.step()
    h.home_server.secret(HOME, **{"pending-key": h.home_server.read(HOME)["pending-key"]})
    name = h.request["metadata"]["name"]
    other = client_certificate.request_body("far", key_pairs.new_key(), labels={})
    h.home_server.put(f"{CSRS}/{name}", {**h.request, "spec": other["spec"]})
    h.grant()
    found = h.step()
    assert says(found) == ("False", "CertificateNotIssued")
    assert "it is not the request of the manager" in found.message


def test_a_service_account_needs_no_client_certificate(tmp_path: Path) -> None:
    h = Harness(tmp_path, identity="ServiceAccount")
    assert says(h.step()) == ("True", "Valid")
    assert h.home_server.requests == []


def test_nothing_is_read_within_a_minute_unless_something_has_changed(h: Harness) -> None:
    h.step()
    asked = len(h.home_server.seen)
    before = asyncio.run(h.manager.reconcile(h.node))
    assert before.reason == "ApprovalRequired"
    assert len(h.home_server.seen) == asked
    h.grant()
    h.manager.changed(h.node.key)
    assert says(asyncio.run(h.manager.reconcile(h.node))) == ("True", "Valid")
    h.time += timedelta(minutes=1)
    asked = len(h.home_server.seen)
    asyncio.run(h.manager.reconcile(h.node))
    assert len(h.home_server.seen) > asked


@pytest.mark.parametrize("is_due", [False, True], ids=["valid", "renewal waits for an approval"])
def test_a_rotated_ca_of_the_home_cluster_reaches_the_secret(h: Harness, *, is_due: bool) -> None:
    h.give_certificate()
    h.step()
    before = h.leaf
    if is_due:
        h.step(after=5 * DAY)
    both = HOME_CA.pem + OTHER_CA.pem
    h.home_server.ca_file.write_text(both)
    h.unreachable.add("home")
    h.step()
    assert _home_config(h).authority == HOME_CA.pem  # nothing is written that was not accepted
    h.unreachable.clear()
    assert h.step().status == "True"
    assert _home_config(h).authority == both
    assert h.leaf == before
    writes = h.home_server.count("PATCH", f"{SECRETS}/{HOME}")
    h.step()
    assert h.home_server.count("PATCH", f"{SECRETS}/{HOME}") == writes


@pytest.mark.parametrize(
    "changed",
    [{"server": "https://home.example:6443"}, {"insecure": True, "authority": None}],
    ids=["another address", "not verified"],
)
def test_a_kubeconfig_of_another_kind_gets_no_ca(h: Harness, changed: dict[str, Any]) -> None:
    h.give_certificate()
    text = dataclasses.replace(_home_config(h), **changed).text()
    h.home_server.secret(HOME, kubeconfig=text)
    h.home_server.ca_file.write_text(OTHER_CA.pem)
    assert h.step().status == "True"
    assert h.home_server.read(HOME)["kubeconfig"] == text


def test_a_manager_that_trusts_the_cas_of_its_system_leaves_a_ca_in_the_secret(h: Harness) -> None:
    class WithoutFile(clusters.Api):
        ca_file = None

    h.give_certificate()
    h.home = WithoutFile(h.home_server, lambda: clusters.MANAGER)
    h.restart()
    assert h.step().status == "True"
    assert _home_config(h).authority == HOME_CA.pem


def _home_config(h: Harness) -> Kubeconfig:
    return kubeconfigs.parse(h.home_server.read(HOME)["kubeconfig"].encode())


def test_a_change_of_one_node_makes_no_check_of_another(h: Harness) -> None:
    h.step()
    asked = len(h.home_server.seen)
    h.manager.changed(ObjectKey("farlet", "near"))
    asyncio.run(h.manager.reconcile(h.node))
    assert len(h.home_server.seen) == asked


# --- client certificate: renewal -----------------------------------------------------------------


def test_a_certificate_is_renewed_by_the_node_after_two_thirds_of_its_life(h: Harness) -> None:
    h.give_certificate(life=6 * DAY)
    assert says(h.step(after=4 * DAY - HOUR)) == ("True", "Valid")
    assert h.home_server.requests == []
    first = h.leaf
    found = h.step(after=2 * HOUR)
    assert says(found) == ("True", "Valid")
    assert "its renewal is requested" in found.message
    assert h.request["spec"]["username"] == "system:node:far"
    assert h.leaf == first
    h.grant(life=6 * DAY)
    assert says(h.step()) == ("True", "Valid")
    assert h.leaf != first


def test_the_granted_life_counts(h: Harness) -> None:
    h.step()
    h.grant(life=DAY)
    h.step()
    h.step(after=17 * HOUR)
    assert len(h.home_server.requests) == 2


def test_a_renewal_without_approver_is_reported_48_hours_ahead(h: Harness) -> None:
    h.give_certificate(life=7 * DAY)
    h.step(after=5 * DAY - HOUR)
    assert says(h.step(after=timedelta(minutes=30))) == ("True", "Valid")
    found = h.step(after=HOUR)
    assert says(found) == ("True", "ClientCertificateExpiring")
    name = h.request["metadata"]["name"]
    assert f"kubectl certificate approve {name}" in found.message
    assert "certificatesigningrequests:selfnodeclient" in found.message
    expired = h.step(after=3 * DAY)
    assert says(expired) == ("False", "ApprovalRequired")
    assert f"kubectl certificate approve {name}" in expired.message
    h.grant()
    assert says(h.step()) == ("True", "Valid")


def test_an_expired_certificate_is_requested_by_the_manager(h: Harness) -> None:
    h.give_certificate(life=DAY)
    found = h.step(after=2 * DAY)
    assert says(found) == ("False", "ApprovalRequired")
    assert "the client certificate expired at" in found.message
    assert h.request["spec"]["username"] == clusters.MANAGER


def _text(content: str) -> Callable[[Harness], None]:
    return lambda h: h.home_server.secret(HOME, kubeconfig=content)


def _of_two_keys(h: Harness) -> None:
    h.give_certificate()
    first = h.home_server.read(HOME)["kubeconfig"]
    h.give_certificate()
    second = h.home_server.read(HOME)["kubeconfig"]
    begin = '"client-key-data": "'
    key = first.partition(begin)[2].partition('"')[0]
    other = second.partition(begin)[2].partition('"')[0]
    h.home_server.secret(HOME, kubeconfig=second.replace(other, key))


UNUSABLE: dict[str, tuple[Callable[[Harness], None], str]] = {
    "of another node": (
        lambda h: h.give_certificate(user="system:node:near"),
        "CN=system:node:near",
    ),
    "of another cluster": (
        lambda h: h.give_certificate(OTHER_CA),
        "does not accept the certificate",
    ),
    "with the key of another": (_of_two_keys, "are not a pair"),
    "in no kubeconfig": (_text("- a\n"), "not a kubeconfig"),
}


@pytest.mark.parametrize(("given", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_certificate_stays_until_an_approved_one_replaces_it_if_it_is(
    h: Harness, given: Callable[[Harness], None], words: str
) -> None:
    given(h)
    before = h.home_server.read(HOME)["kubeconfig"]
    found = h.step()
    assert says(found) == ("False", "ApprovalRequired")
    assert words in found.message
    assert "it stays until a new one is issued" in found.message
    assert h.request["spec"]["username"] == clusters.MANAGER
    assert h.home_server.read(HOME)["kubeconfig"] == before
    h.grant()
    assert says(h.step()) == ("True", "Valid")
    assert key_pairs.is_node(h.leaf, "far")


def test_an_outage_of_home_for_the_node_changes_nothing(h: Harness) -> None:
    h.give_certificate()
    h.unreachable = {"home"}
    assert says(h.step(after=HOUR)) == ("True", "Valid")
    assert h.home_server.requests == []


def test_a_defect_of_the_foreign_check_leaves_the_client_certificate_renewed(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    h.give_certificate()
    monkeypatch.setattr(kubeconfigs, "parse", _failing_once(kubeconfigs.parse))
    with pytest.raises(RuntimeError):
        h.step(after=6 * DAY)
    assert h.home_server.count("POST", CSRS) == 1


def _failing_once(parse: Callable[[bytes], Kubeconfig]) -> Callable[[bytes], Kubeconfig]:
    failing = [RuntimeError("a defect")]

    def replaced(content: bytes) -> Kubeconfig:
        if failing:
            raise failing.pop()
        return parse(content)

    return replaced


def test_a_refused_kubeconfig_is_reported_whatever_home_answers_to_a_request(h: Harness) -> None:
    h.home_server.secret(FOREIGN, kubeconfig="exec")
    h.home_server.failing = {f"POST {CSRS}": lambda: clusters.error(403)}
    assert says(h.step()) == ("False", "ForeignKubeconfigInvalid")


# --- foreign token -------------------------------------------------------------------------------


@pytest.fixture
def f(tmp_path: Path) -> Harness:
    """With a ServiceAccount at home, so that only the foreign token is checked."""
    return Harness(tmp_path, identity="ServiceAccount")


def test_a_token_is_renewed_after_half_of_its_life(f: Harness) -> None:
    first = f.token
    f.step(after=15 * DAY - HOUR)
    assert f.token == first
    found = f.step(after=2 * HOUR)
    assert says(found) == ("True", "Valid")
    assert f.token != first
    assert f.foreign_server.count("POST", TOKENS) == 1
    f.step()
    assert f.foreign_server.count("POST", TOKENS) == 1


def test_a_lost_answer_to_the_write_of_a_token_leads_to_no_second_one(f: Harness) -> None:
    f.home_server.lost = {f"PATCH {SECRETS}/{FOREIGN}"}
    f.step(after=16 * DAY)
    assert says(f.step()) == ("True", "Valid")
    assert f.foreign_server.count("POST", TOKENS) == 1


def test_a_token_stays_bound_to_its_secret(f: Harness) -> None:
    asked: list[Any] = []
    issue = f.foreign_server.token
    f.foreign_server.token = lambda spec: asked.append(spec) or issue(spec)  # type: ignore[func-returns-value]
    f.step(after=16 * DAY)
    assert asked[0]["boundObjectRef"] == {
        "apiVersion": "v1",
        "kind": "Secret",
        "name": "farlet-token",
        "uid": "u-token",
    }


@pytest.mark.parametrize(
    ("exists", "bound"), [(True, "u-token"), (False, None)], ids=["exists", "does not exist"]
)
def test_an_unbound_token_becomes_bound_if_the_secret(
    f: Harness, exists: bool, bound: str | None
) -> None:
    if not exists:
        f.foreign_server.objects.pop(BINDING)
    f.give_token(f.issue_token(bound=None))
    asked: list[Any] = []
    issue = f.foreign_server.token
    f.foreign_server.token = lambda spec: asked.append(spec) or issue(spec)  # type: ignore[func-returns-value]
    assert says(f.step(after=16 * DAY)) == ("True", "Valid")
    assert (asked[0].get("boundObjectRef") or {}).get("uid") == bound


def test_the_granted_life_of_a_token_counts(f: Harness) -> None:
    f.foreign_server.token = lambda spec: f.issue_token(life=DAY)
    f.give_token(f.issue_token(life=DAY))
    f.step(after=13 * HOUR)
    assert f.foreign_server.count("POST", TOKENS) == 1
    f.step(after=13 * HOUR)
    assert f.foreign_server.count("POST", TOKENS) == 2


NOT_USED: dict[str, Callable[[Harness], str]] = {
    "does not accept": lambda f: f.issue_token(accepted=False),
    "issued for another account": lambda f: f.issue_token(
        subject="system:serviceaccount:farlet-far:default"
    ),
    "issued without the Secret": lambda f: f.issue_token(bound=None),
    "issued too late": lambda f: f.issue_token(life=-HOUR),
    "did not write as a token": lambda f: "x",
}


@pytest.mark.parametrize("issue", NOT_USED.values(), ids=NOT_USED)
def test_no_token_is_stored_that_the_foreign_api_server(
    f: Harness, issue: Callable[[Harness], str]
) -> None:
    first = f.token
    f.foreign_server.token = lambda spec: issue(f)
    found = f.step(after=16 * DAY)
    assert says(found) == ("True", "ForeignTokenRenewalFailed")
    assert f.token == first


def test_failed_renewals_are_retried_after_growing_pauses(f: Harness) -> None:
    f.foreign_server.failing = {f"POST {TOKENS}": lambda: clusters.error(403)}
    f.step(after=16 * DAY)
    for _ in range(90):
        f.step(after=timedelta(minutes=1))
    assert f.foreign_server.count("POST", TOKENS) <= 8
    f.foreign_server.failing = {}
    assert says(f.step(after=HOUR)) == ("True", "Valid")


def test_a_token_that_expires_is_reported_when_a_third_is_left(f: Harness) -> None:
    f.foreign_server.failing = {f"POST {TOKENS}": lambda: clusters.error(403)}
    assert says(f.step(after=16 * DAY)) == ("True", "ForeignTokenRenewalFailed")
    found = f.step(after=5 * DAY)
    assert says(found) == ("True", "ForeignCredentialsExpiring")
    assert "farlet connect" in found.message
    assert says(f.step(after=10 * DAY)) == ("False", "ForeignCredentialsExpired")


@pytest.mark.parametrize(
    ("token", "words"),
    [
        pytest.param(lambda f: f.issue_token(life=None, bound=None), "does not expire", id="ever"),
        pytest.param(lambda f: "opaque", "is not of a ServiceAccount", id="no JSON Web Token"),
    ],
)
def test_a_token_without_expiry_is_left_alone(
    f: Harness, token: Callable[[Harness], str], words: str
) -> None:
    f.give_token(token(f))
    f.valid_tokens.add(f.token)
    found = f.step(after=1000 * DAY)
    assert says(found) == ("True", "NotRenewed")
    assert words in found.message
    assert f.foreign_server.count("POST", TOKENS) == 0


def _certificate(f: Harness) -> None:
    pair = certificates.issue(
        OTHER_CA, user="farlet", groups=[], begins=f.time, ends=f.time + 360 * DAY
    )
    config = Kubeconfig(
        "https://foreign.example:6443",
        authority=HOME_CA.pem,
        pair=key_pairs.parse(pair.pem.encode(), pair.key_pem.encode()),
    )
    f.home_server.secret(FOREIGN, kubeconfig=config.text())


def _token_of_a_person(f: Harness) -> None:
    f.give_token(f.issue_token(subject="alice", life=360 * DAY))


@pytest.mark.parametrize("give", [_certificate, _token_of_a_person])
def test_credentials_that_expire_and_cannot_be_renewed_are_named(
    f: Harness, monkeypatch: pytest.MonkeyPatch, give: Callable[[Harness], None]
) -> None:
    monkeypatch.setattr(f, "_user", lambda _name, _config: "alice")
    give(f)
    found = f.step()
    assert says(found) == ("True", "NotRenewed")
    assert "the manager cannot renew credentials of this kind" in found.message
    assert says(f.step(after=250 * DAY)) == ("True", "ForeignCredentialsExpiring")
    assert f.foreign_server.count("POST", TOKENS) == 0


def test_a_revoked_token_is_reported_and_not_renewed(f: Harness) -> None:
    f.valid_tokens.clear()
    found = f.step(after=16 * DAY)
    assert says(found) == ("False", "ForeignCredentialsRejected")
    assert "401" in found.message
    assert f.foreign_server.count("POST", TOKENS) == 0


def test_an_expired_token_is_not_called_one_that_the_manager_never_renews(f: Harness) -> None:
    f.valid_tokens.clear()
    found = f.step(after=31 * DAY)
    assert says(found) == ("False", "ForeignCredentialsExpired")
    assert "it was not renewed in time; run farlet connect again" in found.message


def test_an_outage_does_not_hide_when_a_token_expires(f: Harness) -> None:
    f.unreachable = {"foreign"}
    found = f.step(after=29 * DAY)
    assert says(found) == ("Unknown", "NotVerified")
    assert "expires at 2026-01-31 00:00 UTC: it was not renewed in time" in found.message


def test_a_revocation_is_noticed_within_minutes(f: Harness) -> None:
    assert says(f.step()) == ("True", "Valid")
    f.valid_tokens.clear()
    assert says(f.step(after=timedelta(minutes=11))) == ("False", "ForeignCredentialsRejected")


REVOKED = (
    "the foreign API server does not accept farlet's credentials (401 Unauthorized): they have "
    "expired or were revoked. Run this with your contexts: farlet connect --home-context HOME "
    "--foreign-context FOREIGN --node far (a node without farlet connect: put a kubeconfig with "
    "new credentials into the Secret farlet-far-foreign, docs/how-to/renew-credentials.md)"
)


@pytest.mark.parametrize("outage", [frozenset[str](), frozenset({"foreign"})])
def test_a_revocation_that_a_pod_reports_is_shown_at_once(
    f: Harness, outage: frozenset[str]
) -> None:
    assert says(f.step()) == ("True", "Valid")
    f.valid_tokens.clear()
    f.unreachable = set(outage)
    f.rejected = frozenset({FOREIGN})
    with structlog.testing.capture_logs():
        found = asyncio.run(f.manager.reconcile(f.node, f.mounted, f.rejected))
    assert says(found) == ("False", "ForeignCredentialsRejected")
    assert found.message == REVOKED


def test_new_credentials_that_pods_have_not_read_yet_are_valid(f: Harness) -> None:
    f.step()
    f.valid_tokens.clear()
    f.rejected = frozenset({FOREIGN})
    assert f.step().status == "False"
    f.give_token(f.issue_token())
    assert says(f.step()) == ("True", "Valid")


def test_of_credentials_that_pods_reject_and_that_nothing_verified_nothing_is_known(
    f: Harness,
) -> None:
    """The pods can have read the Secret before its last change."""
    f.unreachable = {"foreign"}
    f.rejected = frozenset({FOREIGN})
    assert says(f.step()) == ("Unknown", "NotVerified")


def test_an_outage_leaves_accepted_credentials_valid_and_others_unknown(f: Harness) -> None:
    f.unreachable = {"foreign"}
    assert says(f.step()) == ("Unknown", "NotVerified")
    f.unreachable = set()
    assert says(f.step()) == ("True", "Valid")
    f.unreachable = {"foreign"}
    assert says(f.step(after=HOUR)) == ("True", "Valid")


def test_a_missing_secret_is_named_with_the_command(f: Harness) -> None:
    f.home_server.objects.pop(f"{SECRETS}/{FOREIGN}")
    found = f.step()
    assert says(found) == ("False", "ForeignKubeconfigMissing")
    assert f"create secret generic {FOREIGN}" in found.message


def test_a_change_by_another_writer_is_read_again(f: Harness) -> None:
    issue = f.foreign_server.token

    def exchanged(spec: Any) -> str:
        f.foreign_server.token = issue
        f.give_token(f.issue_token(life=60 * DAY))
        return issue(spec)

    f.foreign_server.token = exchanged
    assert says(f.step(after=16 * DAY)) == ("True", "Valid")
    assert "will be renewed" in f.step().message
    assert f.foreign_server.count("POST", TOKENS) == 1


# --- foreign tokens of pods whose rollout has not ended ------------------------------------------


@pytest.fixture
def rolling(tmp_path: Path) -> Harness:
    """Its spec names the Secret `new`; pods of the spec before mount the present one."""
    harness = Harness(
        tmp_path, identity="ServiceAccount", foreign={"kubeconfigSecret": {"name": "new"}}
    )
    harness.mounted = frozenset({FOREIGN})
    return harness


def test_a_token_that_pods_still_mount_is_renewed_while_the_secret_of_the_spec_is_missing(
    rolling: Harness,
) -> None:
    first = rolling.token
    found = rolling.step(after=16 * DAY)
    assert rolling.token != first
    assert says(found) == ("False", "ForeignKubeconfigMissing")
    assert "Secret farlet/new does not exist" in found.message
    assert (
        f"; without a problem: the foreign token in Secret farlet/{FOREIGN}, which pods of an "
        "earlier spec mount, is valid until "
    ) in found.message


def test_each_missing_secret_of_a_rollout_that_is_stuck_is_told_apart(rolling: Harness) -> None:
    rolling.mounted = frozenset({FOREIGN, "second"})
    found = rolling.step()
    assert says(found) == ("False", "ForeignKubeconfigMissing")
    assert "Secret farlet/new does not exist" in found.message
    assert (
        "Secret farlet/second, which pods of an earlier spec mount, does not exist"
    ) in found.message


def test_both_tokens_of_a_rollout_are_renewed_and_verified_once(rolling: Harness) -> None:
    rolling.give_token(rolling.issue_token(life=31 * DAY), secret="new")
    before = rolling.token, rolling.token_in("new")
    assert says(rolling.step(after=16 * DAY)) == ("True", "Valid")
    assert not {rolling.token, rolling.token_in("new")} & set(before)
    asked = len(rolling.foreign_server.seen)
    rolling.step(after=timedelta(minutes=1))
    assert len(rolling.foreign_server.seen) == asked


def test_a_revoked_token_that_pods_still_mount_is_named(rolling: Harness) -> None:
    rolling.give_token(rolling.issue_token(life=20 * DAY), secret="new")
    rolling.valid_tokens.discard(rolling.token)
    found = rolling.step()
    assert says(found) == ("False", "ForeignCredentialsRejected")
    assert f"into the Secret {FOREIGN}, docs" in found.message
    rolling.mounted = frozenset()
    assert says(rolling.step()) == ("True", "Valid")


def test_two_renewals_that_fail_are_each_retried_after_growing_pauses(rolling: Harness) -> None:
    rolling.give_token(rolling.issue_token(), secret="new")
    rolling.foreign_server.failing = {f"POST {TOKENS}": lambda: clusters.error(403)}
    rolling.step(after=16 * DAY)
    for _ in range(90):
        rolling.step(after=timedelta(minutes=1))
    assert rolling.foreign_server.count("POST", TOKENS) <= 16


# --- secrecy --------------------------------------------------------------------------------------


def test_no_credential_appears_in_conditions_or_logs(h: Harness) -> None:
    messages = []
    with structlog.testing.capture_logs() as logs:
        for _ in range(40):
            h.manager.changed(h.node.key)
            messages.append(asyncio.run(h.manager.reconcile(h.node)).message)
            if h.home_server.requests and "certificate" not in h.home_server.requests[-1].get(
                "status", {}
            ):
                h.grant()
            h.time += DAY
    text = repr(messages) + repr(logs)
    for secret in (*h.valid_tokens, "PRIVATE KEY"):
        assert secret not in text
