"""Finds the programs of a cluster, or builds them: the first of four ways that works.

1. Existing clusters, named by FARLET_HOME_KUBECONFIG and FARLET_FOREIGN_KUBECONFIG: no program is
   required and nothing here is called (`pair.py` decides).
2. Programs in KUBEBUILDER_ASSETS or on PATH, when they are of the pinned minor version.
3. The project's cache (`$XDG_CACHE_HOME/farlet/bin`), keyed by pins and build flags.
4. A build from the Go module proxy into that cache: `upstream/*/go.mod` pins every module, go.sum
   is complete, and nothing is resolved at build time (`-mod=readonly`).

All programs of one module are built by one `go build`, which then links some while it compiles
others. `preparation.py` decides what is built when.
"""

import dataclasses
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from clusters import cache, errors
from clusters import progress as progresses

HERE = Path(__file__).parent
KUBERNETES = "v1.36.3"
MINOR = "1.36"
OTHERS = {"1.34": "v1.34.4", "1.35": "v1.35.4", "1.37": "v1.37.2"}
"""Kubernetes of other minor versions, for tests of version skew (`of_minor`)."""
CONTAINERD = "v2.3.7"
# The compiler collects less of its own garbage: a tenth of the work, for a gigabyte of memory.
_MEMORY = {"GOGC": "400", "GOMEMLIMIT": "1500MiB"}
_VERSION = "k8s.io/component-base/version"
_CONTAINERD = "github.com/containerd/containerd/v2"


@dataclasses.dataclass(frozen=True)
class Module:
    """One Go module in this repository from which programs are built."""

    name: str  # as a person knows it
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
    is_test: bool = False  # built by `go test`


def _kubernetes(version: str, *, name: str, folder: str) -> Module:
    major, minor, _ = version.removeprefix("v").split(".")
    return Module(
        name,
        folder=HERE / "upstream" / folder,
        # Without these the server calls itself v0.0.0 and clients complain.
        ldflags=f"-s -w -X {_VERSION}.gitVersion={version}"
        f" -X {_VERSION}.gitMajor={major} -X {_VERSION}.gitMinor={minor}",
        found_version=f"v{major}.{minor}.",
    )


_K8S = _kubernetes(KUBERNETES, name="Kubernetes", folder="k8s")
_ETCD = Module("etcd", folder=HERE / "upstream" / "etcd", found_version="3.6.")
_KWOK = Module("kwok", folder=HERE / "upstream" / "kwok", found_version="0.8.")
_RUNTIME = Module(
    "containerd",
    folder=HERE / "upstream" / "containerd",
    ldflags=f"-s -w -X {_CONTAINERD}/version.Version={CONTAINERD}"
    f" -X {_CONTAINERD}/version.Revision=module",
    tags="no_btrfs no_devmapper no_zfs",
    found_version=f" {CONTAINERD.rpartition('.')[0]}.",
)
_METRICS = Module("metrics-server", folder=HERE / "upstream" / "metrics-server")
_HELM = Module("Helm", folder=HERE / "upstream" / "helm", found_version="v4.3.")
_FORWARDER = Module("forwarder", folder=HERE / "programs" / "forwarder")
_LOAD = Module("load", folder=HERE / "programs" / "load")
_RESOLVER = Module("resolver", folder=HERE / "programs" / "resolver")
_TESTS = Module("Kubernetes' tests", folder=HERE / "upstream" / "e2e")
_CLIENT = Module("client-go", folder=HERE / "programs" / "client-go")

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
    "helm": Binary(_HELM, "helm.sh/helm/v4/cmd/helm", ("version", "--short")),
    "forwarder": Binary(_FORWARDER, "clusters/forwarder"),
    "load": Binary(_LOAD, "clusters/load"),
    "resolver": Binary(_RESOLVER, "clusters/resolver"),
    "client-go": Binary(_CLIENT, "clusters/client-go"),
    "e2e.test": Binary(_TESTS, "k8s.io/kubernetes/test/e2e", is_test=True),
    "ginkgo": Binary(_TESTS, "github.com/onsi/ginkgo/v2/ginkgo"),
    "agnhost": Binary(_TESTS, "k8s.io/kubernetes/test/images/agnhost"),
    "nonewprivs": Binary(_TESTS, "k8s.io/kubernetes/test/images/nonewprivs"),
}

