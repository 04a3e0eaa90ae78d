"""Checks of the source code that no linter has; `make check` runs them. Not shipped."""
