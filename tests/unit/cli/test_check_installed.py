"""`farlet check` with the contexts of an administrator, where a farlet serves the node already."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from farlet import constants, errors
from farlet.certs import key_pairs
from farlet.cli import check as checking
from farlet.cli.checks.findings import Finding, Outcome
from farlet.cli.status import process_state
from farlet.forge import timestamps
from farlet.install import home
from farlet.install.connection import Connection
from farlet.manager import objects
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.manager.virtual_node import Identity, VirtualNode
from farlet.telemetry.state import ForeignState, HomeAPIState, State
from unit import certificates
from unit.cli.check_environment import ADDRESS, Environment, environment

ADMINISTRATOR = ("kubernetes-admin", "system:masters")
NODE = "system:node:far"
AT_HOME = "system:serviceaccount:farlet:farlet-far"
ACCOUNT = "system:serviceaccount:farlet:farlet"
IN_POD = "kubectl --kubeconfig {} -n farlet exec deploy/farlet-far -- farlet check"

VIRTUAL_NODE = "/apis/farlet.io/v1alpha1/namespaces/farlet/virtualnodes/far"
DEPLOYMENTS = "/apis/apps/v1/namespaces/farlet/deployments"
DEPLOYMENT = f"{DEPLOYMENTS}/farlet-far"
MANAGER = f"{DEPLOYMENTS}/farlet-manager"
SECRET = "/api/v1/namespaces/farlet/secrets/farlet-far-foreign"

CONDITIONS = {
    "Ready": ("True", "Serving", "farlet-far-1 serves the node"),
    "ForeignReachable": ("True", "ForeignAPIServerReachable", "https://f:6443 answers"),
    "CredentialsValid": ("True", "Valid", "valid until tomorrow"),
    "HomeAPIReachable": ("True", "HomeAPIVerified", "pods reach it"),
}


@contextlib.asynccontextmanager
async def installed(
    folder: Path, *, identity: Identity = Identity.NODE, credentials: Kubeconfig | None = None
) -> AsyncIterator[Environment]:
    """A virtual node of `farlet connect`, and an administrator of both clusters."""
    async with environment(folder) as env:
        env.users = {"home": ADMINISTRATOR, "foreign": ADMINISTRATOR}
        connection = Connection(
            "far", image="f:1", foreign_system="farlet", identity=identity, namespaces=("shop",)
        )
        declared = home.virtual_node(connection)
        declared["metadata"] |= {"uid": "v", "generation": 3}
        kubeconfig = credentials or Kubeconfig("https://f:6443", token="t1")
        parameters = objects.PodParameters("f:1", stop_seconds=1.0, own_account=False)
        *_, deployment = objects.desired(VirtualNode.parse(declared), parameters)
        env.objects = {
            VIRTUAL_NODE: {**declared, "status": reported(CONDITIONS)},
            SECRET: home.foreign_secret(connection, kubeconfig.text()),
            DEPLOYMENT: rolled_out(deployment),
            MANAGER: rolled_out(deployment),
        }
        env.tokens = {"t1": (ACCOUNT, "system:serviceaccounts", "system:authenticated")}
        yield env


def reported(conditions: dict[str, tuple[str, str, str]], generation: int = 3) -> dict[str, Any]:
    return {
        "observedGeneration": generation,
        "conditions": [
            {"type": kind, "status": status, "reason": reason, "message": message}
            for kind, (status, reason, message) in conditions.items()
        ],
    }


def rolled_out(deployment: dict[str, Any], available: int = 2) -> dict[str, Any]:
    counts = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": available}
    return {**deployment, "status": counts}


def outcomes(found: dict[str, Finding], outcome: Outcome) -> set[str]:
    return {what for what, one in found.items() if one.outcome is outcome}


async def test_the_installed_farlet_is_judged_by_its_own_identity(tmp_path: Path) -> None:
    async with installed(tmp_path) as env:
        found = await env.findings("shop")
    assert {one.outcome for one in found.values()} == {Outcome.OK}, found
    assert found["home identity"].seen == "kubernetes-admin"
    assert found["foreign credentials"].seen == f"a token of {ACCOUNT}"
    assert f"reviewed for {NODE}" in found["home permissions"].seen
    assert f"reviewed for {ACCOUNT}" in found["foreign permissions"].seen
    assert found["VirtualNode Ready"].seen == "farlet-far-1 serves the node"
    assert found["Deployment farlet-far"].seen == "2 available"
    assert env.subjects == {
        ("home", NODE): {"system:nodes", "system:authenticated"},
        ("foreign", ACCOUNT): {"system:serviceaccounts", "system:authenticated"},
    }
    of_administrator = {asked["resource"] for _, asked in env.reviewed}
    assert "pods" not in of_administrator


LACKS = {
    "a RoleBinding in the foreign system namespace": (
        (ACCOUNT, "list", "services"),
        "foreign permissions",
        f"{ACCOUNT} is not allowed to list services",
    ),
    "a RoleBinding in a foreign namespace": (
        (ACCOUNT, "create", "secrets"),
        "foreign namespace of shop",
        f"shop-home: {ACCOUNT} is not allowed to create secrets",
    ),
    "a RoleBinding in kube-system": (
        (NODE, "*", "configmaps"),
        "home permissions",
        f"{NODE} is not allowed to get, watch configmaps in kube-system",
    ),
    "a RoleBinding in a home namespace": (
        (AT_HOME, "create", "serviceaccounts"),
        "home namespace shop",
        f"{AT_HOME} is not allowed to create serviceaccounts/token",
    ),
}


@pytest.mark.parametrize(("denied", "what", "seen"), LACKS.values(), ids=LACKS)
async def test_what_the_installed_farlet_lacks_is_a_failure(
    tmp_path: Path, denied: tuple[str, str, str], what: str, seen: str
) -> None:
    account = denied[0] == AT_HOME
    identity = Identity.SERVICE_ACCOUNT if account else Identity.NODE
    async with installed(tmp_path, identity=identity) as env:
        env.denied = {denied}
        found = await env.findings("shop")
    assert outcomes(found, Outcome.FAILED) == {what}
    assert found[what].seen == seen
    assert found[what].hint
    assert not checking.good(tuple(found.values()))


async def test_a_revoked_token_is_a_failure(tmp_path: Path) -> None:
    async with installed(tmp_path) as env:
        env.tokens = {}
        found = await env.findings("shop")
    one = found["foreign credentials"]
    assert (one.outcome, one.seen) == (Outcome.FAILED, "its token is not accepted")
    assert "401 invalid bearer token" in one.hint
    assert "Secret farlet-far-foreign" in one.hint
    assert "foreign permissions" not in found


async def test_a_client_certificate_names_user_and_groups(tmp_path: Path) -> None:
    pair = certificates.issue(
        certificates.authority(), user="far-away", groups=("tenants",), uses=(certificates.CLIENT,)
    )
    parsed = key_pairs.parse(pair.pem.encode(), pair.key_pem.encode())
    kubeconfig = Kubeconfig("https://f:6443", pair=parsed)
    async with installed(tmp_path, credentials=kubeconfig) as env:
        found = await env.findings()
    assert found["foreign credentials"].seen == "a client certificate of far-away"
    assert env.subjects["foreign", "far-away"] == {"tenants", "system:authenticated"}


async def test_the_token_is_shown_to_no_other_foreign_cluster(tmp_path: Path) -> None:
    async with installed(tmp_path) as env:
        env.node = {constants.FOREIGN_CLUSTER: "cluster-b", constants.HOME_CLUSTER: "home-1"}
        env.tokens = {"t1": ("not asked",)}
        found = await env.findings()
    assert found["foreign cluster"].outcome is Outcome.FAILED
    one = found["foreign credentials"]
    assert (one.outcome, one.seen) == (
        Outcome.WARNING,
        "not checked: this is perhaps not the foreign cluster of the node",
    )
    assert env.shown == []


def _no_home_reviews(env: Environment) -> None:
    env.denied = {("home", "create", "subjectaccessreviews")}


def _no_foreign_reviews(env: Environment) -> None:
    env.denied = {("foreign", "create", "subjectaccessreviews")}


def _no_token_reviews(env: Environment) -> None:
    path = "foreign /apis/authentication.k8s.io/v1/tokenreviews"
    env.refused[path] = _forbidden()


def _no_secrets(env: Environment) -> None:
    env.refused[f"home {SECRET}"] = _forbidden()


def _forbidden() -> web.Response:
    body = {"kind": "Status", "code": 403, "message": "no", "reason": "Forbidden"}
    return web.json_response(body, status=403)


def _no_kubeconfig(env: Environment) -> None:
    env.objects[SECRET]["data"] = {"kubeconfig": base64.b64encode(b"later").decode()}


def _other_volumes(env: Environment) -> None:
    env.objects[DEPLOYMENT]["spec"]["template"]["spec"]["volumes"] = []


UNKNOWN = {
    "home permissions": (_no_home_reviews, "home permissions", "create subjectaccessreviews in"),
    "foreign permissions": (_no_foreign_reviews, "foreign permissions", "in the foreign cluster"),
    "whether the token is accepted": (_no_token_reviews, "foreign credentials", "tokenreviews"),
    "the foreign credentials": (_no_secrets, "foreign credentials", "not allowed to read it"),
    "a kubeconfig": (_no_kubeconfig, "foreign credentials", "contains no kubeconfig with a token"),
    "a Deployment of another program": (_other_volumes, "permissions of farlet", "not known"),
}


@pytest.mark.parametrize(("cause", "what", "seen"), UNKNOWN.values(), ids=UNKNOWN)
async def test_what_cannot_be_checked_names_the_command_that_can(
    tmp_path: Path, cause: Callable[[Environment], None], what: str, seen: str
) -> None:
    async with installed(tmp_path) as env:
        cause(env)
        found = await env.findings("shop")
    assert outcomes(found, Outcome.WARNING) == {what}
    assert found[what].seen.startswith("not checked: ")
    assert seen in found[what].seen
    assert found[what].hint.endswith(IN_POD.format(env.flags["home_kubeconfig"]))
    assert checking.good(tuple(found.values()))


async def test_a_secret_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    async with installed(tmp_path) as env:
        del env.objects[SECRET]
        found = await env.findings()
    one = found["foreign credentials"]
    assert one.outcome is Outcome.FAILED
    assert one.seen == "the Secret farlet/farlet-far-foreign does not exist"


@pytest.mark.parametrize(
    ("condition", "reported_as", "outcome"),
    [
        pytest.param(
            "CredentialsValid",
            ("False", "RequestDenied", "delete the request"),
            Outcome.FAILED,
            id="false",
        ),
        pytest.param(
            "HomeAPIReachable",
            ("Unknown", "NotReported", "no pod has reported"),
            Outcome.WARNING,
            id="unknown",
        ),
        pytest.param(
            "CredentialsValid",
            ("True", "ForeignCredentialsExpiring", "renew it"),
            Outcome.WARNING,
            id="a warning",
        ),
        pytest.param(
            "Ready",
            ("True", "InvalidSpec", "spec.taints: no"),
            Outcome.WARNING,
            id="an earlier spec",
        ),
    ],
)
async def test_conditions_of_the_virtual_node_are_part_of_the_result(
    tmp_path: Path, condition: str, reported_as: tuple[str, str, str], outcome: Outcome
) -> None:
    async with installed(tmp_path) as env:
        env.objects[VIRTUAL_NODE]["status"] = reported({**CONDITIONS, condition: reported_as})
        found = await env.findings()
    what = f"VirtualNode {condition}"
    assert outcomes(found, outcome) == {what}
    assert (found[what].seen, found[what].hint) == reported_as[1:]


REJECTED = errors.with_secret(
    errors.credentials_rejected("foreign", "Unauthorized", node="far"),
    "foreign",
    "farlet-far-foreign",
)
OUTAGE = {
    "Ready": ("False", "Unhealthy", f"farlet-far-1 serves the node, but foreign: {REJECTED}"),
    "ForeignReachable": ("False", "ForeignUnauthorized", REJECTED),
    "CredentialsValid": ("False", "ForeignCredentialsRejected", REJECTED),
    "HomeAPIReachable": ("False", "ForeignUnauthorized", REJECTED),
}
LEADER = State(
    node="far",
    phase="serving",
    leader=True,
    foreign=ForeignState(reachable=True, server="https://f:6443"),
    home_api=HomeAPIState(state="Verified", endpoint="a:443"),
)


def _reports(monkeypatch: pytest.MonkeyPatch, env: Environment, state: State) -> None:
    """A running pod of the node, whose process reports this now."""

    async def of(*_args: object) -> State:
        return state

    monkeypatch.setattr(process_state, "of", of)
    metadata = {"name": "farlet-far-1", "namespace": "farlet"}
    env.pods = [{"metadata": metadata, "status": {"phase": "Running"}}]


async def test_a_problem_that_is_over_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path) as env:
        status = reported(OUTAGE)
        for one in status["conditions"]:
            one["lastTransitionTime"] = timestamps.rfc3339(time.time() - 20)
        env.objects[VIRTUAL_NODE]["status"] = status
        _reports(monkeypatch, env, LEADER)
        found = await env.findings()
    assert outcomes(found, Outcome.FAILED) == set()
    assert outcomes(found, Outcome.WARNING) == {f"VirtualNode {one}" for one in OUTAGE}
    seen = found["VirtualNode Ready"].seen
    assert re.fullmatch(
        r"Unhealthy, reported 2\ds ago, and over now: farlet-far-1 serves the node", seen
    )
    assert f"accepts a token of {ACCOUNT}" in found["VirtualNode CredentialsValid"].seen


async def test_what_farlet_reports_now_counts_more_than_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path) as env:
        problem = "the foreign API server does not answer"
        foreign = ForeignState(reason="ForeignUnreachable", problem=problem)
        _reports(monkeypatch, env, LEADER.model_copy(update={"foreign": foreign}))
        found = await env.findings()
    one = found["VirtualNode ForeignReachable"]
    assert (one.outcome, one.seen, one.hint) == (Outcome.FAILED, "ForeignUnreachable", problem)


async def test_without_a_report_of_farlet_only_its_credentials_can_be_over(tmp_path: Path) -> None:
    async with installed(tmp_path) as env:
        outage = {**OUTAGE, "HomeAPIReachable": ("False", "HomeAPIUnreachable", "no route")}
        env.objects[VIRTUAL_NODE]["status"] = reported(outage)
        found = await env.findings()
    assert outcomes(found, Outcome.FAILED) == {"VirtualNode HomeAPIReachable"}
    assert "unknown ago" not in found["VirtualNode Ready"].seen


async def test_a_revoked_token_is_explained_in_one_row(tmp_path: Path) -> None:
    async with installed(tmp_path) as env:
        env.tokens = {}
        env.objects[VIRTUAL_NODE]["status"] = reported(OUTAGE)
        found = await env.findings(home_context="one", foreign_context="one")
    rows = {f"VirtualNode {one}" for one in OUTAGE}
    assert outcomes(found, Outcome.FAILED) == {*rows, "foreign credentials"}
    assert {found[one].hint for one in rows} == {"see foreign credentials"}
    said = checking.table(tuple(found.values()))
    assert said.count("does not accept farlet's credentials") == 1


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        pytest.param(reported({}), "the manager has not reported yet", id="none"),
        pytest.param(reported(CONDITIONS, 2), "not seen its last change yet", id="old ones"),
    ],
)
async def test_conditions_that_are_missing_or_old_are_a_warning(
    tmp_path: Path, status: dict[str, Any], seen: str
) -> None:
    async with installed(tmp_path) as env:
        env.objects[VIRTUAL_NODE]["status"] = status
        found = await env.findings()
    assert outcomes(found, Outcome.WARNING) == {"VirtualNode far"}
    assert seen in found["VirtualNode far"].seen


def _pod(name: str, reason: str, message: str) -> dict[str, Any]:
    waiting = {"reason": reason, "message": message}
    return {
        "metadata": {"name": name, "namespace": "farlet"},
        "spec": {"containers": [{"name": "farlet", "image": "f:2"}]},
        "status": {"containerStatuses": [{"state": {"waiting": waiting}}]},
    }


@pytest.mark.parametrize(
    ("available", "outcome"),
    [
        pytest.param(0, Outcome.FAILED, id="none is available"),
        pytest.param(1, Outcome.WARNING, id="one is available"),
    ],
)
async def test_pods_that_do_not_run_are_named(
    tmp_path: Path, available: int, outcome: Outcome
) -> None:
    async with installed(tmp_path) as env:
        env.objects[DEPLOYMENT] = rolled_out(env.objects[DEPLOYMENT], available)
        env.pods = [_pod("farlet-far-1", "CrashLoopBackOff", "back-off")]
        found = await env.findings(home_context="one")
    assert outcomes(found, outcome) == {"Deployment farlet-far"}
    one = found["Deployment farlet-far"]
    why = "farlet-far-1: CrashLoopBackOff: back-off"
    assert one.seen == f"{available} of 2 pods are available; {why}"
    kubectl = f"kubectl --context one --kubeconfig {env.flags['home_kubeconfig']}"
    assert f"{kubectl} logs -n farlet farlet-far-1 --previous" in one.hint


async def test_an_image_that_cannot_be_pulled_is_told_apart(tmp_path: Path) -> None:
    async with installed(tmp_path) as env:
        env.objects[DEPLOYMENT] = rolled_out(env.objects[DEPLOYMENT], 0)
        env.pods = [_pod("farlet-far-1", "ErrImagePull", "no such image")]
        found = await env.findings()
    one = found["Deployment farlet-far"]
    assert "farlet-far-1: ErrImagePull: no such image" in one.seen
    assert "cannot pull the image f:2" in one.hint
    assert "farlet connect again with --image" in one.hint


async def test_a_manager_that_does_not_exist_is_named(tmp_path: Path) -> None:
    async with installed(tmp_path) as env:
        del env.objects[MANAGER]
        found = await env.findings()
    assert outcomes(found, Outcome.WARNING) == {"Deployment farlet-manager"}
    assert "Run farlet connect again" in found["Deployment farlet-manager"].hint


@pytest.mark.parametrize(
    ("path", "name"), [(MANAGER, "farlet-manager"), (DEPLOYMENT, "farlet-far")]
)
async def test_a_deployment_that_is_scaled_to_0_is_named(
    tmp_path: Path, path: str, name: str
) -> None:
    async with installed(tmp_path) as env:
        scaled = json.loads(json.dumps(env.objects[path]))
        scaled["spec"]["replicas"] = 0
        env.objects[path] = {**scaled, "status": {}}
        found = await env.findings()
    one = found[f"Deployment {name}"]
    assert one.outcome is Outcome.FAILED
    assert one.seen.endswith(f"the Deployment farlet/{name} is scaled to 0")
    kubectl = f"kubectl --kubeconfig {env.flags['home_kubeconfig']}"
    assert f"{kubectl} scale deployment -n farlet {name} --replicas 1" in one.hint


@pytest.mark.parametrize(
    ("annotations", "outcome", "seen", "hint"),
    [
        pytest.param(
            {},
            Outcome.FAILED,
            "an administrator",
            "kubectl --kubeconfig {} uncordon far",
            id="by an administrator",
        ),
        pytest.param(
            {constants.CORDONED: "drain"},
            Outcome.WARNING,
            "farlet drains it before it stops",
            "The next start uncordons it",
            id="by farlet, which drains it",
        ),
    ],
)
async def test_a_node_that_is_cordoned_is_not_all_right(
    tmp_path: Path, annotations: dict[str, str], outcome: Outcome, seen: str, hint: str
) -> None:
    async with installed(tmp_path) as env:
        env.node, env.cordoned = annotations, True
        found = await env.findings("shop")
    one = found["Node far"]
    assert one.outcome is outcome
    assert one.seen.startswith(f"takes no new pods: {seen}")
    assert hint.format(env.flags["home_kubeconfig"]) in one.hint
    assert outcomes(found, outcome) == {"Node far"}


async def test_a_farlet_that_was_installed_by_hand_is_judged_by_its_own_identity(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path) as env:
        del env.objects[VIRTUAL_NODE]
        env.denied = {(NODE, "*", "configmaps")}
        found = await env.findings()
    assert outcomes(found, Outcome.FAILED) == {"home permissions"}
    assert outcomes(found, Outcome.WARNING) == set()
    assert not [what for what in found if what.startswith("VirtualNode")]


async def test_credentials_of_the_installed_farlet_itself_need_no_other_review(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path) as env:
        env.users = {"home": (NODE, "system:nodes"), "foreign": (ACCOUNT,)}
        env.denied = {("home", "*", one) for one in ("virtualnodes", "deployments")}
        found = await env.findings("shop")
    assert {one.outcome for one in found.values()} == {Outcome.OK}, found
    assert env.subjects == {}
    assert not [what for what in found if what.startswith(("VirtualNode", "Deployment"))]


async def test_a_policy_about_farlet_is_not_tried_by_an_administrator(tmp_path: Path) -> None:
    async with installed(tmp_path) as env:
        found = await env.findings(create_namespaces="true")
    one = found["policy for created namespaces"]
    assert one.outcome is Outcome.WARNING
    assert one.seen == f"not checked: it is about requests of {ACCOUNT} only"
    assert found["creation of namespaces"].outcome is Outcome.OK


@pytest.mark.parametrize(
    ("flags", "user"),
    [
        pytest.param({"home_storage_kubeconfig": "in-cluster"}, AT_HOME, id="an account"),
        pytest.param({}, NODE, id="the node, which never has them"),
    ],
)
async def test_volumes_are_checked_with_the_identity_of_the_pods(
    tmp_path: Path, flags: dict[str, str], user: str
) -> None:
    async with installed(tmp_path) as env:
        env.denied = {(NODE, "*", "persistentvolumes")}
        env.refused["home /apis/storage.k8s.io/v1/storageclasses/far"] = web.json_response(
            {
                "kind": "StorageClass",
                "metadata": {"name": "far", "uid": "s"},
                "provisioner": "farlet.io/foreign",
                "volumeBindingMode": "WaitForFirstConsumer",
            }
        )
        found = await env.findings(storage_class_map="far=fast", **flags)
    assert ("home", user) in env.subjects
    assert (found["volumes"].outcome is Outcome.OK) is (user == AT_HOME)


VIRTUAL_NODES = "/apis/farlet.io/v1alpha1/namespaces/farlet/virtualnodes"


def _virtual_nodes(*names: str) -> web.Response:
    items = [{"metadata": {"name": name}} for name in names]
    metadata = {"resourceVersion": "1"}
    return web.json_response({"kind": "VirtualNodeList", "metadata": metadata, "items": items})


@pytest.mark.parametrize(
    ("at_home", "there", "has", "hint"),
    [
        pytest.param(("far",), (), "far", "check the name; or create it", id="a mistyped name"),
        pytest.param((), (), "none", "check the name; or create it", id="before farlet connect"),
        pytest.param((), ("fra",), "none", "swap --home-context", id="swapped contexts"),
    ],
)
async def test_of_an_unknown_node_nothing_but_that_is_said(
    tmp_path: Path, at_home: tuple[str, ...], there: tuple[str, ...], has: str, hint: str
) -> None:
    async with installed(tmp_path) as env:
        env.refused[f"home {VIRTUAL_NODES}"] = _virtual_nodes(*at_home)
        env.refused[f"foreign {VIRTUAL_NODES}"] = _virtual_nodes(*there)
        env.flags = {name: env.flags[name] for name in ("home_kubeconfig", "foreign_kubeconfig")}
        found = await env.findings("shop", nodename="fra", home_context="one")
    one = found["virtual node fra"]
    assert one.seen == f"the home cluster has no virtual node fra. It has: {has}"
    assert hint in one.hint
    assert outcomes(found, Outcome.FAILED) == {"virtual node fra"}
    assert "manifests/" not in checking.table(tuple(found.values()))
    assert not [what for what in found if what.startswith(("Node", "foreign namespace", ADDRESS))]


async def test_an_unknown_node_with_settings_is_checked_as_before_its_start(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path) as env:
        env.objects, env.node = {}, None
        found = await env.findings("shop")
    assert outcomes(found, Outcome.FAILED) == set()
    assert "virtual node far" not in found
