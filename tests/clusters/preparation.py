"""What clusters require before they start, built once into the cache: one *kit* for each use.

What a kit lacks is built in two lanes at the same time. One builds Go programs, which keeps the
processors busy. The other installs Debian packages and makes the test image's file system, which
waits for the network and the disk most of the time. At the end the containerd that was built
unpacks the images. After each step a line says how many steps are left.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path

from clusters import binaries, cache, images, instance, languages, packages, rootfs, steps
from clusters import progress as progresses
from clusters.steps import Step


@dataclasses.dataclass(frozen=True)
class Kit:
    """The programs of some clusters, and the image of their real nodes, if they have any."""

    programs: tuple[str, ...]
    image: str | None = None

    def of_minors(self, *minors: tuple[str, bool]) -> "Kit":
        """With the programs of these minor versions of Kubernetes, and their kubelets if true."""
        more = [binaries.names_of_minor(minor, kubelet=kubelet) for minor, kubelet in minors]
        return dataclasses.replace(self, programs=(*self.programs, *itertools.chain(*more)))


PLAIN = Kit((*binaries.CONTROL_PLANE, "kubectl", "kwok"))
DEMO = Kit((*binaries.CONTROL_PLANE, *binaries.REAL_NODE, "client-go"), images.CLIENT_GO)
ALL = Kit(
    (*PLAIN.programs, *binaries.REAL_NODE, "client-go", "metrics-server", "helm"), images.CLIENTS
)  # fmt: skip
SKEW = ALL.of_minors(("1.34", True), ("1.35", False), ("1.37", True))
KITS = {
    "demo": [DEMO],
    "plain": [PLAIN],
    "all": [ALL, DEMO],  # tests run the demo too
    "skew": [SKEW],
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A kit that is there."""

    programs: Mapping[str, Path]
    images: images.Prepared | None


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What a kit will be, and the steps to it."""

    prepared: Prepared
    lanes: list[list[Step]]
    last: list[Step]


def prepare(kit: Kit, *, progress: progresses.Progress) -> Prepared:
    """The kit, after building what the cache lacks of it."""
    plan = _plan(kit, progress)
    if any(plan.lanes) or plan.last:
        with cache.lock("preparation", progress=progress):
            plan = _plan(kit, progress)  # another process may have been faster
            steps.run(plan.lanes, plan.last, progress=progress)
    return plan.prepared


def _plan(kit: Kit, progress: progresses.Progress) -> _Plan:
    programs = binaries.locate(kit.programs)
    builds = [
        Step(module.name, functools.partial(binaries.build, module, missing, progress=progress))
        for module, missing in binaries.by_module(programs).items()
    ]
    if kit.image is None:
        return _Plan(Prepared(programs, None), [builds], [])
    if kit.image == images.CLIENTS:
        programs |= languages.locate()
    folder = images.locate(kit.image, programs)
    parts: list[Step] = []
    last: list[Step] = []
    if not folder.exists():
        if kit.image == images.CLIENTS:
            parts = _parts(progress)
        unpack = functools.partial(_unpack, kit.image, programs, progress=progress)
        last = [Step("images", unpack, packages.COMPILER)]
    required = dict(packages.NODE)
    for step in (*parts, *last):
        required |= step.packages
    if packages.missing(required):
        ensure = functools.partial(packages.ensure, required, progress=progress)
        parts.insert(0, Step("Debian packages", ensure))
    return _Plan(Prepared(programs, images.Prepared(folder)), [builds, parts], last)


def _parts(progress: progresses.Progress) -> list[Step]:
    """What is built beside the Go programs for the image with all clients."""
    parts = []
    if not rootfs.locate_base().exists():
        base = functools.partial(rootfs.base, progress=progress)
        parts.append(Step("Debian of the test image", base, packages.IMAGE))
    for name, path in languages.locate().items():
        if not path.exists():
            build = functools.partial(languages.build, name, progress=progress)
            parts.append(Step(name, build, languages.requirements(name)))
    return parts


def _unpack(image: str, programs: Mapping[str, Path], *, progress: progresses.Progress) -> None:
    owner = instance.create()
    try:
        images.unpack(owner, image, programs, progress=progress)
    finally:
        owner.remove()
