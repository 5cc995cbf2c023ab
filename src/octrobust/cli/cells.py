"""Parameters and metrics as a narrow table words them."""

from __future__ import annotations

from typing import Any

from octrobust.report.wording import NBSP, number, percent


def heading(name: str) -> str:
    """In words, so that it breaks between them."""
    return name.replace("_", " ").replace(".", ". ")


def cell(name: str, value: Any) -> str:
    """Fractions in percent, other numbers to three digits, parameters as they are written."""
    if value is None:
        return "-"
    if is_fraction(name) and isinstance(value, int | float):
        return percent(value).replace(NBSP, " ")
    if isinstance(value, float):
        return number(value)
    return str(value)


def is_fraction(name: str) -> bool:
    return "accuracy" in name or "success_rate" in name
