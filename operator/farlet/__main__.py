"""`python -m farlet` is the command `farlet`."""

from __future__ import annotations

from farlet.cli import main

main.main()
