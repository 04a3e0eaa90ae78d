"""`make clusters`: both clusters for users; `python -m clusters prepare` only builds.

Runs in the foreground. Ctrl-C, SIGTERM or a closed terminal stops everything and leaves nothing.
"""

import argparse
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from clusters import cluster, errors, farletimage, images, instance, kwok, pair, preparation
from clusters import farlet as farlets
from clusters import progress as progresses
from clusters.cluster import Spec, Usual

_UP = """
Both clusters are up. Pods are created in home; those for the virtual node run in foreign.

    export KUBECONFIG={home}:{foreign}
    export PATH={programs}:$PATH
    kubectl --context home get nodes
    kubectl --context foreign get nodes
{ways}
{nodes}

Logs: {logs}    Ctrl-C stops everything.
"""
_CONNECT = """
farlet in the clusters, as README.md installs it; their nodes have the image:

    kubectl --context home create namespace shop
    farlet connect --home-context home --foreign-context foreign --node far \\
      --image {farlet_image} --foreign-server {foreign_server} --namespace shop
    kubectl --context home -n shop run hello --image={image} --image-pull-policy=Never \\
      --overrides='{{"spec":{{
        "nodeSelector": {{"kubernetes.io/hostname": "far"}},
        "tolerations": [{{"key": "farlet.io/virtual-node", "operator": "Exists"}}]}}}}' \\
      -- sleep infinity
    kubectl --context home -n shop wait pod hello --for=condition=Ready --timeout=2m
    kubectl --context home -n shop get pod hello -o wide
    kubectl --context home -n shop exec hello -- kubectl auth whoami
    farlet status --home-context home
    farlet explain shop/hello --home-context home --foreign-context foreign
    farlet check --home-context home --foreign-context foreign --node far -n shop
    farlet disconnect --home-context home --foreign-context foreign --node far --force
"""
_RUN = """
farlet as a process of this machine, for the virtual node {node} (docs/how-to/local.md):

    kubectl --context foreign create namespace farlet
    kubectl --context foreign create namespace default-home
    {farlet}

A pod for that node, from another terminal:

    kubectl --context home run hello --image={image} --image-pull-policy=Never \\
      --restart=Never --overrides='{{"spec":{{
        "nodeSelector": {{"kubernetes.io/hostname": "{node}"}},
        "tolerations": [{{"key": "farlet.io/virtual-node", "operator": "Exists"}}]}}}}' \\
      -- kubectl auth whoami
    kubectl --context foreign get pods --namespace default-home
    kubectl --context home logs hello
"""
_PROCESS = "local"
"""The virtual node of the process: `farlet connect` is shown with another one."""
_REAL = """\
Each cluster has one node with real containers, and two fake ones that only simulate pods: a pod
gets there with a toleration of the taint {taint}. Images: {image}."""
_PLAIN = "Both clusters have only fake nodes, which simulate pods: pods have no logs."


def main() -> int:
    parser = argparse.ArgumentParser(prog="clusters", description=__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        choices=["up", "plain", "prepare", "clean"],
        default="up",
        help="up: both clusters with real nodes; plain: with fake nodes only; prepare: build "
        "programs and images; clean: remove what killed runs left",
    )
    parser.add_argument(
        "kit", nargs="?", choices=preparation.KITS, default="all", help="what `prepare` builds"
    )
    arguments = parser.parse_args()
    command = arguments.command
    progress = progresses.Progress()
    try:
        if command == "prepare":
            for kit in preparation.KITS[arguments.kit]:
                prepare(kit, progress)
        elif command == "clean":
            for name in instance.clean_leftovers():
                progress.line(f"removed what {name} had left")
        else:
            up(progress, real_nodes=command == "up")
    except errors.HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def prepare(kit: preparation.Kit, progress: progresses.Progress) -> None:
    """Build the kit into the cache, unless existing clusters are used."""
    if pair.given() is not None:
        progress.line("existing clusters are used (see the environment): nothing to build")
        return
    if kit.image is not None:
        cluster.require_real_node()
    preparation.prepare(kit, progress=progress)


def up(progress: progresses.Progress, *, real_nodes: bool) -> None:
    """Start both clusters, and stop them on a signal."""
    over = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if over.is_set():
            return
        over.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    home, foreign = (
        Spec(
            name,
            number=number,
            real_node=real_nodes,
            usual=Usual.REAL if real_nodes else Usual.FAKE,
        )
        for number, name in enumerate(("home", "foreign"), 1)
    )
    with pair.start(home=home, foreign=foreign, progress=progress) as both:
        farlet = farlets.create(
            both,
            node=_PROCESS,
            home_login=both.home.kubeconfig,
            foreign_login=both.foreign.kubeconfig,
            settings={
                "home-context": "home",
                "foreign-context": "foreign",
                **dict.fromkeys(("home-name", "foreign-system-namespace", "capacity", "log-level")),
            },
        )
        if farlet.forwarder is not None:
            farlet.forwarder.start()
        ways = _RUN.format(
            node=_PROCESS,
            farlet=shlex.join(farlet.process.command).replace(" --", " \\\n      --"),
            image=images.CLIENTS,
        )
        if real_nodes and pair.given() is None:
            ways = _connect(both, progress=progress) + ways
        nodes = _REAL.format(taint=kwok.TAINT, image=images.CLIENTS) if real_nodes else _PLAIN
        print(
            _UP.format(
                home=both.home.kubeconfig,
                foreign=both.foreign.kubeconfig,
                programs=f"{both.home.kubectl_program.parent}:{Path(sys.executable).parent}",
                ways=ways,
                nodes=nodes,
                logs=both.instance.folder / "*" / "logs",
            ),
            flush=True,
        )
        try:
            signal.pause()
        except KeyboardInterrupt:  # raised by the signal handler
            progress.line("stopping both clusters")
    progress.line("stopped; nothing is left")


def _connect(both: pair.Clusters, *, progress: progresses.Progress) -> str:
    """The commands of README.md; what they need is in the clusters then."""
    for one in (both.home, both.foreign):
        with progress.step(f"giving cluster {one.name} the image of farlet"):
            farletimage.load(both.instance, one, progress=progress)
    host, port = both.foreign_api_in_home
    return _CONNECT.format(
        farlet_image=farletimage.NAME,
        foreign_server=f"https://{host}:{port}",
        image=images.CLIENTS,
    )


if __name__ == "__main__":
    sys.exit(main())
