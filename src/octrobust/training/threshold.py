"""Where a fitted network of two classes draws the line between them (threshold moving).

Adversarial training from few patients leaves a network that orders images well and draws the line
in the wrong place: one class is then far easier to attack than the other. An attack climbs the
margin, whose gradient does not depend on where the line is, so the line can be placed afterwards by
the margins of attacked images.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from octrobust.data.arrays import Batches
from octrobust.distributed import place
from octrobust.distributed.group import put_together
from octrobust.model.build import OCTClassifier
from octrobust.model.predict import outputs
from octrobust.training.objectives import Objective


def best_threshold(scores: NDArray[np.floating], targets: NDArray[np.int64]) -> float:
    """The threshold between two scores above which calling an image class 1 is right most often.

    Args:
        scores: (N,) finite, of class 1 over class 0.
        targets: (N,) 0 or 1, both there.

    Returns:
        The middle of the widest gap between two scores that is best; 0 if all scores are equal.
    """
    order = np.argsort(scores, kind="stable")
    sorted_scores, positive = scores[order].astype(np.float64), targets[order] == 1
    # Of a line between two neighbours: class 0 up to the first, class 1 from the second on.
    right = (np.cumsum(~positive) + positive.sum() - np.cumsum(positive))[:-1]
    gaps = np.diff(sorted_scores)
    if not (gaps > 0).any():
        return 0.0
    best = right[gaps > 0].max()
    widest = int(np.where((right == best) & (gaps > 0), gaps, -1.0).argmax())
    return float(sorted_scores[widest] + gaps[widest] / 2)


def place_threshold(model: OCTClassifier, objective: Objective, *images: Batches) -> float:
    """Move the line to where most images, as the objective's challenge leaves them, are on their
    side, by the last layer's bias.

    Args:
        model: in eval mode, changed in place; alike on all ranks, which take batches in turn.
        objective: of the fit, with a challenge.
        images: of validation, and of training as well: the few patients of a small validation
            split alone would draw the line to suit themselves. Every image counts once, so where
            training images are told apart without an error, validation images decide where in
            between, and where they are not, the many outvote the few.

    Returns:
        How far it moved, in logits of class 1 over class 0.
    """
    device = next(model.parameters()).device
    own = {}
    shown = tqdm(
        chain.from_iterable(images),
        "the line between the classes",
        sum(len(part) for part in images),
        unit="batch",
        leave=False,
    )
    for number, (pixels, targets) in enumerate(shown):
        if number % place.ranks() != place.rank():
            continue
        x = torch.from_numpy(pixels).to(device, memory_format=torch.channels_last)
        worst = objective.challenge(model, x, torch.from_numpy(targets).to(device))
        scores = outputs(model, x if worst is None else worst).diff(dim=1)[:, 0]
        own[f"{number:08d}"] = [scores.tolist(), targets.tolist()]
    parts = [part for _, part in sorted(put_together(own).items())]
    moved = best_threshold(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    with torch.no_grad():
        bias = model.network.get_parameter("logits.bias")
        bias.add_(torch.tensor([moved / 2, -moved / 2], device=device))
    return moved
