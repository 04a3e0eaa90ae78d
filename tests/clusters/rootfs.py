"""File systems for images, built without a registry: Debian packages, pip, npm, and our programs.

Two layers, so that a changed client program costs seconds and not minutes: `base` (Debian, HAProxy,
Java, Python and Node with the clients' libraries, from pinned and hashed lists) and `programs`.
`pause` is compiled from the source that the kubernetes module carries.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clusters import binaries, cache, errors, languages, packages
from clusters import progress as progresses
from clusters.processes import run

HERE = Path(__file__).parent / "image"
SUITE = "trixie"
_PYTHON = "3.13"  # the suite's
_PACKAGES = (
    *("python3", "nodejs", "openjdk-21-jre-headless", "haproxy"),
    *("ca-certificates", "curl", "bash", "procps"),
)
_OMITTED = ("man", "doc", "locale", "info", "lintian")
LIBRARIES = "/usr/local/lib/python3.13/dist-packages"
_WHEELS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
RECIPE = 2  # raise when the steps below change


def locate_base() -> Path:
    """The tar file of the base layer, there once it is built."""
    lists = [HERE / name for name in ("requirements.txt", "package.json", "package-lock.json")]
    digest = cache.key(
        texts=[str(RECIPE), SUITE, ",".join(_PACKAGES), os.uname().machine, *_OMITTED], files=lists
    )
    return cache.folder() / "images" / f"base-{digest}.tar"


def base(*, progress: progresses.Progress) -> None:
    """Build the base layer."""
    target = locate_base()
    with cache.lock("images", progress=progress), cache.building(target) as scratch:
        if target.exists():  # another process was faster
            return
        root = scratch / "root"
        with progress.step("test image: Debian with Python, Node, Java and HAProxy"):
            debian(root, _PACKAGES)
        with progress.step("test image: Python clients"):
            python(root, HERE / "requirements.txt")
        with progress.step("test image: JavaScript client"):
            _javascript(root)
        with progress.step("test image: packing"):
            pack(root, scratch / target.name)
        (scratch / target.name).replace(target)


def programs(scratch: Path, found: Mapping[str, Path]) -> Path:
    """The tar file of the layer with the client programs."""
    folder = scratch / "programs" / "usr" / "local" / "bin"
    folder.mkdir(parents=True)
    for name in ("kubectl", "client-go"):
        shutil.copy2(found[name], folder / name)
    for path in sorted((HERE / "bin").iterdir()):
        if path.is_file():
            shutil.copy2(path, folder / path.name)
    (folder / "client-javascript").symlink_to("client-javascript.mjs")
    (folder / "client-kopf-pykube").symlink_to("client-kopf")
    shutil.copy2(found[languages.RUST] / languages.RUST, folder)
    java = scratch / "programs" / "opt" / languages.JAVA
    shutil.copytree(found[languages.JAVA], java)
    return pack(scratch / "programs", scratch / "programs.tar")


def client_go(scratch: Path, program: Path) -> Path:
    """The tar file of the only layer of an image that has this program and nothing else."""
    root = scratch / "client-go"
    root.mkdir()
    shutil.copy2(program, root / "client-go")
    return pack(root, scratch / "client-go.tar")


def pause(scratch: Path) -> Path:
    """The tar file of the pause image's only layer."""
    source = binaries.go_module("k8s.io/kubernetes", of="kubelet") / "build/pause/linux/pause.c"
    root = scratch / "pause"
    root.mkdir()
    run(
        ["gcc", "-Os", "-static", "-s", "-DVERSION=test", "-o", root / "pause", source],
        what=f"compile {source}",
    )
    return pack(root, scratch / "pause.tar")


def program_inputs() -> list[Path]:
    """The files that decide what the programs' layer holds."""
    return [path for path in (HERE / "bin").iterdir() if path.is_file()]


def debian(root: Path, names: Sequence[str]) -> None:
    """A Debian with these packages and little else, in the new folder `root`."""
    run(
        [
            *("mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(names)}"),
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _OMITTED),
            # The system's npm libraries and headers; node itself is in /usr/bin.
            "--dpkgopt=path-exclude=/usr/include/*",
            # Java's packages want to link manuals here that are left out.
            '--essential-hook=mkdir -p "$1/usr/share/man/man1"',
            '--aptopt=Acquire::Languages "none"',
            *(SUITE, root),
        ],
        what="make a Debian root file system",
    )
    for folder in ("var/lib/apt/lists", "var/cache", "var/log", "usr/share/i18n"):
        if (root / folder).exists():
            shutil.rmtree(root / folder)
            (root / folder).mkdir()


def python(root: Path, requirements: Path) -> None:
    """The pinned and hashed libraries of the list `requirements`, in the Debian below `root`."""
    machine = os.uname().machine
    target = root / LIBRARIES.lstrip("/")
    run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"),
            *("--require-hashes", "--requirement", requirements),
            *("--target", target, "--python-version", _PYTHON, "--implementation", "cp"),
            "--only-binary=:all:",
            *(f"--platform={wheel}_{machine}" for wheel in _WHEELS),
        ],
        what="install Python libraries into an image",
    )
    # Compiled beforehand: a container would compile anew at each start.
    run(
        ["chroot", root, "python3", "-m", "compileall", "-q", "-j", "2", LIBRARIES],
        what="compile Python libraries in an image",
    )


def _javascript(root: Path) -> None:
    target = root / "opt" / "clients"
    target.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, target / name)
    npm = packages.path("npm")
    if npm is None:
        raise errors.HarnessError(
            f"npm is needed to build the test image; install it. {errors.OTHER_WAY}"
        )
    answer = subprocess.run(
        [npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=target,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise errors.HarnessError(
            f"cannot install the JavaScript client into the test image: {answer.stderr[-2000:]}"
        )


def pack(root: Path, target: Path) -> Path:
    """The tar file `target` of a layer: all below `root`, owned by root.

    Times stay: compiled Python files remember that of their source.
    """
    run(
        ["tar", "--numeric-owner", "--owner=0", "--group=0", "--sort=name",
         "-C", root, "-cf", target, "."],
        what=f"pack {root}",
    )  # fmt: skip
    return target
