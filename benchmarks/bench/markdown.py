"""Numbers and tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = True) -> str:
    """A Markdown table; columns of `numbers`, all but the first, stand to the right."""
    rule = "---:" if numbers else "---"
    lines = [head, ["---", *[rule] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant ones; a dash for nothing, a word for infinity."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "none"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{min(decimals, 6)}f}"


def spread(values: list[float]) -> str:
    """The smallest and the largest of the turns."""
    if not values:
        return "–"
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"
