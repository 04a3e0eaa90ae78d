"""The access mode of a pod, by its annotations."""

import pytest

import pods
from farlet import access
from farlet.access import choice
from farlet.constants import Reason
from farlet.errors import Refused

MODE = "liqo.io/api-server-support"
ACCOUNT = "liqo.io/remote-service-account-name"


@pytest.mark.parametrize(
    ("annotations", "default", "expected"),
    [
        pytest.param(None, "home", "home", id="a pod without annotations gets the default"),
        pytest.param({}, "disabled", "disabled", id="the default is a setting"),
        pytest.param({MODE: "home"}, "remote", "home", id="the annotation overrides the default"),
        pytest.param({MODE: "remote"}, "home", "remote", id="remote"),
        pytest.param({MODE: "disabled"}, "home", "disabled", id="disabled"),
        pytest.param({MODE: "remote", ACCOUNT: "a.b-c"}, "home", "remote", id="with an account"),
        pytest.param({ACCOUNT: "a"}, "remote", "remote", id="an account where remote is default"),
        pytest.param({MODE: "remote", ACCOUNT: "a" * 253}, "home", "remote", id="longest name"),
    ],
)
def test_a_valid_annotation_selects_the_access_mode(
    annotations: dict[str, str] | None, default: str, expected: str
) -> None:
    ctx = pods.context(access_default=default)
    chosen = choice.choose(pods.pod(annotations=annotations), access.load_strategies(), ctx)
    assert chosen.name == expected


@pytest.mark.parametrize(
    "value", ["hoem", "", "Home", "REMOTE", " remote", "remote ", "true", "home,remote", "x" * 5000]
)
def test_any_other_value_is_refused_with_the_allowed_ones(value: str) -> None:
    with pytest.raises(Refused) as caught:
        choice.choose(pods.pod(annotations={MODE: value}), access.load_strategies(), pods.context())
    assert caught.value.reason is Reason.INVALID_API_SERVER_SUPPORT
    assert "disabled, home, remote" in caught.value.message
    assert MODE in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("annotations", "word"),
    [
        pytest.param({ACCOUNT: "a"}, "only valid with", id="without a mode"),
        pytest.param({MODE: "home", ACCOUNT: "a"}, "is home", id="with home"),
        pytest.param({MODE: "disabled", ACCOUNT: "a"}, "is disabled", id="with disabled"),
        pytest.param({MODE: "remote", ACCOUNT: ""}, "''", id="empty"),
        pytest.param({MODE: "remote", ACCOUNT: "A"}, "'A'", id="capital letter"),
        pytest.param({MODE: "remote", ACCOUNT: "a/b"}, "'a/b'", id="slash"),
        pytest.param({MODE: "remote", ACCOUNT: "-a"}, "'-a'", id="leading dash"),
        pytest.param({MODE: "remote", ACCOUNT: "a..b"}, "'a..b'", id="empty label"),
        pytest.param({MODE: "remote", ACCOUNT: "a\n"}, r"'a\n'", id="newline at the end"),
        pytest.param({MODE: "remote", ACCOUNT: "a" * 254}, "254 characters", id="too long"),
    ],
)
def test_an_account_name_that_is_not_valid_is_refused(
    annotations: dict[str, str], word: str
) -> None:
    with pytest.raises(Refused) as caught:
        choice.choose(pods.pod(annotations=annotations), access.load_strategies(), pods.context())
    assert caught.value.reason is Reason.INVALID_REMOTE_SERVICE_ACCOUNT
    assert ACCOUNT in caught.value.message
    assert word in caught.value.message


def test_an_unknown_default_is_refused_with_the_name_of_the_flag() -> None:
    ctx = pods.context(access_default="cloud")
    with pytest.raises(Refused, match="--api-access-default=cloud"):
        choice.choose(pods.pod(), access.load_strategies(), ctx)
