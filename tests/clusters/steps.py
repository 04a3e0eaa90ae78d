"""Steps of a long preparation, in lanes that run at the same time.

After each step a line says how many are left. The first error or an interrupt ends all lanes: the
commands that they wait for get SIGTERM.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clusters import progress as progresses

_INTERVAL = 0.5


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to build, and the Debian packages that this requires."""

    name: str
    run: Callable[[], object]
    packages: Mapping[str, str] = dataclasses.field(default_factory=dict)


def run(
    lanes: Sequence[Sequence[Step]],
    last: Sequence[Step] = (),
    *,
    progress: progresses.Progress,
) -> None:
    """Run the lanes at the same time, each in its order, then the last steps."""
    left = [step.name for step in (*(step for lane in lanes for step in lane), *last)]
    if not left:
        return
    total = len(left)
    progress.line(f"{_steps(total)} to prepare, once: {', '.join(left)}")
    ended = threading.Event()
    threads: list[int] = []

    def follow(lane: Sequence[Step]) -> None:
        threads.append(threading.get_native_id())
        for step in lane:
            if ended.is_set():
                return
            step.run()
            left.remove(step.name)
            if left:
                progress.line(f"{len(left)} of {_steps(total)} left: {', '.join(left)}")

    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        for wave in (lanes, [last]):
            running = [pool.submit(follow, lane) for lane in wave]
            try:
                for future in concurrent.futures.as_completed(running):
                    future.result()
            except BaseException:
                ended.set()
                while concurrent.futures.wait(running, timeout=_INTERVAL).not_done:
                    _end_commands(threads)
                raise


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def _end_commands(threads: Sequence[int]) -> None:
    """End the commands that these threads of our process wait for."""
    for thread in threads:
        with contextlib.suppress(FileNotFoundError):  # the thread has ended
            children = Path(f"/proc/self/task/{thread}/children").read_text()
            for pid in children.split():
                with contextlib.suppress(ProcessLookupError):  # the command has
                    os.kill(int(pid), signal.SIGTERM)
