"""The fit loop: frozen stays frozen, resuming repeats, batches are balanced."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octrobust.config import Augmentation, Fit, Inner, Model
from octrobust.errors import UserError
from octrobust.model.build import OCTClassifier, build
from octrobust.training import fit as fit_module
from octrobust.training.adversarial import Online, Trades
from octrobust.training.datasets import (
    Augmented,
    BalancedBatches,
    GreyPixels,
    Source,
    StoredFloats,
    _crop,
)
from octrobust.training.fit import ROBUST, ROBUST_AUC, FitResult, fit
from octrobust.training.objectives import Clean
from tests.conftest import blobs

SIDE = 75  # the smallest the network takes
FIT = Fit(
    optimizer="adamw",
    learning_rate=1e-3,
    momentum=0.9,
    weight_decay=0.01,
    schedule="cosine",
    batch_size=4,
    epochs=3,
    precision="fp32",
    seed=11,
    augmentation=Augmentation(crop_scale_min=0.5, flip=0.0, rotation=0.0, contrast=0.0),
)


def training_set(count: int = 12) -> Augmented:
    images, targets = blobs(count, 86, seed=0)
    source = Source(GreyPixels((images[:, 0] * 255).astype(np.uint8)), targets)
    return Augmented([source], SIDE, FIT.augmentation, FIT.seed)


VALIDATION = [blobs(6, SIDE, seed=5)]


def network(frozen: str | None = None) -> OCTClassifier:
    return build(Model(weights="none", standardisation="none", dropout=0.6), frozen, seed=3)


def state(model: OCTClassifier) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.network.state_dict().items()}


@pytest.mark.parametrize("last", ["repeat_1", "repeat_2"])
def test_frozen_tensors_and_buffers_are_bit_identical_after_training(
    last: str, tmp_path: Path
) -> None:
    model = network(last)
    before = state(model)
    fit(
        model,
        training_set(8),
        VALIDATION,
        FIT.model_copy(update={"epochs": 1}),
        checkpoint=tmp_path / "c.pt",
    )
    after = state(model)
    for key, value in before.items():
        frozen = key.split(".")[0] in model.frozen
        if frozen:
            assert torch.equal(value, after[key]), key
    assert not torch.equal(before["logits.weight"], after["logits.weight"])
    key = "mixed_7a.branch0.0.bn.running_mean"
    assert not torch.equal(before[key], after[key])


@pytest.mark.parametrize("average", [None, 0.6])
def test_a_killed_fit_goes_on_and_ends_the_same(
    average: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(model: OCTClassifier, name: str) -> FitResult:
        path = tmp_path / name
        return fit(model, training_set(), VALIDATION, FIT, checkpoint=path, average=average)

    whole = network()
    expected = run(whole, "whole.pt")

    calls = 0
    save = fit_module.save_checkpoint

    def killed(path: Path, value: dict[str, Any]) -> None:
        nonlocal calls
        save(path, value)
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run(network(), "cut.pt")
    monkeypatch.setattr(fit_module, "save_checkpoint", save)
    resumed = network()
    torch.manual_seed(12345)  # another process: another state of torch's generator
    result = run(resumed, "cut.pt")
    assert result.history == expected.history
    assert result.best_epoch == expected.best_epoch
    for key, value in state(whole).items():
        assert torch.equal(value, state(resumed)[key]), key


def test_weights_do_not_depend_on_the_loader_workers(tmp_path: Path) -> None:
    def weights(workers: int) -> dict[str, Tensor]:
        model, settings = network("repeat_2"), FIT.model_copy(update={"epochs": 2})
        path = tmp_path / f"{workers}.pt"
        fit(model, training_set(), VALIDATION, settings, checkpoint=path, workers=workers)
        return state(model)

    alone, helped = weights(0), weights(2)
    for key, value in alone.items():
        assert torch.equal(value, helped[key]), key


def test_what_is_kept_is_the_average(tmp_path: Path) -> None:
    def kept(average: float | None) -> torch.Tensor:
        model, settings = network("repeat_3"), FIT.model_copy(update={"epochs": 1})
        path = tmp_path / f"{average}.pt"
        fit(model, training_set(), VALIDATION, settings, checkpoint=path, average=average)
        return model.network.logits.weight.detach()

    plain, first, last = kept(None), kept(1 - 1e-6), kept(1e-9)
    assert torch.allclose(last, plain)
    assert (first - plain).norm() > 1e-3  # where the first of three steps led


def test_a_damaged_checkpoint_starts_over(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(b"half a file")
    settings = FIT.model_copy(update={"epochs": 1})
    result = fit(network(), training_set(4), VALIDATION, settings, checkpoint=tmp_path / "c.pt")
    assert len(result.history) == 1


def test_a_flipped_byte_in_a_checkpoint_starts_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch reads on without a word: the fit would end with other bytes."""
    path, settings = tmp_path / "c.pt", FIT.model_copy(update={"epochs": 1})
    whole = fit(network(), training_set(4), VALIDATION, settings, checkpoint=path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    capsys.readouterr()
    again = fit(network(), training_set(4), VALIDATION, settings, checkpoint=path)
    assert "checkpoint cannot be used, starting over" in capsys.readouterr().out
    assert again.history == whole.history


def test_ranks_that_found_different_checkpoints_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "gather", lambda value: [value, value + 1])
    with pytest.raises(UserError, match="different checkpoints"):
        fit(network(), training_set(4), VALIDATION, FIT, checkpoint=tmp_path / "c.pt")


