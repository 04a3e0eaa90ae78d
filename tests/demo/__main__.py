"""Start the clusters, run the demo, and leave nothing behind, even after Ctrl-C."""

import asyncio
import signal
import sys
from types import FrameType

from clusters import errors, pair, rest
from clusters import progress as progresses
from demo import story
from demo.screen import Screen


def main() -> int:
    """Run the demo; exit code 0, 1 after an error, 130 after Ctrl-C."""
    # A shell that starts us in the background ignores SIGINT for us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _as_interrupt)
    progress = progresses.Progress()
    try:
        with pair.demo(progress=progress) as clusters:
            try:
                asyncio.run(story.run(clusters, Screen()))
            finally:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(
                        number, signal.SIG_IGN
                    )  # stopping takes a second and must not be interrupted
        progress.line("both clusters are stopped; nothing is left")
    except (errors.HarnessError, rest.ApiError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.line("interrupted; both clusters are stopped and nothing is left")
        return 130
    return 0


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
