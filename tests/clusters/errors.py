"""The exception for all failures of the harness.

Its readers may only have run `make test`, so the text contains what is wrong, where, and what to do
next. Nothing in this package turns such an error into a skipped test.
"""

OTHER_WAY = (
    "Or point FARLET_HOME_KUBECONFIG and FARLET_FOREIGN_KUBECONFIG to two existing clusters "
    "(kind, k3d, anything): then nothing is built or started here."
)


class HarnessError(Exception):
    """The clusters cannot be built, started, used or stopped."""