def test_too_few_images_for_a_batch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch"):
        fit(network(), training_set(2), VALIDATION, FIT, checkpoint=tmp_path / "c.pt")


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    settings = FIT.model_copy(update={"learning_rate": 1e18, "optimizer": "sgd"})
    with pytest.raises(UserError, match="no longer finite"):
        fit(network(), training_set(), VALIDATION, settings, checkpoint=tmp_path / "c.pt")


def test_batches_are_balanced_and_cover_the_larger_class() -> None:
    targets = np.array([0] * 30 + [1] * 7)
    sampler = BalancedBatches(targets, 6, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 10
    for batch in batches:
        assert sum(targets[i] for _, i in batch) == 3
    drawn = [i for batch in batches for _, i in batch]
    assert {i for i in drawn if targets[i] == 0} == set(range(30))
    assert {i for i in drawn if targets[i] == 1} == set(range(30, 37))
    sampler.epoch = 1
    assert [i for b in sampler for _, i in b] != drawn
    sampler.epoch = 0
    assert [i for b in sampler for _, i in b] == drawn


def test_an_augmented_image_depends_on_seed_epoch_and_position_alone() -> None:
    one, two = training_set(), training_set()
    first = one[(1, 4)][0]
    for other in [(1, 5), (2, 4), (0, 0)]:
        two[other]
    assert torch.equal(two[(1, 4)][0], first)
    assert not torch.equal(one[(2, 4)][0], first)
    assert first.shape == (1, SIDE, SIDE)
    assert first.min() >= 0
    assert first.max() <= 1


def test_sources_are_joined_in_order() -> None:
    pixels = np.full((3, 80, 80), 51, np.uint8)
    floats = np.full((2, 3, SIDE, SIDE), 0.75, np.float32)
    sources = [
        Source(GreyPixels(pixels, channels=3), np.array([0, 1, 0])),
        Source(GreyPixels(np.empty((0, 80, 80), np.uint8), 3), np.empty(0, np.int64)),
        Source(StoredFloats(floats), np.array([1, 1])),
    ]
    joined = Augmented(sources, SIDE, FIT.augmentation, 0)
    assert len(joined) == 5
    assert [joined[(0, i)][1] for i in range(5)] == [0, 1, 0, 1, 1]
    torch.testing.assert_close(joined[(0, 2)][0], torch.full((3, SIDE, SIDE), 0.2))
    torch.testing.assert_close(joined[(0, 3)][0], torch.full((3, SIDE, SIDE), 0.75))


def test_crops_stay_inside_and_have_the_area_asked_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        top, left, height, width = _crop(91, 120, 0.3, rng)
        assert 0 <= top <= 91 - height
        assert 0 <= left <= 120 - width
        assert 0.28 <= height * width / (91 * 120) <= 1
        assert 0.7 <= width / height <= 1.4


def augmented(image: NDArray[np.uint8], **changes: float) -> list[Tensor]:
    """Of this image (H, W), sixteen draws; the whole of it unless `changes` says otherwise."""
    whole = {"crop_scale_min": 1.0, "flip": 0.0, "rotation": 0.0, "contrast": 0.0}
    source = Source(GreyPixels(image[None]), np.array([0]))
    data = Augmented([source], len(image), Augmentation(**(whole | changes)), seed=1)
    return [data[(epoch, 0)][0][0] for epoch in range(16)]


def test_rotations_reach_as_far_as_asked_and_no_farther() -> None:
    bar = np.zeros((81, 81), np.uint8)
    bar[38:43, 10:71] = 255

    def angle(image: Tensor) -> float:  # of the bar, from its second moments
        y, x = torch.meshgrid(*[torch.arange(81.0) - 40] * 2, indexing="ij")
        xx, yy, xy = ((image * m).sum() for m in (x * x, y * y, x * y))
        return math.degrees(0.5 * math.atan2(2 * xy, xx - yy))

    assert max(abs(angle(image)) for image in augmented(bar)) < 0.1
    turned = [angle(image) for image in augmented(bar, rotation=20.0)]
    assert all(abs(a) < 20.5 for a in turned)
    assert min(turned) < -8
    assert max(turned) > 8


def test_contrast_changes_brightness_within_its_share_and_keeps_the_order_of_pixels() -> None:
    image = np.random.default_rng(0).integers(60, 120, (81, 81), dtype=np.uint8)
    plain = augmented(image)[0]
    means, spreads = [], []
    for changed in augmented(image, contrast=0.2):
        order = plain.flatten().argsort(stable=True)
        assert (changed.flatten()[order].diff() >= -1e-6).all()
        means.append(float(changed.mean() / plain.mean()))
        spreads.append(float(changed.std() / changed.mean() / (plain.std() / plain.mean())))
    for ratios in (means, spreads):
        assert 0.799 <= min(ratios) < 0.92
        assert 1.08 < max(ratios) <= 1.201


def test_the_best_epoch_has_the_highest_accuracy_and_is_the_latest_of_equals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([(0.5, 9.0), (0.9, 1e-9), (0.9, 0.2), (0.7, 0.1)])

    def validate(*_: object) -> dict[str, float]:
        accuracy, loss = next(scores)
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    monkeypatch.setattr(fit_module._Run, "validate", validate)
    settings = FIT.model_copy(update={"epochs": 4})
    model = network("repeat_3")
    result = fit(model, training_set(4), VALIDATION, settings, checkpoint=tmp_path / "c.pt")
    assert result.best_epoch == 3


INNER = Inner(
    norm="L2",
    budget=1.5,
    steps=2,
    ramp=0.5,
    weight=None,
    validation_budget=0.5,
    validation_steps=2,
)


def challenged(model: nn.Module, x: Tensor, y: Tensor, budget: float, steps: int) -> Tensor:
    """Images at their worst by L2, as validation sees them."""
    inner = INNER.model_copy(update={"validation_budget": budget, "validation_steps": steps})
    return Online(inner, "fp32").challenge(model, x, y)


def test_the_attack_in_training_climbs_the_networks_own_margin() -> None:
    """On Inception-ResNet, where it asks a folded copy, beside autograd on the network itself."""
    model, (x, y) = network("repeat_3").train(), map(torch.from_numpy, blobs(4, 80, seed=3))
    found = challenged(model, x, y, 0.5, 1)
    assert model.training
    assert not model.network.repeat_1.training  # frozen: stays in eval mode
    at = x.clone().requires_grad_(True)
    logits = model.eval()(at)
    own = logits.gather(1, y[:, None]).squeeze(1)
    (gradient,) = torch.autograd.grad((logits.sum(1) - 2 * own).sum(), at)
    change, slope = (found - x).flatten(1), gradient.flatten(1)
    inside = ((found > 0) & (found < 1)).flatten(1)  # elsewhere the box bends the step
    assert torch.cosine_similarity(change * inside, slope * inside).min() > 0.98


@pytest.mark.parametrize("kind", [Online, Trades])
def test_training_on_fresh_adversarials_makes_a_network_harder_to_turn(
    kind: type[Online], small_network: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """Against the same network trained as long on clean images, under the same attack."""
    reference, held_out, labels = small_network
    x, y = (torch.from_numpy(part) for part in blobs(64, 16, seed=0))
    inner = INNER.model_copy(update={"steps": 3, "weight": 3.0 if kind is Trades else None})

    def right(objective: Online | Clean) -> int:
        model = copy.deepcopy(reference)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        torch.manual_seed(0)
        model.train()
        for step in range(40):
            loss, logits = objective.loss(model, x, y, step / 40)
            assert logits.shape == (64, 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert model.training
        model.eval()
        worst = challenged(model, held_out, labels, 1.4, 10)
        with torch.no_grad():
            return int((model(worst).argmax(1) == labels).sum())

    assert right(kind(inner)) >= right(Clean()) + 8  # of 24; seen: 18 and 16 against 1


def test_the_budget_grows_over_the_ramp() -> None:
    online = Online(INNER)
    assert [online.budget(done) for done in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.75, 1.5, 1.5]
    assert Online(INNER.model_copy(update={"ramp": 0.0})).budget(0.0) == 1.5


def test_the_attack_in_training_leaves_no_gradient_behind(
    small_network: tuple[nn.Module, Tensor, Tensor],
) -> None:
    model, x, y = small_network
    model = copy.deepcopy(model).train()
    worst = challenged(model, x, y, 0.5, 2)
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert not worst.requires_grad
    assert (worst - x).flatten(1).norm(dim=1).max() <= 0.5 + 1e-5


def test_an_online_fit_repeats_itself_and_chooses_by_robust_accuracy(tmp_path: Path) -> None:
    settings = FIT.model_copy(update={"epochs": 2})
    models = [network("repeat_3"), network("repeat_3")]
    results = [
        fit(
            model,
            training_set(8),
            VALIDATION,
            settings,
            checkpoint=tmp_path / f"{number}.pt",
            objective=Online(INNER),
        )
        for number, model in enumerate(models)
    ]
    assert results[0].history == results[1].history
    assert all(ROBUST in row for row in results[0].history)
    assert torch.equal(state(models[0])["logits.weight"], state(models[1])["logits.weight"])


@pytest.mark.parametrize("name", [ROBUST, ROBUST_AUC])
def test_the_best_epoch_is_the_most_robust_and_patience_ends_the_fit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([(0.9, 0.3), (0.8, 0.6), (0.9, 0.6), (1.0, 0.5), (1.0, 0.5), (1.0, 0.9)])

    def validate(*_: object) -> dict[str, float]:
        clean, robust = next(scores)
        best = {name: robust} if name == ROBUST_AUC else {}
        robust = 0.5 if best else robust
        return {"validation_loss": 0.1, "validation_accuracy": clean, ROBUST: robust, **best}

    monkeypatch.setattr(fit_module._Run, "validate", validate)
    settings = FIT.model_copy(update={"epochs": 6})
    result = fit(
        network("repeat_3"),
        training_set(4),
        VALIDATION,
        settings,
        checkpoint=tmp_path / "c.pt",
        patience=2,
    )
    assert result.best_epoch == 3  # as robust as the second, and more accurate
    assert len(result.history) == 5


class Shifted(Online):
    """What it leaves is told apart without an error, but not by the line as learnt."""

    def challenge(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.inference_mode():
            scores = model(x).float().diff(dim=1)[:, 0]
        lowest_first = torch.empty_like(scores, dtype=torch.int64)
        lowest_first[y.argsort(stable=True)] = scores.argsort()
        return x[lowest_first]


def test_an_epoch_is_not_worse_for_a_line_that_will_be_moved(tmp_path: Path) -> None:
    settings = FIT.model_copy(update={"epochs": 1})
    rows = [
        fit(
            network("repeat_3"),
            training_set(8),
            VALIDATION,
            settings,
            checkpoint=tmp_path / f"{moves}.pt",
            objective=Shifted(INNER),
            line_moves=moves,
        ).history[0]
        for moves in (False, True)
    ]
    assert ROBUST_AUC not in rows[0]
    assert rows[1].pop(ROBUST_AUC) == 1.0
    assert rows[1] == rows[0]
    assert rows[0][ROBUST] < 1.0  # a network this young calls them all one class


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_optimiser_in_one_pass_is_the_plain_one(optimizer: Any) -> None:
    """It goes over memory as it lies: a gradient that lay otherwise than its weight, which is
    channels-last here, would be taken for another's."""
    ours = network().to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    plain = copy.deepcopy(ours)
    settings = FIT.model_copy(update={"optimizer": optimizer})
    stepped = fit_module._optimizer(ours, settings)
    options = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    reference = (
        torch.optim.AdamW(plain.parameters(), foreach=False, fused=False, **options)
        if optimizer == "adamw"
        else torch.optim.SGD(
            plain.parameters(), momentum=settings.momentum, foreach=False, fused=False, **options
        )
    )
    images, targets = blobs(4, SIDE, seed=5)
    x = torch.from_numpy(images).to(memory_format=torch.channels_last)
    for _ in range(2):
        stepped.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(ours(x), torch.from_numpy(targets)).backward()  # type: ignore[no-untyped-call]
        for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
            other.grad = None if mine.grad is None else mine.grad.contiguous()
        stepped.step()
        reference.step()
    for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)
