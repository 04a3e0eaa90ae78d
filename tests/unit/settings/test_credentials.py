"""Where the credentials of the two clusters come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from farlet import errors, settings
from farlet.client import credential_sources
from farlet.client.credential_sources import ClusterSource
from farlet.settings import loading, values

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def load(tmp_path: Path, **flags: str) -> settings.Settings:
    for name in ("home", "foreign"):
        (tmp_path / name).write_text("{}")
    found: dict[str, object] = {"nodename": "far", "foreign_kubeconfig": str(tmp_path / "foreign")}
    for field, value in flags.items():
        found[field] = str(tmp_path / value) if value in {"home", "foreign"} else value
    return loading.load(settings.Settings, found)


@pytest.mark.parametrize(
    ("flags", "environ", "kubeconfig", "context"),
    [
        pytest.param({}, IN_POD, None, None, id="in a pod: the pod's own"),
        pytest.param({}, {"KUBECONFIG": "/k"}, "/k", None, id="outside: KUBECONFIG"),
        pytest.param(
            {},
            {},
            str(Path("~/.kube/config").expanduser()),
            None,
            id="else the file in the home folder",
        ),
        pytest.param(
            {"home_kubeconfig": "in-cluster"},
            {"KUBECONFIG": "/k"},
            None,
            None,
            id="in-cluster by name wins over KUBECONFIG",
        ),
        pytest.param({"home_context": "c"}, {"KUBECONFIG": "/k"}, "/k", "c", id="with a context"),
    ],
)
def test_home_credentials(
    tmp_path: Path,
    flags: dict[str, str],
    environ: dict[str, str],
    kubeconfig: str | None,
    context: str | None,
) -> None:
    found = credential_sources.home_source(load(tmp_path, **flags), environ)
    assert found == ClusterSource(kubeconfig=kubeconfig, context=context)


def test_a_kubeconfig_wins_over_the_pod_s_own(tmp_path: Path) -> None:
    found = credential_sources.home_source(load(tmp_path, home_kubeconfig="home"), IN_POD)
    assert found == ClusterSource(str(tmp_path / "home"), None)


def test_farlet_may_run_in_the_foreign_cluster(tmp_path: Path) -> None:
    wanted = load(tmp_path, home_kubeconfig="home", foreign_kubeconfig="in-cluster")
    assert credential_sources.foreign_source(wanted, IN_POD) == ClusterSource(None, None)


@pytest.mark.parametrize(
    ("flags", "environ", "says"),
    [
        pytest.param(
            {"foreign_kubeconfig": "in-cluster"}, IN_POD, "same credentials", id="both in-cluster"
        ),
        pytest.param(
            {"home_kubeconfig": "foreign"}, {}, "same credentials", id="one kubeconfig for both"
        ),
        pytest.param(
            {"home_kubeconfig": "home", "foreign_kubeconfig": "in-cluster", "foreign_context": "c"},
            {},
            "--foreign-context 'c' requires a kubeconfig",
            id="a context in-cluster",
        ),
    ],
)
def test_credentials_that_make_no_sense_are_refused(
    tmp_path: Path, flags: dict[str, str], environ: dict[str, str], says: str
) -> None:
    with pytest.raises(errors.UsageError, match=says):
        credential_sources.foreign_source(load(tmp_path, **flags), environ)


def test_of_a_list_of_kubeconfigs_one_must_exist_as_for_kubectl(tmp_path: Path) -> None:
    for name in ("home", "foreign"):
        (tmp_path / name).write_text("{}")
    both = f"{tmp_path / 'home'}:{tmp_path / 'foreign'}"
    assert values.kubeconfig(both) == Path(both)
    assert values.kubeconfig(f"{tmp_path / 'home'}:") == tmp_path / "home"
    # Kept, since it can be created while farlet runs.
    assert values.kubeconfig(f"{both}:{tmp_path / 'third'}") == Path(f"{both}:{tmp_path / 'third'}")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param("third", "third cannot be read: No such file", id="a file that is missing"),
        pytest.param("third:fourth", "none of the files .*third:.*fourth exists", id="all missing"),
        pytest.param("home:folder", "folder cannot be read: Is a directory", id="not a file"),
    ],
)
def test_a_kubeconfig_that_cannot_be_read_is_refused(tmp_path: Path, given: str, says: str) -> None:
    (tmp_path / "home").write_text("{}")
    (tmp_path / "folder").mkdir()
    paths = ":".join(str(tmp_path / name) for name in given.split(":"))
    with pytest.raises(ValueError, match=says):
        values.kubeconfig(paths)


def test_two_contexts_of_one_kubeconfig_are_two_clusters(tmp_path: Path) -> None:
    wanted = load(tmp_path, home_kubeconfig="foreign", home_context="a", foreign_context="b")
    assert credential_sources.foreign_source(wanted, {}).context == "b"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param({}, None, id="nothing: the home cluster only"),
        pytest.param({"foreign_context": "f"}, ("/k", "f"), id="a context of the usual file"),
        pytest.param(
            {"home_kubeconfig": "home", "foreign_context": "f"},
            ("home", "f"),
            id="a context of the home kubeconfig",
        ),
        pytest.param(
            {"home_kubeconfig": "in-cluster", "foreign_context": "f"},
            ("/k", "f"),
            id="a context, and the pod's own home credentials",
        ),
        pytest.param({"foreign_kubeconfig": "foreign"}, ("foreign", None), id="a file of its own"),
    ],
)
def test_foreign_credentials_of_a_command_that_only_reads(
    tmp_path: Path, flags: dict[str, str], expected: tuple[str, str | None] | None
) -> None:
    def path(name: str) -> str:
        return str(tmp_path / name) if name in {"home", "foreign"} else name

    for name in ("home", "foreign"):
        (tmp_path / name).write_text("{}")
    given = {field: path(value) for field, value in flags.items()}
    wanted = loading.load(settings.ReadingSettings, given)
    found = credential_sources.foreign_reading_source(wanted, {"KUBECONFIG": "/k"})
    if expected is None:
        assert found is None
    else:
        assert found == ClusterSource(path(expected[0]), expected[1])
