"""What a source offered and what was found of it, in a SQLite file: a set of images may have more
files than memory should hold."""

from __future__ import annotations

import errno
import os
import sqlite3
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from octrobust.data.folder import Candidate
from octrobust.data.index import IndexRow, another_name, parse_name

# A file's place is its rank by `shown`. Of files with the same bytes, the first stands for all:
# tables below `same` are of those alone.
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE offered (location BLOB, shown TEXT, label TEXT, name TEXT);
CREATE TABLE file (place INTEGER PRIMARY KEY, location BLOB, shown TEXT, label TEXT, name TEXT);
CREATE TABLE hash (place INTEGER PRIMARY KEY, sha256 TEXT);
CREATE TABLE same (place INTEGER PRIMARY KEY, first INTEGER);
CREATE TABLE unreadable (place INTEGER PRIMARY KEY, error TEXT);
CREATE TABLE picture (
    place INTEGER PRIMARY KEY, width INTEGER, height INTEGER, mode TEXT, phash TEXT
);
CREATE TABLE image (
    place INTEGER PRIMARY KEY, label TEXT, key TEXT, name TEXT, patient TEXT, number TEXT,
    UNIQUE (label, key)
);
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels, Pillow's mode, and the perceptual hash."""

    width: int
    height: int
    mode: str
    phash: str


@contextmanager
def catalogue(path: Path) -> Iterator[Catalogue]:
    """A new one at `path`, to be thrown away afterwards."""
    database = sqlite3.connect(path)
    try:
        yield Catalogue(database)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
    finally:
        database.close()


