"""Clients in Rust and Java for the test image, built once into the cache beside the Go programs.

Every library is pinned with its hash: Rust's by Cargo.lock, Java's by `jars.sha256`, which is
compared with what Maven brought. Both take a minute on 2 cores, most of it Rust.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from clusters import cache, errors, packages
from clusters import progress as progresses

HERE = Path(__file__).parent / "programs"
RUST = "client-kube-rs"
JAVA = "client-fabric8"
_MAVEN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_JAVA_RELEASE = "17"  # what the library asks for; the image's is newer


def locate() -> dict[str, Path]:
    """The folder with each client, a program or jars and a class, which exists once it is built."""
    return {name: _target(name) for name in (RUST, JAVA)}


def requirements(name: str) -> Mapping[str, str]:
    """The Debian packages that building this client takes."""
    if name == JAVA:
        return packages.JAVA
    return packages.COMPILER if _rustup() is not None else packages.COMPILER | packages.RUST


def build(name: str, *, progress: progresses.Progress) -> None:
    """Build this client into its folder."""
    target = _target(name)
    with cache.lock("languages", progress=progress), cache.building(target) as scratch:
        if target.exists():  # another process was faster
            return
        with progress.step(f"building {name}, once"):
            done = scratch / "done"
            done.mkdir()
            _BUILDERS[name](HERE / name, done)
        done.replace(target)


def _target(name: str) -> Path:
    files = [path for path in (HERE / name).rglob("*") if path.is_file()]
    digest = cache.key(texts=[platform.machine(), _MAVEN, _JAVA_RELEASE], files=files)
    return cache.folder() / "bin" / f"{name}-{digest}"


def _rust(source: Path, target: Path) -> None:
    cargo = _rustup() or packages.path("cargo")
    if cargo is None:
        raise errors.HarnessError(
            "the package cargo-web was installed, but the program `cargo` is missing"
        )
    build = target.parent / "build"
    _run(
        [cargo, "build", "--quiet", "--release", "--locked"],
        folder=source,
        environment={"CARGO_TARGET_DIR": str(build)},
    )
    shutil.copy2(build / "release" / RUST, target / RUST)


def _rustup() -> Path | None:
    """The folder of Rust's own installer, which may not be on PATH."""
    cargo = Path.home() / ".cargo" / "bin" / "cargo"
    return cargo if cargo.exists() else None


def _java(source: Path, target: Path) -> None:
    maven = ["mvn", "--quiet", "--batch-mode", f"--file={source / 'pom.xml'}", _MAVEN]
    _run([*maven, "-DincludeScope=runtime", f"-DoutputDirectory={target}"], folder=target)
    wanted = (source / "jars.sha256").read_text()
    _run(["sha256sum", "--check", "--quiet", "--strict", "-"], folder=target, content=wanted)
    known = {line.split()[1] for line in wanted.splitlines()}
    if unknown := {path.name for path in target.iterdir()} - known:
        raise errors.HarnessError(
            f"Maven brought jars that {source / 'jars.sha256'} does not list: {sorted(unknown)}"
        )
    _run(
        ["javac", "--release", _JAVA_RELEASE, "-cp", f"{target}/*", "-d", target,
         source / "Client.java"],
        folder=target,
    )  # fmt: skip


_BUILDERS: Mapping[str, Callable[[Path, Path], None]] = {RUST: _rust, JAVA: _java}


def _run(
    command: list[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    content: str | None = None,
) -> None:
    answer = subprocess.run(
        ["nice", *command],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        input=content,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        output = (answer.stderr or answer.stdout)[-3000:]
        raise errors.HarnessError(
            f"`{' '.join(map(str, command))}` ended with {answer.returncode}:\n{output}\n"
            f"Check that the registries of Rust's and Java's libraries are reachable, and that "
            f"`cargo --version` is at least 1.89. {errors.OTHER_WAY}"
        )