_OF_MINOR = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
for _minor, _version in OTHERS.items():
    _module = _kubernetes(_version, name=f"Kubernetes {_minor}", folder=f"k8s-{_minor}")
    TABLE |= {
        f"{_name}@{_minor}": dataclasses.replace(TABLE[_name], module=_module)
        for _name in _OF_MINOR
    }

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
REAL_NODE = ("kubelet", "kube-proxy", "containerd", "ctr", "containerd-shim-runc-v2", "forwarder",
             "resolver")  # fmt: skip


def names_of_minor(minor: str, *, kubelet: bool) -> list[str]:
    """The programs of a cluster that have this minor version of Kubernetes; none for the usual."""
    if minor not in OTHERS:
        return []
    return [f"{name}@{minor}" for name in _OF_MINOR if kubelet or name != "kubelet"]


def of_minor(programs: Mapping[str, Path], minor: str) -> dict[str, Path]:
    """The programs by their usual names, with those of this minor version where there are any."""
    found = {name: programs.get(f"{name}@{minor}") for name in _OF_MINOR}
    return {**programs, **{name: path for name, path in found.items() if path is not None}}


def find(names: Iterable[str], *, progress: progresses.Progress) -> dict[str, Path]:
    """The path of each named program, built where no other way gives it."""
    found = locate(names)
    for module, missing in by_module(found).items():
        build(module, missing, progress=progress)
    return found


def locate(names: Iterable[str]) -> dict[str, Path]:
    """Where each named program is, or will be once it is built."""
    return {name: _existing(name) or _cached(name) for name in names}


def by_module(found: Mapping[str, Path]) -> dict[Module, dict[str, Path]]:
    """The programs that are not there yet, by the module that they are built from."""
    missing: dict[Module, dict[str, Path]] = {}
    for name, path in found.items():
        if not path.exists():
            missing.setdefault(TABLE[name].module, {})[name] = path
    return missing


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
    program = _file(name)
    path = shutil.which(program, path=assets) if assets else None
    path = path or shutil.which(program)
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
    return cache.folder() / "bin" / f"{module.folder.name}-{digest}" / _file(name)


def _file(name: str) -> str:
    return name.partition("@")[0]


def build(module: Module, programs: Mapping[str, Path], *, progress: progresses.Progress) -> None:
    """Build these programs of one module, each to its path in the cache."""
    with cache.lock("bin", progress=progress):
        missing = {name: path for name, path in programs.items() if not path.exists()}
        if not missing:  # another process was faster
            return
        (folder,) = {path.parent for path in missing.values()}
        names = "" if list(missing) == [module.name] else f" ({', '.join(missing)})"
        with (
            progress.step(f"building {module.name}{names}, once"),
            cache.building(folder / "programs") as scratch,
        ):
            for is_test, verb in ((False, ["build"]), (True, ["test", "-c"])):
                chosen = [TABLE[name].package for name in missing if TABLE[name].is_test is is_test]
                if chosen:
                    _go(
                        [*verb, "-mod=readonly", "-trimpath", "-tags", module.tags,
                         "-ldflags", module.ldflags, "-o", f"{scratch}/", *chosen],
                        module=module,
                        what=f"build {module.name}",
                    )  # fmt: skip
            for name, path in missing.items():
                (scratch / _made(TABLE[name])).replace(path)


def _made(binary: Binary) -> str:
    """How Go names the program of a package: without the major version at its end."""
    *_, before, last = binary.package.split("/")
    if binary.is_test:
        return f"{last}.test"
    return before if re.fullmatch(r"v[0-9]+", last) else last


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
        env={**os.environ, **_MEMORY, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
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
