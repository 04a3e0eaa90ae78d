"""`make clusters`: both clusters for people; `python -m clusters prepare` only builds.

Runs in the foreground. Ctrl-C, SIGTERM or a closed terminal stops everything and leaves nothing.
"""

import argparse
import shlex
import signal
import sys
import threading
from types import FrameType

from clusters import binaries, cluster, errors, images, instance, packages, pair
from clusters import farlet as farlets
from clusters import progress as progresses

_LEFT = """
Both clusters are up. Home is where pods are asked for, foreign is where they run.

    export KUBECONFIG={home}      # home
    export KUBECONFIG={foreign}   # foreign

Try (kubectl of the same version: {kubectl}):

    kubectl get nodes
    kubectl run who --image={image} --image-pull-policy=Never --restart=Never \\
      --overrides='{{"spec":{{"nodeSelector":{{"{label}":"real"}}}}}}' -- client-all
    kubectl logs -f who

A farlet for a virtual node, whose kubelet API home's API server finds:

    {farlet}

Logs: {folder}/*/logs    Ctrl-C stops everything.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="clusters", description=__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        choices=["up", "plain", "prepare", "clean"],
        default="up",
        help="up: both clusters with real nodes; plain: with fake nodes only; prepare: build "
        "programs and images; clean: remove what dead runs left",
    )
    command = parser.parse_args().command
    progress = progresses.Progress()
    try:
        if command == "prepare":
            prepare(progress)
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


def prepare(progress: progresses.Progress) -> None:
    """Have everything in the cache that the clusters need, unless clusters are given."""
    if pair.given() is not None:
        progress.line("clusters are given by the environment: nothing to build")
        return
    cluster.require_real_node()
    packages.ensure(packages.NODE, progress=progress)
    programs = binaries.find(binaries.REAL, progress=progress)
    owner = instance.create()
    try:
        images.prepare(owner, programs, progress=progress)
    finally:
        owner.remove()


def up(progress: progresses.Progress, *, real_nodes: bool) -> None:
    """Start both clusters, and stop them when asked to."""
    over = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if over.is_set():
            return
        over.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    start = pair.real if real_nodes else pair.plain
    with start(progress=progress) as both:
        farlet = farlets.create(
            both,
            node="virtual",
            home_login=both.home.kubeconfig,
            foreign_login=both.foreign.kubeconfig,
            settings={"foreign-system-namespace": "default", "log-level": None},
        )
        if farlet.door is not None:
            farlet.door.start()
        print(
            _LEFT.format(
                home=both.home.kubeconfig,
                foreign=both.foreign.kubeconfig,
                kubectl=both.home.kubectl_program,
                image=images.CLIENTS,
                label="farlet.test/node",
                farlet=shlex.join(farlet.process.command).replace(" --", " \\\n      --"),
                folder=both.instance.folder,
            ),
            flush=True,
        )
        try:
            signal.pause()
        except KeyboardInterrupt:  # how `end` tells that it is time
            progress.line("stopping both clusters")
    progress.line("stopped; nothing is left")


if __name__ == "__main__":
    sys.exit(main())
