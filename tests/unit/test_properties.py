"""What holds of any input: parameters, splits, and the arithmetic of shards."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from torch import nn

from octrobust import config
from octrobust.attack import ElasticNet
from octrobust.attack.shards import Clean, craft, open_adversarial
from octrobust.data.index import IndexRow, read_index, write_index
from octrobust.data.split import split
from octrobust.errors import UserError
from octrobust.files import read_yaml
from tests.unit.test_bad_parameters import NODES, WHOLE, Node, Where, put, resolved

# Parameters -------------------------------------------------------------------------------------


def valid(node: Node) -> st.SearchStrategy[Any]:
    """Values that the schema takes."""
    inner = resolved(node)
    if len(node.get("anyOf", [])) > 1:
        return st.none() | valid(inner)
    if "enum" in inner or "const" in inner:
        return st.sampled_from(inner.get("enum", [inner.get("const")]))
    kind = inner["type"]
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        low = inner["minimum"] if "minimum" in inner else inner["exclusiveMinimum"] + 1
        return st.integers(low, inner["maximum"])
    if kind == "number":
        low = inner.get("minimum", inner.get("exclusiveMinimum"))
        high = inner.get("maximum", inner.get("exclusiveMaximum"))
        return st.floats(
            low,
            high,
            exclude_min="exclusiveMinimum" in inner,
            exclude_max="exclusiveMaximum" in inner,
            allow_nan=False,
            allow_infinity=False,
        )
    if kind == "string":
        return st.from_regex(inner["pattern"], fullmatch=True).filter(lambda text: "\n" not in text)
    assert kind == "array"
    item = valid(inner["items"] if "items" in inner else inner["prefixItems"][0])
    return st.lists(
        item, min_size=inner.get("minItems", 0), max_size=inner.get("maxItems", 3), unique=True
    )


LEAVES = [(where, node) for where, node, _ in NODES if resolved(node).get("type") != "object"]


@st.composite
def parameters(draw: st.DrawFn) -> dict[str, Any]:
    """The demo's values, some of them replaced by others of the schema."""
    values = WHOLE
    changed = st.lists(st.sampled_from(LEAVES), max_size=6, unique_by=lambda leaf: leaf[0])
    for where, node in draw(changed):
        values = put(where, draw(valid(node)), tree=values)
    return values


def through_yaml(values: object, folder: str) -> object:
    path = Path(folder) / "params.yaml"
    YAML(typ="safe").dump(values, path)
    return read_yaml(path)


@given(values=parameters())
@settings(max_examples=40)
def test_valid_parameters_come_back_from_yaml_as_they_were(values: dict[str, Any]) -> None:
    try:
        params = config.parse(values)
    except UserError:  # each value may be good and two contradict each other
        assume(False)
        raise
    with tempfile.TemporaryDirectory() as folder:
        again = through_yaml(params.model_dump(mode="json"), folder)
    assert config.parse(again) == params


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(sorted({name for where, _, _ in NODES for name in where}))
JUNK = st.recursive(
    SCALARS | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=4),
    max_leaves=12,
)


@given(junk=JUNK, node=st.sampled_from(NODES))
@settings(max_examples=150)
def test_junk_is_taken_or_refused(junk: Any, node: tuple[Where, Any, Any]) -> None:
    for values in (junk, put(node[0], junk)):
        try:
            config.parse(values)
        except UserError:
            continue  # anything else fails the test


@given(text=st.text(max_size=60) | st.text(" \n:-[]{}#&*!|>'\"%@`,?abc01.e~<", max_size=60))
@settings(max_examples=150)
def test_any_text_is_yaml_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(UserError):
            config.load(path)


@given(text=st.text())
def test_any_error_is_one_line_that_a_terminal_only_shows(text: str) -> None:
    line = str(UserError(text))
    assert line.isprintable()
    assert len(line.splitlines()) <= 1


# Split ------------------------------------------------------------------------------------------

CLASSES = ("NORMAL", "CNV")
# Images of each class that each patient has.
HELD = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6)
NEEDS = st.fixed_dictionaries(
    {
        "train": st.integers(1, 4),
        "validation": st.integers(1, 2),
        "test": st.integers(1, 2),
        "extra": st.integers(0, 2),
    }
)


