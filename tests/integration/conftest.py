"""Fixtures of integration tests beyond those that all tests share."""

from faults.fixtures import foreign_door, home_door, stage, start_proxied

__all__ = ["foreign_door", "home_door", "stage", "start_proxied"]
