"""The images that Kubernetes' tests name, made without a registry.

They hold what the tests call, under upstream's names: a busybox built from its unchanged source
(Debian's drops environment variables with names such as `data-1`), upstream's own agnhost and
nonewprivs, and Debian where upstream uses Debian or Alpine packages. `nginx` is not nginx but
busybox' HTTP server: the tests only require another image, or an answer.
"""

import dataclasses
import functools
import gzip
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clusters import binaries, cache, images, packages, rootfs
from clusters import progress as progresses
from clusters.processes import run

_TESTS = "registry.k8s.io/e2e-test-images"
_BUSYBOX = "busybox_1.37.0"
_DEBIAN = ("bash", "ca-certificates", "curl", "iproute2", "netcat-openbsd")
_COMPILER = {
    **packages.COMPILER,
    "make": "make",
    "bzip2": "bzip2",
    "mmdebstrap": "mmdebstrap",
}
_REGISTRY = "application/vnd.docker.distribution.manifest"
RECIPE = 1  # raise when the steps below change


@dataclasses.dataclass(frozen=True)
class Image:
    """An image: the names of its layers, and the configuration that a runtime reads."""

    name: str
    layers: tuple[str, ...]
    config: Mapping[str, Any]


_COMMAND = {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]}
IMAGES = (
    Image(f"{_TESTS}/busybox:1.37.0-1", ("busybox",), {"Cmd": ["sh"]}),
    Image(f"{_TESTS}/busybox:1.36.1-1", ("busybox",), {"Cmd": ["sh"]}),
    Image(f"{_TESTS}/nonroot:1.5", ("busybox",), {"Cmd": ["sh"], "User": "1234"}),
    Image(f"{_TESTS}/nonewprivs:1.4", ("busybox", "nonewprivs"), {"Cmd": ["nnp"]}),
    Image(f"{_TESTS}/glibc-dns-testing:2.0.0", ("debian",), {"Cmd": ["bash"]}),
    *(
        Image(f"{_TESTS}/nginx:{tag}", ("busybox", "nginx"),
              {"Cmd": ["httpd", "-f", "-p", "80", "-h", "/www"], "ExposedPorts": {"80/tcp": {}}})
        for tag in ("1.15-4", "1.27-0")
    ),
    Image(f"{_TESTS}/agnhost:2.63.0", ("debian", "busybox", "agnhost"), _COMMAND),
    Image(f"{_TESTS}/agnhost:2.55", ("busybox", "agnhost"), _COMMAND),
    Image(f"{_TESTS}/kitten:1.8", ("busybox", "agnhost", "kitten"),
          {"Entrypoint": ["/agnhost"], "Cmd": ["test-webserver"]}),
    Image("registry.k8s.io/pause:3.10.2", ("pause",),
          {"Entrypoint": ["/pause"], "User": "65535:65535"}),
)  # fmt: skip


def prepare(programs: Mapping[str, Path], *, progress: progresses.Progress) -> dict[str, Path]:
    """The archive of each image, built where the cache lacks it."""
    inputs = [str(RECIPE), rootfs.SUITE, *_DEBIAN, repr(IMAGES), *map(str, programs.values())]
    target = cache.folder() / "images" / f"conformance-{cache.key(texts=inputs, files=[])}"
    with cache.lock("images", progress=progress), cache.building(target) as scratch:
        if not target.exists():
            packages.ensure(_COMPILER, progress=progress)
            with progress.step("images of Kubernetes' tests"):
                _build(scratch, programs)
            (scratch / "done").replace(target)
    return {image.name: _archive(target, image) for image in IMAGES}


def _build(scratch: Path, programs: Mapping[str, Path]) -> None:
    source = binaries.go_module("k8s.io/kubernetes", of="agnhost") / "test/images"
    debian = scratch / "debian"
    rootfs.debian(debian, _DEBIAN)
    layers = {
        "debian": rootfs.pack(debian, scratch / "debian.tar"),
        "busybox": _pack(scratch, "busybox", functools.partial(_busybox, scratch)),
        "pause": rootfs.pause(scratch),
    }
    layers["agnhost"] = _pack(
        scratch,
        "agnhost",
        functools.partial(_agnhost, source, programs["agnhost"], debian, layers["pause"]),
    )
    layers["nonewprivs"] = _pack(
        scratch, "nonewprivs", functools.partial(_nonewprivs, programs["nonewprivs"])
    )
    layers["kitten"] = _pack(scratch, "kitten", functools.partial(_kitten, source))
    layers["nginx"] = _pack(scratch, "nginx", _nginx)
    done = scratch / "done"
    done.mkdir()
    for image in IMAGES:
        parts = [layers[name] for name in image.layers]
        config = {"Env": [images.PATH], **image.config}
        images.archive(_archive(done, image), image.name, parts, config)


def _archive(folder: Path, image: Image) -> Path:
    return folder / f"{image.name.rpartition('/')[2].replace(':', '-')}.tar"


def _pack(scratch: Path, name: str, fill: Callable[[Path], None]) -> Path:
    root = scratch / name
    root.mkdir()
    fill(root)
    return rootfs.pack(root, scratch / f"{name}.tar")


