"""The images of the real nodes, and a containerd folder that already holds them.

Importing and unpacking half a gigabyte at each start would cost many seconds per cluster. It is
done once into a *prepared* containerd folder in the cache; a node's own folder gets a copy of its
small databases and links to its blobs and unpacked layers, which are never written.

`CLIENTS` has `kubectl`, `curl`, `bash`, HAProxy, Python, Node, Java, and one command per client,
each of which uses its library's own in-cluster loader and prints one JSON line
`{client, host, namespace, username, extra, pods, error}`:
`client-kubectl`, `client-python`, `client-python-asyncio`, `client-javascript`, `client-go`,
`client-kopf-pykube`, `client-kube-rs-env`, `client-fabric8`, and two that always
connect to `kubernetes.default.svc`, `client-kopf` and `client-kube-rs-dns`.
`client-all` runs all of them; `client-watch [SECONDS]` is one Python client that continues, with
the hashes of the token file and of the token it used. Give it 512 MiB of memory.

`CLIENT_GO` has only `/client-go` and is built within a second; `make demo` uses it.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusters import cache, languages, processes, rootfs
from clusters import progress as progresses
from clusters.instance import Instance

CLIENTS = "farlet.test/clients:1"
CLIENT_GO = "farlet.test/client-go:1"
DIAL_BY_NAME = {"kopf", "kube-rs-dns"}
"""Its clients that always connect to kubernetes.default.svc."""
PAUSE = "farlet.test/pause:1"
CONTAINERD_COMMON = """\
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.native",
]
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
"""
_BLOBS = Path("io.containerd.content.v1.content/blobs/sha256")
_LAYERS = Path("io.containerd.snapshotter.v1.overlayfs/snapshots")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = [PATH, "LANG=C.UTF-8", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A containerd folder that holds the images, unpacked."""

    root: Path


def locate(image: str, programs: Mapping[str, Path]) -> Path:
    """The prepared folder with this image and `PAUSE`, there once it is unpacked."""
    inputs, names, files = [image, CONTAINERD_COMMON], ["client-go", "containerd"], []
    if image == CLIENTS:
        inputs = [str(rootfs.locate_base()), CONTAINERD_COMMON, json.dumps(_ENVIRONMENT)]
        names = ["kubectl", *names, languages.RUST, languages.JAVA]
        files = rootfs.program_inputs()
    inputs += [str(programs[name]) for name in names]
    return cache.folder() / "images" / f"prepared-{cache.key(texts=inputs, files=files)}"


def unpack(
    owner: Instance, image: str, programs: Mapping[str, Path], *, progress: progresses.Progress
) -> None:
    """Build the prepared folder with this image, whose parts are in the cache."""
    target = locate(image, programs)
    with cache.lock("prepared", progress=progress), cache.building(target) as scratch:
        if target.exists():  # another process was faster
            return
        with progress.step("test image: unpacking into a prepared containerd folder"):
            if image == CLIENTS:
                layers = [rootfs.locate_base(), rootfs.programs(scratch, programs)]
                config = {"Env": _ENVIRONMENT, "Cmd": ["client-all"], "WorkingDir": "/"}
            else:
                layers = [rootfs.client_go(scratch, programs["client-go"])]
                config = {"Env": [PATH], "Cmd": ["/client-go"], "WorkingDir": "/"}
            pause = {"Env": [PATH], "Entrypoint": ["/pause"], "User": "65535:65535"}
            archives = {
                image: archive(scratch / "image.tar", image, layers, config),
                PAUSE: archive(scratch / "pause.image.tar", PAUSE, [rootfs.pause(scratch)], pause),
            }
            root = scratch / "root"
            _import(owner, programs, archives, root=root, scratch=scratch)
        root.replace(target)


def lay_out(prepared: Prepared, *, root: Path) -> None:
    """Make `root` a separate containerd folder that contains the prepared images.

    Further images may be imported into it: no folder that gets new entries is a link.
    """

    def links(folder: str, names: list[str]) -> set[str]:
        """Link large files that are never written; copy the others."""
        below = Path(folder).relative_to(prepared.root)
        large = set(names) if below == _BLOBS else set()
        if below.parent == _LAYERS:
            large = set(names) & {"fs"}
        for name in large:
            (root / below).mkdir(parents=True, exist_ok=True)
            (root / below / name).symlink_to(Path(folder) / name)
        return large

    shutil.copytree(prepared.root, root, ignore=links, symlinks=True, dirs_exist_ok=True)


def load(ctr: Path, socket: Path, name: str, file: Path) -> None:
    """Import the archive of an image into the containerd at `socket`, for its kubelet's use."""
    control: list[str | Path] = [ctr, f"--address={socket}", "--namespace=k8s.io", "images"]
    processes.run([*control, "import", "--local", file], what=f"import {file.name}")
    label = ["label", name, "io.cri-containerd.image=managed"]
    processes.run([*control, *label], what=f"label {name}")


def _import(
    owner: Instance,
    programs: Mapping[str, Path],
    archives: Mapping[str, Path],
    *,
    root: Path,
    scratch: Path,
) -> None:
    settings = scratch / "containerd.toml"
    folder = owner.folder / "import"  # a socket's path must be short
    folder.mkdir()
    socket = folder / "containerd.sock"
    settings.write_text(
        f'version = 3\nroot = "{root}"\nstate = "{folder}/state"\n{CONTAINERD_COMMON}'
        f'[grpc]\n  address = "{socket}"\n[ttrpc]\n  address = "{socket}.ttrpc"\n'
        f"[plugins.'io.containerd.internal.v1.opt']\n  path = \"{folder}/opt\"\n"
    )
    containerd = processes.Process(
        "containerd for the import",
        # its mounts stay its own and go with it
        ["unshare", "--mount", programs["containerd"], f"--config={settings}"],
        log=folder / "containerd.log",
        environment=owner.environment,
    )
    containerd.start()
    try:
        processes.wait_for("containerd's socket", socket.exists, seconds=120, process=containerd)
        for name, path in archives.items():
            load(programs["ctr"], socket, name, path)
    finally:
        containerd.stop()
        shutil.rmtree(folder)


def archive(target: Path, name: str, layers: list[Path], config: Mapping[str, Any]) -> Path:
    """A docker archive of one image; its layers are tar files."""
    digests = [_digest(layer) for layer in layers]
    description = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one}" for one in digests]},
            "history": [{"created": "2026-01-01T00:00:00Z"} for _ in layers],
        }
    ).encode()
    config_name = f"{hashlib.sha256(description).hexdigest()}.json"
    manifest = [
        {
            "Config": config_name,
            "RepoTags": [name],
            "Layers": [f"{one}/layer.tar" for one in digests],
        }
    ]
    with tarfile.open(target, "w") as archive:
        for file, content in (
            (config_name, description),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            path = target.with_suffix(".part")
            path.write_bytes(content)
            archive.add(path, file)
        for one, layer in zip(digests, layers, strict=True):
            archive.add(layer, f"{one}/layer.tar")
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
