"""What only SQLite has: a storage class for every value, one writer at a time, tables without rowid."""

import sqlite3
import time
from pathlib import Path

import pytest

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.acting import RowImage, open_acting_database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "application.db"


def execute(path: Path, *statements: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = bytes
    for statement in statements:
        rows = connection.execute(statement).fetchall()
    connection.close()
    return rows


EVERY = (
    "CREATE TABLE t (id UUID PRIMARY KEY, i INTEGER, r REAL, x TEXT, b BLOB, any, d DATETIME, "
    "twice INTEGER GENERATED ALWAYS AS (i * 2) VIRTUAL, kept TEXT GENERATED ALWAYS AS (x || '!') STORED)",
    "INSERT INTO t (id, i, r, x, b, any, d) VALUES "
    "('aaaaaaaa-0000-4000-8000-000000000001', 9223372036854775807, 0.1 + 0.2, '', x'00ff', 1, '2025-01-01 00:00:00'), "
    "('b', -1, 1e308, char(0) || 'é''\"', x'', '1', 1735689600), "
    "('c', 'not a number', 9e999, '12', 'text in a blob', 1.0, NULL), "
    "('d', NULL, 'x', CAST(x'ff61' AS TEXT), NULL, CAST(x'fe' AS TEXT), 1.5), "
    "('e', 1.5, -0.0, x'6162', 7, x'31', '')",
)
IDS = ["aaaaaaaa-0000-4000-8000-000000000001", "b", "c", "d", "e"]
COLUMNS = ["i", "r", "x", "b", "any", "d", "twice", "kept"]
EXACT = "SELECT id, " + ", ".join(f"typeof({c}), quote({c}), hex({c})" for c in COLUMNS)


def test_every_storage_class_comes_back_as_it_was(path: Path) -> None:
    execute(path, *EVERY)
    before = execute(path, f"{EXACT} FROM t ORDER BY id")
    acting = open_acting_database(f"sqlite:///{path}")
    images = list(acting.images("t", ["id"], IDS).values())
    done = acting.delete("t", ["id"], images, "1", {})
    assert {one.outcome for one in done} == {"deleted"}
    done = acting.restore([RowImage.from_json(image.as_json()) for image in images])
    assert {(one.outcome, one.detail) for one in done} == {("restored", None)}
    assert execute(path, f"{EXACT} FROM t ORDER BY id") == before


@pytest.mark.parametrize("other", ["'1'", "1.0", "x'31'"])
def test_number_and_text_that_look_alike_are_a_change(path: Path, other: str) -> None:
    execute(path, *EVERY)
    acting = open_acting_database(f"sqlite:///{path}")
    images = list(acting.images("t", ["id"], IDS[:1]).values())
    execute(path, f"UPDATE t SET any = {other} WHERE id = '{IDS[0]}'")
    (done,) = acting.delete("t", ["id"], images, "1", {})
    assert (done.outcome, done.detail) == ("skipped_changed", "changed since it was seen: any")


def test_writer_that_keeps_the_file_fails_every_row_and_soon(path: Path) -> None:
    execute(path, *EVERY)
    acting = open_acting_database(f"sqlite:///{path}", lock_seconds=0.2)
    images = list(acting.images("t", ["id"], ["b", "c"]).values())
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert [one.outcome for one in acting.delete("t", ["id"], images, "1", {})] == ["failed", "failed"]
    assert [one.outcome for one in acting.restore(images)] == ["failed", "failed"]
    assert time.monotonic() - began < 3
    writer.close()
    assert execute(path, "SELECT count(*) FROM t") == [(5,)]


def test_deferred_foreign_key_fails_the_commit_and_nothing_is_changed(path: Path) -> None:
    execute(
        path,
        "CREATE TABLE t (id TEXT PRIMARY KEY)",
        "CREATE TABLE child (t_id TEXT REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO t VALUES ('a'), ('b')",
        "INSERT INTO child VALUES ('a')",
    )
    acting = open_acting_database(f"sqlite:///{path}")
    done = acting.delete("t", ["id"], list(acting.images("t", ["id"], ["a", "b"]).values()), "1", {})
    assert [one.outcome for one in done] == ["failed", "failed"]
    assert "nothing was changed" in str(done[0].detail)
    assert execute(path, "SELECT count(*) FROM t") == [(2,)]


def test_row_whose_commit_is_refused_is_not_called_restored(path: Path) -> None:
    """Else the ledger would count its image as back, and nobody would look for it again."""
    execute(
        path,
        "CREATE TABLE t (id TEXT PRIMARY KEY)",
        "CREATE TABLE child (id TEXT PRIMARY KEY, t_id TEXT REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO t VALUES ('a')",
        "INSERT INTO child VALUES ('1', 'a')",
    )
    acting = open_acting_database(f"sqlite:///{path}")
    images = list(acting.images("child", ["id"], ["1"]).values())
    assert [one.outcome for one in acting.delete("child", ["id"], images, "1", {})] == ["deleted"]
    execute(path, "DELETE FROM t")
    done = acting.restore(images)
    assert [one.outcome for one in done] == ["failed"] and "nothing was changed" in str(done[0].detail)
    assert execute(path, "SELECT count(*) FROM child") == [(0,)]


def test_set_row_that_cannot_be_told_apart_or_stays_as_it_is_is_not_called_restored(path: Path) -> None:
    execute(path, "CREATE TABLE t (id TEXT, v TEXT)", "INSERT INTO t VALUES ('a', 'old'), ('b', 'old')")
    acting = open_acting_database(f"sqlite:///{path}")
    images = list(acting.images("t", ["id"], ["a", "b"]).values())
    done = acting.update("t", ["id"], images, "1", {}, {"a": {"v": "new"}, "b": {"v": "new"}})
    execute(
        path,
        "INSERT INTO t VALUES ('a', 'new')",
        "CREATE TRIGGER stay BEFORE UPDATE ON t WHEN OLD.id = 'b' BEGIN SELECT RAISE(IGNORE); END",
    )
    back = acting.revert(images, [one.after for one in done if one.after is not None])
    assert [one.outcome for one in back] == ["failed", "failed"]
    assert "2 rows have this id" in str(back[0].detail) and "left the row as it was" in str(back[1].detail)
    assert execute(path, "SELECT count(*) FROM t WHERE v = 'new'") == [(3,)]


def test_row_that_a_trigger_sets_back_afterwards_is_not_called_set(path: Path) -> None:
    execute(
        path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES ('a', 'old')",
        "CREATE TRIGGER back AFTER UPDATE ON t WHEN NEW.v <> 'old' BEGIN UPDATE t SET v = 'old' WHERE id = NEW.id; END",
    )
    acting = open_acting_database(f"sqlite:///{path}")
    images = list(acting.images("t", ["id"], ["a"]).values())
    assert [one.outcome for one in acting.update("t", ["id"], images, "1", {}, {"a": {"v": "new"}})] == ["failed"]


def test_statement_that_takes_too_long_is_given_up(path: Path) -> None:
    execute(path, *EVERY)
    acting = open_acting_database(f"sqlite:///{path}", statement_seconds=0.3)
    images = list(acting.images("t", ["id"], ["b"]).values())
    endless = "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n) > 0"
    with pytest.raises(SourceUnavailable, match="Nothing was changed"):
        acting.delete("t", ["id"], images, endless, {})
    assert execute(path, "SELECT count(*) FROM t") == [(5,)]


def test_tables_without_rowid_and_their_cascades(path: Path) -> None:
    execute(
        path,
        "CREATE TABLE t (a INT, id TEXT, PRIMARY KEY (a, id)) WITHOUT ROWID",
        "CREATE TABLE child (rowid TEXT, a INT, t_id TEXT, FOREIGN KEY (a, t_id) REFERENCES t ON DELETE CASCADE)",
        "INSERT INTO t VALUES (1, 'x'), (2, 'x')",
        "INSERT INTO child VALUES ('r', 1, 'x'), ('r', 1, 'x'), ('r', 2, 'x')",
    )
    acting = open_acting_database(f"sqlite:///{path}")
    assert acting.cascades("t", ["a", "id"], ['["1","x"]']) == {"child (cascade)": 2}
    images = acting.images("t", ["A", "ID"], ['["1","x"]'])
    (done,) = acting.delete("t", ["a", "id"], list(images.values()), "1", {})
    assert done.outcome == "deleted"
    assert execute(path, "SELECT count(*) FROM child") == [(1,)]


def test_file_that_is_not_there_is_not_created(path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="does not exist"):
        open_acting_database(f"sqlite:///{path}").images("t", ["id"], ["a"])
    assert not path.exists()
