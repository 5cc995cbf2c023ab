"""Numbers as the page words them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "–"
NBSP = "\N{NO-BREAK SPACE}"


def percent(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else f"{100 * value:.{digits}f}{NBSP}%"


def interval(low: float, high: float, digits: int = 1, more: str = "") -> str:
    """Fractions as (91.5 to 99.0), in percent and unbroken."""
    return f"({100 * low:.{digits}f} to {100 * high:.{digits}f}{more})".replace(" ", NBSP)


def duration(seconds: float) -> str:
    """Wall-clock time as the paper prints it, 72 min 45 s; tenths below ten seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    text = f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return text.replace(" ", NBSP)


def number(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:.{digits}g}"


def with_interval(score: Mapping[str, Any]) -> str:
    """97.0 % (91.5 to 99.0)."""
    return f"{percent(score['accuracy'])} {interval(score['accuracy_low'], score['accuracy_high'])}"
