"""What the stages that measure take: the battery, the evaluation, seeds, the replay, the report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from octrobust.config import Battery, Params, Replay, middle
from octrobust.planning import network, work
from octrobust.planning.work import TYPICAL, Pass, Stage

CORRUPTIONS = 4  # kinds, see octrobust.evaluation.corruptions
LONG = 4  # times the steps of the long PGD, see octrobust.attack.suite
JUDGED = 4  # forward passes that judge a candidate, there
HOP_FIRST, HOP_MOST, HOP_SEARCH = 50, 400, 25  # questions a round of HopSkipJump: as set there
ART_BATCH = 32
BLOCK = 256  # images attacked together, see octrobust.stages.common


def stages(params: Params) -> Iterator[Stage]:
    """After the attacks, in order."""
    yield from (battery_stage(params, name) for name in params.evaluate.battery.models)
    yield evaluate_stage(params)
    yield from (repeat_stage(params, seed) for seed in params.evaluate.seeds)
    yield from (replay_stage(params, name, one) for name, one in params.replay.items())
    yield Stage("report", 0, needs="report")


def battery_stage(params: Params, model: str) -> Stage:
    battery = params.evaluate.battery
    images = work.some_of(params, "test", battery.images_per_class)
    passes = [one for _ in battery.channels for one in _battery(params, battery, images)]
    depth = 3 if "rgb" in battery.channels else 1
    return Stage(
        f"battery@{model}",
        images,
        passes=tuple(passes),
        rows=images * len(battery.channels),
        memory=work.attack_memory(params, 2 * images * depth),
        needs="art",
    )


def _battery(params: Params, battery: Battery, images: int) -> Iterator[Pass]:
    yield Pass("forward", images, 16)
    for budgets, score in ((battery.l2, 0), (battery.linf, battery.square_queries)):
        left = float(images)
        for budget in sorted(budgets):
            yield from _within(battery, left, long=budget == middle(budgets), queries=score)
            left *= TYPICAL.left
    for rule in ("EN", "L1"):
        attack = params.attack.model_copy(update={"decision_rule": rule})
        yield from work.search_passes(attack, images, BLOCK)
        yield _judged(images)
    # Each of ART's attacks folds the network, and sets copy beside network before and after.
    by_art = len(battery.l2) + len(battery.linf) * (1 + (battery.square_queries > 0))
    by_art += 1 + (battery.hop_skip_jump_rounds > 0)
    yield Pass("fold", by_art * -(-images // BLOCK), 1)
    yield Pass("screen", 2 * by_art * images, 16)
    yield Pass("forward", 2 * by_art * images, 16)
    # DeepFool: of both classes a gradient, and a prediction, every step.
    yield Pass("gradient", images * 2 * (battery.steps + 1), 16)
    yield Pass("screen", images * (battery.steps + 1), ART_BATCH)
    yield _judged(images)
    if battery.hop_skip_jump_rounds:
        yield Pass("screen", images * hop_skip_jump(battery.hop_skip_jump_rounds), ART_BATCH)
        yield _judged(images)
    yield Pass("through_art", images, 16)  # where gradients vanish


def _within(battery: Battery, images: float, *, long: bool, queries: int) -> Iterator[Pass]:
    """The attacks within one budget."""
    starts, steps = 1 + battery.restarts, battery.steps
    attacks = 3 + long + (queries > 0) + (battery.noise_draws > 0)
    # FGSM, then PGD with one gradient more than steps from every start.
    gradients = 1 + starts * (steps + 1)
    forwards = 1 + starts
    if long:
        gradients += starts * (LONG * steps + 1)
        forwards += starts
    yield Pass("gradient", images * gradients, 16, "auto")
    yield Pass("gradient", images * starts * steps, ART_BATCH)  # APGD
    yield Pass("screen", images * starts * (steps + 4), ART_BATCH)
    if queries:
        yield Pass("screen", images * 3 * (queries + 1), ART_BATCH)  # Square asks thrice
    yield Pass("forward", images * (forwards + 1 + battery.noise_draws), 16)
    yield _judged(images * attacks)


def _judged(images: float) -> Pass:
    return Pass("forward", JUDGED * images, 16)


def hop_skip_jump(rounds: int) -> float:
    """Questions an image."""
    asked = (min(HOP_FIRST * math.sqrt(number), HOP_MOST) for number in range(1, rounds + 1))
    return sum(asked) + HOP_SEARCH * rounds


def evaluate_stage(params: Params) -> Stage:
    test = work.split_images(params)["test"]
    adaptive = work.some_of(params, "test", params.evaluate.images_per_class)
    sets = work.attacked_images(params, "test") + adaptive * len(params.evaluate.adaptive)
    corrupted = CORRUPTIONS * len(params.evaluate.corruption_severities) * test
    models = len(params.models())
    validation = work.some_of(params, "validation", params.evaluate.battery.images_per_class)
    passes = [Pass("forward", models * (test + sets + corrupted), 16)]
    for _ in params.hardened():
        passes += _pgd(params.evaluate.battery, validation)
    return Stage(
        "evaluate",
        test,
        passes=tuple(passes),
        handled={"corrupt": models * corrupted},
        rows=models * (test + sets),
        memory=network.model_bytes()
        + max(params.compute.shard_size, params.compute.predict_batch_size)
        * work.float_bytes(params, work.channels(params)),
    )


def _pgd(battery: Battery, images: int) -> Iterator[Pass]:
    """Within one budget, and what is left counted."""
    starts = 1 + battery.restarts
    yield Pass("gradient", images * starts * (battery.steps + 1), 16, "auto")
    yield Pass("forward", images * (1 + starts), 16)


def repeat_stage(params: Params, seed: int) -> Stage:
    """One training, both attacks, every defence, and their measurement."""
    own = [work.train_stage(params, params.attack.target)]
    own += [work.attack_stage(params, split, split) for split in ("train", "test")]
    own += [work.harden_stage(params, name) for name in params.harden.variants]
    splits, models = work.split_images(params), 1 + len(params.hardened())
    images = work.some_of(params, "test", params.evaluate.battery.images_per_class)
    test = splits["test"] + work.attacked_images(params, "test")
    measured = [Pass("forward", models * test, 16)]
    for _ in range(models * len(params.evaluate.battery.l2)):
        measured += _pgd(params.evaluate.battery, images)
    whole = replace(own[0], name=f"repeat@{seed}", images=sum(stage.images for stage in own))
    return replace(
        whole,
        passes=(*(one for stage in own for one in stage.passes), *measured),
        handled={"augment": sum(stage.handled.get("augment", 0) for stage in own)},
        epochs=sum(stage.epochs for stage in own),
        memory=max(stage.memory for stage in own),
        disk=0,
    )


def replay_stage(params: Params, name: str, replay: Replay) -> Stage:
    """The notebooks' trainings and their attack, in float32, on three channels."""
    splits, batch = work.split_images(params), replay.batch_size
    attacked = work.some_of(params, "train", replay.train_images_per_class)
    first = splits["train"] // batch * replay.epochs_before_attack
    second = (splits["train"] + splits["extra"] + attacked) // batch * replay.epochs_of_hardening
    trained = (round(first) + round(second)) * batch
    share = round(splits["validation"] * replay.share_of_validation)
    # Each measurement is made twice: fixed, and stepping.
    searched = attacked + 2 * share + 2 * splits["test"]
    each = replay.attack.binary_search_steps * replay.attack.max_iter
    stepping = share + splits["test"]
    return Stage(
        f"replay@{name}",
        trained + searched,
        passes=(
            Pass("train", trained + stepping, batch, "fp32", None, "sgd"),
            Pass("through_art", searched * each, batch),
            Pass("forward", searched + 3 * splits["test"], 16),
        ),
        handled={"augment": trained},
        memory=2 * network.model_bytes(),
    )