def _busybox(scratch: Path, root: Path) -> None:
    """Every applet that the layers below lack, and the shell."""
    folder = scratch / "busybox-source"
    lists = folder / "apt"
    for name in ("parts", "lists/partial", "cache/archives/partial"):
        (lists / name).mkdir(parents=True)
    options = [
        *("-o", f"Dir::State::lists={lists}/lists", "-o", f"Dir::Cache={lists}/cache"),
        *("-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={lists}/parts"),
    ]
    (lists / "parts" / "source.sources").write_text(
        f"Types: deb-src\nURIs: {_mirror()}\nSuites: {rootfs.SUITE}\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    run(["apt-get", *options, "update", "-qq"], what="read Debian's list of sources")
    run(
        ["sh", "-euc", 'cd "$1"; shift; apt-get "$@" source -qq --download-only busybox', "sh",
         folder, *options],
        what="download the source of busybox",
    )  # fmt: skip
    script = f"""
      cd "$1"; tar xf {_BUSYBOX}.orig.tar.bz2 --strip-components=1
      make defconfig
      sed -i 's/^# CONFIG_STATIC is not set/CONFIG_STATIC=y/' .config
      sed -i 's/^CONFIG_TC=y/# CONFIG_TC is not set/' .config  # it needs older kernel headers
      nice make -j2
      install -D busybox "$2/usr/bin/busybox"
    """
    run(["sh", "-euc", script, "sh", folder, root], what="build busybox")
    program = root / "usr" / "bin" / "busybox"
    for applet in run([program, "--list"], what="list busybox' applets").split():
        if applet != "busybox":
            (program.parent / applet).symlink_to("busybox")
    for name in ("bin", "sbin"):
        (root / name).symlink_to("usr/bin" if name == "bin" else "usr/sbin")
    (root / "usr" / "sbin").mkdir()
    _users(root)


def _mirror() -> str:
    """The Debian archive that this machine's own packages come from."""
    answer = run(["apt-get", "indextargets", "--format", "$(SITE)"], what="find Debian's archive")
    return next(line for line in answer.splitlines() if line.endswith("/debian"))


def _users(root: Path) -> None:
    accounts = {"root": 0, "daemon": 1, "bin": 2}
    image_user = "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n"
    image_groups = (
        "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
    )
    files = {
        "passwd": "".join(f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in accounts.items())
        + image_user,
        "group": "".join(f"{name}:x:{uid}:\n" for name, uid in accounts.items()) + image_groups,
    }
    for name in ("etc", "tmp", "var/tmp", "root", "home", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    for name, content in files.items():
        (root / "etc" / name).write_text(content)


def _agnhost(source: Path, program: Path, debian: Path, pause: Path, root: Path) -> None:
    shutil.copy2(program, root / "agnhost")
    (root / "agnhost-2").symlink_to("agnhost")
    for path in (source / "agnhost" / "porter").glob("localhost.*"):
        shutil.copyfile(path, root / path.name)
    (root / "uploads").mkdir()
    # Debian's, in place of busybox' applets of the same names
    for name in ("curl", "bash", "nc.openbsd", "ss", "ip"):
        found = next(debian / place / name for place in ("usr/bin", "usr/sbin", "bin", "sbin")
                     if (debian / place / name).exists())  # fmt: skip
        target = root / found.relative_to(debian)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(found.resolve(), target)
    (root / "usr" / "bin" / "nc").unlink(missing_ok=True)
    (root / "usr" / "bin" / "nc").symlink_to("nc.openbsd")
    _registry(root / "var" / "registry" / "pause", pause)


def _registry(folder: Path, layer: Path) -> None:
    """The files that agnhost's fake registry serves: the image `pause:testing`."""

    def put(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        target = folder / kind / "sha256" / digest[:2] / digest
        target.mkdir(parents=True)
        (target / "data").write_bytes(content)
        return {"size": len(content), "digest": f"sha256:{digest}"}

    raw = layer.read_bytes()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(raw).hexdigest()}"]},
        "history": [{"created": "2026-01-01T00:00:00Z"}],
    }
    image = "application/vnd.docker.container.image.v1+json"
    packed = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_REGISTRY}.v2+json",
        "config": {"mediaType": image, **put("blobs", json.dumps(config).encode())},
        "layers": [{"mediaType": packed, **put("blobs", gzip.compress(raw, mtime=0))}],
    }
    listed = {
        "mediaType": f"{_REGISTRY}.v2+json",
        **put("manifests", json.dumps(manifest).encode()),
        "platform": {"architecture": "amd64", "os": "linux"},
    }
    index = {
        "schemaVersion": 2,
        "mediaType": f"{_REGISTRY}.list.v2+json",
        "manifests": [listed],
    }
    digest = put("manifests", json.dumps(index).encode())["digest"]
    (folder / "manifests" / "testing").write_text(f"{digest}\n")


def _nonewprivs(program: Path, root: Path) -> None:
    target = root / "usr" / "local" / "bin" / "nnp"
    target.parent.mkdir(parents=True)
    shutil.copy2(program, target)
    target.chmod(0o4755)


def _kitten(source: Path, root: Path) -> None:
    for name in ("kitten.jpg", "data.json"):
        shutil.copyfile(source / "kitten" / "html" / name, root / name)


def _nginx(root: Path) -> None:
    (root / "www").mkdir()
    (root / "www" / "index.html").write_text("<h1>Welcome to nginx!</h1>\n")
