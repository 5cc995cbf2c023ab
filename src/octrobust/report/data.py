"""What the report says of the images: counts, checks, and what they can speak about."""

from __future__ import annotations

from collections.abc import Iterable

from octrobust.config import SPLITS, Params
from octrobust.report.results import Results
from octrobust.report.tables import Table
from octrobust.report.wording import NONE

_STAMPS = {
    "phantom": "Synthetic images (phantom), not patients. Not for clinical use.",
    "kermany": "Images of one public set, Kermany 2018. Not for clinical use.",
}
_OWN = "The user's own images, of one selection. Not for clinical use."  # any other source


def stamp(params: Params) -> str:
    """The same in a line, to stand beside every picture."""
    return _STAMPS.get(params.data.source, _OWN)


def data_statement(results: Results, params: Params) -> str:
    """One or two sentences: what these results can and cannot speak about."""
    test = results.split.get("test", {}).get("images", "?")
    images = results.ingest.get("images", "?")
    if params.data.source == "phantom":
        return (
            "The images are synthetic, drawn from a seed by the built-in phantom. The numbers "
            "show that the pipeline works; they say nothing about patients or about the paper's "
            "data."
        )
    if params.data.source != "kermany":
        return (
            f"The images are the user's own. The results hold for these "
            f"{images} images only ({test} of them for testing); another clinic, scanner or "
            "selection may give quite different ones."
        )
    return (
        f"The images are from the public Kermany 2018 set (OCT2017): {images} were read, {test} "
        "are for testing. One source of images: the results say little about other scanners, "
        "clinics or patients."
    )


def data_table(results: Results) -> Table:
    """Images and patients by split and class."""
    classes = results.evaluation["classes"]
    rows = []
    for split in SPLITS:
        counts = results.split.get(split)
        if not counts:
            continue
        by_class = counts.get("classes", {})
        each = [_images(by_class.get(label)) for label in classes]
        rows.append((split, str(counts["images"]), *each, _patients(counts.get("patients"))))
    return Table(
        ("Split", "Images", *classes, "Patients"),
        rows,
        "Train fits the models, validation picks the epoch, test gives every number above, and "
        "extra brings further originals for the hardening.",
        bold=1,
    )


def _images(counts: object) -> str:
    found = counts.get("images") if isinstance(counts, dict) else counts
    return NONE if found is None else str(found)


def _patients(count: int | None) -> str:
    return str(count) if count else "unknown"


def facts(results: Results) -> Iterable[tuple[str, str]]:
    """What ingest found and what was checked, as terms and their descriptions."""
    found = results.ingest
    for key, label in (
        ("images", "Images"),
        ("patients", "Patients"),
        ("duplicates", "Duplicates left out"),
        ("quarantined", "Unreadable, quarantined"),
    ):
        if key in found:
            value = found[key]
            yield label, str(len(value) if isinstance(value, (list, dict)) else value)
    both = results.split.get("patients_in_two_splits")
    if both is None:
        both = results.validation.get("patients_in_two_splits")
    if both is not None:
        yield "Patients in two splits", str(both)
    if "look_alikes_in_two_splits" in results.validation:
        pairs, strangers = (
            results.validation[f"look_alikes_{which}"]
            for which in ("in_two_splits", "of_two_patients")
        )
        yield (
            "Look-alikes in two splits",
            f"{pairs} pairs, {strangers} of them of two patients, by a perceptual hash",
        )
