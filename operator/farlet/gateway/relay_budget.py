"""What all relays of a process may hold together: their number, and the memory of those that stall.

A relay stalls when its peer does not read. It then holds what is in flight. That is little for one
connection, and more than a container has for thousands of them, so beyond a total the relay that
has stalled for the longest time is reset. Clients reconnect after that, as after any lost
connection.
"""

from __future__ import annotations

from typing import Protocol

from farlet.listeners import open_files

STALLED_BYTES = 64 * 1024 * 1024
"""For all relays that stall: 59 whose peer does not read, or more where less is in flight."""

READ_BYTES = 64 * 1024
"""Size of one read from the TCP side."""


class Holder(Protocol):
    """A relay."""

    def abort(self) -> None:
        """Reset both sides."""
        ...


class RelayBudget:
    """Shared by all relays of a process, of one event loop."""

    def __init__(
        self, *, relays: int = open_files.MAX_RELAYS, stalled_bytes: int = STALLED_BYTES
    ) -> None:
        self._most = relays
        self._stalled_bytes = stalled_bytes
        self._relays: set[Holder] = set()
        self._stalled: dict[Holder, int] = {}
        """Bytes that each may hold; the longest stalled first."""
        self._held = 0
        """Their sum."""
        self.scratch = bytearray(READ_BYTES)
        """For reads; used by one relay at a time."""

    @property
    def is_full(self) -> bool:
        return len(self._relays) >= self._most

    def add(self, relay: Holder) -> None:
        self._relays.add(relay)

    def remove(self, relay: Holder) -> None:
        self._relays.discard(relay)
        self._held -= self._stalled.pop(relay, 0)

    def stalls(self, relay: Holder, holds: int) -> None:
        """`relay` holds up to `holds` bytes for peers that do not read; 0 when it continues."""
        self._held += holds - self._stalled.get(relay, 0)
        if holds:
            self._stalled[relay] = holds  # keeps its place in the order
        else:
            self._stalled.pop(relay, None)
        while self._held > self._stalled_bytes:
            longest = next(iter(self._stalled))
            self._held -= self._stalled.pop(longest)
            longest.abort()
