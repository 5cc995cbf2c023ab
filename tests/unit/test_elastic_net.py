"""EAD as Chen et al. 2018 give it: the shrinkage, the search, and what a result promises."""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from octrobust.attack import ElasticNet, ElasticNetResult, Shortcuts, Speed, search_model
from octrobust.attack.elastic_net import shrink
from octrobust.config import Model
from octrobust.model.build import build, calibrate_batch_norm
from octrobust.model.device import use_bf16
from octrobust.model.fold import FoldedInceptionResnet
from tests.conftest import see

Trained = tuple[nn.Module, Tensor, Tensor]
QUICK: dict[str, Any] = {
    "learning_rate": 0.05,
    "binary_search_steps": 4,
    "max_iter": 20,
    "initial_const": 0.1,
}
SOLVERS = pytest.mark.parametrize("solver", ["fista", "projection"])


def margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model(x)
    return logits.gather(1, 1 - y[:, None]).squeeze(1) - logits.gather(1, y[:, None]).squeeze(1)


def test_shrinkage_is_equation_8() -> None:
    x = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.98, 0.02])
    z = torch.tensor([0.55, 0.45, 0.509, 0.49, 1.5, -0.5])
    # moved by more than beta: back by beta, in [0, 1]; by beta or less: back to x
    expected = torch.tensor([0.54, 0.46, 0.5, 0.5, 1.0, 0.0])
    torch.testing.assert_close(shrink(z, x, 0.01), expected)


@SOLVERS
def test_success_is_verified_and_distances_are_those_of_the_image(
    small_network: Trained, solver: str
) -> None:
    model, x, y = small_network
    result = ElasticNet(model, shortcuts=Shortcuts(solver=solver), beta=0.01, **QUICK).run(x, y)
    assert result.success.all()
    assert (margins(model, result.x_adv, y) > 0).all()
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1
    change = (result.x_adv - x).double().flatten(1)
    near = {"rtol": 1e-5, "atol": 0.0}  # summed in single precision
    torch.testing.assert_close(result.l2.double(), change.norm(dim=1), **near)
    torch.testing.assert_close(result.l1.double(), change.abs().sum(1), **near)
    torch.testing.assert_close(result.linf.double(), change.abs().amax(1))
    assert torch.equal(result.l0.long(), (change != 0).sum(1))
    objective = change.square().sum(1) + 0.01 * change.abs().sum(1)
    torch.testing.assert_close(result.elastic_net.double(), objective, **near)
    assert torch.isfinite(result.const).all()


def assert_same(found: ElasticNetResult, expected: ElasticNetResult, but: str = "") -> None:
    """To the bit, every field (NaN equal to NaN)."""
    for name in {f.name for f in fields(ElasticNetResult)} - {but}:
        values = getattr(found, name), getattr(expected, name)
        assert torch.equal(*(v.nan_to_num(nan=-1.0) for v in values)), name


def rows_of(result: ElasticNetResult, rows: Tensor) -> ElasticNetResult:
    return ElasticNetResult(*(getattr(result, f.name)[rows] for f in fields(result)))


SHORTCUTS = [
    Shortcuts(),
    Shortcuts(screen="predicted"),
    Shortcuts(patience=3),
    Shortcuts(first_const="linear"),
    Shortcuts(warm_start=True),
    Shortcuts(screen="predicted", patience=3, first_const="linear", warm_start=True),
    Shortcuts(solver="projection"),
]


@pytest.mark.parametrize("shortcuts", SHORTCUTS, ids=str)
def test_a_sample_does_not_depend_on_its_batch(
    small_network: Trained, shortcuts: Shortcuts
) -> None:
    """Nor on its neighbours, when it boards, or when the original network is asked."""
    model, x, y = small_network
    # From 0.001 some images skip search steps that others run, so they leave at different times.
    settings = {**QUICK, "initial_const": 0.001, "shortcuts": shortcuts}
    whole = ElasticNet(model, **settings, batch_size=len(x)).run(x, y)
    assert whole.success.any()
    assert_same(ElasticNet(model, **settings, batch_size=1).run(x, y), whole)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    shuffled = ElasticNet(model, **settings).run(x[order], y[order])
    assert_same(shuffled, rows_of(whole, order))
    alone = ElasticNet(model, **settings).run(x[5:6], y[5:6])
    assert_same(alone, rows_of(whole, torch.tensor([5])))


