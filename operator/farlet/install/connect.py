"""The steps of `farlet connect`: what one virtual node needs in both clusters.

Each step first reads what is there, and can be repeated. So the command can be interrupted at any
point, and the same command continues.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable

from farlet import errors, names, retrying, roles
from farlet.client import kinds, resources, reviews
from farlet.client.api_client import ApiClient
from farlet.constants import HOME_CLUSTER, JSON, TOKEN_BINDING, Reason
from farlet.gateway import keys
from farlet.install import (
    approval,
    checks,
    credentials,
    foreign,
    foreign_search,
    gateway,
    home,
    installed_manager,
    readiness,
    requests,
    steps,
    stored,
)
from farlet.install.connection import HOME_SYSTEM, Connection, marks, owned_by
from farlet.install.credentials import ForeignServer
from farlet.install.steps import Step
from farlet.install.waiting import Waiting
from farlet.manager import findings, foreign_token, rollout
from farlet.manager.foreign_token import Bound
from farlet.manager.virtual_node import Identity
from farlet.planning.api_refusals import AT_HOME

_UNREACHABLE = {Reason.FOREIGN_UNREACHABLE.value, findings.Reason.NOT_VERIFIED.value}
"""Reasons of conditions while nothing at the foreign server's address answers."""
STEP_SECONDS = 180.0
"""The end of a step that waits for nothing but answers, in addition to `seconds`."""


