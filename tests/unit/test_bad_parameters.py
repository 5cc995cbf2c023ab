"""params.yaml gone wrong, one way a case: the error names the key.

What is tried on each parameter follows from the schema: a new one is covered without a word here.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from octrobust import config
from octrobust.errors import UserError
from tests.conftest import Refused

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "params.yaml").read_text()
SCHEMA = config.Params.model_json_schema()
Node = dict[str, Any]
Where = tuple[str, ...]
# Of the JSON types, values that are of one kind alone; YAML knows no others.
OF_TYPE = {
    "string": "no such value!",
    "integer": 1,
    "number": 0.5,
    "boolean": True,
    "array": [[]],
    "object": {"a": 1},
    "null": None,
}


def whole() -> dict[str, Any]:
    """The demo's values, with the one section that it leaves empty."""
    values: dict[str, Any] = yaml.safe_load(TEXT)
    published = yaml.safe_load((ROOT / "presets" / "published.yaml").read_text())
    return {**values, "replay": published["replay"]}


WHOLE = whole()


def put(
    where: Where, value: object, key: str | None = None, tree: dict[str, Any] = WHOLE
) -> dict[str, Any]:
    """The tree with one value replaced, and its key if another is given."""
    tree = copy.deepcopy(tree)
    node = tree
    for name in where[:-1]:
        node = node[name]
    if key is not None:
        del node[where[-1]]
    node[key or where[-1]] = value
    return tree


def error(values: object) -> str:
    with pytest.raises(UserError) as caught:
        config.parse(values, "params.yaml")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def resolved(node: Node) -> Node:
    """Without references; of a nullable node, what it is if not null."""
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
        else:
            (node,) = [one for one in node["anyOf"] if one.get("type") != "null"]
    return node


def nodes(node: Node, value: Any, where: Where = ()) -> Iterator[tuple[Where, Node, Any]]:
    """Every parameter and section with its schema and its value in WHOLE."""
    inner = resolved(node)
    if where:
        yield where, node, value
    if inner.get("type") == "object" and value is not None:
        of_all = {**inner.get("patternProperties", {}), "": inner.get("additionalProperties")}
        for name, one in value.items():
            child = inner.get("properties", {}).get(name) or next(filter(None, of_all.values()))
            yield from nodes(child, one, (*where, name))


NODES = list(nodes(SCHEMA, WHOLE))


def types(node: Node) -> set[str]:
    kinds = {resolved(node).get("type", "string")}  # a Literal of one has none
    kinds |= {"integer"} if "number" in kinds else set()  # a whole number is a number too
    return kinds | (
        {"null"} if any(n.get("type") == "null" for n in node.get("anyOf", [])) else set()
    )


def beyond(node: Node) -> Iterator[object]:
    """Values of the right type outside the node's bounds."""
    step = 1 if node.get("type") == "integer" else 1e-9
    if "minimum" in node:
        yield node["minimum"] - step
    if "maximum" in node:
        yield node["maximum"] + step
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if bound in node:
            yield node[bound]
    if "pattern" in node or "enum" in node or "const" in node:
        yield from ("", "\0")
    if node.get("type") in ("integer", "number"):
        yield from (math.nan, math.inf, -math.inf)
    if node.get("type") == "integer":
        yield from (10**30, -(10**30))


def bad_values(node: Node, value: Any) -> Iterator[tuple[str, object]]:
    """What is wrong in the list item named, or "" for the value itself; and the value."""
    inner = resolved(node)
    yield from (("", wrong) for kind, wrong in OF_TYPE.items() if kind not in types(node))
    yield from (("", wrong) for wrong in beyond(inner))
    if inner.get("type") != "array":
        return
    for number in range(inner.get("minItems", 0)):
        yield "", value[:number]
    if "maxItems" in inner:
        yield "", [*value, "ANOTHER"]
    item = resolved(inner["items"] if "items" in inner else inner["prefixItems"][0])
    for _, wrong in bad_values(item, None):
        yield ".0", [wrong, *value[1:]]


@pytest.mark.parametrize(("where", "node", "value"), NODES, ids=[".".join(n[0]) for n in NODES])
def test_every_parameter_misspelt_of_a_wrong_type_and_out_of_range(
    where: Where, node: Node, value: Any
) -> None:
    dotted = ".".join(where)
    tried = 0
    for inside, wrong in bad_values(node, value):
        assert f"{dotted}{inside}" in error(put(where, wrong)), wrong
        tried += 1
    assert tried >= 4
    if not of_any_name(where[:-1]):
        message = error(put(where, value, key=f"{where[-1]}_"))
        assert f"{dotted}_: unknown parameter" in message
        assert f"{dotted}: missing" in message