@pytest.mark.parametrize("shortcuts", SHORTCUTS, ids=str)
@pytest.mark.parametrize("off", ["reuse_first_gradient", "defer_verdicts", "refill"])
def test_no_speed_up_changes_what_a_shortcut_finds(
    small_network: Trained, off: str, shortcuts: Shortcuts
) -> None:
    model, x, y = small_network
    settings = {**QUICK, "learning_rate": 0.5, "initial_const": 10.0, "shortcuts": shortcuts}
    fast, plain = (ElasticNet(model, **settings, speed=Speed(**s)) for s in ({}, {off: False}))
    expected = plain.run(x, y)
    assert expected.success.any()
    assert_same(fast.run(x, y), expected, but="iterations")
    if off == "refill" and len({*expected.iterations.tolist()}) > 1:  # some end before others
        assert fast.spent.filled_gradients < plain.spent.filled_gradients


@pytest.mark.parametrize("off", ["reuse_first_gradient", "defer_verdicts", "refill"])
@pytest.mark.parametrize("rate", [0.05, 2.0])
def test_a_speed_up_does_not_change_the_result(
    small_network: Trained, off: str, rate: float
) -> None:
    """At the larger step size the first iterate of a search step may be the best one."""
    model, x, y = small_network
    settings = {
        **QUICK,
        "learning_rate": rate,
        "initial_const": 0.001,
        "binary_search_steps": 6,
        "max_iter": 20 if rate < 1 else 3,
    }
    fast = ElasticNet(model, **settings)
    plain = ElasticNet(model, **settings, speed=Speed(**{off: False}))
    expected = plain.run(x, y)
    assert expected.success.all() if rate < 1 else expected.success.any()
    assert_same(fast.run(x, y), expected, but="iterations")
    if off == "reuse_first_gradient":  # steps that never leave the image fail without running
        assert (expected.iterations == 6 * settings["max_iter"]).all()
        assert fast.spent.gradients < 0.8 * plain.spent.gradients
    if off == "defer_verdicts" and rate < 1:  # one success settles the candidates behind it
        assert fast.spent.verdicts < plain.spent.verdicts


def test_predicted_screening_asks_less_and_finds_as_much(small_network: Trained) -> None:
    model, x, y = small_network
    settings = {**QUICK, "learning_rate": 0.01, "max_iter": 50}
    every = ElasticNet(model, **settings)
    predicted = ElasticNet(model, **settings, shortcuts=Shortcuts(screen="predicted"))
    expected, found = every.run(x, y), predicted.run(x, y)
    assert torch.equal(found.success, expected.success)
    assert found.elastic_net.median() <= 1.01 * expected.elastic_net.median()
    assert predicted.spent.verdicts < 0.6 * every.spent.verdicts


def test_patience_ends_a_step_that_has_settled(small_network: Trained) -> None:
    model, x, y = small_network
    settings = {**QUICK, "max_iter": 100}
    whole = ElasticNet(model, **settings).run(x, y)
    short = ElasticNet(model, **settings, shortcuts=Shortcuts(patience=10)).run(x, y)
    assert torch.equal(short.success, whole.success)
    assert (short.iterations < 0.8 * whole.iterations).all()
    assert short.elastic_net.median() <= 1.05 * whole.elastic_net.median()


def test_linear_first_const_finds_at_once_what_a_ladder_climbs_to(small_network: Trained) -> None:
    model, x, y = small_network
    settings = {**QUICK, "initial_const": 1e-6, "binary_search_steps": 2}
    assert not ElasticNet(model, **settings).run(x, y).success.any()
    linear = ElasticNet(model, **settings, shortcuts=Shortcuts(first_const="linear")).run(x, y)
    assert linear.success.float().mean() > 0.5


@pytest.mark.parametrize(
    "bad",
    [{"solver": "adam"}, {"screen": "all"}, {"patience": 0}, {"first_const": "auto"}],
    ids=str,
)
def test_bad_shortcuts_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Shortcuts(**bad)


def test_a_bad_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision"):
        Speed(precision="fp8")


