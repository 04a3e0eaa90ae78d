"""Every container user that can read a native token file can read it in the mirror too.

A kubelet changes the owner of a projected token to the user of the containers; files of a Secret
always belong to root. Each case runs twice on the same real node, as a native pod and as the
mirror that farlet would create, and each container prints whether it can read the file.
"""

from typing import Any, cast

import pytest

from clusters import rest
from clusters.workspace import Workspace
from farlet import access
from farlet.access import Token
from farlet.forge import pod as forge
from farlet.k8s_types import Pod
from golden import podcases
from integration import realpods

READ = (
    "if head -c 1 /strict/token > /dev/null 2>&1; then echo -n yes; else echo -n no; fi "
    "> /dev/termination-log"
)
Context = dict[str, int]
CASES = [
    pytest.param({}, [{}], ["yes"], id="root from the image"),
    pytest.param({"runAsUser": 1000}, [{}], ["yes"], id="all as 1000"),
    pytest.param({"runAsUser": 1000, "fsGroup": 2000}, [{}], ["yes"], id="with fsGroup"),
    pytest.param(
        {"fsGroup": 2000}, [{"runAsUser": 1000}, {"runAsUser": 1001}], ["yes", "yes"], id="group"
    ),
    pytest.param({}, [{"runAsUser": 1000}, {"runAsUser": 0}], ["no", "yes"], id="two users"),
]


@pytest.mark.parametrize(("of_pod", "of_containers", "native"), CASES)
async def test_a_mirror_can_read_its_token_like_the_native_pod(
    of_pod: Context,
    of_containers: list[Context],
    native: list[str],
    foreign: rest.Api,
    workspace: Workspace,
) -> None:
    wanted = realpods.pod(
        "native",
        securityContext=of_pod,
        containers=[
            realpods.container(
                f"c{index}",
                "bash",
                "-c",
                READ,
                securityContext=context,
                volumeMounts=[{"name": "strict", "mountPath": "/strict"}],
            )
            for index, context in enumerate(of_containers)
        ],
        volumes=[
            {
                "name": "strict",
                "projected": {
                    "defaultMode": 0o400,
                    "sources": [{"serviceAccountToken": {"path": "token"}}],
                },
            }
        ],
    )
    namespace = workspace.foreign
    created = await foreign.create("pods", wanted, namespace=namespace)
    await _create_mirror(foreign, created, namespace=namespace)
    assert await _answers(foreign, "native", namespace=namespace) == native
    assert await _answers(foreign, "mirror", namespace=namespace) == native


async def _create_mirror(api: rest.Api, created: rest.Object, *, namespace: str) -> None:
    home = cast("Pod", {**created, "metadata": {**created["metadata"], "name": "mirror"}})
    home["spec"].pop("nodeName", None)
    ctx = podcases.context({"template": None, "namespace_map": {namespace: namespace}})
    strategy = access.load_strategies()["home"]
    forged = forge.forge_mirror(
        home, strategy=strategy, ctx=ctx, anchor=None, token_times={}, restarts={}
    )
    forged.pod["metadata"].pop("finalizers", None)
    mirror = await api.create("pods", cast("dict[str, Any]", forged.pod), namespace=namespace)
    tokens = {claim.key: Token("a token", 0, 0) for claim in strategy.token_specs(home, ctx)}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "mirror", "uid": mirror["metadata"]["uid"]}
    for secret in strategy.objects(home, tokens, ctx, cast("Any", owner)):
        await api.create("secrets", cast("dict[str, Any]", secret), namespace=namespace)


async def _answers(api: rest.Api, name: str, *, namespace: str) -> list[str]:
    ended = await api.until("pods", realpods.ENDED, namespace=namespace, name=name, seconds=300)
    statuses = sorted(ended["status"]["containerStatuses"], key=lambda row: str(row["name"]))
    return [status["state"]["terminated"].get("message", "") for status in statuses]
