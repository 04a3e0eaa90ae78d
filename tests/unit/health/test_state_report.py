"""The state of a process, read from its parts."""

from __future__ import annotations

import base64
import json
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from farlet import context, errors, health
from farlet.client import json_web_token
from farlet.constants import Reason
from farlet.context import Endpoint
from farlet.health import Phase
from farlet.reconcile.reconciler import UsedNamespace
from farlet.telemetry.state import HomeAPIState, NamespaceState

NOT_BOUND = errors.Refused(Reason.HOME_NAMESPACE_FORBIDDEN, "kubectl create rolebinding")
NO_ANSWER = errors.Refused(Reason.FOREIGN_UNREACHABLE, "connection refused")
ENDPOINT = Endpoint("203.0.113.7", 6443)


def cluster(**values: Any) -> Any:
    return SimpleNamespace(
        **{
            "problem": None,
            "credentials_rejected": False,
            "logged_in": True,
            "server": "https://foreign.example:6443",
            "credentials_expire": 1000.0,
            **values,
        }
    )


def report(
    *,
    phase: Phase,
    leads: bool,
    foreign: Any,
    ready: bool = True,
    refusal: errors.Refused | None = None,
) -> health.StateReport:
    pods: Any = None
    if leads:
        namespaces = SimpleNamespace(
            refused=None,
            loaded=SimpleNamespace(is_set=lambda: True),
        )
        counts = SimpleNamespace(
            pods=lambda: {("Running", "home"): 2, ("Pending", "home"): 1},
            waiting=lambda: {"HomeAPINotConfigured": 1},
            token_remaining=lambda _now: math.inf,
        )
        home_pods = SimpleNamespace(error=None, has_synced=True)
        used = [UsedNamespace(f"n{i}", f"n{i}-home", None) for i in range(300)]
        used.append(UsedNamespace("shop", "", NOT_BOUND))
        used.append(UsedNamespace("blog", "blog-home", NO_ANSWER))
        pods = SimpleNamespace(
            namespaces=namespaces, counts=counts, pods=home_pods, used_namespaces=lambda: used
        )
    parts = health.Health(
        cluster(),
        foreign,
        cast("Any", SimpleNamespace(alive=True, problem=None)),
        phase=lambda: phase,
        identify_problem=lambda: None,
        pods=lambda: None if pods is None else pods.pods,
        namespaces=lambda: None if pods is None else pods.namespaces,
        node=lambda: (
            cast("Any", SimpleNamespace(problem=None, foreign_refusal=refusal)) if leads else None
        ),
        standby_problem=lambda: None if ready else "the token has expired",
    )
    return health.StateReport(
        "far",
        parts,
        context=lambda: None,
        pods=lambda: cast("Any", pods),
        identity=lambda: cast("Any", SimpleNamespace(uid="u-1")) if leads else None,
        serving_certificate=lambda: math.inf,
    )


def test_a_leader() -> None:
    found = report(phase=Phase.SERVING, leads=True, foreign=cluster())()
    assert (found.node, found.phase, found.leader, found.problems) == ("far", "serving", True, {})
    assert found.pods == {"home": {"Running": 2, "Pending": 1}}
    assert found.waiting == {"HomeAPINotConfigured": 1}
    assert found.foreign.reachable
    assert found.foreign.cluster == "u-1"
    assert found.expires.serving_certificate is None
    assert found.expires.foreign_credentials == 1000.0
    assert len(found.namespaces) == 200, "bounded"
    assert found.namespaces[0] == NamespaceState(
        home="shop",
        foreign="",
        reason="HomeNamespaceForbidden",
        problem="kubectl create rolebinding",
    )


def test_an_outage_that_is_over_is_no_problem_of_a_namespace() -> None:
    """Its watch is retried later."""
    found = report(phase=Phase.SERVING, leads=True, foreign=cluster())()
    assert [one.home for one in found.namespaces if one.problem is not None] == ["shop"]
    found = report(phase=Phase.SERVING, leads=True, foreign=cluster(problem="no answer"))()
    assert [one.home for one in found.namespaces if one.problem is not None] == ["shop", "blog"]


