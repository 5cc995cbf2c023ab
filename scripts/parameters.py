"""params.yaml as a reference: every parameter's value, what is accepted, and its comment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from octrobust import config

Schema = dict[str, Any]  # JSON schema of one parameter, as pydantic writes it

_WHOLE: Schema = config.Params.model_json_schema()
_KINDS = {"integer": "whole number", "number": "number", "boolean": "true, false", "null": "null"}
_BOUNDS = {
    "exclusiveMinimum": "above {:g}",
    "minimum": "{:g} or more",
    "exclusiveMaximum": "below {:g}",
    "maximum": "{:g} at most",
}


class Parameter(NamedTuple):
    name: str
    value: str
    accepts: str
    comment: str


def sections(path: Path) -> list[tuple[str, str, list[Parameter]]]:
    """Of every section its name, the comment beside it, and its parameters."""
    written = YAML().load(path)
    found = []
    for section, values in written.items():
        schema = _follow(_WHOLE["properties"][section])
        about = _comment(written, section)
        found.append((section, about, [*_parameters(values, section, schema)]))
    return found


def _parameters(values: CommentedMap, path: str, schema: Schema) -> Iterator[Parameter]:
    for number, (key, value) in enumerate(values.items()):
        name = f"{path}.{key}"
        field = schema["properties"][key] if "properties" in schema else _any_value(schema)
        if isinstance(value, CommentedMap):
            found = _parameters(value, name, _follow(field))
            # Where the user names the keys, one shows what all have.
            new = number == 0 or "properties" in schema
            yield from (one for one in found if new or one.comment)
        else:
            yield Parameter(name, _yaml(value), _accepts(field), _comment(values, key))


def _any_value(schema: Schema) -> Schema:
    """Of a mapping whose keys the user names."""
    found: Schema = next(iter(schema["patternProperties"].values()))
    return found


def _follow(field: Schema) -> Schema:
    """What a reference stands for; of something or null, the something."""
    options = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
    reference = options[0].get("$ref")
    found: Schema = _WHOLE["$defs"][reference.rpartition("/")[2]] if reference else options[0]
    return found


def _accepts(field: Schema) -> str:
    if "anyOf" in field:
        return ", or ".join(map(_accepts, field["anyOf"]))
    if "enum" in field:
        return ", ".join(field["enum"])
    if field.get("type") == "array":
        return f"list of: {_accepts(field.get('items') or field['prefixItems'][0])}"
    if field.get("type") == "string":
        return "text"
    bounds = [
        text.format(field[key])
        for key, text in _BOUNDS.items()
        if key in field and field[key] != config.LARGEST
    ]
    kind = _KINDS.get(field.get("type", ""), "its own parameters")
    return " ".join([kind, ", ".join(bounds)]).strip()


def _comment(values: CommentedMap, key: str) -> str:
    """What stands behind the value, or the items of its list, and goes on in lines of its own."""
    tokens = list(values.ca.items.get(key) or [])
    if isinstance(values[key], CommentedSeq):
        tokens += [token for item in values[key].ca.items.values() for token in item]
    flat = [
        one for token in tokens if token for one in (token if isinstance(token, list) else [token])
    ]
    lines = [line.strip() for one in flat for line in one.value.split("\n")]
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))


def _yaml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return "null" if value is None else str(value).lower() if value in (True, False) else str(value)
