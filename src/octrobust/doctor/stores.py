"""git, DVC's cache and remotes, MLflow's store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from octrobust.doctor.finding import Finding, said

SECONDS = 10  # that a store has to answer
# Through DVC itself, which knows its remotes' settings and credentials; may hang, so not in here.
_PROBE = f"""
import signal, sys
from dvc.repo import Repo
remote = Repo().cloud.get_remote(sys.argv[1])
signal.alarm({SECONDS})  # from here on, whatever the imports took
try:
    remote.fs.info(remote.path)
    print("there")
except FileNotFoundError as error:
    if error.__cause__:  # no bucket, no connection
        sys.exit(str(error.__cause__))
    print("empty")
"""


def git(root: Path) -> Iterator[Finding]:
    if said("git", "--version", where=root) is None:
        yield Finding("git", "problem", "is not installed", "install git")
        return
    if said("git", "rev-parse", "--show-toplevel", where=root) is None:
        mend = "clone it, do not copy it: DVC's experiments are git commits"
        yield Finding("git", "problem", f"{root} is no git repository", mend)
        return
    head = said("git", "rev-parse", "--short", "HEAD", where=root)
    if head is None:
        mend = "run `git add --all && git commit -m start`"
        yield Finding("git", "problem", "there is no commit to begin experiments from", mend)
        return
    missing = [key for key in ("user.name", "user.email") if not said(*_git(key), where=root)]
    if missing:
        mend = "; ".join(f"`git config {key} ...`" for key in missing)
        what = f"{' and '.join(missing)} not set: DVC's experiments fail"
        yield Finding("git", "problem", what, f"run {mend}")
    else:
        yield Finding("git", "ok", f"at {head}, commits as {said(*_git('user.email'), where=root)}")


def _git(key: str) -> tuple[str, ...]:
    return ("git", "config", key)


def dvc(root: Path) -> Iterator[Finding]:
    """The cache, and every remote."""
    if not (root / ".dvc").is_dir():
        yield Finding("DVC", "problem", f"no .dvc in {root}", "run `dvc init`")
        return
    listed = said(sys.executable, "-m", "dvc", "config", "--list", where=root, seconds=120)
    if listed is None:
        what = "`dvc config --list` fails"
        yield Finding("DVC", "problem", what, "run it, and mend what it says of .dvc/config")
        return
    settings = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
    yield from _cache(root, settings)
    names = [key.split(".")[1] for key in settings if key[:7] == "remote." and key[-4:] == ".url"]
    if not names:
        what = "none: data and models stay on this machine"
        yield Finding("DVC remote", "ok", f"{what} (docs/how-to/storage.md adds one)")
    for name in dict.fromkeys(names):
        yield _remote(root, name, settings[f"remote.{name}.url"])


def _cache(root: Path, settings: dict[str, str]) -> Iterator[Finding]:
    # A relative one counts from .dvc, where the configuration stands.
    place = (root / ".dvc" / settings.get("cache.dir", "cache")).resolve()
    nearest = next(folder for folder in (place, *place.parents) if folder.exists())
    if os.access(nearest, os.W_OK):
        yield Finding("DVC cache", "ok", str(place))
    else:
        mend = "change its owner, or name another by `dvc cache dir --local PATH`"
        yield Finding("DVC cache", "problem", f"{place} cannot be written to", mend)


def _remote(root: Path, name: str, url: str) -> Finding:
    title = f"DVC remote {name}"
    mend = "see docs/how-to/storage.md for address, credentials and packages"
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, name],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == -signal.SIGALRM:
        return Finding(title, "problem", f"{url} does not answer in {SECONDS} s", mend)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding(title, "problem", f"{url}: {last}", mend)
    if done.stdout.strip() == "empty":
        return Finding(title, "ok", f"{url}, nothing pushed yet")
    return Finding(title, "ok", url)


def mlflow(root: Path) -> Iterator[Finding]:
    """The tracking store, and what waits for it."""
    from octrobust.tracking import records
    from octrobust.tracking.address import (
        UnavailableError,
        probe,
        readable,
        sqlite_file,
        tracking_uri,
    )

    uri = tracking_uri(root)
    shown = readable(uri)
    if uri.startswith("sqlite") and not sqlite_file(uri).exists():  # a probe would make it
        yield Finding("MLflow", "ok", f"{shown}, made by the first stage that runs")
    else:
        try:
            probe(uri, SECONDS)
            yield Finding("MLflow", "ok", shown)
        except UnavailableError as error:
            mend = "start it, or correct MLFLOW_TRACKING_URI; meanwhile stages lose nothing"
            yield Finding("MLflow", "problem", str(error), mend)
    good, bad = records.pending(root)
    if good or bad:
        what = f"{len(good) + len(bad)} runs wait to be logged"
        yield Finding("MLflow records", "warning", what, "run `octrobust track`")
