"""What the attack does beside the algorithm: speed-ups that keep its result, and options that
do not."""

from __future__ import annotations

from dataclasses import dataclass

SOLVERS = ("fista", "projection")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
SCREENS = ("every", "predicted")
FIRST_CONSTS = ("given", "linear")


@dataclass(frozen=True)
class Speed:
    """Speed-ups that keep the result up to rounding; all on. For measuring what each brings.
    Rounding to bf16 or TF32 is coarse: FISTA then ends elsewhere, image by image nearer or farther,
    so `presets/paper.yaml` searches in fp32.

    Attributes:
        precision: of the search; a success is verified in float32 all the same. ``auto``: bf16
            where the processor gains by it (AMX, tensor cores) and the network is one that
            `fold` knows, else fp32. tf32: on CUDA alone.
        fold: search on a folded copy of a network that `octrobust.model.fold` knows.
        reuse_first_gradient: every search step starts at the clean image: its gradient is
            computed once, and a step that would never leave the image fails without running.
        defer_verdicts: candidates wait until the original network can be asked about a whole
            batch of them, or a search step ends.
        refill: a finished image leaves the batch at once and the next takes its place.
        fill: the exception: a price, paid so that an image's result does not depend on how many
            others are attacked with it. Every network sees batches of one size (16 images on a
            CPU, 64 on CUDA), short ones filled up. Without, a few images cost much less; all in
            flight are one batch, and rounding depends on its size: an image's last digits do, and
            at large learning rates, where FISTA amplifies them, its distance (3.5 % seen at 0.5).
    """

    precision: str = "auto"
    fold: bool = True
    reuse_first_gradient: bool = True
    defer_verdicts: bool = True
    refill: bool = True
    fill: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class Shortcuts:
    """Options that change the result of the published algorithm; all off. What each gives and
    costs is in the benchmark's ablation: in a short search `patience` and `first_const` may end
    many times as far away.

    Attributes:
        solver: ``fista``: the published algorithm. ``projection``: the decision rule's distance
            minimised by `octrobust.attack.projection`, which stops when it has settled, after
            some 12 to 19 passes whatever the number of iterations asked for; images that it finds
            nothing for get the published algorithm after it. Of the options below it has patience
            alone.
        screen: which iterates are asked about. ``every``: all that would improve on what was
            found. ``predicted``: those that the forward and backward at the momentum point
            predict to succeed, to first order; no forward of their own is spent on the others.
        patience: end a search step for an image once its loss has not fallen for so many
            iterations; None: never. projection: end an image's search once its distance has not
            fallen by 1 % for so many; None: 5.
        first_const: ``given``: initial_const. ``linear``: the c at which the hinge, linearised
            at the clean image, balances the squared distance to its boundary, box and L1 term
            left out; initial_const where that is larger.
        warm_start: a search step starts from the best example found so far, if there is one, not
            from the clean image.
    """

    solver: str = "fista"
    screen: str = "every"
    patience: int | None = None
    first_const: str = "given"
    warm_start: bool = False

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}")
        of_fista = (self.screen, self.first_const, self.warm_start)
        if self.solver == "projection" and of_fista != ("every", "given", False):
            raise ValueError("screen, first_const and warm_start do nothing for solver projection")
        if self.screen not in SCREENS:
            raise ValueError(f"screen must be one of {', '.join(SCREENS)}")
        if self.first_const not in FIRST_CONSTS:
            raise ValueError(f"first_const must be one of {', '.join(FIRST_CONSTS)}")
        if self.patience is not None and not (
            isinstance(self.patience, int) and self.patience >= 1
        ):
            raise ValueError("patience must be a positive integer or None")


@dataclass
class Spent:
    """Images passed through a network.

    Attributes:
        gradients: forward and backward of the search.
        screens: forward alone, of the search.
        verdicts: forward alone, of the original network.
        filled_gradients, filled_forwards: what filled up the batches of the first, and of the
            other two.
    """

    gradients: int = 0
    screens: int = 0
    verdicts: int = 0
    filled_gradients: int = 0
    filled_forwards: int = 0
