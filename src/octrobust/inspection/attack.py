"""The pipeline's own attack on images that a person names, and the pictures of what it did."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from octrobust.attack import distances
from octrobust.config import Params
from octrobust.files import atomic_path
from octrobust.model.build import OCTClassifier
from octrobust.model.predict import predict
from octrobust.report.examples import Example
from octrobust.stages.attack import build_attack

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Attacked:
    """An image before and after the attack.

    Attributes:
        before: (1, S, S) float32 in [0, 1].
        after: (C, S, S), the same range; the image as it was where nothing was found.
        left: label of the class that the attack leaves: the true one, or the predicted one.
        predicted: labels, before and after.
        already: the model was wrong before any change; nothing was attacked.
        success: `after` is of another class, by the network in float32.
        png: `after`, rounded to 8 bits, as a file's bytes.
        success_png: these bytes, read back, are of another class too.
        l0, l1, l2, linf: distances of `after` from `before`, on pixels in [0, 1].
    """

    before: Pixels
    after: Pixels
    left: int
    predicted: tuple[int, int]
    already: bool
    success: bool
    png: bytes
    success_png: bool
    l0: float
    l1: float
    l2: float
    linf: float

    @property
    def root_mean_square(self) -> float:
        """Of the change, over all pixels."""
        return float(self.l2 / self.after.size**0.5)

    @property
    def change(self) -> Example:
        """As the report shows one."""
        return Example(
            before=self.before,
            after=self.after,
            path="",
            true_class="",
            found_class="",
            l2=self.l2,
            linf=self.linf,
            survives_rounding=self.success_png,
            of=1,
        )


def attack(
    network: OCTClassifier, params: Params, x: Pixels, labels: NDArray[np.int64]
) -> list[Attacked]:
    """Attack x (N, 1, S, S) float32 in [0, 1], away from labels (N,), by `params.attack`.

    What is returned is verified as the pipeline's stored sets are, and as PNG files beside.
    """
    settings = params.attack
    ead = build_attack(network, settings, params.compute, fill=False)  # few images, one waits
    clean = torch.from_numpy(x)
    given = clean if settings.channels == "grey" else clean.expand(-1, 3, -1, -1).contiguous()
    per_image = settings.binary_search_steps * settings.max_iter
    shown = "{l_bar}{bar}| {n:.0f}/{total} images [{elapsed}<{remaining}]"
    with tqdm(total=len(x), desc="attack", bar_format=shown, leave=False, disable=None) as bar:

        def advance(iterations: int) -> None:
            bar.update(iterations / per_image)

        result = ead.run(given, torch.from_numpy(labels), progress=advance)
    after = result.x_adv.contiguous().cpu()
    files = [_png(image) for image in after.numpy()]
    before_class, after_class = predict(network, given), predict(network, after)
    rounded = predict(network, torch.stack([_read(file) for file in files]))
    already = before_class != labels
    moved = {
        name: distances.measure(name, given, after, settings.beta).tolist()
        for name in ("l0", "l1", "l2", "linf")
    }
    return [
        Attacked(
            before=x[i],
            after=after[i].numpy(),
            left=int(labels[i]),
            predicted=(int(before_class[i]), int(after_class[i])),
            already=bool(already[i]),
            success=bool(not already[i] and after_class[i] != labels[i]),
            png=files[i],
            success_png=bool(
                not already[i] and after_class[i] != labels[i] and rounded[i] != labels[i]
            ),
            **{name: values[i] for name, values in moved.items()},
        )
        for i in range(len(x))
    ]


def _png(image: NDArray[np.floating[Any]]) -> bytes:
    """(C, S, S) in [0, 1] as 8 bits, grey or RGB."""
    pixels = np.rint(image * 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(out, "PNG")
    return out.getvalue()


def _read(png: bytes) -> torch.Tensor:
    """(C, S, S) float32 in [0, 1], of such bytes."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        pixels = np.array(image)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(planes.astype(np.float32) / np.float32(255))


def pictures(one: Attacked) -> dict[str, bytes]:
    """PNG files by what they show.

    The difference is amplified and grey: the middle is no change, what became brighter is lighter.
    Where nothing was found there is the image before alone.
    """
    found = {"before": _png(one.before)}
    if one.success:
        seen = np.clip(one.change.difference * one.change.amplification, -1, 1)
        found |= {"after": one.png, "difference": _png((seen[None] + 1) / 2)}
    return found


def write(folder: Path, paths: Sequence[Path], found: Sequence[Attacked]) -> list[dict[str, str]]:
    """Write every image's pictures to `folder`, each whole or not at all; their paths, by what they
    show. Files of the same names are replaced, others left alone."""
    written = []
    for stem, one in zip(_stems(paths), found, strict=True):
        files = pictures(one)
        named = {what: folder / f"{stem}-{what}.png" for what in files}
        for what, target in named.items():
            with atomic_path(target) as temporary:
                temporary.write_bytes(files[what])
        for stale in {"after", "difference"} - files.keys():  # of a run with other settings
            (folder / f"{stem}-{stale}.png").unlink(missing_ok=True)
        written.append({what: str(target) for what, target in named.items()})
    return written


def _stems(paths: Sequence[Path]) -> list[str]:
    """File names without extension; images that share one get a number."""
    names: dict[str, None] = {}
    for path in paths:
        others = (path.stem if number == 1 else f"{path.stem}-{number}" for number in count(1))
        names[next(other for other in others if other not in names)] = None
    return list(names)
