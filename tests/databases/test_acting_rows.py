"""What every acting database promises, on PostgreSQL, SQLite and D1: a row goes only while it is what was seen."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases import open_database
from maintenance_defs.databases.acting import ActingDatabase, RowDone, RowImage, open_acting_database
from tests.support.d1 import d1_server
from tests.support.postgres import connect

AS_OF = datetime(2025, 8, 14, tzinfo=UTC)


@dataclass
class World:
    kind: str  # "postgres" or "sqlite"
    url: str
    acting: ActingDatabase
    session: Callable[[], Any]  # a connection of the application, which commits each statement by itself

    def execute(self, *statements: str) -> None:
        connection = self.session()
        try:
            for statement in statements:
                connection.cursor().execute(statement)
        finally:
            connection.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = self.session()
        try:
            cursor = connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())
        finally:
            connection.close()

    def seen(self, ids: Sequence[str], table: str = "t") -> list[RowImage]:
        found = self.acting.images(table, ["id"], ids)
        return [found[id_] for id_ in ids]

    def delete(self, ids: Sequence[str], where: str = "1 = 1", **parameters: Any) -> list[RowDone]:
        return self.acting.delete("t", ["id"], self.seen(ids), where, parameters)


@pytest.fixture(params=["postgres", "sqlite", "d1"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "postgres":
        url = request.getfixturevalue("pg_database")
        yield World("postgres", url, open_acting_database(url, lock_seconds=0.3), lambda: connect(url))
        return
    path = tmp_path / "application.db"

    def session() -> Any:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    session().close()
    if request.param == "d1":
        with d1_server(path) as d1:
            yield World("sqlite", d1.url, open_acting_database(d1.url), session)
        return
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL")
    url = f"sqlite:///{path}"
    yield World("sqlite", url, open_acting_database(url, lock_seconds=0.3), session)


def outcomes(done: Sequence[RowDone]) -> dict[str, str]:
    return {one.row_id: one.outcome for one in done}


THREE = (
    "CREATE TABLE t (id text PRIMARY KEY, k text, n int)",
    "INSERT INTO t VALUES ('a','x',1), ('b','y',2), ('c','z',3)",
)


def test_rows_are_deleted_with_their_image_kept(world: World) -> None:
    world.execute(*THREE)
    done = world.delete(["a", "b"])
    assert outcomes(done) == {"a": "deleted", "b": "deleted"}
    assert done[0].before is not None and done[0].before.columns == {"id": "a", "k": "x", "n": "1"}
    assert world.rows("SELECT id FROM t") == [("c",)]


def test_row_that_was_updated_after_it_was_seen_stays(world: World) -> None:
    world.execute(*THREE)
    images = world.seen(["a", "b"])
    world.execute("UPDATE t SET k = 'new' WHERE id = 'a'")
    done = world.acting.delete("t", ["id"], images, "1 = 1", {})
    assert outcomes(done) == {"a": "skipped_changed", "b": "deleted"}
    assert done[0].detail == "changed since it was seen: k"
    assert world.rows("SELECT id, k FROM t ORDER BY id") == [("a", "new"), ("c", "z")]


def test_null_and_empty_are_two_values(world: World) -> None:
    world.execute(*THREE, "UPDATE t SET k = '' WHERE id = 'a'")
    images = world.seen(["a"])
    world.execute("UPDATE t SET k = NULL WHERE id = 'a'")
    assert outcomes(world.acting.delete("t", ["id"], images, "1 = 1", {})) == {"a": "skipped_changed"}


def test_row_that_the_predicate_no_longer_selects_is_kept_and_so_is_null(world: World) -> None:
    world.execute(*THREE, "UPDATE t SET n = NULL WHERE id = 'c'")
    done = world.delete(["a", "b", "c"], "n < :limit", limit=2)
    assert outcomes(done) == {"a": "deleted", "b": "skipped_kept", "c": "skipped_kept"}
    assert world.rows("SELECT id FROM t ORDER BY id") == [("b",), ("c",)]


def test_predicate_may_ask_other_tables_and_use_percent_question_mark_and_comment(world: World) -> None:
    world.execute(*THREE, "CREATE TABLE saved (t_id text)", "INSERT INTO saved VALUES ('a')")
    where = "NOT EXISTS (SELECT 1 FROM saved s WHERE s.t_id = t.id) AND k <> '50 %s ?' AND k = :k -- ? :x"
    done = world.delete(["a", "b", "c"], where, k="y")
    assert outcomes(done) == {"a": "skipped_kept", "b": "deleted", "c": "skipped_kept"}


def test_row_that_is_gone_already_is_no_failure(world: World) -> None:
    world.execute(*THREE)
    images = world.seen(["a", "b"])
    world.execute("DELETE FROM t WHERE id = 'a'")
    done = world.acting.delete("t", ["id"], images, "1 = 1", {})
    assert outcomes(done) == {"a": "already_absent", "b": "deleted"}


def test_foreign_key_that_refuses_stops_only_its_row(world: World) -> None:
    world.execute(*THREE, "CREATE TABLE child (t_id text REFERENCES t (id))", "INSERT INTO child VALUES ('b')")
    done = world.delete(["a", "b", "c"])
    assert outcomes(done) == {"a": "deleted", "b": "skipped_referenced", "c": "deleted"}
    assert "foreign key" in str(done[1].detail).lower()
    assert world.rows("SELECT id FROM t") == [("b",)]


def test_what_the_database_would_refuse_is_told_and_nothing_is_deleted(world: World) -> None:
    world.execute(*THREE, "CREATE TABLE child (t_id text REFERENCES t (id))", "INSERT INTO child VALUES ('b')")
    told = world.acting.delete("t", ["id"], world.seen(["a", "b", "c"]), "n < 3", {}, rehearse=True)
    could_ask = not world.url.startswith("d1:")
    assert outcomes(told) == ({"a": "deleted", "b": "skipped_referenced", "c": "skipped_kept"} if could_ask else {})
    assert len(world.rows("SELECT id FROM t")) == 3


def refuse_updates_of_b(world: World) -> None:
    if world.kind == "sqlite":
        world.execute(
            "CREATE TRIGGER no BEFORE UPDATE ON t WHEN old.id = 'b' "
            "BEGIN SELECT RAISE(ABORT, 'no update of yyyy-b'); END"
        )
    else:
        world.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN IF old.id = 'b' THEN RAISE 'no update of %', old.k; END IF; RETURN new; END$$",
            "CREATE TRIGGER no BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION no()",
        )


def test_trigger_that_refuses_stops_only_its_row_and_its_words_hold_no_value(world: World) -> None:
    world.execute(*THREE, "UPDATE t SET k = 'yyyy-b' WHERE id = 'b'")
    refuse_updates_of_b(world)
    values = {id_: {"k": "archived"} for id_ in "abc"}
    done = world.acting.update("t", ["id"], world.seen(["a", "b", "c"]), "n > 0", {}, values)
    assert outcomes(done) == {"a": "set", "b": "failed", "c": "set"}
    assert str(done[1].detail).startswith("no update of …")
    assert world.rows("SELECT k FROM t ORDER BY id") == [("archived",), ("yyyy-b",), ("archived",)]


def test_rows_get_each_its_own_values_and_are_not_stamped_again(world: World) -> None:
    stamp = "timestamptz" if world.kind == "postgres" else "datetime"
    world.execute(*THREE, f"ALTER TABLE t ADD COLUMN archived_at {stamp}")
    values = {id_: {"k": f"final/{id_}", "archived_at": AS_OF} for id_ in "ab"}
    done = world.acting.update("t", ["id"], world.seen(["a", "b"]), "archived_at IS NULL", {}, values)
    assert outcomes(done) == {"a": "set", "b": "set"}
    assert done[0].after is not None and done[0].after.columns["k"] == "final/a"
    again = world.acting.update("t", ["id"], world.seen(["a", "b"]), "archived_at IS NULL", {}, values)
    assert outcomes(again) == {"a": "skipped_kept", "b": "skipped_kept"}
    if world.kind == "sqlite":  # as CURRENT_TIMESTAMP would have written it
        assert world.rows("SELECT archived_at FROM t WHERE id = 'a'") == [("2025-08-14 00:00:00",)]


def test_column_that_is_not_there_and_the_id_itself_cannot_be_set(world: World) -> None:
    world.execute(*THREE)
    for values in ({"nope": 1}, {"id": "z"}, {}):
        with pytest.raises(Refused, match="Nothing was changed"):
            world.acting.update("t", ["id"], world.seen(["a"]), "1 = 1", {}, {"a": values})


def test_update_is_set_back_only_while_the_row_is_as_it_was_set(world: World) -> None:
    world.execute(*THREE)
    before = world.seen(["a", "b", "c"])
    done = world.acting.update("t", ["id"], before, "1 = 1", {}, {id_: {"k": None, "n": 9} for id_ in "abc"})
    after = [one.after for one in done if one.after is not None]
    world.execute("UPDATE t SET n = 10 WHERE id = 'b'", "DELETE FROM t WHERE id = 'c'")
    back = world.acting.revert(before, after)
    assert outcomes(back) == {"a": "restored", "b": "skipped_changed", "c": "skipped_changed"}
    assert back[2].detail == "deleted since it was set"
    assert world.rows("SELECT * FROM t ORDER BY id") == [("a", "x", 1), ("b", None, 10)]
    assert outcomes(world.acting.revert(before[:1], after)) == {"a": "restored"}  # once more: nothing to do


def test_deleted_rows_come_back_and_taken_places_are_left_alone(world: World) -> None:
    world.execute(*THREE)
    images = world.seen(["a", "b", "c"])
    world.delete(["a", "b"])
    world.execute("INSERT INTO t VALUES ('b', 'another', 0)")
    done = world.acting.restore([RowImage.from_json(image.as_json()) for image in images])
    assert outcomes(done) == {"a": "restored", "b": "failed", "c": "restored"}
    assert done[1].detail == "a row with this id is there, with other content"
    assert world.seen(["a"]) == images[:1]
    assert world.rows("SELECT k FROM t WHERE id = 'b'") == [("another",)]


def test_rows_that_need_each_other_come_back_in_any_order(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id text PRIMARY KEY, parent text REFERENCES t (id))",
        "INSERT INTO t VALUES ('root', NULL), ('mid', 'root'), ('leaf', 'mid')",
    )
    images = world.seen(["leaf", "mid", "root"])
    assert set(outcomes(world.delete(["leaf", "mid", "root"])).values()) == {"deleted"}
    assert set(outcomes(world.acting.restore(images)).values()) == {"restored"}


def test_row_that_a_trigger_would_change_is_not_called_restored(world: World) -> None:
    world.execute(*THREE)
    images = world.seen(["a"])
    world.delete(["a"])
    if world.kind == "sqlite":
        world.execute("CREATE TRIGGER touch AFTER INSERT ON t BEGIN UPDATE t SET n = 99 WHERE id = new.id; END")
    else:
        world.execute(
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN new.n := 99; RETURN new; END$$",
            "CREATE TRIGGER touch BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION touch()",
        )
    (done,) = world.acting.restore(images)
    assert done.outcome == "failed" and "not be the same" in str(done.detail)
    assert world.rows("SELECT count(*) FROM t WHERE id = 'a'") == [(0,)]


def test_row_kept_by_a_trigger_without_an_error_is_not_called_deleted(world: World) -> None:
    world.execute(*THREE)
    if world.kind == "sqlite":
        world.execute("CREATE TRIGGER keep BEFORE DELETE ON t WHEN old.id = 'b' BEGIN SELECT RAISE(IGNORE); END")
    else:
        world.execute(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN IF old.id = 'b' THEN RETURN NULL; END IF; RETURN old; END$$",
            "CREATE TRIGGER keep BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION keep()",
        )
    assert outcomes(world.delete(["a", "b"])) == {"a": "deleted", "b": "failed"}


def test_cascades_are_counted_to_the_end_and_cycles_once(world: World) -> None:
    world.execute(
        *THREE,
        "CREATE TABLE child (id int PRIMARY KEY, t_id text REFERENCES t (id) ON DELETE CASCADE)",
        "CREATE TABLE grand (id int PRIMARY KEY, child_id int REFERENCES child (id) ON DELETE CASCADE, "
        "boss int REFERENCES grand (id) ON DELETE CASCADE)",
        "CREATE TABLE note (child_id int REFERENCES child (id) ON DELETE SET NULL)",
        "CREATE TABLE safe (t_id text REFERENCES t (id))",
        "INSERT INTO child VALUES (1, 'a'), (2, 'a'), (3, 'b')",
        "INSERT INTO grand VALUES (1, 1, NULL), (2, NULL, 1), (3, 3, NULL)",
        "UPDATE grand SET boss = 2 WHERE id = 1",
        "INSERT INTO note VALUES (1), (2), (3)",
    )
    prefix = "public." if world.kind == "postgres" else ""
    expected = {"child (cascade)": 2, "grand (cascade)": 2, "note (set null)": 2}
    assert world.acting.cascades("t", ["id"], ["a"]) == {prefix + name: count for name, count in expected.items()}
    assert world.acting.cascades("t", ["id"], ["c"]) == {}
    world.delete(["a"])
    assert world.rows("SELECT (SELECT count(*) FROM child), (SELECT count(*) FROM grand), "
                      "(SELECT count(*) FROM note WHERE child_id IS NULL)") == [(1, 1, 2)]  # fmt: skip


def test_tree_counts_what_goes_beyond_the_rows_themselves(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id text PRIMARY KEY, parent text REFERENCES t (id) ON DELETE CASCADE)",
        "INSERT INTO t VALUES ('root', NULL), ('mid', 'root'), ('leaf', 'mid'), ('other', NULL)",
    )
    name = "public.t (cascade)" if world.kind == "postgres" else "t (cascade)"
    assert world.acting.cascades("t", ["id"], ["root", "mid"]) == {name: 1}


ODD = 'Odd "Table" ?%s:x'


def test_names_with_quotes_and_capitals_and_hostile_values_are_only_names_and_values(world: World) -> None:
    quoted = '"' + ODD.replace('"', '""') + '"'
    hostile = "'); DROP TABLE t; --"
    world.execute(
        "CREATE TABLE t (id text)",
        f'CREATE TABLE {quoted} ("Id ""x"" ?" text PRIMARY KEY, "Value %s" text)',
        f"INSERT INTO {quoted} VALUES ('{hostile.replace(chr(39), chr(39) * 2)}', 'o''k'), ('é\\%?:y', NULL)",
    )
    ids, column = [hostile, "é\\%?:y"], 'Id "x" ?'
    images = world.acting.images(quoted, [column], ids)
    assert set(images) == set(ids)
    values = {id_: {"Value %s": hostile} for id_ in ids}
    done = world.acting.update(quoted, [column], list(images.values()), "1 = 1", {}, values)
    assert set(outcomes(done).values()) == {"set"}
    after = [one.after for one in done if one.after]
    assert [image.columns["Value %s"] for image in after] == [hostile, hostile]
    done = world.acting.delete(quoted, [column], after, '"Value %s" = :v', {"v": hostile})
    assert outcomes(done) == dict.fromkeys(ids, "deleted")
    assert outcomes(world.acting.restore(after)) == dict.fromkeys(ids, "restored")
    assert world.rows("SELECT count(*) FROM t") == [(0,)]


def test_ids_are_told_apart_byte_for_byte(world: World) -> None:
    collation = "COLLATE NOCASE" if world.kind == "sqlite" else ""
    world.execute(f"CREATE TABLE t (id text {collation}, k text)", "INSERT INTO t VALUES ('AbC', '1')")
    assert world.acting.images("t", ["id"], ["ABC", "abc"]) == {}
    assert outcomes(world.delete(["AbC"])) == {"AbC": "deleted"}


def test_ids_of_several_columns_and_null_are_found(world: World) -> None:
    world.execute(
        "CREATE TABLE t (a int, b text, k text)", "INSERT INTO t VALUES (1, 'x', '1'), (1, NULL, '2'), (2, 'x', '3')"
    )
    ids = ['["1","x"]', '["1",null]']
    images = world.acting.images("t", ["a", "b"], [*ids, '["3","x"]', '["01","x"]', "1", "["])
    assert {id_: image.columns["k"] for id_, image in images.items()} == dict(zip(ids, ("1", "2"), strict=True))
    done = world.acting.delete("t", ["a", "b"], list(images.values()), "1 = 1", {})
    assert outcomes(done) == dict.fromkeys(ids, "deleted")
    assert world.rows("SELECT k FROM t") == [("3",)]


def test_id_that_several_rows_share_is_refused(world: World) -> None:
    world.execute("CREATE TABLE t (id text, k text)", "INSERT INTO t VALUES ('a', '1')")
    images = world.seen(["a"])
    world.execute("INSERT INTO t VALUES ('a', '2')")
    with pytest.raises(Refused, match="means 2 rows"):
        world.acting.images("t", ["id"], ["a"])
    assert outcomes(world.acting.delete("t", ["id"], images, "1 = 1", {})) == {"a": "failed"}
    assert world.rows("SELECT count(*) FROM t") == [(2,)]


def test_what_is_no_table_is_refused(world: World) -> None:
    world.execute(*THREE, "CREATE VIEW v AS SELECT * FROM t")
    for table, columns in (("v", ["id"]), ("absent", ["id"]), ("t", ["nope"]), ("t", [])):
        with pytest.raises((Refused, SourceUnavailable), match="Nothing was changed"):
            world.acting.images(table, columns, ["a"])


def test_predicate_that_would_end_the_statement_is_refused(world: World) -> None:
    world.execute(*THREE)
    for where in ("1 = 1; DELETE FROM t", "nonsense(", "k = :absent"):
        with pytest.raises(SourceUnavailable):
            world.delete(["a"], where, k="y")
    assert world.rows("SELECT count(*) FROM t") == [(3,)]


def test_reading_adapters_cannot_act(world: World) -> None:
    reading = open_database(world.url)
    assert not {"delete", "update", "restore", "revert"} & set(dir(reading))
    with reading.snapshot() as snapshot:
        assert not {"delete", "update", "restore", "revert"} & set(dir(snapshot))


def test_other_databases_are_refused() -> None:
    with pytest.raises((Refused, SourceUnavailable), match="Nothing was"):  # the latter where its driver is not there
        open_acting_database("mysql+pymysql://u@h/d")
