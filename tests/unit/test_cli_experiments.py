"""`sweep` and `compare` on what DVC would say; the queue itself is in tests/pipeline."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo.experiments import refs
from dvc.repo.experiments.stash import ExpStash
from dvc.scm import Git
from PIL import Image
from typer.testing import CliRunner, Result

from octrobust import checkout
from octrobust.checkout import Lock
from octrobust.cli import app
from octrobust.errors import UserError
from octrobust.experiments import command, queue, read, sweep, table
from octrobust.experiments.command import NoAnswerError
from octrobust.experiments.grid import leaves, points
from octrobust.experiments.lock import made_with
from tests.conftest import one_error

ROOT = Path(__file__).resolve().parents[2]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
SUMMARY = "metrics/summary.json"
ATTACK = "metrics/attack/test.json"
NO_PROJECT = Path("/")


def state(rev: str, beta: float, robust: float, **more: Any) -> dict[str, Any]:
    """A revision as `dvc exp show --json` has it."""
    params = copy.deepcopy(PARAMS)
    params["attack"]["beta"] = beta
    params["train"]["seed"] = more.get("seed", 3)
    params["data"]["image_size"] = more.get("size", 80)
    summary = {
        "accuracy_config_1": 0.99,
        "accuracy_attacked": 0.0,
        "validation_robust_accuracy_hardened_online": robust,
        "validation_robust_accuracy_hardened_control": 0.99,
        "median_l2_attacked": 1 + beta,
    }
    attack = {"l2": {"median": 1 + beta}, "success_rate": 1.0, "success_rate_8bit": 0.5}
    return {
        "rev": rev,
        "name": more.get("name"),
        "data": {
            "params": {"params.yaml": {"data": params}},
            "metrics": {SUMMARY: {"data": summary}, ATTACK: {"data": attack}},
        },
        "error": more.get("error"),
        "experiments": None,
    }


def experiment(name: str, status: str, *arguments: float, **more: Any) -> dict[str, Any]:
    local = {"task_id": name, "log": more.pop("log", None)}
    rev = state(name * 7, *arguments, name=name, **more)
    return {"revs": [rev], "executor": {"state": status, "local": local}, "name": name}


def shown(*experiments: dict[str, Any]) -> list[dict[str, Any]]:
    head = state("a" * 40, 0.001, 0.5, name="main")
    return [state("workspace", 0.001, 0.5), {**head, "experiments": list(experiments)}]


@pytest.fixture(autouse=True)
def without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these revisions ran with is not known, and so believed."""
    monkeypatch.setattr(read, "read_lock", lambda project, rev: None)


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A project whose DVC answers what is under "told", and notes the calls."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    monkeypatch.chdir(tmp_path)
    answers: dict[str, Any] = {"told": shown(), "calls": []}

    def answer(project: Path, *arguments: str, seconds: float | None = None) -> str:
        answers["calls"].append(arguments)
        return json.dumps(answers["told"])

    for module in (read, queue):
        monkeypatch.setattr(module, "dvc", answer)
    return answers


def octrobust(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_grid_is_every_combination_by_name() -> None:
    found = points(["attack.beta=1e-4,0.01", "train.seed=1,2"], PARAMS)
    assert [point.name(None) for point in found] == [
        *("beta=0.0001,seed=1", "beta=0.0001,seed=2", "beta=0.01,seed=1", "beta=0.01,seed=2"),
    ]
    assert found[0].overrides() == ["attack.beta=0.0001", "train.seed=1"]
    assert found[0].name("mine") == "mine-beta=0.0001,seed=1"


def test_what_would_have_one_name_has_its_whole_name() -> None:
    (found,) = points(["train.seed=1", "harden.seed=2"], PARAMS)
    assert found.name(None) == "train.seed=1,harden.seed=2"


@pytest.mark.parametrize(
    ("typed", "override"),
    [
        ("evaluate.seeds=[1,2],[]", "evaluate.seeds=[1,2]"),
        ("attack.images_per_class.test=null", "attack.images_per_class.test=null"),
        ("attack.shortcuts.warm_start=false", "attack.shortcuts.warm_start=false"),
        ("data.root=/my scans/a=b", "data.root='/my scans/a=b'"),
    ],
)
def test_values_of_every_kind_reach_dvc(typed: str, override: str) -> None:
    assert points([typed], PARAMS)[0].overrides() == [override]


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (["attack.betta=0.1"], "is it attack.beta"),
        (["beta=0.1"], "is it attack.beta"),
        (["attack=0.1"], "is a section"),
        (["attack.beta", "0.1"], "write NAME=VALUE"),
        (["attack.beta="], "a value is missing"),
        (["attack.beta=0.1,"], "a value is missing"),
        (["attack.beta=0.1,0.10"], "twice"),
        (["attack.beta=0.1", "attack.beta=0.2"], "twice"),
        (["attack.beta=[0.1"], "is no value"),
        (["attack.beta=-1"], "greater than or equal to 0"),
        (["train.epochs=1.5"], "valid integer"),
        (["attack.decision_rule=EN,L3"], "'EN', 'L1' or 'L2'"),
        (["attack.target=config_9"], "none of: config_1"),
        (["compute.threads=1,2"], "nothing in compute"),
    ],
)
def test_a_bad_grid_queues_nothing(dvc: dict[str, Any], typed: list[str], reason: str) -> None:
    done = octrobust("sweep", "queue", *typed)
    assert done.exit_code == 2, done.output
    assert reason in one_error(done.stderr)
    assert dvc["calls"] == []


