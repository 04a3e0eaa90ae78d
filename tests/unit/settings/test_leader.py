"""The settings of leadership: how durations are read, and which of them fit together."""

from __future__ import annotations

import pytest

from farlet import errors
from farlet.constants import ObjectKey
from farlet.settings import leader, loading, values


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in leader.LeaderSettings.model_fields:
        monkeypatch.delenv(loading.env_name(field), raising=False)


def load(**flags: object) -> leader.LeaderSettings:
    names = {f"leader_elect_{name}": value for name, value in flags.items()}
    return loading.load(leader.LeaderSettings, names)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        pytest.param("15s", 15.0, id="as Kubernetes writes it"),
        pytest.param("15", 15.0, id="a number of seconds"),
        pytest.param(15, 15.0, id="a number in a file"),
        pytest.param("1m30s", 90.0, id="two units"),
        pytest.param("1h", 3600.0, id="an hour"),
        pytest.param("500ms", 0.5, id="less than a second"),
        pytest.param("1.5", 1.5, id="a fraction"),
    ],
)
def test_durations_are_read_as_kubernetes_reads_them(given: object, seconds: float) -> None:
    assert values.duration(given) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given", ["", "s", "15 s", "1m30", "-1s", "1e3", "nan", "15s ", "ms", True, None]
)
def test_what_is_no_duration_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match=r"duration|is empty|white space|is not a string"):
        values.duration(given)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param("node", "node", id="the node's own"),
        pytest.param("farlet/far", ObjectKey("farlet", "far"), id="another one"),
    ],
)
def test_the_lease_is_that_of_the_node_or_a_named_one(given: str, kept: object) -> None:
    assert load(lease=given).leader_elect_lease == kept


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param({"lease": "far"}, "expected node or NAMESPACE/NAME", id="no namespace"),
        pytest.param({"lease": "Ns/far"}, "not a DNS label", id="a bad namespace"),
        pytest.param({"lease": "ns/"}, "is empty", id="no name"),
        pytest.param(
            {"lease_duration": "1500ms", "renew_deadline": "1s", "retry_period": "100ms"},
            "whole seconds",
            id="a Lease of a second and a half",
        ),
        pytest.param({"lease_duration": "0"}, "whole seconds", id="a Lease of no time"),
        pytest.param({"lease_duration": "10s"}, "must be shorter than", id="a Lease too short"),
        pytest.param({"renew_deadline": "15s"}, "must be shorter than", id="a deadline too late"),
        pytest.param({"retry_period": "9s"}, "before its second attempt", id="one try only"),
        pytest.param({"retry_period": "0"}, "more than 0", id="no pause"),
    ],
)
def test_settings_that_would_not_keep_two_apart_are_refused(
    given: dict[str, object], says: str
) -> None:
    with pytest.raises(errors.UsageError, match=says):
        load(**given)


@pytest.mark.parametrize(
    ("given", "is_on"),
    [
        pytest.param("true", True, id="true"),
        pytest.param("false", False, id="false"),
        pytest.param(True, True, id="a boolean in a file"),
        pytest.param("True", True, id="True"),
        pytest.param("yes", True, id="yes"),
        pytest.param("no", False, id="no"),
        pytest.param("1", True, id="1"),
    ],
)
def test_boolean_settings_take_the_usual_words(given: object, is_on: bool) -> None:
    found = loading.load(leader.LeaderSettings, {"leader_elect": given})
    assert found.leader_elect is is_on


def test_a_boolean_setting_refuses_other_words() -> None:
    with pytest.raises(errors.UsageError, match="'maybe' is not valid; expected true or false"):
        loading.load(leader.LeaderSettings, {"leader_elect": "maybe"})
