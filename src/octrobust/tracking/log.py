"""Record a finished stage, bring records into the store, and add what the store lacks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octrobust import files
from octrobust.checkout import md5_of, stages_made
from octrobust.tracking import attempt, build, kept, records
from octrobust.tracking.address import UnavailableError, sqlite_file, tracking_uri
from octrobust.tracking.records import Kind, Record
from octrobust.tracking.store import RefusedError, Store

# Records at which a store may fail before it is taken for down, and seconds in which an answer of
# its own comes.
FAILED, QUICK = 2, 5.0
Progress = Callable[[int, int], None]  # told how many are logged, and how many wait


@dataclass(frozen=True)
class Summary:
    """What a flush did: names of the stages logged, records still waiting, and why they wait."""

    logged: tuple[str, ...]
    pending: int
    error: str | None


def record(
    stage: str,
    *,
    params: Mapping[str, Any],
    metrics: Path | None,
    curves: Sequence[Path] = (),
    artifacts: Sequence[Path] = (),
    started: float,
    finished: float,
    kind: Kind = "stage",
    scratch: Path | None = None,
) -> None:
    """Remember a finished stage of the project in the current folder.

    Writes a run record to the spool, then, unless the stage was short, tries to log what waits
    there. A tracker that fails costs one line on stderr, never the stage.

    Args:
        stage: the stage's name in DVC (``train@config_1``).
        params: parameters to log, nested as in params.yaml.
        metrics: the stage's JSON of numbers; its finite numbers become metrics.
        curves: CSV files with a column ``epoch``; other numeric columns become step curves.
        artifacts: files or folders to attach, besides metrics and curves.
        started: seconds since the epoch.
        finished: seconds since the epoch.
        kind: ``summary`` fills the experiment's parent run instead of a run of its own.
        scratch: the stage's; if it says that the stage is recorded, no record is written. One that
            works through in a moment has none: its numbers are remembered instead.

    Raises:
        UserError: if the file of metrics or a curve does not exist or cannot be read.
    """
    home = files.project_home()
    done = build.Finished(stage, params, metrics, curves, artifacts, started, finished, kind)
    entry, attach = build.record_of(Path.cwd(), done)
    if metrics:
        scratch = scratch or files.scratch(
            f"recorded-{files.digest(entry.experiment, stage, entry.content)}"
        )
    again = scratch and kept.is_recorded(scratch, entry.experiment)  # killed after that
    try:
        if not again:
            records.write(home, _in_place_of(entry, home), attach)
            if scratch:  # before a tracker has its say: that may take a minute
                kept.mark(scratch, metrics, entry.experiment)
        attempt.flush_if_due(home, seconds=finished - started, final=kind == "summary")
    except OSError as error:
        attempt.say(f"tracking: {stage} is not recorded ({error}), `octrobust track` logs it later")


def _in_place_of(entry: Record, home: Path) -> Record:
    """Under the name of the same stage's record that waits, perhaps half logged, if DVC never got
    to store its result: a stage that was killed at its end, and run again, is one run."""
    stages = stages_made(Path.cwd())
    made = {(out["path"], out.get("md5")) for out in stages.get(entry.stage, {}).get("outs", ())}
    for each in records.pending_of(home, entry.experiment, entry.stage):
        folder = records.attachments(home, each)
        copies = {path for path, _ in made if (folder / path).is_file()}
        if not any((path, md5_of(folder / path)) in made for path in copies):
            return entry.model_copy(update={"id": each.id})
    return entry


def flush(*, wait: float = 60.0, seconds: float = math.inf) -> Summary:
    """Log every record that waits in the spool, each exactly once, whoever else is at it.

    Args:
        wait: seconds to wait for another process that is logging.
        seconds: after so many, no further record is begun.
    """
    home = files.project_home()
    if not any(records.pending(home)):
        return Summary((), 0, None)
    return _log(home, None, wait, time.monotonic() + seconds)


def track(project: Path, said: Progress | None = None) -> Summary:
    """Log what waits in the spool, and what of the project's results the store does not have.

    The latter is rebuilt from dvc.lock, params.yaml and the metrics (after `dvc pull`, say, or
    when every stage came out of the cache). Calling it again adds nothing.

    Args:
        said: told after every run how many are logged, and how many still wait.
    """
    home = files.project_home(project)
    return _log(home, project.resolve(), wait=60.0, until=math.inf, said=said)


def _log(
    home: Path, project: Path | None, wait: float, until: float, said: Progress | None = None
) -> Summary:
    logged: list[str] = []
    errors: list[str] = []
    uri = tracking_uri(home)
    try:
        with _alone(home, uri, wait):
            # With a project, a person waits for the answer, not a stage.
            store = Store(uri, home, patient=project is not None)
            _drain(home, store, logged, errors, until, said)
            if project:
                for entry, attach in build.missing(project, store.experiments_of):
                    records.write(home, entry, attach, project)
                _drain(home, store, logged, errors, until, said)
    except (UnavailableError, OSError) as error:
        errors.append(str(error))
    good, bad = records.pending(home)
    errors += [f"unreadable record {records.spool(home) / name}: delete it" for name in bad]
    return Summary(tuple(logged), len(good) + len(bad), errors[0] if errors else None)


@contextmanager
def _alone(home: Path, uri: str, wait: float) -> Iterator[None]:
    """Hold the project's logging lock, and that of a SQLite database, which several projects may
    share: made or written by two at once, it fails."""
    from filelock import FileLock, Timeout

    locks = {home / ".octrobust" / "tracking.lock": attempt.BUSY}
    if uri.startswith("sqlite"):
        database = sqlite_file(uri)
        locks[database.with_name(f"{database.name}.lock")] = attempt.BUSY_DATABASE
    with ExitStack() as held:
        for path, busy in locks.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(path, timeout=wait))
            except Timeout:
                raise UnavailableError(busy) from None
        yield


def _drain(
    home: Path,
    store: Store,
    logged: list[str],
    errors: list[str],
    until: float,
    said: Progress | None,
) -> None:
    """Log until the spool is empty but for records the store refuses, or until it is late; one
    record at least, so that a slow store gets on. A record at which a store fails that is still
    there holds up no other, unless several do."""
    refused: set[str] = set()
    failed = 0
    while todo := [each for each in records.pending(home)[0] if each.id not in refused]:
        for number, each in enumerate(todo, 1):
            begun = time.monotonic()
            try:
                if store.log(
                    each, records.attachments(home, each), records.model_folder(home, each)
                ):
                    logged.append(each.stage)
                records.remove(home, each)
            except (RefusedError, UnavailableError) as error:
                if isinstance(error, UnavailableError):
                    failed += 1
                    late = time.monotonic() - begun > QUICK
                    if late or failed > FAILED or not store.answers():
                        raise
                refused.add(each.id)
                errors.append(f"{each.stage} ({records.spool(home) / each.id}): {error}")
            if said:
                said(len(logged), len(todo) - number + len(refused))
            if time.monotonic() > until:
                return