def test_blanks_around_the_sign_are_said(dvc: dict[str, Any]) -> None:
    done = octrobust("sweep", "attack.beta", "=", "0.1")
    assert done.exit_code == 2
    assert "write NAME=VALUE" in one_error(done.stderr)


def test_queue_leaves_what_is_there_and_takes_up_what_failed(dvc: dict[str, Any]) -> None:
    dvc["told"] = shown(
        experiment("beta=0.1", "queued", 0.1, 0.5), experiment("beta=0.2", "failed", 0.2, 0.5)
    )
    done = octrobust("sweep", "attack.beta=0.1,0.2,0.3", "--json")  # without the word `queue`
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["there_already"] == ["beta=0.1"]
    assert list(told["queued"]) == ["beta=0.2", "beta=0.3"]
    assert [call for call in dvc["calls"] if call[:2] == ("exp", "run")] == [
        ("exp", "run", "--queue", "--name", f"beta={b}", "-S", f"attack.beta={b}")
        for b in (0.2, 0.3)
    ]


def test_one_of_other_parameters_is_not_taken_for_it(dvc: dict[str, Any]) -> None:
    """As after params.yaml was edited, or in the workspace that an experiment has left."""
    dvc["told"] = shown(
        experiment("beta=0.1", "success", 0.1, 0.5, seed=PARAMS["train"]["seed"] + 1)
    )
    said = one_error(octrobust("sweep", "attack.beta=0.1").stderr)
    assert "beta=0.1 is there already" in said
    assert "train.seed" in said
    assert "--name" in said


def test_two_that_would_have_one_name_are_refused(dvc: dict[str, Any]) -> None:
    said = one_error(octrobust("sweep", "model.weights=/data/w.pt,data/w.pt").stderr)
    assert "would both be called weights=data_w.pt" in said
    assert dvc["calls"] == []


def test_options_may_come_before_the_grid(dvc: dict[str, Any]) -> None:
    done = octrobust("sweep", "--dry-run", "attack.beta=0.1,0.2")  # without the word `queue`
    assert (done.exit_code, dvc["calls"]) == (0, [])
    assert "beta=0.2" in done.stdout
    wrong = octrobust("sweep", "beta")
    assert wrong.exit_code == 2
    assert "NAME=VALUE,VALUE" in wrong.stderr


def test_the_attack_alone_is_queued_under_a_name_of_its_own(dvc: dict[str, Any]) -> None:
    dvc["told"] = shown(experiment("beta=0.1", "success", 0.1, 0.5))  # the whole of it, before
    done = octrobust("sweep", "attack.beta=0.1", "--attack-only")
    assert done.exit_code == 0, done.output
    queued = ("exp", "run", "--queue", "--name", "attack-beta=0.1")
    assert [call for call in dvc["calls"] if call[:2] == ("exp", "run")] == [
        (*queued, "-S", "attack.beta=0.1", "attack@test")
    ]


def test_a_dry_run_asks_dvc_nothing(dvc: dict[str, Any]) -> None:
    done = octrobust("sweep", "queue", "attack.beta=0.1,0.2", "--dry-run")
    assert (done.exit_code, dvc["calls"]) == (0, [])
    assert "beta=0.2" in done.stdout