def of_any_name(where: Where) -> bool:
    """Whether the keys of this section are the user's own."""
    found = {one[0]: resolved(one[1]) for one in NODES}
    return bool(where) and "properties" not in found[where]


def test_no_parameter_escapes_the_table() -> None:
    def scalars(value: Any, where: Where = ()) -> Iterator[Where]:
        if isinstance(value, dict):
            for key, one in value.items():
                yield from scalars(one, (*where, key))
        else:
            yield where

    assert set(scalars(WHOLE)) <= {where for where, _, _ in NODES}


@pytest.mark.parametrize("name", ["", "two words", "../models", "a/b", "-s", "$(id)", "é", "a\n"])
@pytest.mark.parametrize("section", ["train", "harden"])
def test_a_name_that_would_not_do_in_a_path_or_command(section: str, name: str) -> None:
    variants = WHOLE[section]["variants"]
    message = error(put((section, "variants"), {**variants, name: next(iter(variants.values()))}))
    assert f"{section}.variants." in message


STATIC = WHOLE["harden"]["variants"]["static"]
INNER = WHOLE["harden"]["variants"]["online"]["inner"]
VARIANTS = WHOLE["train"]["variants"]
INCONSISTENT: dict[str, tuple[str, object, str]] = {
    "one class twice": ("data.classes", ["CNV", "CNV"], "data.classes"),
    "classes that some disks take for one": ("data.classes", ["CNV", "cnv"], "data.classes"),
    "an archive of another source": ("data.archive", "set.zip", "data.archive"),
    "a folder without a root": ("data.source", "folder", "data.root"),
    "no such target": ("attack.target", "config_9", "attack.target"),
    "no such model": ("evaluate.adaptive", ["hardened_static", "config_9"], "evaluate.adaptive"),
    "attacked already": ("evaluate.adaptive", ["hardened_static", "config_1"], "evaluate.adaptive"),
    "without the headline's": ("evaluate.adaptive", ["hardened_online"], "evaluate.adaptive"),
    "a battery on no model": ("evaluate.battery.models", ["no"], "evaluate.battery.models"),
    "one model twice": ("evaluate.battery.models", ["config_1"] * 2, "evaluate.battery.models"),
    "one budget twice": ("evaluate.battery.l2", [0.5, 1.0, 0.5], "evaluate.battery.l2"),
    "two billion processes": ("compute.processes", 2**31 - 1, "compute.processes"),
    "one seed twice": ("evaluate.seeds", [4, 4], "evaluate.seeds"),
    "one severity twice": (
        "evaluate.corruption_severities",
        [1, 1],
        "evaluate.corruption_severities",
    ),
    "the name of a hardened model": (
        "train.variants",
        {**VARIANTS, "hardened_static": {"freeze_through": None}},
        "train.variants.hardened_static",
    ),
    "a name that the summary needs": (
        "train.variants",
        {**VARIANTS, "battery": {"freeze_through": None}},
        "train.variants.battery",
    ),
    "an option of fista": ("attack.shortcuts.warm_start", True, "attack.shortcuts.solver"),
    "without the paper's way": (
        "harden.variants.static",
        {**STATIC, "method": "duplicates"},
        "harden.variants.static",
    ),
    "an attack that is not used": (
        "harden.variants.control.inner",
        INNER,
        "harden.variants.control.inner",
    ),
    "no attack": ("harden.variants.online.inner", None, "harden.variants.online.inner"),
    "a line moved by attacks that are not made": (
        "harden.variants.control.threshold",
        "moved",
        "harden.variants.control.threshold",
    ),
    "a weight of another method": (
        "harden.variants.online.inner.weight",
        6.0,
        "harden.variants.online.inner.weight",
    ),
    "images of another method": (
        "harden.variants.control.learns_from",
        "data/arrays/train.npy",
        "harden.variants.control.learns_from",
    ),
}


@pytest.mark.parametrize(("dotted", "value", "named"), INCONSISTENT.values(), ids=INCONSISTENT)
def test_values_that_contradict_each_other(dotted: str, value: object, named: str) -> None:
    assert named in error(put(tuple(dotted.split(".")), value))


def within(old: str, new: str) -> bytes:
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new).encode()


