"""One exception for everything that keeps the harness from doing its job.

Its text is read by a person who only ran `make test`: it says what is wrong, where, and what to do
next. Nothing in this package turns such an error into a skipped test.
"""

OTHER_WAY = (
    "Or point FARLET_HOME_KUBECONFIG and FARLET_FOREIGN_KUBECONFIG to two existing clusters "
    "(kind, k3d, anything): then nothing is built or started here."
)


class HarnessError(Exception):
    """The clusters cannot be built, started, used or stopped as asked."""
