"""Finds the programs of a cluster, or builds them: the first of four ways that works.

1. Existing clusters, named by FARLET_HOME_KUBECONFIG and FARLET_FOREIGN_KUBECONFIG: no program is
   needed and this room is never asked (`pair.py` decides).
2. Programs in KUBEBUILDER_ASSETS or on PATH, when they are of the pinned minor version.
3. The project's cache (`$XDG_CACHE_HOME/farlet/bin`), keyed by pins and build flags.
4. A build from the Go module proxy into that cache: `upstream/*/go.mod` pins every module, go.sum
   is complete, and nothing is resolved at build time (`-mod=readonly`).

Cold build of everything on 2 cores: see the table in `__init__.py`.
"""

import dataclasses
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from clusters import cache, errors
from clusters import progress as progresses

HERE = Path(__file__).parent
KUBERNETES = "v1.36.3"
CONTAINERD = "v2.3.7"
_VERSION = "k8s.io/component-base/version"
_CONTAINERD = "github.com/containerd/containerd/v2"


@dataclasses.dataclass(frozen=True)
class Module:
    """One Go module in this repository from which programs are built."""

    folder: Path
    ldflags: str = "-s -w"
    tags: str = ""
    found_version: str | None = None  # what a program found elsewhere must call itself


@dataclasses.dataclass(frozen=True)
class Binary:
    """One program: its package and the arguments that make it print its version."""

    module: Module
    package: str
    version: tuple[str, ...] = ("--version",)


_K8S = Module(
    folder=HERE / "upstream" / "k8s",
    # Without these the server calls itself v0.0.0 and clients complain.
    ldflags=f"-s -w -X {_VERSION}.gitVersion={KUBERNETES}"
    f" -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36",
    found_version="v1.36.",
)
_ETCD = Module(folder=HERE / "upstream" / "etcd", found_version="3.6.")
_KWOK = Module(folder=HERE / "upstream" / "kwok", found_version="0.8.")
_RUNTIME = Module(
    folder=HERE / "upstream" / "containerd",
    ldflags=f"-s -w -X {_CONTAINERD}/version.Version={CONTAINERD}"
    f" -X {_CONTAINERD}/version.Revision=module",
    tags="no_btrfs no_devmapper no_zfs",
    found_version=f" {CONTAINERD.rpartition('.')[0]}.",
)
_METRICS = Module(folder=HERE / "upstream" / "metrics-server")
_FORWARDER = Module(folder=HERE / "programs" / "forwarder")
_LOAD = Module(folder=HERE / "programs" / "load")
_RESOLVER = Module(folder=HERE / "programs" / "resolver")
_CLIENT = Module(folder=HERE / "programs" / "client-go")

TABLE: dict[str, Binary] = {
    "etcd": Binary(_ETCD, "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Binary(_K8S, "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": Binary(_K8S, "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": Binary(_K8S, "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubectl": Binary(_K8S, "k8s.io/kubernetes/cmd/kubectl", ("version", "--client")),
    "kwok": Binary(_KWOK, "sigs.k8s.io/kwok/cmd/kwok"),
    "kubelet": Binary(_K8S, "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": Binary(_K8S, "k8s.io/kubernetes/cmd/kube-proxy"),
    "containerd": Binary(_RUNTIME, f"{_CONTAINERD}/cmd/containerd"),
    "ctr": Binary(_RUNTIME, f"{_CONTAINERD}/cmd/ctr"),
    "containerd-shim-runc-v2": Binary(_RUNTIME, f"{_CONTAINERD}/cmd/containerd-shim-runc-v2"),
    "metrics-server": Binary(_METRICS, "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    "forwarder": Binary(_FORWARDER, "clusters/forwarder"),
    "load": Binary(_LOAD, "clusters/load"),
    "resolver": Binary(_RESOLVER, "clusters/resolver"),
    "client-go": Binary(_CLIENT, "clusters/client-go"),
}

PLAIN = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
REAL = (*PLAIN, "kubelet", "kube-proxy", "containerd", "ctr", "containerd-shim-runc-v2",
        "metrics-server", "forwarder", "resolver", "client-go")  # fmt: skip


def find(names: Iterable[str], *, progress: progresses.Progress) -> dict[str, Path]:
    """The path of each named program, built where no other way gives it."""
    wanted = list(dict.fromkeys(names))
    found = {name: _existing(name) or _cached(name) for name in wanted}
    if all(path.exists() for path in found.values()):
        return found
    with cache.lock("bin", progress=progress):
        missing = [name for name in wanted if not found[name].exists()]
        for count, name in enumerate(missing, 1):
            with progress.step(f"building {name} ({count} of {len(missing)}, once)"):
                _build(name, target=found[name])
    return found


def go_module(name: str, *, of: str) -> Path:
    """The folder of a module's source, as the module file of program `of` pins it."""
    module = TABLE[of].module
    _go(["mod", "download", name], module=module, what=f"download {name}")
    return Path(_go(["list", "-m", "-f", "{{.Dir}}", name], module=module, what=f"find {name}"))


def _existing(name: str) -> Path | None:
    binary = TABLE[name]
    if binary.module.found_version is None:
        return None
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    path = shutil.which(name, path=assets) if assets else None
    path = path or shutil.which(name)
    if path is None:
        return None
    answer = subprocess.run(  # a program that cannot tell its version is not the one we want
        [path, *binary.version], capture_output=True, text=True, timeout=30, check=False
    )
    return Path(path) if binary.module.found_version in answer.stdout else None


def _cached(name: str) -> Path:
    module = TABLE[name].module
    digest = cache.key(
        texts=[module.ldflags, module.tags, platform.machine()],
        files=[path for path in module.folder.iterdir() if path.suffix in {".mod", ".sum", ".go"}],
    )
    return cache.folder() / "bin" / f"{module.folder.name}-{digest}" / name


def _build(name: str, *, target: Path) -> None:
    binary = TABLE[name]
    with cache.building(target) as scratch:
        _go(
            ["build", "-mod=readonly", "-trimpath", "-tags", binary.module.tags,
             "-ldflags", binary.module.ldflags, "-o", str(scratch / name), binary.package],
            module=binary.module,
            what=f"build {name}",
        )  # fmt: skip
        (scratch / name).replace(target)


def _go(arguments: list[str], *, module: Module, what: str) -> str:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise errors.HarnessError(
            f"cannot {what}: it is neither in KUBEBUILDER_ASSETS, nor on PATH in the pinned "
            f"version, nor in the cache {cache.folder()}, and there is no `go` on PATH to build "
            f"it. Install Go 1.26.8 or newer, or put the programs on PATH. {errors.OTHER_WAY}"
        )
    answer = subprocess.run(
        ["nice", go, *arguments],
        cwd=module.folder,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise errors.HarnessError(
            f"cannot {what}: `go {' '.join(arguments)}` in {module.folder} ended with "
            f"{answer.returncode}:\n{answer.stderr[-3000:]}\nCheck that the Go module proxy is "
            f"reachable and that `go version` is at least 1.26.8. {errors.OTHER_WAY}"
        )
    return answer.stdout.strip()