def rows_of(held: list[tuple[int, int]]) -> list[IndexRow]:
    return [
        IndexRow(f"{label}/{label}-{patient}-{n}.png", label, str(patient), str(n), "", 9, 9, "L")
        for patient, counts in enumerate(held)
        for label, count in zip(CLASSES, counts, strict=True)
        for n in range(count)
    ]


def dealt(rows: list[IndexRow], wanted: config.Split) -> dict[str, list[IndexRow]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_index(folder / "index.csv", rows)
        split(folder / "index.csv", wanted, CLASSES, folder / "out", folder / "split.json")
        json.loads((folder / "split.json").read_text())
        return {part: read_index(folder / "out" / f"{part}.csv") for part in config.SPLITS}


def possible(held: list[tuple[int, int]], needs: list[int]) -> bool:
    """Whether whole patients can cover the needs, by trying every assignment."""
    for owners in itertools.product(range(len(needs)), repeat=len(held)):
        if all(
            sum(counts[label] for counts, owner in zip(held, owners, strict=True) if owner == part)
            >= need
            for part, need in enumerate(needs)
            for label in (0, 1)
        ):
            return True
    return False


@given(
    held=HELD,
    needs=NEEDS,
    by=st.sampled_from(["patient", "image"]),
    seed=st.integers(0, 99),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60)
def test_a_split_is_exact_disjoint_and_fixed_by_its_seed(
    held: list[tuple[int, int]], needs: dict[str, int], by: str, seed: int, order: Any
) -> None:
    wanted = config.Split.model_validate({"by": by, "seed": seed, **needs})
    rows = rows_of(held)
    try:
        parts = dealt(rows, wanted)
    except UserError:
        if by == "patient":
            assert not possible(held, [need for need in needs.values() if need])
        else:
            assert min(sum(column) for column in zip(*held, strict=True)) < sum(needs.values())
        return
    for part, need in needs.items():
        assert Counter(row.label for row in parts[part]) == Counter(dict.fromkeys(CLASSES, need))
    everything = [row for part in parts.values() for row in part]
    assert len(set(everything)) == len(everything)
    assert set(everything) <= set(rows)
    if by == "patient":
        homes = [{row.patient for row in part} for part in parts.values()]
        assert sum(map(len, homes)) == len(set().union(*homes))
    order.shuffle(rows)
    assert dealt(rows, wanted) == parts


# Shards -----------------------------------------------------------------------------------------


class Sign(nn.Module):
    """Class 1 where the mean is above a half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3)) - 0.5
        return torch.stack([-mean, mean], 1)


@given(
    count=st.integers(1, 11),
    size=st.integers(1, 12),
    data=st.data(),
)
@settings(max_examples=20)
def test_every_row_is_stored_once_and_loads_as_by_an_index(
    count: int, size: int, data: st.DataObject
) -> None:
    images = np.random.default_rng(count).random((20, 1, 3, 3), np.float32)
    rows = np.array(data.draw(st.permutations(range(20))))[:count]
    targets = (images.mean((1, 2, 3)) > 0.5).astype(np.int64)
    attack = ElasticNet(Sign().eval(), binary_search_steps=1, max_iter=2, learning_rate=0.1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        craft(
            attack,
            Clean(lambda r: images[r], targets, rows),
            channels="grey",
            shard_size=size,
            unfinished=folder / "unfinished",
            out=folder / "out",
            made_by={},
        )
        found = open_adversarial(folder / "out")
        stored = [found.shard(number) for number in range(len(found.manifest["shards"]))]
        assert found.records["row"].tolist() == rows.tolist()
        assert [len(one) for one in stored] == [
            min(size, count - start) for start in range(0, count, size)
        ]
        whole = np.concatenate(stored)
        np.testing.assert_array_equal(found.unpack(folder / "all.npy"), whole)
        at = data.draw(st.lists(st.integers(0, count - 1), max_size=8))
        np.testing.assert_array_equal(found.load(at), whole[np.array(at, dtype=np.int64)])