def test_very_many_are_asked_for_twice(dvc: dict[str, Any]) -> None:
    seeds = ",".join(map(str, range(51)))
    assert "--yes" in one_error(octrobust("sweep", "queue", f"train.seed={seeds}").stderr)


def test_compare_marks_the_best_that_is_measured_alike(dvc: dict[str, Any]) -> None:
    dvc["told"] = shown(
        experiment("good", "success", 0.1, 0.8),
        experiment("other-images", "success", 0.1, 0.9, size=96),
        experiment("waiting", "queued", 0.3, 0.95),
        experiment("broken", "failed", 0.4, 0.95, error={"msg": "failed"}),
    )
    told = json.loads(octrobust("compare", "--json").stdout)
    # A control's 0.99 makes nobody the best; nor does a queued one's borrowed figure.
    assert told["best"] == "good"
    names = [one["name"] for one in told["experiments"]]
    assert names[:4] == ["other-images", "good", "workspace", "main"]
    by_name = {one["name"]: one for one in told["experiments"]}
    assert by_name["good"]["differs"] == {"data.image_size": 80, "attack.beta": 0.1}
    assert by_name["waiting"]["metrics"] == {}
    text = octrobust("compare").stdout
    assert "* good" in text
    assert "1 of them: other data" in text
    assert "Not for clinical use" in text


def test_compare_by_other_columns_and_another_order(dvc: dict[str, Any]) -> None:
    dvc["told"] = shown(experiment("far", "success", 0.1, 0.2))
    arguments = (
        "compare",
        "--columns",
        "attack@test.*,train.seed",
        "--sort",
        "attack@test.l2.median",
    )
    told = json.loads(octrobust(*arguments, "--json").stdout)
    assert told["columns"][-1] == "train.seed"
    assert "attack@test.success_rate" in told["columns"]
    assert next(one["name"] for one in told["experiments"]) == "far"
    told = json.loads(octrobust(*arguments, "--json", "--reverse").stdout)
    assert [one["name"] for one in told["experiments"]][-1] == "far"
    # Many figures stand below each other, their names unbroken.
    many = octrobust("compare", "--columns", "*").stdout
    assert "attack@test.l2.median" in many
    assert "attack.beta" in many


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--columns", "accuracy_atacked"), "is it accuracy_attacked"),
        (("--sort", "accuracy_atacked"), "is it accuracy_attacked"),
    ],
)
def test_compare_knows_what_there_is(
    dvc: dict[str, Any], arguments: tuple[str, str], reason: str
) -> None:
    done = octrobust("compare", *arguments)
    assert done.exit_code == 2
    assert reason in one_error(done.stderr)


def test_compare_before_any_result(dvc: dict[str, Any]) -> None:
    for one in dvc["told"]:
        one["data"]["metrics"] = {SUMMARY: {"error": {"msg": "missing"}}}
    done = octrobust("compare")
    assert done.exit_code == 2
    assert "dvc repro" in one_error(done.stderr)


def test_output_of_another_dvc_is_one_line(dvc: dict[str, Any]) -> None:
    dvc["told"] = {"workspace": {}}
    assert "dvc exp show" in one_error(octrobust("compare").stderr)


GONE = UserError("dvc exp show: directory '/p/.dvc/tmp/exps/tmp6j/.dvc' does not exist")
SILENT = NoAnswerError("dvc exp show: no answer within 60 seconds")
BEGUN = UserError("dvc exp show: unexpected error - Empty git repo")
REFUSED = UserError("dvc exp show: you are not inside of a DVC repository")


@pytest.mark.parametrize(
    ("error", "failures", "code"),
    [
        (GONE, read.LOOKS - 1, 0),
        (SILENT, read.LOOKS - 1, 0),
        (BEGUN, read.LOOKS - 1, 0),
        (GONE, read.LOOKS, 2),
        (REFUSED, 1, 2),
    ],
)
def test_an_experiment_that_ends_while_dvc_looks_does_not_end_the_watching(
    dvc: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: UserError, failures: int, code: int
) -> None:
    told, left = read.dvc, [failures]

    def answer(project: Path, *arguments: str, **options: Any) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return told(project, *arguments, **options)

    monkeypatch.setattr(read, "dvc", answer)
    monkeypatch.setattr(read.time, "sleep", lambda seconds: None)
    assert octrobust("compare").exit_code == code


