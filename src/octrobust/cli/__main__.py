"""`python -m octrobust.cli`."""

from octrobust.cli import app

app()
