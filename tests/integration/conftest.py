"""Fixtures of integration tests beyond those that all tests share."""

from faults.fixtures import foreign_door, home_door, stage, start_proxied
from integration.streaming import far

__all__ = ["far", "foreign_door", "home_door", "stage", "start_proxied"]