BETA = "  beta: 0.001              # weight of the L1 term\n"
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "all of it: "),
    "comments only": (b"# nothing\n", "all of it: "),
    "a list": (b"- data\n", "all of it: "),
    "a word": (b"data", "all of it: "),
    "cut short": (TEXT[: TEXT.index("  beta")].encode(), "attack.beta: missing"),
    "a key twice": (within(BETA, BETA * 2), "beta"),
    "a section twice": (TEXT.encode() + b"\nmodel: {}\n", "model"),
    "brackets left open": (b"data: [", "not valid YAML: line 1"),
    "tabs": (b"data:\n\tsource: phantom\n", "not valid YAML: line 2"),
    "a merge conflict": (b"<<<<<<< HEAD\n" + TEXT.encode(), "not valid YAML"),
    "two documents": (TEXT.encode() + b"---\n" + TEXT.encode(), "not valid YAML"),
    "UTF-16": (TEXT.encode("utf-16"), "not valid YAML"),
    "Latin-1": (b"# \xe9t\xe9\n" + TEXT.encode(), "not valid YAML"),
    "a NUL": (TEXT.encode() + b"\0", "not valid YAML"),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0", "not valid YAML"),
    "Python's tags": (b"data: !!python/object/apply:os.mkdir [made]\n", "not valid YAML"),
    "a tag that does not fit": (b"data: !!int many\n", "not valid YAML"),
    "a date that is none": (b"data: !!timestamp 99\n", "not valid YAML"),
    "a number of 5000 digits": (within("seed: 3", f"seed: {'9' * 5000}"), "not valid YAML"),
    "a hexadecimal number of 5000 digits": (
        within("seed: 3", f"seed: 0x{'f' * 5000}"),
        "train.seed",
    ),
    "a thousand brackets": (b"[" * 1100, "not valid YAML"),
    "a list within itself": (b"data: &here [*here]\n", "data: "),
    "a key that is a list": (b"? [data]\n: 1\n", "Keys should be strings"),
    "a key that is a number": (b"1: 2\n", "1: "),
    "a billion laughs": (
        b"a0: &a0 [x, x]\n"
        + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 60)),
        "a59: unknown parameter",
    ),
    "laughs as a value": (
        b"data: &a0 [x, x]\n"
        + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 60))
        + b"split: *a59\n",
        "split: ",
    ),
    "yes, which is a word in YAML 1.2": (
        within("    warm_start: false ", "    warm_start: yes "),
        "attack.shortcuts.warm_start",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file(name: str, tmp_path: Path, refused: Refused) -> None:
    content, expected = FILES[name]
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    message = refused(lambda: config.load(path))
    assert message.startswith(str(path))
    assert expected in message
    assert len(message) < 12_000
    assert list(tmp_path.iterdir()) == [path]


def test_no_file(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, expected in {
        "missing": "does not exist",
        "dangling": "does not exist",
        "folder": "Is a directory",
        "folder/params.yaml/x": "does not exist",
        "loop": "symbolic links",
        "n" * 300: "too long",
    }.items():
        assert expected in refused(lambda path=tmp_path / name: config.load(path))


@pytest.mark.parametrize("start", ["frehs", "vggface2", "none", "weights.ckpt"])
def test_a_defence_cannot_start_from_what_is_no_start(start: str) -> None:
    said = error(put(("harden", "variants", "online", "starts_from"), start))
    assert "harden.variants.online.starts_from" in said
    assert "attacked, fresh or a file (.safetensors, .pt, .pth)" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    path.chmod(0)
    assert "Permission denied" in refused(lambda: config.load(path))


GOOD: dict[str, tuple[bytes, str, object]] = {
    "a byte order mark": (b"\xef\xbb\xbf" + TEXT.encode(), "attack.beta", 0.001),
    "Windows' line ends": (TEXT.replace("\n", "\r\n").encode(), "attack.beta", 0.001),
    "scientific notation": (within(BETA, "  beta: 1e-3\n"), "attack.beta", 0.001),
    "a whole number for a fraction": (within(BETA, "  beta: 0\n"), "attack.beta", 0.0),
    "a class called NO": (within("[NORMAL, CNV]", "[NO, YES]"), "data.classes", ("NO", "YES")),
    "an anchor": (
        within(BETA, "  beta: &b 0.002\n").replace(b"initial_const: 0.001", b"initial_const: *b"),
        "attack.initial_const",
        0.002,
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_a_file_may_be(name: str, tmp_path: Path) -> None:
    content, dotted, expected = GOOD[name]
    path = tmp_path / "é ü.yaml"
    path.write_bytes(content)
    found: Any = config.load(path)
    for part in dotted.split("."):
        found = getattr(found, part)
    assert found == expected
