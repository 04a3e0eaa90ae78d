"""Start the clusters, tell the story, leave nothing behind; Ctrl-C may come at any moment."""

import asyncio
import signal
import sys
from types import FrameType

from clusters import errors, pair, rest
from clusters import progress as progresses
from demo import story
from demo.screen import Screen


def main() -> int:
    """The exit code: 0, 1 for a failure that is told, 130 after Ctrl-C."""
    # Who starts us in the background of a shell has made us deaf to it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _as_interrupt)
    progress = progresses.Progress()
    try:
        with pair.demo(progress=progress) as clusters:
            try:
                asyncio.run(story.tell(clusters, Screen()))
            finally:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)  # stopping takes a second: let it
        progress.line("both clusters were stopped; nothing is left")
    except (errors.HarnessError, rest.ApiError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.line("interrupted; both clusters were stopped and nothing is left")
        return 130
    return 0


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
