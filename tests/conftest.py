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
"""Exceptions for tests on clusters; all other warnings fail them."""


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
        program: Sequence[str | Path] | None = None,
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
        help="farlet's identity at home: its node, or an account with the shipped "
        "ClusterRole; tests marked `both_identities` always run with both",
    )
    parser.addoption(
        "--every-permission",
        action="store_true",
        help="fail when tests leave a row of farlet.rbac unused; for a run of all of them",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> workers.WholeModules:
    """How several workers (`-n`) share the modules."""
    return workers.WholeModules(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController, error: object) -> None:
    """Add the permissions that a finished worker used to those of the run."""
    lending.take_over_permissions(node.config, getattr(node, "workeroutput", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if a permission was not used."""
    if is_xdist_worker(session):
        lending.hand_over_permissions(session.config)
    elif session.config.getoption("--every-permission") and lending.unused_permissions(
        session.config
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the unused permissions."""
    if config.getoption("--every-permission"):
        for permission in lending.unused_permissions(config):
            terminalreporter.write_line(f"UNUSED PERMISSION {permission}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `both_identities` run once with each identity."""
    if metafunc.definition.get_closest_marker("both_identities") is not None:
        each = [pytest.param(identity, id=identity.value) for identity in Identity]
        metafunc.parametrize("identity", each)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Mark tests that use clusters: `-m "not clusters"` selects the quick tests."""
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
    """Excuse 403s of farlet during tests that expect them."""
    with lending.excused(item):
        return (yield)


@pytest.fixture(scope="session")
def clusters(request: pytest.FixtureRequest) -> Iterator[pair.Clusters]:
    """Both clusters with real nodes, or existing ones (see the environment). Never skipped."""
    try:
        both = pair.real()
    except errors.HarnessError as error:
        pytest.fail(f"no clusters to test on: {error}", pytrace=False)
    with lending.lent(both, request.config):
        yield both


@pytest.fixture
async def home(clusters: pair.Clusters) -> AsyncIterator[rest.Api]:
    """A client of the home cluster's administrator."""
    async with clusters.home.api() as api:
        yield api


@pytest.fixture
async def foreign(clusters: pair.Clusters) -> AsyncIterator[rest.Api]:
    """A client of the foreign cluster's administrator."""
    async with clusters.foreign.api() as api:
        yield api


@pytest.fixture
async def workspace(home: rest.Api, foreign: rest.Api) -> AsyncIterator[workspaces.Workspace]:
    """A namespace in each cluster for this test, with farlet's Role in the foreign one."""
    made = await workspaces.create(home, foreign)
    yield made
    await workspaces.delete(home, foreign, made)


@pytest.fixture
async def node(home: rest.Api) -> AsyncIterator[str]:
    """The name of a virtual node for this test, whose Node farlet creates; deleted at the end."""
    name = f"virtual-{secrets.token_hex(3)}"
    yield name
    await home.delete("nodes", name=name)


@pytest.fixture(scope="session")
def usual_identity(request: pytest.FixtureRequest) -> Identity:
    """farlet's home identity from the command line."""
    return Identity(request.config.getoption("--home-identity"))


@pytest.fixture
def identity(usual_identity: Identity) -> Identity:
    """farlet's home identity in this test."""
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
            program: Sequence[str | Path] | None = None,
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
                program=program,
            )
            made.start()
            stack.push_async_callback(made.stop)
            if ready:
                await made.ready()
                await home.until("nodes", _takes_pods, name=node)
            return made

        yield start


def _takes_pods(seen: rest.Object | None) -> bool:
    """Whether the home controller has removed the taint of new nodes."""
    taints = seen["spec"].get("taints", []) if seen is not None else []
    return seen is not None and not any("not-ready" in taint["key"] for taint in taints)
