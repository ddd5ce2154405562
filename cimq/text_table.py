"""Tables of text for terminals."""

from __future__ import annotations

from collections.abc import Sequence

from cimq.printable import printable


def aligned_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of text as a table: `left` columns flush left, the others right, the first row underlined."""
    rows = [[printable(cell) for cell in row] for row in rows]  # names come from files
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
