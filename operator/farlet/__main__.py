"""`python -m farlet` is the command `farlet`."""

from __future__ import annotations

from farlet import cli

cli.main()
