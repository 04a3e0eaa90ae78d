"""Which fault happens when: a function of the seed, so that a campaign can be repeated."""

import dataclasses
import enum
import random
from collections.abc import Sequence


class Kind(enum.Enum):
    """A kind of fault, and the longest time in seconds for which it lasts."""

    KILL_LEADER = ("kill -9 of the leader", 4.0)
    KILL_BOTH = ("kill -9 of leader and standby", 3.0)
    KILL_HOME = ("kill -9 of the home API server", 2.0)
    KILL_FOREIGN = ("kill -9 of the foreign API server", 2.0)
    RESTORE_HOME = ("etcd of the home cluster restored from a backup", 10.0)
    RESTORE_FOREIGN = ("etcd of the foreign cluster restored from a backup", 10.0)
    KILL_GATEWAY = ("kill -9 of the gateway", 4.0)
    CUT_HOME = ("home API server refuses connections", 12.0)
    CUT_FOREIGN = ("foreign API server refuses connections", 12.0)
    SILENT_HOME = ("home API server does not answer", 12.0)
    SILENT_FOREIGN = ("foreign API server does not answer", 12.0)
    ANSWERS_LOST = ("answers are lost after the request was processed", 3.0)
    SLOW = ("slow answers", 6.0)
    TRUNCATED = ("truncated answers", 3.0)
    STORM_401 = ("401 to every request", 3.0)
    STORM_403 = ("403 to every request", 3.0)
    STORM_409 = ("409 to every write", 3.0)
    STORM_410 = ("410 to every list and watch", 3.0)
    STORM_429 = ("429 to every request", 3.0)
    STORM_500 = ("500, 502, 503 and 504", 4.0)
    CLOCK = ("clock step of farlet", 8.0)
    WATCH_GAP = ("watches break, and their versions are too old", 1.0)
    EXCHANGED = ("the foreign kubeconfig leads to another cluster", 25.0)
    OTHERS_HOME = ("deletions and changed labels by others in the home cluster", 0.0)
    OTHERS_FOREIGN = ("deletions and changed labels by others in the foreign cluster", 0.0)

    @property
    def restores(self) -> bool:
        return self in {Kind.RESTORE_HOME, Kind.RESTORE_FOREIGN}

    def __init__(self, about: str, longest: float) -> None:
        self.about = about
        self.longest = longest


@dataclasses.dataclass(frozen=True)
class Planned:
    """One fault: seconds after the one before it, how long it lasts, and a seed of its own."""

    kind: Kind
    pause: float
    seconds: float
    seed: int


MOST_PAUSE_SECONDS = 1.5
TURNS = 3
"""How often each kind occurs in a round."""


def plan(seed: int, count: int, kinds: Sequence[Kind]) -> list[list[Planned]]:
    """`count` faults in rounds, each kind as often as the others; the last round may be short."""
    rng = random.Random(seed)
    turns = range(-(-count // len(kinds)))
    order = [kind for _ in turns for kind in rng.sample(kinds, len(kinds))][:count]
    planned = [
        Planned(
            kind,
            pause=rng.random() * MOST_PAUSE_SECONDS,
            seconds=kind.longest * rng.uniform(0.2, 1.0),
            seed=rng.randrange(1 << 32),
        )
        for kind in order
    ]
    size = TURNS * len(kinds)
    return [planned[first : first + size] for first in range(0, count, size)]