def test_a_dvc_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(command, "command", lambda *arguments: asleep)
    with pytest.raises(NoAnswerError, match=r"dvc exp show: no answer within 0\.5 seconds"):
        command.dvc(tmp_path, "exp", "show", seconds=0.5)


def test_what_dvc_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real DVC, in a folder that is no repository of it."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    monkeypatch.chdir(tmp_path)
    done = octrobust("compare")
    assert done.exit_code == 2
    assert "not inside of a DVC repository" in one_error(done.stderr)


def test_draw_along_the_one_parameter_that_differs(dvc: dict[str, Any], tmp_path: Path) -> None:
    dvc["told"] = shown(
        *(experiment(f"e{k}", "success", beta, 0.5 + beta) for k, beta in enumerate((0.01, 0.1)))
    )
    told = json.loads(octrobust("sweep", "draw", "--json").stdout)
    assert (told["parameter"], told["log"]) == ("attack.beta", True)
    (line,) = told["lines"]
    distances = [(one["value"], one["mean"]) for one in line["metrics"]["attack@test.l2.median"]]
    # The workspace and the last commit are one point.
    assert distances == [(0.001, 1.001), (0.01, 1.01), (0.1, 1.1)]
    with Image.open(tmp_path / "reports" / "sweeps" / "attack.beta.png") as picture:
        assert picture.format == "PNG"


def lock_of(beta: float, *, summary: float | None = None, seed: int = 3) -> Lock:
    """dvc.lock after stages with these parameters; the summary may be of an earlier beta."""
    return {
        "train": {
            "params": {"params.yaml": {"train": {**PARAMS["train"], "seed": seed}}},
            "outs": [{"path": "models/config_1", "md5": f"model {seed}"}],
        },
        "attack@test": {
            "params": {"params.yaml": {"attack.beta": beta}},
            "deps": [{"path": "models/config_1", "md5": "model 3"}],
            "outs": [{"path": ATTACK, "md5": f"attack {beta}"}],
        },
        "report": {
            "params": {"params.yaml": {"attack": {**PARAMS["attack"], "beta": summary or beta}}},
            "deps": [{"path": ATTACK, "md5": f"attack {summary or beta}"}],
            "outs": [{"path": SUMMARY, "md5": "-"}],
        },
    }


@pytest.mark.parametrize(
    ("made", "attack", "summary"),
    [
        (lock_of(0.001), True, True),
        (lock_of(0.1), False, False),  # params.yaml was changed, and nothing run
        (lock_of(0.001, summary=0.1), True, False),  # the attack alone was run
        (lock_of(0.001, seed=4), False, False),  # as was the model
        ({}, False, False),
    ],
)
def test_results_of_other_parameters_are_not_shown(made: Lock, attack: bool, summary: bool) -> None:
    params = dict(leaves(PARAMS))
    assert made_with(made, params, ATTACK) is attack
    assert made_with(made, params, SUMMARY) is summary


def test_a_model_trained_again_leaves_the_attack_stale() -> None:
    """Though by the same parameters: on other data, or another machine."""
    made = {**lock_of(0.001)}
    made["train"] = {**made["train"], "outs": [{"path": "models/config_1", "md5": "another"}]}
    assert not made_with(made, dict(leaves(PARAMS)), ATTACK)


