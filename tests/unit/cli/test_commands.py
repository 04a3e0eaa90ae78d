"""Commands in texts: they reach the clusters of their reader when they are pasted."""

import pytest

from farlet import errors
from farlet.cli import commands
from farlet.cli.commands import Connection, completed, in_clusters, placed, placing
from farlet.planning import api_refusals
from farlet.settings import Settings, loading

HOME = Connection("home", "home", None)
FOREIGN = Connection("foreign", "far away", "/k/config")


@pytest.mark.parametrize(
    ("connection", "kubectl", "flags"),
    [
        pytest.param(Connection("home", None, None), "kubectl", "", id="the current context"),
        pytest.param(HOME, "kubectl --context home", " --home-context home", id="a context"),
        pytest.param(
            FOREIGN,
            "kubectl --context 'far away' --kubeconfig /k/config",
            " --foreign-context 'far away' --foreign-kubeconfig /k/config",
            id="a context of a file",
        ),
    ],
)
def test_a_command_has_what_was_given(connection: Connection, kubectl: str, flags: str) -> None:
    assert (connection.kubectl, connection.flags) == (kubectl, flags)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "In the foreign cluster: kubectl create namespace a; kubectl apply -n a -f b; or not",
            "In the foreign cluster: kubectl --context 'far away' --kubeconfig /k/config create "
            "namespace a; kubectl --context 'far away' --kubeconfig /k/config apply -n a -f b; or "
            "not",
            id="two commands",
        ),
        pytest.param(
            "in the home cluster: kubectl certificate approve a; until then kubectl logs can fail",
            "in the home cluster: kubectl --context home certificate approve a; until then kubectl "
            "logs can fail",
            id="the name of a command",
        ),
        pytest.param("kubectl get pods", "kubectl get pods", id="an unknown cluster"),
    ],
)
def test_commands_reach_the_cluster_that_the_text_names(text: str, expected: str) -> None:
    assert in_clusters(text, HOME, FOREIGN) == expected


def test_the_credentials_of_a_pod_are_nothing_for_its_reader() -> None:
    flags = {"nodename": "far", "home_kubeconfig": "in-cluster", "foreign_kubeconfig": "in-cluster"}
    assert commands.home_of(loading.load(Settings, flags)).kubectl == "kubectl"


def test_the_contexts_of_the_reader_complete_a_command_of_farlet() -> None:
    text = api_refusals.preparation("shop-home", system="farlet-far", home="shop")
    shown = completed(text, HOME, Connection("foreign", "foreign", None))
    assert shown.startswith(
        "Run: farlet connect --home-context home --foreign-context foreign --node far"
    )


@pytest.mark.parametrize(
    ("home", "foreign", "shown"),
    [
        pytest.param(
            HOME,
            FOREIGN,
            "kubectl --context home get nodes; kubectl --context 'far away' --kubeconfig /k/config "
            "get pods; farlet disconnect --home-context home --foreign-context 'far away' "
            "--foreign-kubeconfig /k/config --node far; farlet status --home-context home",
            id="given",
        ),
        pytest.param(
            Connection("home", None, None),
            Connection("foreign", None, None),
            "kubectl get nodes; kubectl get pods; farlet disconnect --node far; farlet status",
            id="by default",
        ),
    ],
)
def test_texts_of_connect_name_the_clusters_that_it_was_given(
    home: Connection, foreign: Connection, shown: str
) -> None:
    text = (
        "kubectl --context HOME get nodes; kubectl --context FOREIGN get pods; farlet disconnect "
        f"{api_refusals.CONTEXTS} --node far; farlet status --home-context HOME"
    )
    assert placed(text, home, foreign) == shown
    with pytest.raises(errors.StartError) as caught, placing(home, foreign):
        raise errors.StartError(text)
    assert str(caught.value) == shown


def test_a_context_that_was_not_given_keeps_its_placeholder() -> None:
    text = api_refusals.preparation("shop-home", system="farlet-far", home="shop")
    shown = completed(text, HOME, Connection("foreign", None, None))
    assert "farlet connect --home-context home --foreign-context FOREIGN --node far" in shown
    by_default = Connection("home", None, None)
    assert completed(text, by_default, Connection("foreign", None, None)) == text


def test_a_kubeconfig_completes_a_command_as_a_context_does() -> None:
    text = api_refusals.preparation("shop-home", system="farlet-far", home="shop")
    shown = completed(text, Connection("home", None, "/k/home"), FOREIGN)
    assert "farlet connect --home-kubeconfig /k/home --foreign-context 'far away'" in shown
