"""The fit loop: seeded, resumable, best epoch by validation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from octrobust.config import Fit
from octrobust.data.arrays import Batches
from octrobust.distributed import place
from octrobust.distributed.group import gather, put_together
from octrobust.distributed.share import Share, own_share
from octrobust.errors import UserError
from octrobust.model.build import OCTClassifier
from octrobust.model.device import use_bf16
from octrobust.training.checkpoint import load_checkpoint, save_checkpoint
from octrobust.training.datasets import Augmented, BalancedBatches
from octrobust.training.objectives import Clean, Objective
from octrobust.training.parallel import OwnRows, learner

# Of the history's rows, where the objective has a challenge; the second where the line between the
# classes is moved afterwards.
ROBUST, ROBUST_AUC = "validation_robust_accuracy", "validation_robust_auc"


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves: `model` holds the best epoch's weights; `history` has a row an epoch."""

    history: list[dict[str, float]]
    best_epoch: int
    train_seconds: float  # wall clock, validation included, over all resumed parts
    bf16: bool
    ranks: list[int]  # how many there were, over all resumed parts


def fit(
    model: OCTClassifier,
    train: Augmented,
    validation: Batches,
    settings: Fit,
    *,
    checkpoint: Path,
    objective: Objective | None = None,
    patience: int | None = None,
    average: float | None = None,
    line_moves: bool = False,
    workers: int = 0,
    label: str = "train",
) -> FitResult:
    """Train `model` in place and leave it with the weights of its best epoch, in eval mode.

    The best epoch has the highest accuracy on the validation images, as the objective's challenge
    leaves them; then on the clean ones; then it is the latest. (See `line_moves` for another
    order.) A checkpoint is written every epoch; a killed fit, called again, goes on at the next one
    and ends with the same weights on the same machine.

    Called on every rank of a stage, it trains one model on all of them, as one process would but
    for rounding (docs/how-to/several-machines.md); the first rank writes the checkpoint, which all
    read.

    Args:
        model: on its device; frozen children stay as they are, to the bit.
        train: the augmented training images.
        validation: gone through once an epoch.
        checkpoint: file for unfinished work; the caller removes it when the result is stored.
        objective: what is minimised; None: cross-entropy on the images as they come.
        patience: end after so many epochs without a better one; None: never.
        average: what is validated and kept is a moving average of the weights, of which each step
            keeps this share (Izmailov et al. 2018; against robust overfitting, Gowal et al.
            2020); None: the weights as they are.
        line_moves: `octrobust.training.threshold` places the line between the classes afterwards,
            so the best epoch is the one that orders challenged validation images best (ROC AUC):
            none is worse for a line that will not stay. The objective must have a challenge.
        workers: loader processes; the images drawn do not depend on it.
        label: what the progress bar says.

    Raises:
        UserError: fewer images than a batch, fewer images in a batch than ranks, or a loss that is
            no longer finite.
    """
    batches = BalancedBatches(train.targets, settings.batch_size, settings.seed)
    if len(batches) == 0:
        raise UserError(
            f"{label}: {len(train)} training images do not fill one batch of "
            f"{settings.batch_size}; lower batch_size"
        )
    share = own_share(settings.batch_size)
    sampler = OwnRows(batches, share) if share else batches
    loader = DataLoader(train, batch_sampler=sampler, num_workers=workers)
    run = _Run(model, settings, len(batches), objective or Clean(), average, line_moves, share)
    state = load_checkpoint(checkpoint)
    if state is not None:
        run.restore(state)
    if len(set(gather(len(run.history)))) > 1:
        raise UserError(
            f"{label}: the ranks found different checkpoints; is the folder of each the same, and "
            "mounted as docs/how-to/several-machines.md has it? Run the same command again"
        )
    for epoch in range(len(run.history), settings.epochs):
        if patience is not None and epoch - run.best_epoch >= patience:
            break
        started = time.perf_counter()
        batches.epoch = epoch
        # Dropout draws from torch's own generator: fixed by epoch, so that resuming repeats it.
        torch.manual_seed(settings.seed * 100_003 + epoch)
        bar = tqdm(loader, desc=f"{label} {epoch + 1}/{settings.epochs}", unit="batch", leave=False)
        row = {"epoch": epoch + 1.0, **run.train_epoch(bar), **run.validate(validation)}
        run.finish_epoch(row, time.perf_counter() - started)
        if place.is_first():
            save_checkpoint(checkpoint, run.state())
        tqdm.write(_describe(label, row, settings.epochs))
    model.network.load_state_dict(run.best)
    model.eval()
    return FitResult(run.history, run.best_epoch, run.seconds, run.bf16, sorted(run.ranks))


def _describe(label: str, row: dict[str, float], epochs: int) -> str:
    robust, auc = row.get(ROBUST), row.get(ROBUST_AUC)
    return (
        f"{label} epoch {row['epoch']:.0f}/{epochs}: "
        f"loss {row['train_loss']:.3f} accuracy {row['train_accuracy']:.3f} | "
        f"validation loss {row['validation_loss']:.3f} accuracy {row['validation_accuracy']:.3f}"
        + ("" if robust is None else f" robust {robust:.3f}")
        + ("" if auc is None else f" AUC {auc:.3f}")
    )


def _merit(row: dict[str, float]) -> tuple[float, float]:
    if ROBUST_AUC in row:
        return row[ROBUST_AUC], 0.0
    accuracy = row["validation_accuracy"]
    return row.get(ROBUST, accuracy), accuracy