def test_a_standby_that_cannot_lead_says_why() -> None:
    found = report(phase=Phase.STANDING_BY, leads=False, foreign=cluster(), ready=False)()
    assert not found.leader
    assert found.problems == {"started": "the token has expired"}


def test_rejected_credentials_have_the_reason_of_the_node() -> None:
    foreign = cluster(problem="rejected (401)")
    refusal = errors.Refused(Reason.FOREIGN_UNAUTHORIZED, "rejected (401)")
    found = report(phase=Phase.SERVING, leads=True, foreign=foreign, refusal=refusal)().foreign
    assert (found.reason, found.problem) == ("ForeignUnauthorized", "rejected (401)")


@pytest.mark.parametrize(
    ("rejected", "reason"),
    [
        pytest.param(True, "ForeignUnauthorized", id="rejected credentials"),
        pytest.param(False, "ForeignUnreachable", id="no answer"),
    ],
)
def test_a_standby_reports_the_reason_beside_the_text(rejected: bool, reason: str) -> None:
    foreign = cluster(problem="as it is", credentials_rejected=rejected)
    found = report(phase=Phase.STANDING_BY, leads=False, foreign=foreign)().foreign
    assert (found.reachable, found.reason, found.problem) == (False, reason, "as it is")


def test_before_the_login_nothing_is_known_of_the_foreign_cluster() -> None:
    foreign = cluster(logged_in=False, problem="no answer", credentials_expire=None)
    found = report(phase=Phase.STARTING, leads=False, foreign=foreign)().foreign
    assert (found.reachable, found.problem, found.server) == (False, "no answer", None)


@pytest.mark.parametrize(
    ("server", "shown"),
    [
        pytest.param("https://[2001:db8::7]:6443", "https://[2001:db8::7]:6443", id="an address"),
        pytest.param("https://api.example", "https://api.example", id="no port"),
        pytest.param(
            "https://me:secret@api.example:6443/k8s?a=b",
            "https://api.example:6443",
            id="a password",
        ),
    ],
)
def test_only_the_address_in_the_url_of_the_foreign_api_server_is_shown(
    server: str, shown: str
) -> None:
    foreign = cluster(server=server)
    found = report(phase=Phase.SERVING, leads=True, foreign=foreign)().foreign
    assert found.server == shown


@pytest.mark.parametrize(
    ("home_api", "state"),
    [
        pytest.param(context.NotConfigured(), HomeAPIState(), id="not configured"),
        pytest.param(
            context.Verified(ENDPOINT),
            HomeAPIState(state="Verified", endpoint="203.0.113.7:6443"),
            id="verified",
        ),
        pytest.param(
            context.Refused(Reason.HOME_API_CERTIFICATE_INVALID, "another CA", ENDPOINT),
            HomeAPIState(
                state="Refused",
                endpoint="203.0.113.7:6443",
                reason="HomeAPICertificateInvalid",
                message="another CA",
            ),
            id="refused",
        ),
        pytest.param(
            context.OutOfReach(ENDPOINT, "timeout"),
            HomeAPIState(state="OutOfReach", endpoint="203.0.113.7:6443", message="timeout"),
            id="out of reach",
        ),
    ],
)
def test_the_home_api_endpoint(home_api: context.HomeAPI, state: HomeAPIState) -> None:
    assert health.home_api_state(home_api) == state


def token(payload: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        pytest.param(token({"exp": 1000}), 1000, id="a number"),
        pytest.param(token({"iat": 1}), None, id="without the claim"),
        pytest.param(token({"exp": True}), None, id="a boolean"),
        pytest.param(token([]), None, id="a list"),
        pytest.param("opaque", None, id="no JSON Web Token"),
        pytest.param("a.!.c", None, id="not base64"),
    ],
)
def test_the_expiry_of_a_token(value: str, moment: float | None) -> None:
    assert json_web_token.moment(value, "exp") == moment