class Connect:
    """Connects two clusters."""

    def __init__(
        self,
        connection: Connection,
        home: ApiClient,
        foreign: ApiClient,
        *,
        server: ForeignServer,
        unreached: Callable[[ForeignServer], Awaitable[str | None]],
        report: Callable[[str], None],
        seconds: float,
    ) -> None:
        """`report` gets one line of progress; `seconds` is how long the node may take.

        `unreached` says why this machine does not reach that address, which is one for pods.
        """
        self._connection = connection
        self._home = home
        self._foreign = foreign
        self._server = server
        self._unreached = unreached
        self._earlier_server = ""
        """The foreign server of the Secret that this run has replaced, if that is another one."""
        self._report = report
        self._seconds = seconds
        self._home_id = ""
        self._reasons: frozenset[str] = frozenset()
        """Of the conditions of the VirtualNode that are not True, as last seen."""
        self._expires: str | None = None
        """When the foreign token expires that is in the Secret now."""
        self.offloaded: tuple[str, ...] = ()
        """Home namespaces that are offloaded to the node in the end."""

    def steps(self) -> tuple[Step, ...]:
        """All of them, in order."""
        return (
            Step("checks", self._check),
            Step("foreign namespaces", self._namespaces),
            Step("foreign permissions", self._permissions),
            Step("manager", self._manager),
            *((Step("gateway", self._gateway),) if self._connection.gateway else ()),
            Step("foreign credentials", self._credentials),
            Step("home permissions", self._bindings),
            Step("virtual node", self._virtual_node),
            Step("ready", self._until_ready),
        )

    async def run(self) -> None:
        """Raises `StartError` with the step that failed and what to do."""
        await steps.run(self.steps(), report=self._report, seconds=self._seconds + STEP_SECONDS)

    # --- steps --------------------------------------------------------------------------------

    async def _check(self) -> str:
        connection = self._connection
        if not connection.image:
            image = await self._installed_image()
            connection = self._connection = dataclasses.replace(connection, image=image)
        versions = [
            checks.shown_version(await one.server_version()) for one in (self._home, self._foreign)
        ]
        await checks.different(self._home, self._foreign)
        await checks.rights(self._home, checks.home_rights(connection))
        await checks.rights(self._foreign, checks.foreign_rights(connection))
        await installed_manager.verify(self._home)
        await checks.node_name(self._home, connection.node)
        await checks.virtual_node(self._home, connection)
        await checks.foreign_cluster(self._home, self._foreign, connection)
        self._home_id = await checks.home_id(self._home)
        await checks.namespaces(self._home, self._foreign, connection, self._home_id)
        problem = await self._unreached(self._server)
        doubt = "" if problem is None else f" (from this machine: {problem})"
        address = f"address for pods {self._server.url}{doubt}"
        return f"home {versions[0]}, foreign {versions[1]}; {address}"

    async def _installed_image(self) -> str:
        """That of the manager. One of others has perhaps an image of another registry than the
        gateway, which then keeps its own. Raises `UsageError` if there is none."""
        if await installed_manager.image_of_nodes(self._home) is None:
            found = await requests.find(
                self._foreign, kinds.DEPLOYMENTS, gateway.NAME, namespace=self._connection.system
            )
            if found is not None:
                return rollout.image_of(found)
        return await installed_manager.image(self._home)

    async def _namespaces(self) -> str:
        system, *offloaded = foreign.namespaces(self._connection)
        system["metadata"]["annotations"] = {HOME_CLUSTER: self._home_id}
        shown = []
        for one in (system, *offloaded):
            created = await requests.create_missing(self._foreign, one)
            shown.append(f"{one['metadata']['name']} {'created' if created else 'exists'}")
        return ", ".join(shown)

    async def _permissions(self) -> str:
        objects = [one for one in foreign.objects(self._connection) if not gateway.owns(one)]
        await requests.apply(self._foreign, objects)
        return f"ServiceAccount {self._connection.system}/{foreign.ACCOUNT} and its Roles"

    async def _manager(self) -> str:
        return await installed_manager.install(
            self._home,
            self._connection.image,
            waiting=Waiting(self._report),
            seconds=self._seconds,
        )

    async def _gateway(self) -> str:
        foreign_half, done = await self._gateway_keys()
        objects = [one for one in foreign.objects(self._connection) if gateway.owns(one)]
        digest = gateway.digest(foreign_half)
        await requests.apply(self._foreign, [gateway.with_keys(one, digest) for one in objects])
        return f"Deployment {self._connection.system}/{gateway.NAME}, keys {done}"

    async def _gateway_keys(self) -> tuple[dict[str, str], str]:
        """The foreign half. Both are written again unless they fit together."""
        connection = self._connection
        name = f"{connection.name}-gateway"
        at_home = await requests.find(self._home, kinds.SECRETS, name, namespace=HOME_SYSTEM)
        there = await requests.find(
            self._foreign, kinds.SECRETS, gateway.NAME, namespace=connection.system
        )
        if at_home is not None and there is not None:
            try:
                halves = keys.PerCluster(*map(credentials.decoded, (at_home, there)))
            except ValueError:  # they are not text
                halves = None
            if halves is not None and keys.fit(halves):
                return halves.foreign, "reused"
        made = keys.generate()
        await requests.apply(self._foreign, [foreign.gateway_secret(connection, made.foreign)])
        await requests.apply(self._home, [home.gateway_secret(connection, made.home)])
        return made.foreign, "created"

    async def _credentials(self) -> str:
        connection = self._connection
        name = f"{connection.name}-foreign"
        found = await requests.find(self._home, kinds.SECRETS, name, namespace=HOME_SYSTEM)
        token = credentials.token_for(found, self._server)
        stored = credentials.of_secret(found)
        if stored is not None and stored.server != self._server.url:
            self._earlier_server = stored.server
        if token is not None and _is_renewed(token) and await self._is_accepted(token):
            self._expires = credentials.expiry(token)
            return f"Secret {HOME_SYSTEM}/{name} reused"
        bound = await self._foreign.get(kinds.SECRETS, TOKEN_BINDING, namespace=connection.system)
        answer = await self._foreign.create(
            kinds.TOKEN_REQUESTS,
            foreign_token.request(Bound(TOKEN_BINDING, bound["metadata"]["uid"])),
            namespace=connection.system,
            name=foreign.ACCOUNT,
        )
        status = answer["status"]
        self._expires = credentials.expiry(status["token"])
        text = credentials.kubeconfig(self._server, status["token"])
        await requests.apply(self._home, [home.foreign_secret(connection, text)])
        return f"Secret {HOME_SYSTEM}/{name}, token until {status['expirationTimestamp']}"

    async def _is_accepted(self, token: str) -> bool:
        answer = await self._foreign.create(resources.TOKEN_REVIEWS, reviews.token(token))
        status = answer.get("status") or {}
        wanted = names.account_user(self._connection.system, foreign.ACCOUNT)
        user = (status.get("user") or {}).get("username")
        return status.get("authenticated") is True and user == wanted

    async def _bindings(self) -> str:
        objects = home.bindings(self._connection)
        await requests.apply(self._home, objects)
        if self._connection.identity is Identity.SERVICE_ACCOUNT:
            account = f"{HOME_SYSTEM}/{self._connection.name}"
            return f"{len(objects)} Roles and bindings of the ServiceAccount {account}"
        return " and ".join(f"{one['kind']} {one['metadata']['name']}" for one in objects)

    async def _virtual_node(self) -> str:
        name = self._connection.node
        before = await requests.find(self._home, kinds.VIRTUAL_NODES, name, namespace=HOME_SYSTEM)
        async with requests.limit(
            installed_manager.DEFINITION_SECONDS,
            lambda: (
                f"the home API server does not serve VirtualNodes. See {AT_HOME} api-resources "
                "--api-group farlet.io"
            ),
        ):
            while True:
                try:
                    await requests.apply(self._home, [home.virtual_node(self._connection)])
                except errors.NotFound:  # the API server does not serve the new kind yet
                    await asyncio.sleep(requests.RETRY_SECONDS)
                else:
                    changed = stored.change_of_capacity(before, self._connection)
                    return f"VirtualNode {HOME_SYSTEM}/{name}{changed and f', {changed}'}"

    async def _until_ready(self) -> str:
        """Until the VirtualNode is ready and its farlets are of the wanted version.

        The reason why not is reported whenever it changes.
        """
        name = self._connection.node
        waiting = Waiting(self._report)
        pods_of_node = owned_by(name)
        async with waiting.watching(self._home, HOME_SYSTEM, installed_manager.PODS, pods_of_node):
            if not await self._ends(waiting):
                fix = ""
                if self._reasons & _UNREACHABLE:
                    earlier = self._earlier_server and f"; before {self._earlier_server}"
                    fix = (
                        "Set --foreign-server to an address at which pods of the home cluster "
                        f"reach the foreign API server (now {self._server.url}{earlier}). "
                    )
                text = (
                    f"the VirtualNode {HOME_SYSTEM}/{name} is not ready after {self._seconds:g} s: "
                    f"{waiting}. {fix}"
                )
                image = await installed_manager.image_of_nodes(self._home)
                if waiting.lacks_image and image is not None:
                    raise installed_manager.no_image(text, image)
                raise errors.StartError(
                    f"{text}See `farlet status --home-context HOME`, and `{AT_HOME} logs -n "
                    f"{HOME_SYSTEM} deployment/farlet-manager`"
                )
        await self._remove_unused()
        self.offloaded = await self._offloaded()
        return f"pods of the node {name} run in the foreign cluster{await self._cordoned()}"

    async def _remove_unused(self) -> None:
        """What another capacity needed. Not earlier: the farlet before has needed it."""
        role = roles.foreign_capacity(self._connection.system).name
        if not self._connection.capacity:
            return
        with contextlib.suppress(errors.Forbidden):  # who sets a capacity needs no such permission
            for resource in (kinds.CLUSTER_ROLE_BINDINGS, kinds.CLUSTER_ROLES):
                found = await requests.find(self._foreign, resource, role)
                labels = {} if found is None else found["metadata"].get("labels") or {}
                if found is not None and labels.items() >= marks(self._connection.node).items():
                    uid = found["metadata"]["uid"]
                    await requests.delete(self._foreign, resource, role, uid=uid)

    async def _offloaded(self) -> tuple[str, ...]:
        connection = self._connection
        there = await foreign_search.granted(self._foreign, connection.system)
        found = filter(None, map(connection.home_namespace, there))
        return (*connection.namespaces, *sorted(set(found) - set(connection.namespaces)))

    async def _cordoned(self) -> str:
        name = self._connection.node
        node = await requests.find(self._home, kinds.NODES, name)
        if node is None or not (node.get("spec") or {}).get("unschedulable"):
            return ""
        return (
            ", but it is cordoned: by an administrator, a drain, or a farlet disconnect that has "
            f"not ended. New pods stay Pending until: {AT_HOME} uncordon {name}"
        )

    async def _ends(self, waiting: Waiting) -> bool:
        """Whether the node is ready in time, while its certificate is approved."""
        work = [asyncio.create_task(self._settled(waiting), name="virtual node")]
        if self._connection.identity is Identity.NODE:
            work.append(asyncio.create_task(self._approve(), name="certificate approval"))
        try:
            done, _ = await asyncio.wait(
                work, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work)
        return bool(done)

    async def _settled(self, waiting: Waiting) -> None:
        """Ready, rolled out, and still ready: a status can be that of pods before, and the one
        during a rollout never counts."""
        node = await self._ready_node(waiting)
        image = node["spec"].get("image") or await installed_manager.image_of_nodes(self._home)
        name = self._connection.name

        def is_rolled_out(deployment: JSON | None) -> bool:
            why = rollout.unfinished(deployment, image)
            waiting.because(f"Deployment {HOME_SYSTEM}/{name}: {why}" if why else "")
            return not why

        await requests.until(
            self._home, kinds.DEPLOYMENTS, name, is_rolled_out, namespace=HOME_SYSTEM
        )
        await self._ready_node(waiting, rolled_out=True)

    async def _ready_node(self, waiting: Waiting, *, rolled_out: bool = False) -> JSON:
        def is_ready(node: JSON | None) -> bool:
            self._reasons = readiness.reasons(node)
            why = readiness.problem(node, expires=self._expires if rolled_out else None)
            if not why and rolled_out and node is not None and readiness.is_rolling_out(node):
                why = "the manager has not seen the end of the rollout yet"
            elif not why and rolled_out:
                why = readiness.home_api_problem(node)
            waiting.because(why)
            return not why

        name = self._connection.node
        node = await requests.until(
            self._home, kinds.VIRTUAL_NODES, name, is_ready, namespace=HOME_SYSTEM
        )
        assert node is not None
        return node

    async def _approve(self) -> None:
        """Approve requests of the manager for the node's client certificate, until cancelled."""
        resource = kinds.SIGNING_REQUESTS
        while True:
            try:
                found = await self._home.list(resource)
                for request in found.items:
                    await self._approve_one(request)
                async for event in self._home.watch(resource, version=found.version):
                    if event.kind in ("ADDED", "MODIFIED"):
                        await self._approve_one(event.object)
            except (
                *(errors.Gone, errors.Unreachable, errors.Throttled),
                *(errors.Conflict, errors.NotFound),  # another answered or deleted the request
            ):
                pass
            await asyncio.sleep(requests.WATCH_SECONDS)

    async def _approve_one(self, request: JSON) -> None:
        if not approval.is_pending(request):
            return
        if approval.refusal(request, self._connection.node) is not None:
            return
        name = request["metadata"]["name"]
        await self._home.replace(kinds.SIGNING_REQUEST_APPROVALS, name, approval.approved(request))
        self._report(f"      approved the client certificate of {self._connection.node}: {name}")


def _is_renewed(token: str) -> bool:
    """Whether the manager reports no problem with the expiry of a token: it advises to connect
    again where one does not expire, or was not renewed in time."""
    found = foreign_token.read(token)
    warn_at = found.at(foreign_token.WARN_PART)
    return found.account is None or (warn_at is not None and retrying.utc_now() < warn_at)
