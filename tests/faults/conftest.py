"""Fixtures of the fault tests."""

from faults.fixtures import env, foreign_proxy, home_proxy, start_proxied

__all__ = ["env", "foreign_proxy", "home_proxy", "start_proxied"]
