"""Kermany's set of retinal scans (OCT2017), as it really is.

On Kaggle the images lie in ``OCT2017 /`` (with the space) and again, the same bytes, in
``oct2017/OCT2017 /``; Mendeley's second version is a tar.gz, and its third a zip that has chest
X-rays beside the scans, with a NORMAL class of their own. All hold macOS's ``.DS_Store``,
``__MACOSX/`` and ``._*``. The official train, val and test folders share patients, so they are
put together and split anew by patient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from octrobust.data.archives import extract
from octrobust.data.folder import Candidate, files_under, is_image, no_images, readable
from octrobust.data.index import parse_name
from octrobust.errors import UserError
from octrobust.files import sha256_file

DATASET = "paultimothymooney/kermany2018"
_CHEST = ("chest_xray", "chestxray")
_GIVE = "give data.root or data.archive, a copy on disk"


def find(root: Path, classes: Sequence[str]) -> Iterator[Candidate]:
    """The scans of `classes` anywhere under `root`, in any of the set's forms.

    Raises:
        UserError: a class has no images, or an image has a foreign name.
    """
    inside = ((name, path) for name, path in files_under(root) if _is_scan(name, classes))
    seen: set[str] = set()
    yield from _candidates(inside, root, seen)
    for label in classes:
        if label not in seen:
            raise no_images(label, root / "**" / label, root)


def unpack(
    archive: Path, sha256: str | None, classes: Sequence[str], target: Path
) -> Iterator[Candidate]:
    """The scans of `classes` in a zip or tar archive, unpacked into the folder `target`.

    sha256: what the archive's checksum must be, hexadecimal; None: not checked.

    Raises:
        UserError: the archive is missing, not the one meant, damaged or refused, or as for `find`.
    """
    if not archive.is_file():
        raise UserError(f"data.archive: {archive} is not a file")
    found = sha256_file(archive) if sha256 else None
    if sha256 and found != sha256.lower():
        raise UserError(
            f"data.archive: the sha256 of {archive} is {found}, where data.sha256 is "
            f"{sha256.lower()}: download it again, or correct data.sha256"
        )
    inside = extract(archive, target, lambda name: _is_scan(name, classes))
    seen: set[str] = set()
    yield from _candidates(inside, archive, seen)
    for label in classes:
        if label not in seen:
            raise UserError(f"data.archive: {archive} has no folder {label} with images")


def download() -> Path:
    """The folder that kagglehub keeps the set in, fetched if it is not there yet (11 GB).

    Raises:
        UserError: kagglehub is not installed, or cannot fetch.
    """
    try:
        import kagglehub
    except ImportError:
        raise UserError(
            f"data.source kermany: {_GIVE}, or `uv pip install -e '.[kaggle]'` to fetch it"
        ) from None
    try:
        return Path(kagglehub.dataset_download(DATASET))
    except Exception as error:  # no base is common to its errors and those of the network
        problem = str(error) or type(error).__name__
        raise UserError(
            f"data.source kermany: {DATASET} cannot be fetched ({problem}): "
            f"mend the connection, or {_GIVE}"
        ) from None


def _is_scan(inside: PurePosixPath, classes: Sequence[str]) -> bool:
    chest = any(part.lower().startswith(_CHEST) for part in inside.parts)
    return inside.parent.name in classes and is_image(inside) and not chest


def _candidates(
    inside: Iterable[tuple[PurePosixPath, Path]], source: Path, seen: set[str]
) -> Iterator[Candidate]:
    """Those of `inside`, and their labels into `seen`."""
    foreign, example = 0, ""
    for place, path in inside:
        label, name = place.parent.name, _name(place)
        seen.add(label)
        if name is None:
            foreign, example = foreign + 1, min(example or str(place), str(place))
        else:
            yield Candidate(path, readable(str(place)), label, name)
    if foreign:
        raise UserError(
            f"{source}: {foreign} images are not named CLASS-PATIENT-N.jpeg after their "
            f"folder, as '{example}': data.source folder takes any name"
        )


def _name(inside: PurePosixPath) -> str | None:
    label = inside.parent.name
    patient, image = parse_name(inside.name, label)
    if not patient or inside.suffix.lower() not in (".jpeg", ".jpg"):
        return None
    return f"{label}-{patient}-{image}.jpeg"
