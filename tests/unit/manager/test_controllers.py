"""Controllers: what they apply and mend, what they refuse, and what they report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from farlet import errors
from farlet.constants import JSON, ObjectKey
from farlet.manager import conditions, states
from farlet.manager.conditions import CREDENTIALS_NOT_CHECKED, Condition, ConditionType
from farlet.manager.controllers import Controllers
from farlet.manager.virtual_node import VirtualNode
from farlet.manager.virtual_node_controller import RESYNC_SECONDS, Dependencies
from farlet.telemetry.state import ForeignState, HomeAPIState, State
from unit import faketime
from unit.manager import nodes
from unit.manager.home_server import HomeServer, deployment_path, node_path

SERVING = State(node="far", phase="serving", leader=True, foreign=ForeignState(reachable=True))
OWNED = ("serviceaccounts", "networkpolicies", "poddisruptionbudgets", "deployments")


class Harness:
    """Controllers in a loop whose clock jumps, with one home API server."""

    def __init__(self, loop: faketime.Loop) -> None:
        self.loop = loop
        self.server = HomeServer()
        self.states: dict[str, State | Exception | str] = {}
        self.credentials: Condition | Exception = CREDENTIALS_NOT_CHECKED
        self.checked: list[VirtualNode] = []
        """VirtualNodes whose credentials were checked."""
        self.mounted: list[frozenset[str]] = []
        """The Secrets of a spec before that were checked with them."""
        self.rejected: list[frozenset[str]] = []
        """The Secrets that pods reported with them."""
        self.changed: list[ObjectKey] = []
        """VirtualNodes whose credentials have changed."""
        self.forgotten: list[ObjectKey] = []
        self.controllers = self._call(
            lambda: Controllers(
                Dependencies(
                    home=self.server,
                    image="farlet:0.2.0",
                    read_state=self._state,
                    check_credentials=self._credentials,
                    credentials_changed=self.changed.append,
                    forget=self.forgotten.append,
                    now=lambda: datetime(2026, 11, 28, tzinfo=UTC),
                )
            )
        )

    def _call(self, work: Callable[[], Any]) -> Any:
        async def main() -> Any:
            return work()

        return self.loop.run_until_complete(main())

    async def _state(self, pod: JSON) -> State:
        found = self.states[pod["metadata"]["name"]]
        if isinstance(found, str):
            raise ValueError(found)
        if isinstance(found, Exception):
            raise found
        return found

    async def _credentials(
        self, node: VirtualNode, mounted: frozenset[str], rejected: frozenset[str]
    ) -> Condition:
        self.checked.append(node)
        self.mounted.append(mounted)
        self.rejected.append(rejected)
        if isinstance(self.credentials, Exception):
            raise self.credentials
        return self.credentials

    def event(self, found: JSON, *, deleted: bool = False) -> None:
        self._call(lambda: self.controllers.changed(found, deleted=deleted))

    def advance(self, seconds: float = 3.0) -> list[str]:
        """Let time pass. Returns the requests since the last call."""
        self.loop.advance(seconds)
        requests = list(self.server.requests)
        self.server.requests.clear()
        return requests

    def create(self, name: str = "far", **spec: Any) -> None:
        found = nodes.found(name, **spec)
        self.server.put(node_path(name), found)
        self.event(found)

    def change(self, **spec: Any) -> None:
        changed = nodes.found(generation=4, **spec)
        self.server.put(node_path(), changed)
        self.event(changed)

    def pod(
        self,
        name: str,
        state: State | Exception | str,
        *,
        node: str = "far",
        phase: str = "",
        secret: str = "",
    ) -> None:
        found: JSON = {
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "farlet",
                "labels": nodes.node(node).selector,
            },
            "spec": {"volumes": [{"name": "foreign", "secret": {"secretName": secret}}]}
            if secret
            else {},
            "status": {"phase": phase or "Running"},
        }
        self.server.put(f"/api/v1/namespaces/farlet/pods/{name}", found)
        self.states[name] = state
        self.event(found)

    def roll_out(self) -> None:
        """The Deployment of `far` becomes complete."""
        self.advance()
        found = self.server.objects[deployment_path()]
        counted = ("replicas", "updatedReplicas", "availableReplicas")
        seen = {"observedGeneration": found["metadata"].get("generation", 0)}
        found["status"] = {**dict.fromkeys(counted, found["spec"]["replicas"]), **seen}
        self.event(found)
        self.advance()

    def condition(self, name: str = "far", type_: str = "Ready") -> tuple[str, str, str]:
        (one,) = (c for c in self.server.status(name)["conditions"] if c["type"] == type_)
        return one["status"], one["reason"], one["message"]


@pytest.fixture
def env() -> Any:
    with faketime.loop() as loop, structlog.testing.capture_logs():
        yield Harness(loop)


def writes(requests: list[str]) -> list[str]:
    return [one.rpartition("/farlet/")[2] for one in requests if one.startswith("PATCH")]


def test_a_new_node_gets_its_objects_and_a_status(env: Harness) -> None:
    env.create()
    assert writes(env.advance()) == [
        *(f"{plural}/farlet-far" for plural in OWNED),
        "virtualnodes/far/status",
    ]
    assert env.condition() == ("False", "NoLeader", "no farlet pod exists yet")


def test_while_nothing_changes_nothing_is_written(env: Harness) -> None:
    env.create()
    env.pod("farlet-far-a", SERVING)
    env.advance()
    assert env.condition()[0] == "True"
    assert writes(env.advance(120)) == []


def test_the_state_of_pods_is_followed_without_an_event(env: Harness) -> None:
    env.create()
    env.pod("farlet-far-a", SERVING)
    env.advance()
    env.states["farlet-far-a"] = "its probe port did not answer"
    env.advance(20)
    assert env.condition() == (
        "False",
        "NoLeader",
        "farlet-far-a cannot lead: its probe port did not answer",
    )


def test_the_end_of_a_problem_is_seen_soon(env: Harness) -> None:
    env.create()
    env.pod("farlet-far-a", SERVING.model_copy(update={"problems": {"home": "not read yet"}}))
    env.advance()
    assert env.condition()[:2] == ("False", "Unhealthy")
    env.states["farlet-far-a"] = SERVING
    env.advance(5)
    assert env.condition()[0] == "True"


def test_what_follows_from_a_new_secret_is_seen_soon(env: Harness) -> None:
    serving = SERVING.model_copy(update={"home_api": HomeAPIState(state="Verified")})
    env.create()
    env.pod("farlet-far-a", serving)
    env.roll_out()
    refused = serving.model_copy(update={"foreign": ForeignState(problem="refused")})
    env.states["farlet-far-a"] = refused
    env.advance(5)
    assert env.condition(type_="ForeignReachable")[0] == "True", "nothing is expected to change"
    env.advance(20)
    assert env.condition(type_="ForeignReachable")[0] == "False"
    env.states["farlet-far-a"] = serving
    env.advance(20)
    name = {"name": "farlet-far-foreign", "namespace": "farlet"}
    env.event({"kind": "Secret", "metadata": name})
    env.advance(60)
    env.states["farlet-far-a"] = refused
    env.advance(5)
    assert env.condition(type_="ForeignReachable")[0] == "False"


def test_drift_is_corrected(env: Harness) -> None:
    env.create()
    env.advance()
    found = env.server.objects[deployment_path()]
    found["spec"]["replicas"] = 0
    env.event(found)
    assert writes(env.advance()) == ["deployments/farlet-far"]
    assert env.server.objects[deployment_path()]["spec"]["replicas"] == 2


def test_a_deleted_object_is_created_again(env: Harness) -> None:
    env.create()
    env.advance()
    env.event(env.server.objects.pop(deployment_path()), deleted=True)
    assert writes(env.advance()) == ["deployments/farlet-far"]


def test_an_object_that_was_deleted_unobserved_is_created_again(env: Harness) -> None:
    env.create()
    env.advance()
    del env.server.objects[deployment_path()]
    assert writes(env.advance(30)) == []
    assert writes(env.advance(RESYNC_SECONDS)) == ["deployments/farlet-far"]


def test_a_changed_spec_is_applied(env: Harness) -> None:
    env.create()
    env.advance()
    changed = nodes.found(generation=4, replicas=1)
    env.server.put(node_path(), changed)
    env.event(changed)
    assert "deployments/farlet-far" in writes(env.advance())
    assert env.server.status()["observedGeneration"] == 4


def test_a_field_that_is_removed_from_the_spec_is_removed_from_the_object(env: Harness) -> None:
    """The found object contains all that is desired then, and more."""
    env.create(resources={"requests": {"cpu": "1"}, "limits": {"cpu": "1"}})
    env.advance()
    changed = nodes.found(generation=4, resources={"requests": {"cpu": "1"}})
    env.server.put(node_path(), changed)
    env.event(changed)
    assert "deployments/farlet-far" in writes(env.advance())


def test_an_object_of_another_owner_is_left_alone(env: Harness) -> None:
    metadata = {"name": "farlet-far", "namespace": "farlet"}
    by_hand: JSON = {"kind": "Deployment", "metadata": metadata, "spec": {}}
    env.server.put(deployment_path(), by_hand)
    env.create()
    assert writes(env.advance()) == ["virtualnodes/far/status"]
    status, reason, message = env.condition()
    assert (status, reason) == ("False", "ObjectConflict")
    assert "kubectl -n farlet get deployment/farlet-far" in message
    assert env.server.objects[deployment_path()] == by_hand


def test_settings_that_farlet_rejects_change_no_pod(env: Harness) -> None:
    env.create()
    env.advance()
    changed = nodes.found(generation=4, capacity={"cpu": "8"})
    env.server.put(node_path(), changed)
    env.event(changed)
    assert writes(env.advance()) == ["virtualnodes/far/status"]
    status, reason, message = env.condition()
    assert (status, reason) == ("False", "InvalidSpec")
    assert message.startswith("spec.capacity does not contain memory, pods")


def test_fields_of_another_type_are_reported(env: Harness) -> None:
    env.create(replicas="two")
    env.advance()
    assert env.condition()[:2] == ("False", "InvalidSpec")
    assert "spec.replicas" in env.condition()[2]


def test_no_pod_is_created_without_credentials_but_none_is_held_back(env: Harness) -> None:
    missing = Condition(
        ConditionType.CREDENTIALS_VALID, conditions.FALSE, "ApprovalRequired", "approve it"
    )
    env.credentials = missing
    env.create()
    assert "deployments/farlet-far" not in writes(env.advance())
    assert env.condition()[1:] == (
        "CredentialsInvalid",
        "no farlet pod was created: approve it",
    )
    assert env.condition(type_="CredentialsValid")[1] == "ApprovalRequired"
    env.credentials = CREDENTIALS_NOT_CHECKED
    assert "deployments/farlet-far" in writes(env.advance(20))
    env.credentials = missing
    changed = nodes.found(generation=4, replicas=1)
    env.server.put(node_path(), changed)
    env.event(changed)
    assert "deployments/farlet-far" in writes(env.advance())


def test_one_node_that_fails_leaves_another_alone(env: Harness) -> None:
    env.server.failing["PATCH /apis/apps/v1/namespaces/farlet/deployments/farlet-bad"] = (
        errors.Forbidden(
            cluster="home",
            request="PATCH deployments",
            code=403,
            status_reason="Forbidden",
            message="exceeded quota",
        )
    )
    env.create("bad")
    env.create("good")
    env.pod("farlet-good-a", SERVING.model_copy(update={"node": "good"}), node="good")
    env.advance()
    assert env.condition("bad")[:2] == ("False", "ApplyFailed")
    assert "exceeded quota" in env.condition("bad")[2]
    assert env.condition("good")[0] == "True"
    assert len(env.advance(600)) < 60, "it backs off"


def test_a_defect_in_a_check_of_credentials_stops_no_change_and_is_reported(env: Harness) -> None:
    env.credentials = RuntimeError("the token abc")
    env.create()
    assert "deployments/farlet-far" in writes(env.advance())
    assert env.condition(type_="CredentialsValid") == (
        "Unknown",
        "InternalError",
        "the manager failed (RuntimeError); its log has the details",
    )
    env.credentials = CREDENTIALS_NOT_CHECKED
    env.advance(60)
    assert env.condition(type_="CredentialsValid")[1] == "NotChecked"


def test_a_defect_while_objects_are_applied_is_reported(env: Harness) -> None:
    env.server.failing["PATCH /apis/apps/v1"] = RuntimeError("a defect")
    env.create()
    env.advance()
    assert env.condition()[:2] == ("False", "InternalError")


def test_credentials_of_another_node_are_neither_checked_nor_mounted(env: Harness) -> None:
    env.credentials = RuntimeError("checked")
    env.create(gateway={"keysSecret": {"name": "farlet-other-home"}})
    assert writes(env.advance()) == ["virtualnodes/far/status"]
    assert env.condition()[:2] == ("False", "SecretNotAllowed")
    assert env.condition(type_="CredentialsValid")[1] == "NotChecked"


MINE = {"kubeconfigSecret": {"name": "mine"}}
THEIRS = {"kubeconfigSecret": {"name": "farlet-other-foreign"}}


@pytest.mark.parametrize(
    ("spec", "changed", "secrets"),
    [
        pytest.param(
            {"foreign": MINE}, {"replicas": "two"}, {"mine", "farlet-far-home"}, id="InvalidSpec"
        ),
        pytest.param(
            {"identity": "ServiceAccount"},
            {"identity": "ServiceAccount", "foreign": THEIRS},
            {"farlet-far-foreign"},
            id="SecretNotAllowed",
        ),
    ],
)
def test_credentials_of_running_pods_stay_valid_with_an_invalid_spec(
    env: Harness, spec: JSON, changed: JSON, secrets: set[str], request: pytest.FixtureRequest
) -> None:
    env.create(**spec)
    env.advance()
    env.change(**changed)
    env.checked.clear()
    env.credentials = Condition(ConditionType.CREDENTIALS_VALID, conditions.TRUE, "Valid", "")
    assert writes(env.advance()) == ["virtualnodes/far/status"]
    assert env.condition()[1] == request.node.callspec.id
    assert env.condition(type_="CredentialsValid")[1] == "Valid"
    assert {one.secrets for one in env.checked} == {frozenset(secrets)}


def test_credentials_of_pods_of_a_spec_before_stay_valid_until_they_have_ended(
    env: Harness,
) -> None:
    env.create()
    env.advance()
    env.pod("farlet-far-old", SERVING, secret="farlet-far-foreign")
    env.change(foreign=MINE)
    env.mounted.clear()
    assert "deployments/farlet-far" in writes(env.advance())
    env.pod("farlet-far-new", "it waits for its Secret", secret="mine")
    env.advance()
    assert env.checked[-1].foreign_secret == "mine"
    assert set(env.mounted) == {frozenset({"farlet-far-foreign"})}
    gone = env.server.objects.pop("/api/v1/namespaces/farlet/pods/farlet-far-old")
    env.event(gone, deleted=True)
    env.advance()
    assert env.mounted[-1] == frozenset()


def test_credentials_of_pods_stay_valid_while_settings_beside_another_secret_are_refused(
    env: Harness,
) -> None:
    env.create()
    env.pod("farlet-far-old", SERVING, secret="farlet-far-foreign")
    env.advance()
    env.change(foreign=MINE, capacity={"cpu": "8"})
    env.advance()
    assert env.condition()[1] == "InvalidSpec"
    assert env.mounted[-1] == {"farlet-far-foreign"}


def test_credentials_that_pods_report_as_rejected_are_checked_at_once(env: Harness) -> None:
    env.create(foreign=MINE)
    env.pod("farlet-far-old", SERVING, secret="farlet-far-foreign")
    env.pod("farlet-far-new", SERVING.model_copy(update={"leader": False}), secret="mine")
    env.advance()
    assert env.rejected[-1] == frozenset()
    refused = ForeignState(reason="ForeignUnauthorized", problem="401")
    env.states["farlet-far-old"] = SERVING.model_copy(update={"foreign": refused})
    env.advance(16)
    assert env.rejected[-1] == {"farlet-far-foreign"}


@pytest.mark.parametrize("secret", ["", "farlet-other-foreign", "farlet-other-home"])
def test_a_pod_names_no_credentials_of_another_node(env: Harness, secret: str) -> None:
    env.create(foreign=MINE)
    env.pod("farlet-far-a", SERVING, secret=secret)
    env.advance()
    assert set(env.mounted) == {frozenset()}


def test_credentials_of_pods_of_others_are_not_checked(env: Harness) -> None:
    """Before the manager takes a node over, its pods belong to an installation by hand."""
    by_hand = {"metadata": {"name": "farlet-far", "labels": {}}, "spec": {"replicas": 2}}
    env.server.put(deployment_path(), by_hand)
    env.create()
    env.pod("farlet-far-by-hand", SERVING, secret="by-hand")
    env.advance()
    assert env.condition()[1] == "ObjectConflict"
    assert set(env.mounted) == {frozenset()}


def test_a_deployment_of_others_names_no_credentials_of_a_node(env: Harness) -> None:
    env.create()
    env.advance()
    env.server.objects[deployment_path()]["metadata"] |= {"labels": {}, "ownerReferences": []}
    env.event({**env.server.objects[deployment_path()], "kind": "Deployment"})
    env.change(replicas="two")
    env.checked.clear()
    env.advance()
    assert env.checked == []


def test_a_node_with_an_invalid_spec_still_gets_serving_certificates(env: Harness) -> None:
    env.create(replicas="two")
    assert [node.name for node in env.controllers.nodes] == ["far"]


def test_a_virtual_node_is_parsed_once(env: Harness) -> None:
    env.create()
    (before,) = env.controllers.nodes
    env.event({"kind": "Secret", "metadata": {"name": "farlet-far-home", "namespace": "farlet"}})
    env.advance(10)
    (after,) = env.controllers.nodes
    assert after is before


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_not_asked(env: Harness, phase: str) -> None:
    """Its address can be that of another pod."""
    env.create()
    env.pod("farlet-far-a", SERVING, phase=phase)
    env.advance()
    assert env.condition() == ("False", "NoLeader", "no farlet pod exists yet")


def test_a_state_of_another_node_is_not_that_of_this_one(env: Harness) -> None:
    env.create()
    env.pod("farlet-far-a", SERVING.model_copy(update={"node": "other"}))
    env.advance()
    assert env.condition()[:2] == ("False", "NoLeader")
    assert "answers for another node, other" in env.condition()[2]


def test_an_older_farlet_is_not_said_to_fail(env: Harness) -> None:
    env.create()
    env.pod("farlet-far-a", states.NotReported("it is older"))
    env.advance()
    assert env.condition() == ("Unknown", "StateNotReported", "farlet-far-a: it is older")


def test_a_node_that_is_served_stays_ready_while_its_spec_cannot_be_applied(env: Harness) -> None:
    env.create()
    env.pod("farlet-far-a", SERVING)
    env.advance()
    changed = nodes.found(generation=4, capacity={"cpu": "8"})
    env.server.put(node_path(), changed)
    env.event(changed)
    env.advance()
    assert env.condition()[:2] == ("True", "InvalidSpec")


def test_the_status_that_is_written_wakes_nothing(env: Harness) -> None:
    env.create()
    env.advance(10)
    env.credentials = Condition(ConditionType.CREDENTIALS_VALID, conditions.TRUE, "Valid", "")
    env.event(env.server.objects[node_path()])
    assert env.advance(1.5) == []


def test_a_label_of_the_node_wakes_it(env: Harness) -> None:
    env.create()
    env.advance(10)
    env.credentials = Condition(ConditionType.CREDENTIALS_VALID, conditions.TRUE, "Valid", "")
    found = env.server.objects[node_path()]
    env.event({**found, "metadata": {**found["metadata"], "labels": {"a": "b"}}})
    assert writes(env.advance(1.5)) == ["virtualnodes/far/status"]


@pytest.mark.thorough
def test_the_number_of_pods_is_written_four_times_a_minute(env: Harness) -> None:
    env.create()
    env.pod("farlet-far-a", SERVING)
    env.advance(20)
    written = 0
    for second in range(60):
        pods = {"home": {"Running": second + 1}}
        env.pod("farlet-far-a", SERVING.model_copy(update={"pods": pods}))
        written += len(writes(env.advance(1)))
    assert 3 <= written <= 5


def test_pods_are_listed_once_and_watched(env: Harness) -> None:
    env.create()
    env.pod("farlet-far-a", SERVING)
    env.advance(120)
    env.pod("farlet-far-b", "has no address yet")
    env.advance()
    assert env.condition()[2] == (
        "farlet-far-a serves the node; the Deployment is still rolling out; farlet-far-b cannot "
        "lead: has no address yet"
    )
    env.event(env.server.objects.pop("/api/v1/namespaces/farlet/pods/farlet-far-b"), deleted=True)
    env.advance()
    assert "farlet-far-b" not in env.condition()[2]
    assert env.server.lists == 1
    del env.server.objects["/api/v1/namespaces/farlet/pods/farlet-far-a"]
    env.advance(RESYNC_SECONDS)
    assert env.server.lists == 2
    assert env.condition()[1] == "NoLeader"


def test_a_deletion_of_a_pod_that_the_watch_missed_is_found_when_it_does_not_answer(
    env: Harness,
) -> None:
    env.create()
    env.pod("farlet-far-a", SERVING)
    env.pod("farlet-far-b", SERVING.model_copy(update={"leader": False}))
    env.advance(20)
    lists = env.server.lists
    del env.server.objects["/api/v1/namespaces/farlet/pods/farlet-far-b"]
    env.states["farlet-far-b"] = "its probe port did not answer"
    env.advance(40)
    assert "farlet-far-b" not in env.condition()[2]
    assert env.server.lists == lists + 1


@pytest.mark.parametrize("seen", ["objects", "status"])
def test_a_deletion_of_the_node_that_the_watch_missed_ends_its_controller(
    env: Harness, seen: str
) -> None:
    env.create()
    env.advance()
    del env.server.objects[node_path()]
    if seen == "objects":  # the garbage collector
        env.event(env.server.objects.pop(deployment_path()), deleted=True)
    else:
        env.pod("farlet-far-a", SERVING)
    env.advance(5)
    assert env.forgotten == [ObjectKey("farlet", "far")]
    assert deployment_path() in env.server.objects or seen == "objects"
    assert env.advance(600) == []
    env.create()
    assert "virtualnodes/far/status" in writes(env.advance())


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(
            errors.Unreachable(cluster="home", request="GET", cause="timeout"), id="no answer"
        ),
        pytest.param(RuntimeError("a defect"), id="a defect"),
    ],
)
def test_a_pass_that_ends_with_an_error_is_repeated_and_ends_no_other(
    env: Harness, error: Exception
) -> None:
    env.server.failing["GET /apis/apps/v1/namespaces/farlet/deployments/farlet-bad"] = error
    env.create("bad")
    env.create("good")
    assert "virtualnodes/good/status" in writes(env.advance())
    env.server.failing.clear()
    assert "deployments/farlet-bad" in writes(env.advance(5))


def test_a_deleted_node_is_forgotten_and_its_objects_are_left_to_the_garbage_collector(
    env: Harness,
) -> None:
    env.create("far")
    env.create("other")
    env.advance()
    env.event(env.server.objects.pop(node_path()), deleted=True)
    requests = env.advance(600)
    assert not [one for one in requests if one.endswith(("/far", "-far", "/far/status"))]
    assert env.forgotten == [ObjectKey("farlet", "far")]
    assert [node.name for node in env.controllers.nodes] == ["other"]


def test_a_node_that_is_being_deleted_gets_no_objects(env: Harness) -> None:
    found = nodes.found()
    found["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z"
    env.event(found)
    assert env.advance() == []


@pytest.mark.parametrize(
    ("secret", "woken"),
    [
        pytest.param("farlet-far-foreign", True, id="foreign credentials"),
        pytest.param("farlet-far-home", True, id="home credentials"),
        pytest.param("farlet-other-home", False, id="of another node"),
    ],
)
def test_a_changed_secret_wakes_its_node(env: Harness, secret: str, woken: bool) -> None:
    env.create()
    env.advance(10)
    env.credentials = Condition(ConditionType.CREDENTIALS_VALID, conditions.TRUE, "Valid", "")
    env.event({"kind": "Secret", "metadata": {"name": secret, "namespace": "farlet"}})
    assert bool(writes(env.advance(1.5))) is woken
    assert env.changed == [ObjectKey("farlet", "far")] * woken


@pytest.mark.parametrize(
    ("labels", "changed"),
    [
        pytest.param(nodes.node().labels, ["far"], id="of one node"),
        pytest.param(None, [], id="of another client"),
    ],
)
def test_a_changed_request_wakes_the_node_of_its_label(
    env: Harness, labels: JSON | None, changed: list[str]
) -> None:
    env.create()
    env.create("other")
    env.advance(10)
    env.event({"kind": "CertificateSigningRequest", "metadata": {"name": "a", "labels": labels}})
    assert env.changed == [ObjectKey("farlet", name) for name in changed]


def test_a_burst_of_changes_is_one_pass(env: Harness) -> None:
    env.create()
    env.advance(10)
    for _ in range(50):
        env.pod("farlet-far-a", SERVING)
    assert writes(env.advance(2)) == ["virtualnodes/far/status"]