class _Run:
    """The state of a fit: everything a checkpoint holds, and one epoch's steps over it."""

    def __init__(
        self,
        model: OCTClassifier,
        settings: Fit,
        steps_an_epoch: int,
        objective: Objective,
        average: float | None,
        line_moves: bool,
        share: Share | None,
    ) -> None:
        self.model, self.objective, self.share = model, objective, share
        self.line_moves = line_moves
        self.ranks = {place.ranks()}
        self.average: AveragedModel | None = None
        if average is not None:
            follow = get_ema_multi_avg_fn(average)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
        self.device = next(model.parameters()).device
        self.bf16 = use_bf16(settings.precision, self.device)
        self.optimizer = _optimizer(model, settings)
        self.steps_an_epoch, self.total = steps_an_epoch, steps_an_epoch * settings.epochs
        self.scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
        if settings.schedule == "cosine":
            self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.total)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.seconds = 0.0

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @property
    def kept(self) -> OCTClassifier:
        """What is validated, and kept if it is the best."""
        return self.average.module if self.average else self.model  # type: ignore[return-value]

    def train_epoch(self, batches: tqdm[Any]) -> dict[str, float]:
        self.model.train()
        outputs = learner(self.model, self.share) if self.share else None
        # Averaged over the ranks, this makes the mean over the whole batch of unequal shares.
        weight = len(self.share) * place.ranks() / self.share.total if self.share else 1.0
        rate = self.optimizer.param_groups[0]["lr"]
        loss_sum, correct, seen = 0.0, 0.0, 0
        for step, (images, targets) in enumerate(batches, len(self.history) * self.steps_an_epoch):
            x = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            y = targets.to(self.device, non_blocking=True)
            self.optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                done = step / self.total
                loss, logits = self.objective.loss(self.model, x, y, done, outputs, self.share)
            (loss * weight).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            loss_sum += loss.item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
            seen += len(y)
            batches.set_postfix(loss=f"{loss_sum / seen:.3f}", accuracy=f"{correct / seen:.3f}")
        everywhere = zip(*gather([loss_sum, correct, seen]), strict=True)
        loss_sum, correct, seen = (sum(part) for part in everywhere)
        if not np.isfinite(loss_sum):
            raise UserError(
                f"training: the loss is no longer finite at learning rate {rate:g}; lower it"
            )
        return {
            "train_loss": loss_sum / seen,
            "train_accuracy": correct / seen,
            "learning_rate": rate,
        }

    def validate(self, validation: Batches) -> dict[str, float]:
        """Ranks take batches in turn; the sums are added in order, as by one process."""
        self.kept.eval()
        own = {}
        for number, (images, targets) in enumerate(validation):
            if number % place.ranks() == place.rank():
                own[f"{number:08d}"] = self._measure(images, targets)
        batches = [sums for _, sums in sorted(put_together(own).items())]
        pairs = [sums.pop("pairs", []) for sums in batches]
        total = {name: sum(sums[name] for sums in batches) for name in batches[0]}
        seen = total.pop("seen")
        row = {name: value / seen for name, value in total.items()}
        if self.line_moves:
            row[ROBUST_AUC] = float(roc_auc_score(*np.concatenate(pairs).T))
        return row

    def _measure(self, images: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, Any]:
        """Sums over a validation batch; where the line moves, of every image its class and its
        score as challenged too."""
        x = torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)
        y = torch.from_numpy(targets).to(self.device)
        with self._autocast():
            worst = self.objective.challenge(self.kept, x, y)
        logits = self._predict(x)
        sums: dict[str, Any] = {
            "seen": len(targets),
            "validation_loss": cross_entropy(logits, y, reduction="sum").item(),
            "validation_accuracy": float((logits.argmax(1) == y).sum().item()),
        }
        if worst is not None:
            attacked = self._predict(worst)
            sums[ROBUST] = float((attacked.argmax(1) == y).sum().item())
            if self.line_moves:
                sums["pairs"] = torch.stack([y, attacked[:, 1] - attacked[:, 0]], 1).tolist()
        return sums

    def _predict(self, x: Tensor) -> Tensor:
        with torch.inference_mode(), self._autocast():
            logits: Tensor = self.kept(x)
        return logits.float()

    def finish_epoch(self, row: dict[str, float], seconds: float) -> None:
        best = self.history[self.best_epoch - 1] if self.history else None
        self.history.append(row)
        self.seconds += seconds
        # Of equals the later, since the rate has come down; not the one of lower loss: early on,
        # outputs blown up by young BatchNorm statistics can have a loss of nearly nothing.
        if best is None or _merit(row) >= _merit(best):
            self.best_epoch = len(self.history)
            state = self.kept.network.state_dict()
            self.best = {key: value.detach().clone() for key, value in state.items()}

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.network.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "ranks": sorted(self.ranks),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.network.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.history, self.best = state["history"], state["best"]
        self.best_epoch, self.seconds = state["best_epoch"], state["seconds"]
        self.ranks |= set(state["ranks"])


def _optimizer(model: nn.Module, settings: Fit) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UserError("train.variants: freeze_through leaves no parameter to train")
    common: dict[str, Any] = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "fused": True,  # one pass over the weights, not one for every operation
    }
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, **common)
    return torch.optim.AdamW(parameters, **common)
