"""Additional fixtures of the integration tests."""

from faults.fixtures import env, foreign_proxy, home_proxy, start_proxied
from integration.managersite import site
from integration.streaming import far

__all__ = ["env", "far", "foreign_proxy", "home_proxy", "site", "start_proxied"]
