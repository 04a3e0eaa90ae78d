"""The gateway in the foreign cluster: the shipped manifests and keys of the real command, in pods.

    async with gateway.installed(clusters, replicas=2) as made:
        farlet = await start_farlet(node, settings=made.settings)
        await made.linked()  # every gateway pod has a link to farlet
        pod, *_ = await made.pods()
        pod.kill()

Pods find it at the address of the Service `home-api`, by kube-proxy; the direct path from
foreign pods to the home cluster is blocked. The gateway is in farlet's own foreign namespace, so
there is one at a time.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import yaml

from clusters import errors, farletimage, kwok, pair, processes, workspace
from clusters import progress as progresses
from clusters.workspace import FARLET_NAMESPACE, MANIFESTS

NAME = "farlet-gateway"
SERVICE = "home-api"
SELECTED = f"app.kubernetes.io/name={NAME}"
_PATIENCE = "300s"
_FOREIGN = "--context FOREIGN"


@dataclasses.dataclass(frozen=True)
class Pod:
    """A gateway pod, and its one process as this machine numbers it."""

    name: str
    uid: str
    address: str
    pid: int

    def kill(self) -> None:
        """SIGKILL; the kubelet starts the container again, in the same pod."""
        self.signal(signal.SIGKILL)

    def signal(self, sign: signal.Signals) -> None:
        """Send a signal: SIGSTOP pauses it, SIGCONT resumes it."""
        os.kill(self.pid, sign)

    def usage(self) -> processes.Usage:
        """Memory and CPU time of the process."""
        return processes.usage(self.pid)


@dataclasses.dataclass(frozen=True)
class Gateway:
    """The installed gateway."""

    clusters: pair.Clusters
    keys: Path
    overlay: Path

    @property
    def settings(self) -> dict[str, str | None]:
        """Settings of a farlet whose pods reach home only through the gateway."""
        return {
            "home-api-server-host": None,
            "home-api-server-port": None,
            "gateway-keys": str(self.keys / "home"),
        }

    async def kubectl(self, *arguments: str) -> str:
        """kubectl in the gateway's namespace."""
        run = self.clusters.foreign.kubectl
        return await asyncio.to_thread(run, f"--namespace={FARLET_NAMESPACE}", *arguments)

    async def address(self) -> str:
        """The address of the Service; its port is 443."""
        return await self.kubectl("get", "service", SERVICE, "-o", "jsonpath={.spec.clusterIP}")

    async def linked(self) -> None:
        """Return once every pod is ready, that is, has a link to a farlet."""
        await self.kubectl("rollout", "status", f"deployment/{NAME}", f"--timeout={_PATIENCE}")

    async def apply(self) -> None:
        """Apply the manifests, also to recreate deleted objects."""
        await self.kubectl("apply", "-k", str(self.overlay))

    async def use(self, image: str) -> None:
        """Replace its pods by those of another image, as an upgrade does; ready at the return."""
        await self.kubectl("set", "image", f"deployment/{NAME}", f"*={image}")
        await self.linked()

    async def pods(self) -> list[Pod]:
        """The running pods, by name."""
        found = json.loads(await self.kubectl("get", "pods", "-l", SELECTED, "-o", "json"))
        running = [one for one in found["items"] if one["status"].get("phase") == "Running"]
        return [
            Pod(
                name=one["metadata"]["name"],
                uid=one["metadata"]["uid"],
                address=one["status"]["podIP"],
                pid=process(one["metadata"]["uid"]),
            )
            for one in sorted(running, key=lambda one: str(one["metadata"]["name"]))
        ]

    async def diagnostics(self) -> str:
        """State and logs of its pods, for the message of a failed test."""
        pods = await self.kubectl("get", "pods", "-o", "wide")
        logs = await self.kubectl("logs", f"--selector={SELECTED}", "--prefix", "--tail=40")
        return f"{pods}\n{logs}"


@contextlib.asynccontextmanager
async def installed(clusters: pair.Clusters, *, replicas: int = 1) -> AsyncIterator[Gateway]:
    """A gateway with running pods on the real foreign node, ready once farlet is linked."""
    folder = clusters.instance.folder / f"gateway-{secrets.token_hex(3)}"
    folder.mkdir()
    made = Gateway(clusters, keys=folder / "keys", overlay=folder / "overlay")
    _overlay(made.overlay, replicas=replicas)
    progress = progresses.Progress()
    await asyncio.to_thread(
        farletimage.load, clusters.instance, clusters.foreign, progress=progress
    )
    async with clusters.foreign.api() as foreign:
        await workspace.create_farlet_namespace(foreign)
    try:
        with clusters.without_home_door():
            await _make_keys(made)
            await made.apply()
            await _running(made, replicas)
            yield made
    finally:
        delete = ("delete", "--ignore-not-found")
        kustomization = ("-k", str(made.overlay), "--cascade=foreground", "--wait=false")
        await made.kubectl(*delete, *kustomization)
        await made.kubectl(*delete, "secret", NAME)
        await made.kubectl(*delete, "pods", "-l", SELECTED, "--grace-period=1")
        gone = ("wait", f"deployment/{NAME}", "--for=delete", f"--timeout={_PATIENCE}")
        await made.kubectl(*gone)
        shutil.rmtree(folder)


async def _make_keys(made: Gateway) -> None:
    """Install as in docs/gateway.md; of the printed commands only the foreign one is run.

    farlet is not a pod here: it reads its keys from the folder where they were created.
    """
    program = Path(sys.executable).parent / "farlet"
    printed = processes.run([program, "gateway-keys", made.keys], what="make keys")
    (command,) = (one.replace(_FOREIGN, "") for one in printed.splitlines() if _FOREIGN in one)
    await made.kubectl(*shlex.split(command)[1:])


def _overlay(folder: Path, *, replicas: int) -> None:
    """Settings of the tests: the image, the real node, the number of replicas."""
    image, _, tag = farletimage.NAME.rpartition(":")
    selector = {"spec": {"template": {"spec": {"nodeSelector": {kwok.LABEL: "real"}}}}}
    where = {"metadata": {"name": NAME, "namespace": FARLET_NAMESPACE}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", **where, **selector}
    folder.mkdir()
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(MANIFESTS / "gateway", folder)],
        "images": [{"name": "farlet", "newName": image, "newTag": tag}],
        "replicas": [{"name": NAME, "count": replicas}],
        "patches": [{"patch": yaml.safe_dump(deployment)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))


async def _running(made: Gateway, replicas: int) -> None:
    """Wait until all containers run; they are not ready without farlet."""
    counted = f"--for=jsonpath={{.status.replicas}}={replicas}"
    await made.kubectl("wait", f"deployment/{NAME}", counted, f"--timeout={_PATIENCE}")
    running = "--for=jsonpath={.status.phase}=Running"
    await made.kubectl("wait", "pods", "-l", SELECTED, running, f"--timeout={_PATIENCE}")


def process(uid: str) -> int:
    """The farlet process in the pod with this uid, found by its control group."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            group = (entry / "cgroup").read_text()
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):  # gone meanwhile
            continue
        if f"pod{uid}" in group and b"farlet" in command:
            return int(entry.name)
    raise errors.HarnessError(f"no process of farlet runs in the gateway pod with uid {uid}")
