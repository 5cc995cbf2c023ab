"""Where the tracking store is, and whether it answers."""

from __future__ import annotations

import http.client
import os
import sqlite3
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

_DATABASES = ("postgresql", "mysql", "mssql")


class UnavailableError(Exception):
    """The store cannot be used now; the message is one line."""


def tracking_uri(home: Path) -> str:
    """MLFLOW_TRACKING_URI, or MLflow's own default in `home`, as an absolute address.

    A relative SQLite path counts from `home` too: from inside a temporary experiment it would
    otherwise vanish with it.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = uri.removeprefix("sqlite:///")
    if path in (uri, "") or path.startswith(("/", ":memory:")):
        return uri
    return f"sqlite:///{home / path}"


def sqlite_file(uri: str) -> Path:
    """The database file of an absolute SQLite address."""
    return Path(uri.partition(":///")[2].partition("?")[0])


def readable(uri: str) -> str:
    """The address without user name and password."""
    parts = urlsplit(uri)
    return uri.replace(f"{parts.netloc.rpartition('@')[0]}@", "") if "@" in parts.netloc else uri


def probe(uri: str, seconds: float) -> None:
    """Find out soon whether the store answers: MLflow itself may retry for minutes.

    Args:
        seconds: to wait for an answer.

    Raises:
        UnavailableError: if it does not.
    """
    parts = urlsplit(uri)
    try:
        if parts.scheme in ("http", "https"):
            _probe_server(uri, seconds)
        elif parts.scheme.startswith("sqlite"):
            _probe_sqlite(uri, seconds)
        elif "+" in parts.scheme or parts.scheme in _DATABASES:
            _probe_database(uri, seconds)
    except (OSError, http.client.HTTPException, sqlite3.Error) as error:
        reason = getattr(error, "reason", None) or error
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        kind = "database" if parts.scheme.startswith("sqlite") else "server"
        raise UnavailableError(f"tracking {kind} unreachable: {readable(uri)} ({text})") from None


def _probe_server(uri: str, seconds: float) -> None:
    # Without name and password, which urllib takes for a part of the host: a 401 is an answer too.
    health = f"{readable(uri).rstrip('/')}/health"
    try:
        urllib.request.urlopen(health, timeout=seconds).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code in (502, 503, 504):  # a proxy whose server is down; any other is an answer
            raise
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # MLflow has its own certificate settings
            raise


def _probe_sqlite(uri: str, seconds: float) -> None:
    path = sqlite_file(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=seconds, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def _probe_database(uri: str, seconds: float) -> None:
    import sqlalchemy

    # PostgreSQL's clients would wait for minutes, or for ever.
    limit = {"connect_timeout": round(seconds)} if uri.startswith(("postgresql", "mysql")) else {}
    try:
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=limit)
        engine.connect().close()
    except ImportError as error:
        raise OSError(
            f"{error}: install its driver, as `uv pip install -e '.[postgresql]'`"
        ) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        raise OSError(reason.splitlines()[0]) from None