def test_where_the_attack_alone_was_run_the_summary_is_not_its(
    dvc: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc["told"] = shown(
        experiment("whole", "success", 0.01, 0.6),
        experiment("attack", "success", 0.1, 0.5),
        experiment("its attack again", "success", 0.01, 0.6),
    )
    found = {"whole" * 7: lock_of(0.01), "attack" * 7: lock_of(0.1, summary=0.001)}
    found["its attack again" * 7] = lock_of(0.01, summary=0.001)
    # The last commit has parameters that nothing was run with.
    found["a" * 40] = lock_of(0.1)
    monkeypatch.setattr(read, "read_lock", lambda project, rev: found.get(rev))
    dvc["told"][1]["experiments"].reverse()  # DVC has the newest first
    told = json.loads(octrobust("sweep", "draw", "--json").stdout)
    metrics = told["lines"][0]["metrics"]
    at = {name: [one["value"] for one in found] for name, found in metrics.items()}
    assert at["attack@test.l2.median"] == [0.001, 0.01, 0.1]
    assert at["accuracy_attacked"] == at[read.ROBUST] == [0.001, 0.01]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_of_all_commits_those_with_experiments_are_asked_for(tmp_path: Path) -> None:
    """DVC takes minutes for a history of some hundred."""
    git(tmp_path, "init", "--quiet")
    for message in ("first", "second", "third", "last"):
        git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", message)
    first, queued, failed, last = git(tmp_path, "rev-list", "--reverse", "HEAD").split()
    git(tmp_path, "update-ref", f"refs/exps/{first[:2]}/{first[2:]}/beta=0.1", "HEAD")
    # As DVC's queue keeps them.
    for ref, began in ((refs.CELERY_STASH, queued), (refs.CELERY_FAILED_STASH, failed)):
        (tmp_path / "params.yaml").write_text(ref)
        git(tmp_path, "add", "params.yaml")
        message = ExpStash.format_message(last, began, "beta=0.1")
        entry = git(tmp_path, "stash", "create", message)
        git(tmp_path, "update-ref", "--create-reflog", "-m", f"commit: {message}", ref, entry)
        assert [each.baseline_rev for each in ExpStash(Git(str(tmp_path)), ref).stash_revs.values()]
    asked = read._revisions(tmp_path)
    assert asked[:2] == ["--rev", last]
    assert asked[3::2] == sorted([first, queued, failed])


def test_the_lock_is_that_of_the_revision(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert checkout.read_lock(tmp_path, None) is None
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  a: {params: {params.yaml: {beta: 1e-05, classes: [NO, 1.5, 2, true]}}}\n"
    )
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    then = {"a": {"params": {"params.yaml": {"beta": 1e-05, "classes": ["NO", 1.5, 2, True]}}}}
    assert checkout.read_lock(tmp_path, "HEAD") == then
    assert checkout.read_lock(tmp_path, None) == {}
    assert checkout.read_lock(tmp_path, "nowhere") == {}
    for damaged in ("stages:\n  a: {params: {par", "[]", "stages: [a]", "stages: {a: 1}"):
        (tmp_path / "dvc.lock").write_text(damaged)
        assert checkout.read_lock(tmp_path, None) == {}


def test_seeds_are_averaged_and_the_rest_makes_lines() -> None:
    told = shown(
        *(
            experiment(f"e{beta}{seed}", "success", beta, 0.5 + seed / 10, seed=seed)
            for beta in (0.01, 0.1)
            for seed in (1, 2)
        )
    )
    found = sweep.sweep_of(list(read._experiments(NO_PROJECT, told, False)), None)
    assert list(found.lines) == [""]
    values = found.values("", read.ROBUST)
    assert values[1] == pytest.approx((0.01, 0.65, 0.6, 0.7))


def test_a_line_is_named_by_what_tells_it_from_the_others() -> None:
    """And not by what tells them all from the workspace, which is a point and no line."""
    told = shown(*(experiment(f"e{beta}", "success", beta, 0.5) for beta in (0.01, 0.1)))
    for one in told[1]["experiments"]:
        params = one["revs"][0]["data"]["params"]["params.yaml"]["data"]
        params["attack"]["max_iter"] = 20
    found = sweep.sweep_of(list(read._experiments(NO_PROJECT, told, False)), "attack.beta")
    assert list(found.lines) == [""]
    assert found.xs == (0.01, 0.1)


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ((0.001, 0.01, 0.1), True),
        ((1, 2, 4, 8), True),
        ((1, 2, 3), False),
        ((10, 100), True),
        ((1, 2), False),
        ((0, 1, 10), False),
        (("EN", "L1"), False),
        ((True, False), False),
    ],
)
def test_the_axis_is_logarithmic_where_the_values_are(values: tuple[Any, ...], log: bool) -> None:
    assert sweep.is_log_spaced(values) is log


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "no two finished experiments differ"),
        (("attack.confidence",), "all finished experiments have one attack.confidence"),
        (("attack.betta",), "is it attack.beta"),
        (("--out", "sweep.pdf"), "PNG"),
    ],
)
def test_draw_of_nothing_is_one_line(
    dvc: dict[str, Any], arguments: tuple[str, ...], reason: str
) -> None:
    done = octrobust("sweep", "draw", *arguments)
    assert done.exit_code == 2
    assert reason in one_error(done.stderr)


