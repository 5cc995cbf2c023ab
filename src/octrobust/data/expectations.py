"""Great Expectations run over the index and the splits; `suites` has the expectations."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from octrobust import config
from octrobust.data.index import IndexRow
from octrobust.data.look_alikes import PHASH, look_alikes
from octrobust.errors import UserError
from octrobust.files import write_json

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

    from octrobust.data.suites import Suite

COLUMNS = [field.name for field in fields(IndexRow)]
NUMBERS = ("width", "height")
LOOK_ALIKES = "look_alikes.csv"  # beside the pages
_AT_ONCE = 4096  # rows turned to text
SHOWN = 2  # rows quoted for a failed expectation: the two of a pair


@dataclass(frozen=True)
class Checked:
    """A suite's name, what it is about, the rows of its table, and what Great Expectations found.

    failures: (description, what was found instead) of every expectation that failed.
    """

    name: str
    about: str
    rows: int
    result: ExpectationSuiteValidationResult
    expectations: int
    failures: list[tuple[str, str]]


def validate(
    raw_index: Path,
    splits: Path,
    data: config.Data,
    settings: config.Split,
    docs: Path,
    metrics: Path,
) -> None:
    """Check the index and ``splits/*.csv`` against the parameters.

    Data Docs go to `docs`, a folder of pages to open offline from ``index.html``, with the near
    duplicates across splits as look_alikes.csv; numbers to `metrics`, JSON. Both are written also
    when something failed. A patient in two splits fails if the split is by patient, and is only
    counted if it is by image; near duplicates are only counted.

    Raises:
        UserError: a file is missing, or expectations failed: every one is named.
    """
    # Off unless asked for; read when Great Expectations is imported, which takes seconds.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    from octrobust.data import data_docs, suites

    index = _read(raw_index)
    bar = tqdm(desc="validate", total=4 + (settings.by == "patient"), unit="suite", leave=False)
    # Without their columns the other tables cannot be made, and the schema has failed anyway.
    known = _fingerprints(index) if set(COLUMNS) <= set(index.columns) else None
    checked = [_check(suites.of_index(index, data, settings), bar)]
    del index  # one table of all images at a time: there may be a hundred thousand
    rows = _concatenate({name: _read(splits / f"{name}.csv") for name in config.SPLITS})
    checked.append(_check(suites.of_splits(rows, data, settings), bar))
    numbers: dict[str, Any] = {}
    alike: pd.DataFrame | None = None
    if known is not None and set(COLUMNS) <= set(rows.columns):
        patients, contents = _homes(rows, "patient"), _contents(rows, known)
        checked.append(_check(suites.of_counts(rows, data, settings), bar))
        checked.append(_check(suites.of_contents(contents), bar))
        if settings.by == "patient":
            checked.append(_check(suites.of_patients(patients), bar))
        numbers["patients_in_two_splits"] = _in_two(patients)
        numbers["hashes_in_two_splits"] = _in_two(contents)
        alike = _look_alikes(rows)
        numbers["look_alikes_in_two_splits"] = len(alike)
        numbers["look_alikes_of_two_patients"] = int(alike["two_patients"].sum())

    bar.close()
    data_docs.write(docs, checked)
    if alike is not None:
        alike.to_csv(docs / LOOK_ALIKES, index=False)
    write_json(metrics, {**numbers, **_summary(checked)})
    _raise_if_failed(checked, docs)


def _read(path: Path) -> pd.DataFrame:
    """Read as it stands: that the columns and numbers are right is for the suites to say."""
    text = {column: "str" for column in COLUMNS if column not in NUMBERS}
    try:
        return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `dvc repro` first") from None
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise UserError(f"{path} is not a CSV file ({error}): run `dvc repro` again") from None


def _concatenate(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One table with a `split` column; empty ones have no types and are left out."""
    parts = [table.assign(split=name) for name, table in tables.items() if len(table)]
    rows = pd.concat(parts or [table.assign(split=name) for name, table in tables.items()])
    rows = rows.reset_index(drop=True).astype({"split": "str"})
    return rows[["split", *(column for column in rows.columns if column != "split")]]


def _homes(rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """For each value of `key`: the splits it is in, as "train" or "train + test"."""
    pairs = rows[[key, "split"]].dropna().drop_duplicates()
    homes = pairs.drop_duplicates(key).rename(columns={"split": "splits"}).reset_index(drop=True)
    several = pairs[pairs.duplicated(key, keep=False)].groupby(key)["split"].agg(" + ".join)
    moved = homes[key].isin(several.index)
    homes.loc[moved, "splits"] = homes.loc[moved, key].map(several)
    return homes


def _in_two(homes: pd.DataFrame) -> int:
    return int((~homes["splits"].isin(config.SPLITS)).sum())


def _look_alikes(rows: pd.DataFrame) -> pd.DataFrame:
    """Pairs of near duplicates, an image in one split and one in another: counted, not refused,
    since what is nearly equal to a hash need not be one image."""
    hashes = rows["phash"].where(rows["phash"].str.fullmatch(PHASH), "").tolist()
    pairs = look_alikes(hashes, across=rows["split"].tolist())
    first, second = (rows.iloc[pairs[:, side]].reset_index() for side in (0, 1))
    return pd.DataFrame(
        {
            "first": first["split"] + "/" + first["path"],
            "second": second["split"] + "/" + second["path"],
            "bits_apart": pairs[:, 2],
            "two_patients": first["patient"].fillna("") != second["patient"].fillna(""),
        }
    )


def _contents(rows: pd.DataFrame, known: NDArray[np.uint64]) -> pd.DataFrame:
    """For each sha256: its splits, a path, and whether all rows with it are among the `known`."""
    contents = _homes(rows, "sha256")
    paths = rows.drop_duplicates("sha256").set_index("sha256")["path"]
    contents["path"] = paths.reindex(contents["sha256"]).to_numpy()
    strangers = rows.loc[~np.isin(_fingerprints(rows), known), "sha256"]
    listed = ~contents["sha256"].isin(strangers)
    contents["in_index"] = listed.map({True: "yes", False: "no"})
    return contents


def _fingerprints(table: pd.DataFrame) -> NDArray[np.uint64]:
    """64 bits that are the same for the same text in all columns: (N,)."""
    parts = (table.iloc[i : i + _AT_ONCE] for i in range(0, len(table), _AT_ONCE))
    texts = (part[COLUMNS].astype(str) for part in parts)
    hashes = [pd.util.hash_pandas_object(text, index=False).to_numpy() for text in texts]
    return np.concatenate([np.empty(0, np.uint64), *hashes])


def _check(suite: Suite, bar: tqdm[Any]) -> Checked:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")  # a new one each time: it keeps what it has seen
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("octrobust").add_dataframe_asset(suite.name)
    definition = asset.add_batch_definition_whole_dataframe(suite.name)
    columns = (None, *suite.table.columns)  # None: of the whole table
    result = definition.get_batch({"dataframe": suite.table}).validate(
        gx.ExpectationSuite(
            name=suite.name,
            expectations=[
                expectation
                for expectation in suite.expectations
                if getattr(expectation, "column", None) in columns
            ],
        ),
        result_format={
            "result_format": "SUMMARY",
            "unexpected_index_column_names": suite.keys,
        },
    )
    bar.update()
    found, rows = _failures(suite, result), len(suite.table)
    return Checked(suite.name, suite.about, rows, result, len(result.results), found)


def _failures(suite: Suite, result: ExpectationSuiteValidationResult) -> list[tuple[str, str]]:
    return [
        (one["expectation_config"]["description"], _found(one["result"], suite))
        for one in result.to_json_dict()["results"]
        if not one["success"]
    ]


def _found(result: Mapping[str, Any], suite: Suite) -> str:
    """What was there instead, in a few words."""
    if not result:
        return "could not be checked"
    if not suite.keys or "partial_unexpected_index_list" not in result:
        values = result.get("observed_value", result.get("partial_unexpected_list"))
        return "found " + (", ".join(map(str, values)) if isinstance(values, list) else str(values))
    rows = result["partial_unexpected_index_list"][:SHOWN]
    shown = [", ".join(f"{name} {value}" for name, value in row.items()) for row in rows]
    shown += ["..."] if result["unexpected_count"] > SHOWN else []
    text = f"{result['unexpected_count']} of {result['element_count']}: {'; '.join(shown)}"
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1...", text)  # a hash's start will do


def _summary(checked: Sequence[Checked]) -> dict[str, Any]:
    return {
        "success": not any(one.failures for one in checked),
        "expectations": sum(one.expectations for one in checked),
        "failed": sum(len(one.failures) for one in checked),
        "suites": {
            one.name: {
                "success": not one.failures,
                "expectations": one.expectations,
                "failed": len(one.failures),
            }
            for one in checked
        },
    }


def _raise_if_failed(checked: Sequence[Checked], docs: Path) -> None:
    failed = [
        f"[{one.name}] {description} ({found})"
        for one in checked
        for description, found in one.failures
    ]
    if failed:
        raise UserError(
            f"validate: {len(failed)} of {sum(one.expectations for one in checked)} expectations "
            f"failed: {', '.join(failed)}: see {docs / 'index.html'}"
        )