@SOLVERS
def test_confidence_is_kept(small_network: Trained, solver: str) -> None:
    model, x, y = small_network
    settings = {**QUICK, "shortcuts": Shortcuts(solver=solver)}
    plain = ElasticNet(model, **settings).run(x, y)
    sure = ElasticNet(model, confidence=2.0, **settings).run(x, y)
    assert sure.success.all()
    assert (margins(model, sure.x_adv, y) >= 2.0).all()
    assert sure.l2.mean() > plain.l2.mean()


def test_rules_choose_what_they_say(small_network: Trained) -> None:
    model, x, y = small_network
    found = {
        rule: ElasticNet(model, beta=0.02, decision_rule=rule, **QUICK).run(x, y)
        for rule in ("EN", "L1", "L2")
    }
    # All rules follow one path of iterates, so each wins by its own distance on every image.
    for other in ("EN", "L2"):
        assert (found["L1"].l1 <= found[other].l1).all()
    for other in ("EN", "L1"):
        assert (found["L2"].l2 <= found[other].l2).all()
    assert (found["EN"].elastic_net <= found["L1"].elastic_net).all()
    assert (found["L1"].l1 < found["L2"].l1).any()


def test_beta_makes_the_change_sparse(small_network: Trained) -> None:
    model, x, y = small_network
    dense = ElasticNet(model, beta=0.0, **QUICK).run(x, y)
    sparse = ElasticNet(model, beta=0.02, **QUICK).run(x, y)
    assert sparse.success.all()
    assert sparse.l0.mean() < 0.7 * dense.l0.mean()


@SOLVERS
def test_targeted_reaches_the_class_wanted(small_network: Trained, solver: str) -> None:
    model, x, y = small_network
    settings = {**QUICK, "shortcuts": Shortcuts(solver=solver)}
    result = ElasticNet(model, targeted=True, **settings).run(x, 1 - y)
    untargeted = ElasticNet(model, **settings).run(x, y)
    torch.testing.assert_close(result.x_adv, untargeted.x_adv)  # the same thing with two classes
    assert result.success.all()


@SOLVERS
def test_already_misclassified_is_marked_and_left_alone(
    small_network: Trained, solver: str
) -> None:
    model, x, y = small_network
    settings = {**QUICK, "shortcuts": Shortcuts(solver=solver)}
    wrong = y.clone()
    wrong[3] = 1 - wrong[3]
    result = ElasticNet(model, **settings).run(x, wrong)
    assert result.already.nonzero().flatten().tolist() == [3]
    assert not result.success[3]
    assert torch.equal(result.x_adv[3], x[3])
    assert result.iterations[3] == 0
    right = ElasticNet(model, **settings).run(x, y)
    assert torch.equal(result.x_adv[4], right.x_adv[4])


@SOLVERS
def test_wrong_but_not_by_the_confidence_wanted_is_pushed_on(
    small_network: Trained, solver: str
) -> None:
    model, x, y = small_network
    wrong, margin = 1 - y, margins(model, x, 1 - y)
    assert (margin > 0).all()
    short = Shortcuts(solver=solver)
    wanted = float(margin.median())
    result = ElasticNet(model, confidence=wanted, shortcuts=short, **QUICK).run(x, wrong)
    assert result.already.all()
    assert torch.equal(result.success, margin < wanted)  # the others have it when clean
    assert (margins(model, result.x_adv, wrong) >= wanted).all()
    assert torch.equal(result.x_adv[margin >= wanted], x[margin >= wanted])


def test_failure_returns_the_clean_image_and_says_so(small_network: Trained) -> None:
    model, x, y = small_network
    settings = {**QUICK, "initial_const": 1e-8, "binary_search_steps": 1}
    result = ElasticNet(model, **settings).run(x, y)
    assert not result.success.any()
    assert torch.equal(result.x_adv, x)
    assert torch.isnan(result.const).all()
    assert (result.l2 == 0).all()


