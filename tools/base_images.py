"""Pin the images that a release is built from or refers to, in `base-images.lock`.

`python -m base_images resolve` asks the registry, by `docker buildx imagetools`, for the digest of
each tag and writes it to the lock and to the kustomization of the API proxy.
`python -m base_images check` needs no network. It prints the base image of the Dockerfile with its
digest. It fails while a digest is missing, or if lock, Dockerfile and kustomization differ.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = "base-images.lock"
PROXY = "manifests/api-proxy/base/kustomization.yaml"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FIX = "run `make base-images` where the registry is reachable, and commit the result"


class PinError(Exception):
    """A pin is missing or wrong; the message says which, and what to do."""


def resolve(root: Path, digest: Callable[[str], str]) -> None:
    """Write the digest of each tag. `digest` asks the registry. Raises `PinError`."""
    lock = root / LOCK
    lines = lock.read_text().splitlines()
    for number, line in enumerate(lines):
        if line and not line.startswith("#"):
            tag = line.partition("@")[0]
            found = digest(tag)
            if not _DIGEST.fullmatch(found):
                raise PinError(f"the registry answered {found[:80]!r} for {tag}, not a digest")
            lines[number] = f"{tag}@{found}"
            if tag.startswith("haproxy:"):
                _pin_proxy(root / PROXY, found)
    lock.write_text("\n".join(lines) + "\n")


def check(root: Path) -> str:
    """The base image of the Dockerfile with its digest. Raises `PinError`."""
    pins: dict[str, str] = {}
    for line in (root / LOCK).read_text().splitlines():
        if line and not line.startswith("#"):
            tag, _, digest = line.partition("@")
            if not _DIGEST.fullmatch(digest):
                raise PinError(f"{LOCK}: {tag} has no digest; {_FIX}")
            pins[tag] = digest
    base = re.search(r"^ARG BASE=(\S+)$", (root / "Dockerfile").read_text(), re.MULTILINE)
    if base is None or base[1] not in pins:
        raise PinError(f"{LOCK} does not list the base image of the Dockerfile; add it, and {_FIX}")
    proxy = (root / PROXY).read_text()
    version = re.search(r'newTag: "([^"]+)"', proxy)
    digest = "" if version is None else pins.get(f"haproxy:{version[1]}", "")
    if not digest or f"digest: {digest}\n" not in proxy:
        raise PinError(f"{PROXY} and {LOCK} do not name the same haproxy; {_FIX}")
    return f"{base[1]}@{pins[base[1]]}"


def _pin_proxy(path: Path, digest: str) -> None:
    text = re.sub(r"\n  digest: \S+", "", path.read_text())
    path.write_text(re.sub(r"(newTag: .*)", rf"\1\n  digest: {digest}", text))


def _from_registry(tag: str) -> str:
    command = ["docker", "buildx", "imagetools", "inspect", tag, "--format", "{{.Manifest.Digest}}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PinError("docker is not installed; it resolves tags to digests") from error
    if answer.returncode != 0:
        raise PinError(f"docker buildx cannot resolve {tag}: {answer.stderr.strip()[-300:]}")
    return answer.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="base_images", description=__doc__)
    parser.add_argument("command", choices=["resolve", "check"])
    try:
        if parser.parse_args().command == "resolve":
            resolve(ROOT, _from_registry)
        print(check(ROOT))
    except PinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
