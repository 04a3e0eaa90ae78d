"""Fixtures that every kind of test shares: the two clusters, and a test's own part of them."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from xdist import is_xdist_worker
from xdist.remote import Producer
from xdist.workermanage import WorkerController

import lending
import workers
from clusters import errors, pair, rest
from clusters import farlet as farlets
from clusters import workspace as workspaces
from clusters.identity import Identity

QUICK = tuple(Path(__file__).parent / name for name in ("unit", "golden"))
ALLOWED_WARNINGS = (
    # A client in a test has connections to servers that the test kills. Python reports them when it
    # collects garbage, and pytest reports that: during any later test.
    "default::ResourceWarning",
    "default::pytest.PytestUnraisableExceptionWarning",
)
"""Of tests on clusters; all other warnings fail them too."""


class StartFarlet(Protocol):
    """Starts a farlet that is stopped at the end of the test."""

    async def __call__(
        self,
        node: str,
        *,
        way: farlets.Way = farlets.Way.RUN,
        home_login: Path | None = None,
        foreign_login: Path | None = None,
        settings: Mapping[str, str | None] | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
    ) -> farlets.Farlet: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what is computed into the golden files instead of comparing with them",
    )
    parser.addoption(
        "--home-identity",
        choices=[identity.value for identity in Identity],
        default=Identity.NODE.value,
        help="who farlet is at home: the node that it serves, or an account with the shipped "
        "ClusterRole; tests marked `both_identities` run as each of them anyway",
    )
    parser.addoption(
        "--every-right",
        action="store_true",
        help="fail when tests leave a row of farlet.rbac unused; for a run of all of them",
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> workers.WholeModules:
    """How several workers (`-n`) share the modules."""
    return workers.WholeModules(config, log)


def pytest_testnodedown(node: WorkerController, error: object) -> None:
    """A worker has ended: what its farlets used counts for the whole run."""
    lending.take_over_rights(node.config, getattr(node, "workeroutput", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A right that nothing uses is one too many."""
    if is_xdist_worker(session):
        lending.hand_over_rights(session.config)
    elif session.config.getoption("--every-right") and lending.unused_rights(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name them."""
    if config.getoption("--every-right"):
        for right in lending.unused_rights(config):
            terminalreporter.write_line(f"UNUSED RIGHT {right}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `both_identities` run once as each."""
    if metafunc.definition.get_closest_marker("both_identities") is not None:
        each = [pytest.param(identity, id=identity.value) for identity in Identity]
        metafunc.parametrize("identity", each)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Whatever uses the clusters is marked so: `-m "not clusters"` leaves the quick tests."""
    for item in items:
        if "clusters" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.clusters)
        if not any(item.path.is_relative_to(folder) for folder in QUICK):
            for one in ALLOWED_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(one))
    if is_xdist_worker(session):
        workers.longest_first(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Tests may want farlet to be refused."""
    with lending.excused(item):
        return (yield)


@pytest.fixture(scope="session")
def clusters(request: pytest.FixtureRequest) -> Iterator[pair.Clusters]:
    """Both clusters with real nodes, or those that the environment names. Never skipped."""
    try:
        both = pair.real()
    except errors.HarnessError as error:
        pytest.fail(f"no clusters to test on: {error}", pytrace=False)
    with lending.lent(both, request.config):
        yield both


@pytest.fixture
async def home(clusters: pair.Clusters) -> AsyncIterator[rest.Api]:
    """The home cluster's administrator."""
    async with clusters.home.api() as api:
        yield api


@pytest.fixture
async def foreign(clusters: pair.Clusters) -> AsyncIterator[rest.Api]:
    """The foreign cluster's administrator."""
    async with clusters.foreign.api() as api:
        yield api


@pytest.fixture
async def workspace(home: rest.Api, foreign: rest.Api) -> AsyncIterator[workspaces.Workspace]:
    """A namespace on each side for this test, with farlet's rights in the foreign one."""
    made = await workspaces.create(home, foreign)
    yield made
    await workspaces.delete(home, foreign, made)


@pytest.fixture
async def node(home: rest.Api) -> AsyncIterator[str]:
    """The name of a virtual node of home for this test, whose Node farlet makes; it goes again."""
    name = f"virtual-{secrets.token_hex(3)}"
    yield name
    await home.delete("nodes", name=name)


@pytest.fixture(scope="session")
def usual_identity(request: pytest.FixtureRequest) -> Identity:
    """Who farlet is at home, as the run was asked for."""
    return Identity(request.config.getoption("--home-identity"))


@pytest.fixture
def identity(usual_identity: Identity) -> Identity:
    """Who farlet is at home in this test."""
    return usual_identity


@pytest.fixture
async def start_farlet(
    clusters: pair.Clusters, home: rest.Api, foreign: rest.Api, identity: Identity
) -> AsyncIterator[StartFarlet]:
    """Start a farlet for a virtual node; every one started is stopped at the end.

    A ready one has a Node that takes pods.
    """
    await workspaces.create_farlet_namespace(foreign)
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            node: str,
            *,
            way: farlets.Way = farlets.Way.RUN,
            home_login: Path | None = None,
            foreign_login: Path | None = None,
            settings: Mapping[str, str | None] | None = None,
            arguments: Sequence[str] = (),
            environment: Mapping[str, str] | None = None,
            ready: bool = True,
        ) -> farlets.Farlet:
            made = farlets.create(
                clusters,
                node=node,
                way=way,
                identity=identity,
                home_login=home_login,
                foreign_login=foreign_login,
                settings=settings,
                arguments=arguments,
                environment=environment,
            )
            made.start()
            stack.push_async_callback(made.stop)
            if ready:
                await made.ready()
                await home.until("nodes", _takes_pods, name=node)
            return made

        yield start


def _takes_pods(seen: rest.Object | None) -> bool:
    """Home's controller has taken away the taint that every new node gets."""
    taints = seen["spec"].get("taints", []) if seen is not None else []
    return seen is not None and not any("not-ready" in taint["key"] for taint in taints)