class Catalogue:
    """Filled by `offer`, `group`, `judge` and `name`, in this order."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.executescript(_TABLES)

    def offer(self, candidates: Iterable[Candidate]) -> None:
        """The files of a source, in any order."""
        self._fill("offered", ((os.fsencode(c.path), c.where, c.label, c.name) for c in candidates))
        self._database.execute(
            "INSERT INTO file (location, shown, label, name) "
            "SELECT * FROM offered ORDER BY shown, rowid"
        )
        self._database.execute("DROP TABLE offered")

    def group(self, hashes: Iterable[str]) -> None:
        """The sha256 of each file, in order; one without ("") is like no other."""
        self._fill("hash", enumerate(hashes, 1))
        self._database.execute(
            "INSERT INTO same SELECT place, min(place) OVER "
            "(PARTITION BY iif(sha256 = '', place, sha256)) FROM hash"
        )

    def judge(self, readings: Iterable[Picture | str]) -> None:
        """What each of `firsts` shows, in order, or why it cannot be read."""
        firsts = self._rows("SELECT place FROM same WHERE place = first ORDER BY place")
        for (place,), reading in zip(firsts, readings, strict=True):
            if isinstance(reading, str):
                self._rows("INSERT INTO unreadable VALUES (?, ?)", place, reading)
            else:
                self._rows("INSERT INTO picture VALUES (?, ?, ?, ?, ?)", place, *astuple(reading))

    def name(self) -> None:
        """Give every image a name of its own within its label: the first to come keeps its own."""
        everyone = "SELECT place, label, name FROM picture JOIN file USING (place) ORDER BY place"
        for place, label, name in self._rows(everyone):
            self._take(place, label, name)
        late = self._rows(
            "SELECT place, label, name FROM picture JOIN file USING (place) "
            "WHERE place NOT IN (SELECT place FROM image) ORDER BY place"
        )
        # A name's next attempt: begun anew for each, thousands of one name would take the square.
        attempts: defaultdict[tuple[str, str], count[int]] = defaultdict(lambda: count(1))
        for place, label, name in late.fetchall():
            others = (another_name(name, label, each) for each in attempts[label, name])
            next(other for other in others if self._take(place, label, other))

    def _take(self, place: int, label: str, name: str) -> bool:
        """Whether the name was free. Some file systems take names for one that differ in case."""
        key = unicodedata.normalize("NFC", name).casefold()
        row = (place, label, key, name, *parse_name(name, label))
        taken = self._rows("INSERT OR IGNORE INTO image VALUES (?, ?, ?, ?, ?, ?)", *row)
        return taken.rowcount == 1

    def files(self) -> Iterator[Path]:
        """All, in order."""
        return self._locations("SELECT location FROM file ORDER BY place")

    def firsts(self) -> Iterator[Path]:
        """The first of those with the same bytes, in order."""
        return self._locations(
            "SELECT location FROM file JOIN same USING (place) WHERE place = first ORDER BY place"
        )

    def unreadable(self) -> Iterator[tuple[str, str]]:
        """Every file that cannot be read, in order, and why."""
        return self._rows(
            "SELECT shown, error FROM same JOIN unreadable ON first = unreadable.place "
            "JOIN file ON file.place = same.place ORDER BY same.place"
        )

    def quarantined(self) -> int:
        """Files that cannot be read."""
        query = "SELECT count(*) FROM same JOIN unreadable ON first = unreadable.place"
        return int(self._one(query))

    def torn(self) -> list[int]:
        """The first of files with the same bytes under several labels."""
        torn = self._rows(
            "SELECT first FROM same JOIN picture ON first = picture.place "
            "JOIN file ON file.place = same.place "
            "GROUP BY first HAVING count(DISTINCT label) > 1 ORDER BY first"
        )
        return [first for (first,) in torn]

    def copies(self, first: int) -> list[str]:
        """All files with the bytes of this one, as they are shown."""
        query = "SELECT shown FROM same JOIN file USING (place) WHERE first = ? ORDER BY place"
        return [shown for (shown,) in self._rows(query, first)]

    def images(self) -> Iterator[tuple[Path, IndexRow]]:
        """Every image's file and its row of the index, in the index's order."""
        rows = self._rows(
            "SELECT location, image.label || '/' || image.name AS path, image.label, patient, "
            "number, sha256, width, height, mode, phash FROM image JOIN picture USING (place) "
            "JOIN file USING (place) JOIN hash USING (place) ORDER BY path"
        )
        for location, *row in rows:
            yield Path(os.fsdecode(location)), IndexRow(*row)

    def number(self, table: str) -> int:
        """Rows of a table: file, or image."""
        return int(self._one(f"SELECT count(*) FROM {table}"))  # noqa: S608 - our own names

    def first_copies(self) -> int:
        """Files that differ in their bytes."""
        return int(self._one("SELECT count(*) FROM same WHERE place = first"))

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        """Of images: counts, by label too, copies left out, and the range of sizes."""
        copies = self._one("SELECT count(*) FROM same JOIN image ON first = image.place")
        sizes = self._rows(
            "SELECT min(width), max(width), min(height), max(height) FROM picture"
        ).fetchone()
        return {
            **self._counts(None),
            "classes": {label: self._counts(label) for label in classes},
            "duplicates": copies - self.number("image"),
            "quarantined": self.quarantined(),
            "widths": dict(zip(("min", "max"), sizes[:2], strict=True)),
            "heights": dict(zip(("min", "max"), sizes[2:], strict=True)),
        }

    def _counts(self, label: str | None) -> dict[str, int]:
        """Images, and known patients; None: of all labels."""
        images, patients = self._rows(
            "SELECT count(*), count(DISTINCT nullif(patient, '')) FROM image "
            "WHERE ?1 IS NULL OR label = ?1",
            label,
        ).fetchone()
        return {"images": images, "patients": patients}

    def _fill(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        rows = iter(rows)
        first = next(rows, None)
        if first is None:
            return
        insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(first))})"  # noqa: S608
        self._database.execute(insert, first)
        self._database.executemany(insert, rows)

    def _locations(self, query: str) -> Iterator[Path]:
        return (Path(os.fsdecode(location)) for (location,) in self._rows(query))

    def _rows(self, query: str, *values: Any) -> sqlite3.Cursor:
        return self._database.execute(query, values)

    def _one(self, query: str) -> Any:
        return self._rows(query).fetchone()[0]
