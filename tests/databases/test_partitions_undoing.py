"""The undo of a detached month: back where it was, with whatever arrived for it meanwhile, or not at all."""

import threading
import time

import pytest

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.partitions import reattach
from tests.databases.test_partitions_parking import LATE, away, contents, lane_of, opened
from tests.support.months import CREATE, TABLE, month, months, one, overheard, session, until_it_waits
from tests.support.postgres import connect, execute


def test_the_undo_puts_the_month_back_with_its_late_rows(pg_database: str) -> None:
    """D67."""
    database = months(pg_database, 1, 2)
    before = contents(database, "public.logs")
    january = away(database).partition
    opened(database, "u1", january)
    execute(pg_database, LATE)
    back = reattach(database, TABLE, "u1")
    assert (back.late_rows, back.partition.name, back.partition.bounds) == (1, january.name, january.bounds)
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 101
    assert lane_of(database) is None
    execute(pg_database, "DELETE FROM logs WHERE id = 1000")
    assert contents(database, "public.logs") == before
    assert one(pg_database, "SELECT count(*) FROM maintenance_archive.parked") == 0
    assert one(pg_database, "SELECT count(*) FROM pg_constraint WHERE conname = 'maintenance_bounds'") == 0
    execute(pg_database, "UPDATE logs SET line = 'y' WHERE at < '2024-02-01'")  # no guard is left


@pytest.mark.parametrize("with_default", [False, True])
def test_readers_see_every_row_once_throughout_the_undo(pg_database: str, with_default: bool) -> None:
    """D67, V6: at every moment either the late rows alone, or the whole month with them; never less, never twice."""
    database = months(pg_database, 1, 2, rows=2000)
    if with_default:
        execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT")
    january = away(database).partition
    opened(database, "u1", january)
    execute(pg_database, LATE)
    seen: set[tuple[int, int]] = set()
    stop = threading.Event()

    def watch() -> None:
        connection = connect(pg_database)
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("SELECT count(*), count(*) FILTER (WHERE id = 1000 AND line = 'late') FROM logs")
                seen.add(cursor.fetchone())
        connection.close()

    thread = threading.Thread(target=watch)
    thread.start()
    reattach(database, TABLE, "u1")
    time.sleep(0.2)
    stop.set()
    thread.join(30)
    assert seen == {(2001, 1), (4001, 1)}


