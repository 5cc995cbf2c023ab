"""The command `octrobust`: a file a command, in the order of its help. Heavy imports stay inside
the commands."""

from octrobust.cli import predict, attack, plan, audit  # noqa: I001
from octrobust.cli import check, track, join
from octrobust.cli.base import app

__all__ = ["app", "attack", "audit", "check", "join", "plan", "predict", "track"]
