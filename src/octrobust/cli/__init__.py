"""The command `octrobust`: a file a command, in the order of its help. Heavy imports stay inside
the commands."""

from octrobust.cli.base import app  # isort: skip
from octrobust.cli import predict, attack, plan, sweep, draw, compare, audit  # noqa: F401, I001
from octrobust.cli import check, doctor, track, join  # noqa: F401

__all__ = ["app"]
