"""`farlet status --watch`: refreshes the answer in place until Ctrl-C."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from farlet.cli.status import reads, text
from farlet.settings import StatusSettings

SECONDS = 2.0
"""Between two reads: `/state` of a pod, for example, cannot be watched."""


async def watch(settings: StatusSettings, console: Console) -> None:
    """Show the status until it is cancelled. Raises `StartError` and `UsageError`."""
    async with reads.connected(settings) as home:
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                found = await reads.status(home, settings)
                clock = time.strftime("%H:%M:%S")
                shown = f"{clock}, every {SECONDS:g} s; Ctrl-C ends\n\n{text.to_text(found)}"
                live.update(Text.from_ansi(shown), refresh=True)
                await asyncio.sleep(SECONDS)
