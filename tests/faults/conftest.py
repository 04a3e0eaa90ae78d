"""Fixtures of the tests of faults."""

from faults.fixtures import foreign_door, home_door, stage, start_proxied

__all__ = ["foreign_door", "home_door", "stage", "start_proxied"]