def test_the_month_is_not_scanned_under_the_lock(pg_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """D67: the server says that the bounds are implied by a constraint it already has."""
    database = months(pg_database, 1, 2)
    away(database)
    with overheard(pg_database, monkeypatch) as said:
        reattach(database, TABLE, "u1")
    assert any('partition constraint for table "logs_2024_01" is implied by existing' in notice for notice in said)


def test_late_rows_that_went_to_the_default_partition_come_along(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT")
    away(database)
    execute(pg_database, LATE, "INSERT INTO logs VALUES (1, '2030-01-01+00')")
    assert reattach(database, TABLE, "u1").late_rows == 1
    assert one(pg_database, "SELECT count(*) FROM rest") == 1
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 101


def test_a_late_row_that_commits_while_the_undo_waits_comes_along(pg_database: str) -> None:
    """D67: it was not to be seen at the first look, and stands in the DEFAULT partition under the lock."""
    database = months(pg_database, 1, 2)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT")
    away(database)
    late: list[int] = []
    undo = threading.Thread(target=lambda: late.append(reattach(database, TABLE, "u1").late_rows))
    with session(pg_database, LATE) as cursor:
        until_it_waits(pg_database, undo, "relation = 'rest'::regclass")
        cursor.connection.commit()
    undo.join(30)
    assert late == [1]
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 101


def test_late_rows_whose_move_would_set_something_off_stay_where_they_are(pg_database: str) -> None:
    """V10: the application takes a DELETE for a deletion. Without late rows there is nothing to set off."""
    database = months(pg_database, 1, 2)
    execute(
        pg_database,
        "CREATE TABLE rest PARTITION OF logs DEFAULT",
        "CREATE TABLE heard (id bigint)",
        "CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO heard VALUES (OLD.id); RETURN OLD; END'",
        "CREATE TRIGGER hear BEFORE DELETE ON rest FOR EACH ROW EXECUTE FUNCTION hear()",
    )
    away(database)
    execute(pg_database, LATE)
    with pytest.raises(Refused, match="would set off trigger hear") as refused:
        reattach(database, TABLE, "u1")
    assert refused.value.reason == "side_effects"
    assert one(pg_database, "SELECT count(*) FROM rest") == 1
    assert one(pg_database, "SELECT count(*) FROM maintenance_archive.logs_2024_01") == 100
    execute(pg_database, "ALTER TABLE rest DISABLE TRIGGER hear")
    assert reattach(database, TABLE, "u1").late_rows == 1
    assert one(pg_database, "SELECT count(*) FROM heard") == 0


def test_a_month_goes_back_into_the_table_it_left_only(pg_database: str) -> None:
    """D66: another table has its table's name and columns by now."""
    database = months(pg_database, 1, 2)
    away(database)
    execute(pg_database, "ALTER TABLE logs RENAME TO logs_before", CREATE.replace("PRIMARY KEY", "UNIQUE"))
    with pytest.raises(Refused, match=r"left another table than public\.logs") as refused:
        reattach(database, TABLE, "u1")
    assert refused.value.reason == "another_table"
    assert one(pg_database, "SELECT count(*) FROM logs") == 0
    assert reattach(database, "public.logs_before", "u1").partition.name == "logs_2024_01"


def test_a_late_row_with_an_archived_key_stops_the_undo_and_both_stay(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    january = away(database).partition
    opened(database, "u1", january)
    execute(pg_database, "INSERT INTO logs SELECT id, at, job, 'again' FROM maintenance_archive.logs_2024_01 LIMIT 1")
    with pytest.raises(Refused, match="has the key of one that is archived") as refused:
        reattach(database, TABLE, "u1")
    assert refused.value.reason == "conflict"
    assert one(pg_database, "SELECT count(*) FROM logs") == 101
    assert one(pg_database, "SELECT count(*) FROM maintenance_archive.logs_2024_01") == 100
    assert lane_of(database) is not None


def test_more_late_rows_than_fit_the_pause_stop_the_undo(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    january = away(database).partition
    opened(database, "u1", january)
    late = "INSERT INTO logs SELECT n, '2024-01-05 00:00+00', 'j', repeat('x', 500) FROM generate_series(1000, 60000) n"
    execute(pg_database, late)
    with pytest.raises(Refused) as refused:
        reattach(database, TABLE, "u1", hold_seconds=0.02)
    assert refused.value.reason == "too_many_late_rows"
    assert one(pg_database, "SELECT count(*) FROM logs") == 59101
    assert reattach(database, TABLE, "u1", hold_seconds=60).late_rows == 59001
    assert one(pg_database, "SELECT count(*) FROM logs") == 59201


def test_a_span_that_somebody_else_took_stops_the_undo(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    away(database)
    execute(pg_database, month(1))
    with pytest.raises(Refused, match=r"held by public\.logs_2024_01") as refused:
        reattach(database, TABLE, "u1")
    assert refused.value.reason == "covered"
    execute(pg_database, "DROP TABLE logs_2024_01", "CREATE TABLE logs_2024_01 (LIKE logs)")
    with pytest.raises(Refused, match="cannot have its old name back") as refused:
        reattach(database, TABLE, "u1")
    assert refused.value.reason == "name_taken"
    execute(pg_database, "DROP TABLE logs_2024_01")
    assert reattach(database, TABLE, "u1").late_rows == 0


def test_a_table_that_was_altered_meanwhile_stops_the_undo(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    away(database)
    execute(pg_database, "ALTER TABLE logs ADD COLUMN more int")
    with pytest.raises(Refused, match="altered meanwhile"):
        reattach(database, TABLE, "u1")
    execute(pg_database, "ALTER TABLE maintenance_archive.logs_2024_01 ADD COLUMN more int")
    assert reattach(database, TABLE, "u1").partition.name == "logs_2024_01"


@pytest.mark.parametrize("when", ["INSERT", "DELETE"])
def test_rows_that_would_not_arrive_are_not_moved(pg_database: str, when: str) -> None:
    """A trigger of somebody's that swallows rows, or keeps them from going: seen by counting, and all is undone. The
    late rows' own table is dropped when they have moved, so not one may be left in it."""
    database = months(pg_database, 1, 2)
    january = away(database).partition
    lane = opened(database, "u1", january)
    assert lane is not None
    place = "maintenance_archive.logs_2024_01" if when == "INSERT" else lane.qualified
    execute(
        pg_database,
        LATE,
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        f"CREATE TRIGGER swallow BEFORE {when} ON {place} FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    with pytest.raises(Refused, match="a trigger or rule stands between"):
        reattach(database, TABLE, "u1")
    assert one(pg_database, "SELECT count(*) FROM logs WHERE line = 'late'") == 1


def test_a_month_goes_out_and_comes_back_as_often_as_one_likes(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    before = contents(database, "public.logs")
    for _ in range(3):
        january = away(database).partition
        opened(database, "u1", january)
        reattach(database, TABLE, "u1")
    assert contents(database, "public.logs") == before
