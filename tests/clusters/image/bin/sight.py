"""What every client of this image tells: one JSON line of who it is and what it sees."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

NAMESPACE = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclasses.dataclass
class Sight:
    client: str
    host: str | None = None
    namespace: str | None = None
    username: str | None = None
    extra: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    pods: list[str] = dataclasses.field(default_factory=list)
    error: str | None = None


def namespace() -> str:
    return NAMESPACE.read_text().strip()


def report(name: str, look: Callable[[Sight], None]) -> int:
    """Print what `look` finds; the exit code."""
    seen = Sight(client=name)
    try:
        look(seen)
    except Exception as error:  # noqa: BLE001 -- whatever it is, the test wants to read it
        seen.error = f"{type(error).__name__}: {error}"
    print(json.dumps(dataclasses.asdict(seen)), flush=True)
    return 0 if seen.error is None else 1
