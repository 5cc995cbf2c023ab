"""What must hold of the index and the splits. Importing this is slow: Great Expectations."""

from __future__ import annotations

from dataclasses import dataclass, fields

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.expectation import Expectation

from octrobust import config
from octrobust.data.arrays import MODES_8, MODES_16
from octrobust.data.index import IndexRow
from octrobust.data.look_alikes import PHASH

COLUMNS = [field.name for field in fields(IndexRow)]
REQUIRED = ("path", "label", "sha256", "mode")
SIDES = (32, 16384)  # pixels: a smaller scan has no layers, a larger one is no B-scan


@dataclass(frozen=True)
class Suite:
    """Expectations over one table; `keys` are the columns that tell which row failed."""

    name: str
    about: str
    table: pd.DataFrame
    keys: list[str]
    expectations: list[Expectation]


def of_index(index: pd.DataFrame, data: config.Data, settings: config.Split) -> Suite:
    expectations = _of_rows(COLUMNS, data, settings)
    return Suite("images", "The index of all images.", index, ["path"], expectations)


def of_splits(rows: pd.DataFrame, data: config.Data, settings: config.Split) -> Suite:
    known = gxe.ExpectColumnValuesToBeInSet(
        column="split",
        value_set=list(config.SPLITS),
        description=f"every split is one of {', '.join(config.SPLITS)}",
    )
    expectations = [known, *_of_rows(["split", *COLUMNS], data, settings)]
    return Suite("splits", "The images of all splits.", rows, ["split", "path"], expectations)


def _of_rows(columns: list[str], data: config.Data, settings: config.Split) -> list[Expectation]:
    low, high = SIDES
    required = (*REQUIRED, "patient") if settings.by == "patient" else REQUIRED
    return [
        gxe.ExpectTableColumnsToMatchOrderedList(
            column_list=columns, description=f"the columns are {', '.join(columns)}"
        ),
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=name, description=f"every image has a {name}")
            for name in required
        ),
        *(
            gxe.ExpectColumnValuesToBeUnique(column=name, description=f"no {name} is listed twice")
            for name in ("path", "sha256")
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="label",
            value_set=list(data.classes),
            description=f"every label is {' or '.join(data.classes)}",
        ),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="label",
            min_value=len(data.classes),
            max_value=len(data.classes),
            description="both classes are there",
        ),
        gxe.ExpectColumnValuesToMatchRegex(
            column="sha256",
            regex="^[0-9a-f]{64}$",
            description="every sha256 is 64 hexadecimal digits",
        ),
        gxe.ExpectColumnValuesToMatchRegex(
            column="phash",
            regex=f"^{PHASH}$",
            description="every phash is 16 hexadecimal digits",
        ),
        gxe.ExpectColumnValuesToMatchRegex(
            column="image", regex="^[0-9]+$", description="every image number is a number"
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="mode",
            value_set=[*MODES_8, *MODES_16],
            description="every mode is one that can be turned to 8-bit grey",
        ),
        *(
            expectation
            for name in ("width", "height")
            for expectation in (
                gxe.ExpectColumnValuesToBeOfType(
                    column=name, type_="int64", description=f"every {name} is a whole number"
                ),
                gxe.ExpectColumnValuesToBeBetween(
                    column=name,
                    min_value=low,
                    max_value=high,
                    description=f"every {name} is between {low} and {high} pixels",
                ),
            )
        ),
    ]


def of_counts(rows: pd.DataFrame, data: config.Data, settings: config.Split) -> Suite:
    counts: dict[str, list[int]] = {}
    expectations: list[Expectation] = []
    for split, need in settings.counts().items():
        for label in data.classes:
            cell = f"{split} {label}"
            counts[cell] = [int(((rows["split"] == split) & (rows["label"] == label)).sum())]
            expectation = gxe.ExpectColumnValuesToBeInSet(
                column=cell, value_set=[need], description=f"{split} has {need} {label} images"
            )
            expectations.append(expectation)
    about = "The number of images in each split and class."
    return Suite("counts", about, pd.DataFrame(counts), [], expectations)


def of_patients(patients: pd.DataFrame) -> Suite:
    alone = gxe.ExpectColumnValuesToBeInSet(
        column="splits",
        value_set=list(config.SPLITS),
        description="no patient in two splits",
    )
    return Suite("patients", "The splits each patient is in.", patients, ["patient"], [alone])


def of_contents(contents: pd.DataFrame) -> Suite:
    alone = gxe.ExpectColumnValuesToBeInSet(
        column="splits", value_set=list(config.SPLITS), description="no hash in two splits"
    )
    listed = gxe.ExpectColumnValuesToBeInSet(
        column="in_index",
        value_set=["yes"],
        description="every image of a split is in the index, the same in every column",
    )
    about = "The splits each image's content (its sha256) is in."
    return Suite("contents", about, contents, ["path"], [alone, listed])
