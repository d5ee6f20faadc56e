"""What only SQLite can get wrong: no types, any bytes, times in every shape."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.schemas import NOT_UTF8
from maintenance_defs.databases import open_database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a#b'c d.db"


def test_blob_is_read_as_its_text_and_bad_bytes_are_visible(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, k TEXT)")
        connection.execute("INSERT INTO t (k) VALUES ('plain'), (?), (?), (CAST(? AS TEXT)), (7), (NULL)", (
            b"blob/\xc3\xa9.png", b"caf\xe9.png", b"caf\xe9.png"))  # fmt: skip
    connection.close()
    with open_database(f"sqlite:///{path}").snapshot() as snapshot:
        read = snapshot.read(f"SELECT {snapshot.as_text('k', 'TEXT')} AS k FROM t ORDER BY n").read_all()
    bad = NOT_UTF8 + "caf\\xe9.png"
    assert read["k"].to_pylist() == ["plain", "blob/é.png", bad, bad, "7", None]


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ("2024-01-15 03:04:05", datetime(2024, 1, 15, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-15T03:04:05Z", datetime(2024, 1, 15, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-15T05:04:05.250+02:00", datetime(2024, 1, 15, 3, 4, 5, 250_000, tzinfo=UTC)),
        ("2024-01-15", datetime(2024, 1, 15, tzinfo=UTC)),
        (1705287845, datetime(2024, 1, 15, 3, 4, 5, tzinfo=UTC)),
        (1705287845.5, datetime(2024, 1, 15, 3, 4, 5, 500_000, tzinfo=UTC)),
        (1705287845500, datetime(2024, 1, 15, 3, 4, 5, 500_000, tzinfo=UTC)),
        (1705287845500000, datetime(2024, 1, 15, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("2024-13-45 99:00:00", None),
        ("now", None),
        ("2451545", None),
        ("", None),
        (b"2024-01-15", None),
        (None, None),
    ],
)
def test_instant_in_every_usual_shape(path: Path, stored: object, meant: datetime | None) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (at)")  # kept as it was given
        connection.execute("INSERT INTO t VALUES (?)", (stored,))
    connection.close()
    with open_database(f"sqlite:///{path}").snapshot() as snapshot:
        read = snapshot.read(f"SELECT {snapshot.as_instant('at', 'DATETIME')} AS at FROM t").read_all()
    assert read["at"].to_pylist() == [meant]


def test_column_that_changes_its_type_late_is_refused_not_guessed(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (v)")
        connection.executemany("INSERT INTO t VALUES (?)", [(1,)] * 40_000 + [("text",)])
    connection.close()
    with open_database(f"sqlite:///{path}").snapshot() as snapshot, pytest.raises(SourceUnavailable, match="'v' began"):
        snapshot.read("SELECT v FROM t").read_all()


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_snapshot_leaves_the_file_as_it_is(path: Path, journal: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("CREATE TABLE t (k TEXT)")
    connection.commit()
    connection.close()
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    with open_database(f"sqlite:///{path}").snapshot() as snapshot:
        assert snapshot.rows("SELECT count(*) AS n FROM t") == [{"n": 0}]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_writer_that_holds_the_file_is_waited_for_then_transient(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maintenance_defs.databases.sqlite.BUSY_SECONDS", 0.05)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("CREATE TABLE t (k TEXT)")
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SourceUnavailable, match="locked") as caught, open_database(f"sqlite:///{path}").snapshot():
        pass
    assert caught.value.transient
    writer.close()
