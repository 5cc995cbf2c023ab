"""A grid as it is typed, `attack.beta=0.001,0.01 train.seed=1,2`, as experiments to queue."""

from __future__ import annotations

import copy
import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from octrobust import config
from octrobust.errors import UserError

EXAMPLE = "attack.beta=0.0001,0.001,0.01"


@dataclass(frozen=True)
class Point:
    """One experiment of a grid: values by parameter's dotted name."""

    values: dict[str, Any]

    def name(self, prefix: str | None) -> str:
        """As DVC's experiment is called: beta=0.001,seed=1."""
        short = {name: name.rpartition(".")[2] for name in self.values}
        if len(set(short.values())) < len(short):
            short = {name: name for name in self.values}
        text = ",".join(f"{short[key]}={_plain(value)}" for key, value in self.values.items())
        return f"{prefix}-{text}" if prefix else text

    def overrides(self) -> list[str]:
        """As `dvc exp run -S` takes them."""
        return [f"{name}={typed(value)}" for name, value in self.values.items()]

    def applied(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """params.yaml with them in it."""
        changed = copy.deepcopy(dict(values))
        for name, value in self.values.items():
            *sections, last = name.split(".")
            place = changed
            for section in sections:
                place = place[section]
            place[last] = value
        return changed


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested mappings by dotted name."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def points(arguments: Sequence[str], values: Mapping[str, Any]) -> list[Point]:
    """Every combination, each checked as a parameter file with it would be.

    Args:
        arguments: NAME=VALUE,VALUE,...
        values: params.yaml as it is.

    Raises:
        UserError: a parameter or a value that params.yaml would not take.
    """
    axes: dict[str, list[Any]] = {}
    known = dict(leaves(values))
    for text in arguments:
        name, equals, listed = text.partition("=")
        if not equals:
            raise UserError(f"'{text}': write NAME=VALUE,VALUE as in {EXAMPLE}")
        _check_name(name, known)
        if name in axes:
            raise UserError(f"{name} is there twice: write all its values in one list")
        axes[name] = _values(name, listed)
    found = [
        Point(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())
    ]
    for point in found:
        config.parse(point.applied(values), " ".join(point.overrides()))
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Parameters, by dotted name, in which two experiments differ; none of compute, which changes
    no result."""
    names = sorted(one.keys() | other.keys())
    return [
        name
        for name in names
        if not name.startswith("compute.") and one.get(name, ...) != other.get(name, ...)
    ]


def _check_name(name: str, known: Mapping[str, Any]) -> None:
    if name.startswith("compute."):
        raise UserError(f"{name}: nothing in compute changes a result, so there is nothing to see")
    if name in known:
        return
    inside = [one for one in known if one.startswith(f"{name}.")]
    if inside:
        raise UserError(f"{name} is a section: name a parameter of it, as {inside[0]}")
    # The last part may be all that was typed.
    close = [one for one in known if one.endswith(f".{name}")]
    close += difflib.get_close_matches(name, known, 3)
    hint = f": is it {' or '.join(dict.fromkeys(close))}?" if close else ""
    raise UserError(f"{name} is no parameter of params.yaml{hint}")


def _values(name: str, listed: str) -> list[Any]:
    found: list[Any] = []
    for text in _split(listed):
        if not text.strip():
            raise UserError(f"{name}: a value is missing in '{listed}'")
        try:
            value = YAML(typ="safe").load(text)
        except YAMLError:
            raise UserError(f"{name}: '{text}' is no value") from None
        if value in found:
            raise UserError(f"{name}: {text} is there twice")
        found.append(value)
    return found


def _split(listed: str) -> list[str]:
    """At the commas that are in no bracket."""
    parts, depth = [""], 0
    for character in listed:
        depth += (character in "[{(") - (character in ")}]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _plain(value: Any) -> str:
    """Nothing that git or a shell takes for something else."""
    text = (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
    return re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9_.+-]+", "_", text)).strip("._") or "_"


def typed(value: Any) -> str:
    """A value as one types it, in the grammar of `dvc exp run -S`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    text = str(value)
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_/.-]*", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