def test_draw_asks_which_where_several_differ() -> None:
    told = shown(experiment("e", "success", 0.1, 0.5), experiment("f", "success", 0.1, 0.5))
    told[1]["experiments"][1]["revs"][0]["data"]["params"]["params.yaml"]["data"]["attack"][
        "max_iter"
    ] = 20
    with pytest.raises(
        UserError, match=r"attack.max_iter, attack.beta|attack.beta, attack.max_iter"
    ):
        sweep.sweep_of(list(read._experiments(NO_PROJECT, told, False)), None)


def test_watching_follows_what_was_open_and_says_what_ended(tmp_path: Path) -> None:
    log = tmp_path / "e.out"
    log.write_text(
        "Running stage 'train@config_1':\n> python -m pipeline.train\n"
        "config_1:  10%|#    | 1/10 [00:01<00:09, 1.0it/s]\r"
        "config_1:  50%|##   | 5/10 [00:05<00:05, 1.0it/s]\x1b[K"
    )
    old = experiment("old", "success", 0.3, 0.5)
    seen = queue.Watched()

    def look(*experiments: dict[str, Any]) -> list[tuple[str, str]]:
        return seen.look(list(read._experiments(NO_PROJECT, shown(old, *experiments), False)))

    assert (
        look(
            experiment("e", "running", 0.1, 0.5, log=str(log)), experiment("f", "queued", 0.2, 0.5)
        )
        == []
    )
    assert seen.doing == {"e": "train@config_1 50% [00:05<00:05]"}
    assert seen.open() == 2
    log.write_text("ERROR: failed to reproduce\nerror: models/x is missing\n")
    ended = look(
        experiment("e", "failed", 0.1, 0.5, log=str(log)), experiment("f", "queued", 0.2, 0.5)
    )
    assert ended == [("e", "failed")]
    assert "failed to reproduce" in seen.why("e")
    assert seen.alone is not None
    assert look(experiment("f", "success", 0.2, 0.5)) == [("f", "success")]
    assert seen.open() == 0


def test_waiting_for_nobody_is_given_up(
    dvc: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc["told"] = shown(experiment("e", "queued", 0.1, 0.5))
    monkeypatch.setattr(queue, "workers", lambda project: 0)
    with pytest.raises(UserError, match="octrobust sweep run"):
        queue.watch(Path(), lambda seen, ended: None, every=0, patience=0)


def test_watch_ends_with_one_where_an_experiment_failed(
    dvc: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter(["queued", "failed"] * 2)

    def look(project: Path) -> list[read.Experiment]:
        told = shown(experiment("e", next(states), 0.1, 0.5))
        return list(read._experiments(NO_PROJECT, told, False))

    monkeypatch.setattr(queue, "read_experiments", look)
    monkeypatch.setattr(queue.time, "sleep", lambda seconds: None)
    done = octrobust("sweep", "watch", "--every", "1")
    assert done.exit_code == 1
    assert "failed  e" in done.output
    done = octrobust("sweep", "watch", "--every", "1", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"e": "failed"}
    assert "failed  e" in done.stderr


def test_a_name_queued_again_after_it_failed_has_failed() -> None:
    seen = queue.Watched({"1": "failed", "2": "success"}, {"1": "e", "2": "e"})
    assert seen.by_name() == {"e": "failed"}


def test_run_starts_what_was_queued_again_under_a_failed_ones_name(
    dvc: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [
        one
        for state in ("queued", "failed")  # DVC lists the failed ones last
        for one in read._experiments(NO_PROJECT, shown(experiment("e", state, 0.1, 0.5)), False)
    ]
    started: list[int] = []
    monkeypatch.setattr(read, "read_experiments", lambda project: told)
    monkeypatch.setattr(queue, "start", lambda project, jobs: started.append(jobs))
    done = octrobust("sweep", "run", "--no-watch", "--json")
    assert json.loads(done.stdout) == {"e": "queued"}
    assert started == [1]


def test_run_of_an_empty_queue_says_how_to_fill_it(dvc: dict[str, Any]) -> None:
    done = octrobust("sweep", "run")
    assert done.exit_code == 0
    assert done.stdout.startswith("nothing is queued: octrobust sweep queue")
    assert json.loads(octrobust("sweep", "run", "--json").stdout) == {}


def test_a_tie_is_the_first() -> None:
    found = list(read._experiments(NO_PROJECT, shown(experiment("e", "success", 0.1, 0.5)), False))
    best = table.best(found, read.ROBUST)
    assert best is not None
    assert best.name == "workspace"
