"""Programs of the operating system that a real node and its images need.

As root on Debian or Ubuntu what is missing is installed; elsewhere one error names all of it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from clusters import cache, errors
from clusters import progress as progresses

NODE = {
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
}
COMPILER = {
    "gcc": "gcc",
    "/usr/include/stdio.h": "libc6-dev",
}
ROOT = {"mmdebstrap": "mmdebstrap"}
IMAGE = {**ROOT, "npm": "npm"}
JAVA = {"mvn": "maven", "javac": "default-jdk-headless"}
RUST = {"cargo": "cargo-web"}  # Debian's newest Rust, which it has for its browsers
PROXY = {"haproxy": "haproxy"}
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def path(name: str) -> Path | None:
    """Where a program is, looking in the folders of the administrator too."""
    if name.startswith("/"):
        return Path(name) if Path(name).exists() else None
    found = shutil.which(name) or shutil.which(name, path=_SBIN)
    return Path(found) if found else None


def missing(table: Mapping[str, str]) -> list[str]:
    """The packages of the table's programs that this machine lacks."""
    return sorted({package for name, package in table.items() if path(name) is None})


def ensure(table: Mapping[str, str], *, progress: progresses.Progress) -> None:
    """Install what is missing of the table's programs, or say what to install."""
    if not missing(table):
        return
    with cache.lock("apt", progress=progress):
        wanted = missing(table)
        if not wanted:  # another process was faster
            return
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise errors.HarnessError(
                f"a real node needs these Debian packages, which are missing here: "
                f"{', '.join(wanted)}. Install them, or run as root on Debian. {errors.OTHER_WAY}"
            )
        with progress.step(f"installing Debian packages {' '.join(wanted)}"):
            _apt(["update", "-qq"])
            _apt(["install", "-y", "-qq", "--no-install-recommends", *wanted])


def _apt(arguments: Iterable[str]) -> None:
    command = ["apt-get", *arguments]
    answer = subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise errors.HarnessError(
            f"`{' '.join(command)}` ended with {answer.returncode}:\n{answer.stderr[-2000:]}\n"
            f"Install the packages by hand and try again. {errors.OTHER_WAY}"
        )