@SOLVERS
def test_more_than_two_classes(solver: str) -> None:
    short = Shortcuts(solver=solver)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    x = torch.rand(9, 1, 8, 8)
    with torch.no_grad():
        y = model(x).argmax(1)
    result = ElasticNet(model, shortcuts=short, **QUICK).run(x, y)
    with torch.no_grad():
        assert (model(result.x_adv).argmax(1) != y)[result.success].all()
    assert result.success.all()
    wanted = (y + 1) % 7
    settings = {**QUICK, "initial_const": 1.0, "shortcuts": short}
    targeted = ElasticNet(model, targeted=True, **settings).run(x, wanted)
    with torch.no_grad():
        assert torch.equal(model(targeted.x_adv).argmax(1) == wanted, targeted.success)
    assert targeted.success.any()


@SOLVERS
def test_progress_counts_every_iteration(small_network: Trained, solver: str) -> None:
    model, x, y = small_network
    seen: list[int] = []
    short = Shortcuts(solver=solver)
    ElasticNet(model, shortcuts=short, **QUICK, batch_size=10).run(x, y, progress=seen.append)
    assert sum(seen) == len(x) * 4 * 20


def test_no_images_is_no_error(small_network: Trained) -> None:
    model, x, y = small_network
    result = ElasticNet(model).run(x[:0], y[:0])
    assert result.x_adv.shape == x[:0].shape
    assert len(result.success) == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"learning_rate": 0},
        {"binary_search_steps": 0},
        {"max_iter": 2.5},
        {"beta": -1},
        {"learning_rate": float("inf")},
        {"confidence": float("inf")},
        {"initial_const": float("nan")},
        {"confidence": -1},
        {"decision_rule": "L0"},
        {"batch_size": 0},
    ],
)
def test_bad_parameters_are_refused(small_network: Trained, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ElasticNet(small_network[0], **bad)


def test_bad_images_are_refused(small_network: Trained) -> None:
    model, x, y = small_network
    attack = ElasticNet(model, **QUICK)
    poisoned = x.clone()
    poisoned[0, 0, 0, 0] = torch.nan
    for images in (x * 255, x - 1, poisoned):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            attack.run(images, y)
    with pytest.raises(ValueError, match="float32"):
        attack.run(x.double(), y)
    for beyond in (-1, 2):
        with pytest.raises(ValueError, match="classes"):
            attack.run(x, torch.full_like(y, beyond))
    with pytest.raises(ValueError, match="int64"):
        attack.run(x, y.float())
    with pytest.raises(ValueError, match="int64"):
        attack.run(x, y[:-1])


@SOLVERS
def test_an_image_that_the_search_alone_takes_for_wrong_is_attacked(
    small_network: Trained, monkeypatch: pytest.MonkeyPatch, solver: str
) -> None:
    """Near the boundary the folded copy in bf16 may be on its other side. By how much is known."""
    model, x, y = small_network
    expected = ElasticNet(model, **QUICK, shortcuts=Shortcuts(solver=solver)).run(x, y)
    off = -1.5 * margins(model, x, y).max()  # the nearest, and some more
    assert (margins(model, x, y) + off > 0).any()
    see(monkeypatch, lambda seen: seen + off)
    found = ElasticNet(model, **QUICK, shortcuts=Shortcuts(solver=solver)).run(x, y)
    assert found.success.all()
    assert (margins(model, found.x_adv, y) > 0).all()
    ratio = found.elastic_net / expected.elastic_net
    assert ratio.max() < (1.01 if solver == "fista" else 1.3)


@SOLVERS
def test_what_the_search_alone_takes_for_a_success_is_none(
    small_network: Trained, monkeypatch: pytest.MonkeyPatch, solver: str
) -> None:
    """A view that is right at the clean image and sees the boundary too early."""
    model, x, y = small_network
    early = 0.3 * margins(model, x, y).max()  # below 0
    see(monkeypatch, lambda seen: torch.where(seen > 2 * early, seen - 2 * early, seen))
    short = Shortcuts(solver=solver)
    found = ElasticNet(model, **QUICK, shortcuts=short).run(x, y)
    after = margins(model, found.x_adv, y)
    assert (after[found.success] > 0).all()
    assert found.success.any()
    assert torch.equal(found.x_adv[~found.success], x[~found.success])


# Where the processor has no bf16 arithmetic, it takes ten times as long as fp32.
EMULATED = not use_bf16("auto", torch.device("cpu"))


@pytest.fixture(scope="module")
def inception() -> Trained:
    """Inception-ResNet-V1 with random weights, and 18 images with what it says of them."""
    model = build(Model(weights="none", standardisation="facenet", dropout=0.6), seed=1)
    x = torch.rand(18, 1, 75, 75, generator=torch.Generator().manual_seed(0))
    calibrate_batch_norm(model, lambda: [x])
    with torch.no_grad():
        return model, x, model(x).argmax(1)


@pytest.mark.parametrize(
    ("channels", "solver", "precision"),
    [
        (1, "fista", "fp32"),
        (3, "fista", "fp32"),
        (1, "projection", "fp32"),
        (1, "fista", "bf16"),
        (1, "projection", "bf16"),
    ],
)
def test_batch_and_neighbours_do_not_matter_on_the_real_network_either(
    inception: Trained, channels: int, solver: str, precision: str
) -> None:
    """Its convolutions round differently in small batches, which EAD would blow up; and torch
    splits a lone image's sums over threads."""
    model, x, y = inception
    x = x.expand(-1, channels, -1, -1)
    short = Shortcuts(solver=solver)
    few, many = (2, 4) if solver == "fista" else (3, 12)
    iterations = few if precision == "bf16" and EMULATED else many
    budget = {"binary_search_steps": 1, "max_iter": iterations}
    speed = Speed(precision=precision)
    settings = {**QUICK, **budget, "shortcuts": short, "speed": speed}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        whole = ElasticNet(model, **settings, batch_size=32).run(x, y)
        assert whole.success.any()
        assert_same(ElasticNet(model, **settings, batch_size=5).run(x, y), whole)
        last = torch.tensor([17])
        assert_same(ElasticNet(model, **settings).run(x[last], y[last]), rows_of(whole, last))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@SOLVERS
def test_a_success_is_one_of_the_original_network(
    inception: Trained, precision: str, solver: str
) -> None:
    """Whatever copy and precision found it."""
    model, x, y = (part[:16] if isinstance(part, Tensor) else part for part in inception)
    steps, iterations = (1, 4) if precision == "bf16" and EMULATED else (2, 6)
    budget = {"binary_search_steps": steps, "max_iter": iterations}
    settings = {**QUICK, **budget, "initial_const": 1.0}
    speed, short = Speed(precision=precision), Shortcuts(solver=solver)
    result = ElasticNet(model, **settings, speed=speed, shortcuts=short).run(x, y)
    assert result.success.float().mean() > 0.5
    with torch.no_grad():  # plain float64, with nothing of ours about it
        after = copy.deepcopy(model).double().eval()(result.x_adv.double()).argmax(1)
    assert (after != y)[result.success].all()


def test_the_folded_search_finds_what_the_plain_one_finds(inception: Trained) -> None:
    """Rounding alone differs, which a short search at a small step hardly blows up."""
    model, x, y = (part[:16] if isinstance(part, Tensor) else part for part in inception)
    settings = {**QUICK, "learning_rate": 0.01, "binary_search_steps": 2, "max_iter": 8}
    # not "auto": where that is bf16, two searches of such a network are two searches
    folded = ElasticNet(model, **settings, speed=Speed(precision="fp32")).run(x, y)
    plain = ElasticNet(model, **settings, speed=Speed(fold=False, precision="fp32")).run(x, y)
    assert plain.success.any()
    assert torch.equal(folded.success, plain.success)
    median = plain.elastic_net.median()
    torch.testing.assert_close(folded.elastic_net.median(), median, rtol=0.02, atol=0.0)


@SOLVERS
def test_a_finished_run_leaves_no_copy_of_the_network_behind(
    inception: Trained, solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else memory grows with the shards: some 90 MB each until the cycle collector comes by."""
    copies: list[weakref.ref[FoldedInceptionResnet]] = []

    def recorded(*args: Any) -> FoldedInceptionResnet:
        copy = FoldedInceptionResnet(*args)
        copies.append(weakref.ref(copy))
        return copy

    monkeypatch.setattr(search_model, "FoldedInceptionResnet", recorded)
    model, x, y = inception
    attack = ElasticNet(
        model, binary_search_steps=1, max_iter=2, shortcuts=Shortcuts(solver=solver)
    )
    gc.disable()
    try:
        attack.run(x, y)
        assert copies
        assert all(copy() is None for copy in copies)
    finally:
        gc.enable()
