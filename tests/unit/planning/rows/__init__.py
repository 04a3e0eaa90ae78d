"""The rows of the table, by chapter: what is known, and what must follow."""

from unit.planning.rows import (
    changing,
    claiming,
    copying,
    creating,
    deadlines,
    debugging,
    deleting,
    failed,
    files,
    gone,
    lost,
    namespaces,
    paced,
    present,
    tokens,
    unconfirmed,
    vain,
)
from unit.planning.rows.row import Decide, Row

__all__ = ["EVERY", "Decide", "Row"]

EVERY: tuple[Row, ...] = (
    *gone.ROWS,
    *deleting.ROWS,
    *creating.ROWS,
    *claiming.ROWS,
    *copying.ROWS,
    *lost.ROWS,
    *present.ROWS,
    *tokens.ROWS,
    *files.ROWS,
    *namespaces.ROWS,
    *paced.ROWS,
    *failed.ROWS,
    *vain.ROWS,
    *changing.ROWS,
    *debugging.ROWS,
    *deadlines.ROWS,
    *unconfirmed.ROWS,
)
