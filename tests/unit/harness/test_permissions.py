"""Each rule of a shipped Role names a test that exists."""

import ast
import collections
import datetime
import json
from pathlib import Path

import pytest
import yaml

from clusters import auditlog
from farlet import rbac
from farlet.manager import permissions
from permissions import evidence, named, removal, rules, sharing
from reference import role_manifests

ROOT = Path(__file__).parents[3]


def test_each_verb_of_each_row_that_a_role_grants_names_one_test() -> None:
    expected = collections.Counter((row, verb) for row in rules.rows() for verb in row.verbs)
    found = collections.Counter(
        (rule.row, verb) for rule in map(rules.parse, named.TESTS) for verb in rule.verbs
    )
    assert found == expected


def test_each_rule_has_a_text_of_its_own() -> None:
    texts = [str(rules.parse(text)) for text in named.TESTS]
    assert texts == list(named.TESTS)


def test_what_everyone_is_allowed_to_do_has_no_rule() -> None:
    left_out = {row.where for row in rbac.TABLE} - {
        row.where for row in rules.rows() if isinstance(row, rbac.Permission)
    }
    assert left_out == {rbac.Where.ANYONE, rbac.Where.URL}


@pytest.mark.parametrize("test", sorted(set(named.TESTS.values())))
def test_a_named_test_exists(test: str) -> None:
    path, _, name = test.partition("::")
    function, _, parameters = name.partition("[")
    (found,) = (
        node
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.AsyncFunctionDef) and node.name == function
    )
    marks = " ".join(ast.unparse(one) for one in found.decorator_list)
    assert bool(parameters) is ("parametrize" in marks or "both" in marks or "with_" in marks)


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="no Role contains home cluster: delete pods"):
        rules.parse("home cluster: delete pods")


def shipped() -> list[tuple[str, str, dict[str, object]]]:
    """Cluster, kind with its namespace, and rule of all shipped Roles."""
    return [
        (
            "home" if path.startswith("manifests/home") else "foreign",
            f"{role['kind']} {role['metadata'].get('namespace', '')}".strip(),
            rule,
        )
        for path, content in role_manifests.files().items()
        for role in yaml.safe_load_all(content)
        for rule in role.get("rules", ())
    ]


@pytest.mark.parametrize("text", [text for text in named.TESTS if not text.startswith("manager")])
def test_a_probe_contains_the_rule_as_the_shipped_roles_do(text: str) -> None:
    rule = rules.parse(text)
    content = [(rule.cluster, probe["kind"], probe["rules"][0]) for probe in removal.probes(rule)]
    found = [
        (cluster, kind, one)
        for cluster, kind, one in content
        if (cluster, kind, one)
        in [(side, where.partition(" ")[0], known) for side, where, known in shipped()]
    ]
    assert found == content


def test_a_policy_removes_a_rule_by_all_its_fields() -> None:
    rule = rules.parse("home default: get services")
    policy, binding = removal.policy(rule)
    (variable,) = policy["spec"]["variables"]
    for expected in ('== [""]', '== ["services"]', '== ["get"]', '== ["kubernetes"]'):
        assert expected in variable["expression"]
    conditions = " ".join(one["expression"] for one in policy["spec"]["matchConditions"])
    assert '== "default"' in conditions
    assert policy["spec"]["matchConstraints"]["resourceRules"][0]["resources"] == ["roles"]
    assert binding["spec"] == {"policyName": policy["metadata"]["name"]}


def test_the_other_verbs_of_a_row_stay() -> None:
    rule = rules.parse("foreign offloaded: get pods/exec")
    policy, _ = removal.policy(rule)
    (mutation,) = policy["spec"]["mutations"]
    left = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}
    assert f"variables.others + [dyn({json.dumps(left)})]" in mutation["jsonPatch"]["expression"]
    namespaces = policy["spec"]["matchConditions"][-1]["expression"]
    assert namespaces.endswith('!= "farlet"')


def test_the_rules_of_the_manager_can_be_in_any_namespace() -> None:
    rule = rules.parse("manager namespace: get, list, watch pods")
    assert (rule.cluster, rule.roles, rule.can_be_in("x")) == ("home", ("roles",), "true")
    assert rule.row in permissions.TABLE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "HarnessError: farlet ended with 1: farlet is not allowed to list or watch nodes in",
            True,
        ),
        ("farlet is not allowed to list services", False),
        ("AssertionError", False),
    ],
)
def test_a_start_that_farlet_refuses_for_a_rule_is_evidence(text: str, expected: bool) -> None:
    found = evidence.start_refused(rules.parse("foreign cluster: list, watch nodes"), [text])
    assert (found is not None) is expected


FORBIDDEN = (
    'pods "web" is forbidden: User "farlet" cannot create resource "pods/exec" in API group ""'
)


def refused(verb: str, subresource: str, message: str) -> auditlog.Entry:
    """An entry of an audit log."""
    moment = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
    return auditlog.Entry(
        stage="ResponseComplete",
        time=moment,
        verb=verb,
        user="farlet",
        user_agent="farlet/1",
        uri="/",
        resource="pods",
        subresource=subresource,
        namespace="shop",
        name="web",
        code=403,
        message=message,
        raw={"objectRef": {"resource": "pods"}},
    )


@pytest.mark.parametrize(
    ("text", "entry", "expected"),
    [
        ("create pods/exec", refused("get", "exec", FORBIDDEN), True),
        ("get pods/exec", refused("get", "exec", FORBIDDEN), False),
        ("create pods/attach", refused("get", "exec", FORBIDDEN), False),
        ("get pods/exec", refused("get", "exec", ""), True),
        ("create pods/exec", refused("get", "exec", ""), False),
        ("create pods/exec", refused("get", "exec", 'pods "web" is forbidden: '), True),
        ("get pods/exec", refused("get", "exec", 'pods "web" is forbidden: '), False),
        ("get pods/log", refused("get", "exec", ""), False),
    ],
)
def test_a_403_is_evidence_for_the_verb_and_the_resource_that_it_is_about(
    text: str, entry: auditlog.Entry, expected: bool
) -> None:
    found = evidence.lacking(rules.parse(f"foreign offloaded: {text}"), entry)
    assert list(found) == ([text] if expected else [])


def test_one_worker_runs_all_rules_of_a_test_and_each_rule_is_run_once() -> None:
    shares = sharing.shares(named.TESTS, 3)
    assert len(shares) == 3
    assert collections.Counter(rule for one in shares for rule in one) == collections.Counter(
        list(named.TESTS)
    )
    tests = [test for one in shares for test in set(one.values())]
    assert len(tests) == len(set(tests))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_there_are_no_more_workers_than_tests() -> None:
    text = "home default: get services"
    assert sharing.shares({text: named.TESTS[text]}, 3) == [{text: named.TESTS[text]}]
