"""What a sweep shows: the experiments along one parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

from octrobust.errors import UserError
from octrobust.experiments.grid import EXAMPLE
from octrobust.experiments.read import Experiment
from octrobust.experiments.table import differing, measured, unknown

MOST_LINES = 4


@dataclass(frozen=True)
class Sweep:
    """Experiments along `parameter`.

    Attributes:
        xs: its values in order.
        lines: by what else differs (a text, empty if nothing does), the experiments by value; of
            several, which differ in seeds alone, all.
        log: whether the values ask for a logarithmic axis.
    """

    parameter: str
    xs: tuple[Any, ...]
    lines: dict[str, dict[Any, list[Experiment]]]
    log: bool

    @property
    def numeric(self) -> bool:
        return all(is_number(x) for x in self.xs)

    def values(self, line: str, metric: str) -> list[tuple[Any, float, float, float]]:
        """(value of the parameter, mean, least and largest of the metric), where it is there."""
        found = []
        for x in self.xs:
            members = [one.metrics.get(metric) for one in self.lines[line].get(x, [])]
            numbers = [number for number in members if number is not None]
            if numbers:
                found.append((x, mean(numbers), min(numbers), max(numbers)))
        return found

    def experiments(self) -> list[Experiment]:
        return [one for line in self.lines.values() for x in self.xs for one in line.get(x, [])]


def sweep_of(experiments: Sequence[Experiment], parameter: str | None) -> Sweep:
    """The finished experiments along a parameter; None: the one in which they differ.

    Raises:
        UserError: they differ in none, in several, or not in this one.
    """
    done = _distinct(experiments)
    differ = [name for name in differing(done) if done]
    free = [name for name in differ if not is_seed(name)]
    if parameter is None:
        if not free:
            raise UserError(
                "no two finished experiments differ in a parameter: queue some, as "
                f"`octrobust sweep queue {EXAMPLE}`, and run them by `octrobust sweep run`"
            )
        if len(free) > 1:
            raise UserError(f"they differ in {', '.join(free)}: name the one of the x axis")
        parameter = free[0]
    elif parameter not in differ:
        there = ", ".join(free) or "none"
        if not any(parameter in one.params for one in done):
            raise UserError(unknown(parameter, list(done[0].params) if done else []))
        raise UserError(f"all finished experiments have one {parameter}; they differ in: {there}")
    others = [name for name in free if name != parameter]
    lines = _lines(done, parameter, others)
    if not lines:
        raise UserError(f"no two finished experiments differ in {parameter} alone")
    if len(lines) > MOST_LINES:
        raise UserError(
            f"what else differs ({', '.join(others)}) makes {len(lines)} lines, too many to tell "
            f"apart: at most {MOST_LINES}"
        )
    xs = tuple(sorted({x for line in lines.values() for x in line}, key=_order))
    return Sweep(parameter, xs, lines, is_log_spaced(xs))


def _lines(
    done: Sequence[Experiment], parameter: str, others: Sequence[str]
) -> dict[str, dict[Any, list[Experiment]]]:
    """By what differs among them, those of more than one point: one says nothing along it."""
    groups: dict[tuple[Any, ...], dict[Any, list[Experiment]]] = {}
    for one in done:
        key = tuple(_hashable(one.params.get(name)) for name in others)
        groups.setdefault(key, {}).setdefault(_hashable(one.params.get(parameter)), []).append(one)
    kept = {key: line for key, line in groups.items() if len(line) > 1}
    named = [k for k in range(len(others)) if len({key[k] for key in kept}) > 1]
    return {
        ", ".join(f"{others[k].rpartition('.')[2]} {key[k]}" for k in named): line
        for key, line in sorted(kept.items(), key=lambda one: [_order(value) for value in one[0]])
    }


def _distinct(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The finished ones that were measured as the workspace was, one of each set of parameters: one
    with a headline if there is one, and an experiment rather than the workspace or a commit."""
    if not experiments:
        return []
    like = next((one for one in experiments if one.kind == "workspace"), experiments[0])
    found: dict[str, Experiment] = {}
    order = ("experiment", "commit", "workspace")
    for one in sorted(experiments, key=lambda one: (not one.best, order.index(one.kind))):
        key = repr(sorted((k, repr(v)) for k, v in one.params.items() if k[:8] != "compute."))
        if one.metrics and _alike(one, like):
            found.setdefault(key, one)
    return list(found.values())


def _alike(one: Experiment, like: Experiment) -> bool:
    # The seeds of data, split and battery may be swept themselves.
    def without_seeds(params: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in params.items() if not is_seed(name)}

    return without_seeds(measured(one)) == without_seeds(measured(like))


def is_seed(name: str) -> bool:
    return name.rpartition(".")[2] == "seed"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_log_spaced(values: Sequence[Any]) -> bool:
    """Whether positive numbers lie more evenly by their ratios than by their differences; two of
    them, where one is ten times the other."""
    if len(values) < 2 or not all(is_number(value) and value > 0 for value in values):
        return False
    if len(values) == 2:
        return bool(values[1] / values[0] >= 10)
    ratios = [b / a for a, b in pairwise(values)]
    steps = [b - a for a, b in pairwise(values)]
    return bool(max(ratios) / min(ratios) < max(steps) / min(steps))


def _hashable(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else repr(value)


def _order(value: Any) -> tuple[bool, Any]:
    return (not is_number(value), value if is_number(value) else str(value))
