"""What of the experiments stands in a table: where they differ, what came of it, which is best."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from octrobust.errors import UserError
from octrobust.experiments.read import ROBUST, Experiment

HEADLINE = (
    ROBUST,
    "accuracy_config_1",
    "accuracy_attacked",
    "accuracy_hardened",
    "accuracy_hardened_clean",
    "accuracy_hardened_adaptive",
)
# Figures of experiments that differ in these are of other images or other attacks.
MEASURED = ("data.", "split.", "evaluate.battery.")


def differing(experiments: Sequence[Experiment]) -> list[str]:
    """Parameters that have not one value in all of them; those of compute change no result."""
    names = dict.fromkeys(name for one in experiments for name in one.params)
    return [
        name
        for name in names
        if not name.startswith("compute.") and len({_key(one, name) for one in experiments}) > 1
    ]


def _key(one: Experiment, name: str) -> str:
    return repr(one.params.get(name))


def chosen(wanted: str | None, experiments: Sequence[Experiment]) -> list[str]:
    """Columns by name or pattern, separated by commas; None: the headline, as far as it is there.

    Raises:
        UserError: nothing has such a name.
    """
    there = list(dict.fromkeys(name for one in experiments for name in one.metrics))
    if wanted is None:
        return [name for name in HEADLINE if name in there]
    there += dict.fromkeys(name for one in experiments for name in one.params)
    found: list[str] = []
    for pattern in filter(None, (part.strip() for part in wanted.split(","))):
        matching = [name for name in there if fnmatchcase(name, pattern)]
        if not matching:
            raise UserError(f"--columns: {unknown(pattern, there)}")
        found += [name for name in matching if name not in found]
    return found


def unknown(name: str, there: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, there, 3)
    hint = f": is it {' or '.join(close)}?" if close else ""
    return f"no experiment here has '{name}'{hint}"


def ordered(experiments: Sequence[Experiment], by: str, *, reverse: bool) -> list[Experiment]:
    """Best first by a metric, in order of a parameter; those without a value last.

    Raises:
        UserError: no such metric or parameter.
    """
    values = {id(one): one.metrics.get(by, one.params.get(by)) for one in experiments}
    if all(value is None for value in values.values()) and by != ROBUST:
        there = [name for one in experiments for name in (*one.metrics, *one.params)]
        raise UserError(f"--sort: {unknown(by, list(dict.fromkeys(there)))}")
    with_value = [one for one in experiments if values[id(one)] is not None]
    without = [one for one in experiments if values[id(one)] is None]
    numbers = all(isinstance(values[id(one)], int | float) for one in with_value)

    def key(one: Experiment) -> tuple[float, str]:
        value = values[id(one)]
        return (float(value), "") if numbers and value is not None else (0.0, str(value))

    with_value.sort(key=key, reverse=_large_first(by, with_value) != reverse)
    return [*with_value, *without]


def _large_first(by: str, experiments: Sequence[Experiment]) -> bool:
    metric = any(by in one.metrics for one in experiments)
    return metric and "seconds" not in by


def best(experiments: Sequence[Experiment], by: str) -> Experiment | None:
    """The best by a metric among those that were measured as the workspace was; of equals the
    first."""
    if not experiments:
        return None
    like = next((one for one in experiments if one.kind == "workspace"), experiments[0])
    alike = [one for one in experiments if by in one.metrics and measured(one) == measured(like)]
    large = _large_first(by, alike)
    pick = max if large else min
    return pick(alike, key=lambda one: one.metrics[by], default=None)


def measured(one: Experiment) -> dict[str, Any]:
    """On which images, and by which attacks."""
    return {name: value for name, value in one.params.items() if name.startswith(MEASURED)}
