"""Months made ahead: in UTC, fitted to what is there, without holding anybody up."""

import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from psycopg2 import errors

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import open_archive_database
from maintenance_defs.databases.partitions import create_ahead
from tests.support.months import CREATE, TABLE, fill, months, one, read, rows, session
from tests.support.postgres import connect, execute

NOW = datetime(2024, 3, 15, 12, tzinfo=UTC)


def made(url: str, ahead: int = 2, now: datetime = NOW, **more: Any) -> list[tuple[str, str]]:
    created = create_ahead(open_archive_database(url), TABLE, ahead, now, **more).created
    return [(part.name, part.bounds.removeprefix("FOR VALUES ")) for part in created]


def test_this_month_and_the_next_are_made_once(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    assert made(pg_database) == [
        ("logs_2024_03", "FROM ('2024-03-01 00:00:00+00') TO ('2024-04-01 00:00:00+00')"),
        ("logs_2024_04", "FROM ('2024-04-01 00:00:00+00') TO ('2024-05-01 00:00:00+00')"),
        ("logs_2024_05", "FROM ('2024-05-01 00:00:00+00') TO ('2024-06-01 00:00:00+00')"),
    ]
    assert made(pg_database) == []
    assert create_ahead(database, TABLE, 2, NOW).notes == ()
    execute(pg_database, fill(3), fill(4), fill(5))
    assert made(pg_database, 12, datetime(2024, 12, 31, 23, 59, tzinfo=UTC))[-1][0] == "logs_2025_12"


@pytest.mark.parametrize(("hours", "month"), [(5, "2024_02"), (-5, "2024_03")])
def test_the_month_is_that_of_utc(pg_database: str, hours: int, month: str) -> None:
    """E72: around midnight the present is in another month elsewhere."""
    execute(pg_database, CREATE)
    here = datetime(2024, 3, 1, 0, 30, tzinfo=UTC) - timedelta(hours=1 if hours > 0 else 0)
    local = here.astimezone(timezone(timedelta(hours=hours)))
    assert made(pg_database, 0, local)[0][0] == f"logs_{month}"


def test_a_present_without_a_zone_is_refused(pg_database: str) -> None:
    execute(pg_database, CREATE)
    with pytest.raises(Refused, match="no time zone"):
        made(pg_database, 0, datetime(2024, 3, 1))


def test_bounds_from_new_york_leave_no_hole_and_no_overlap(pg_database: str) -> None:
    """E71: March was made in New York; what is free before and after it gets partitions, and somebody is told."""
    execute(
        pg_database,
        CREATE,
        "SET TimeZone = 'America/New_York'",
        "CREATE TABLE logs_2024_03 PARTITION OF logs FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')",
    )
    database = open_archive_database(pg_database)
    done = create_ahead(database, TABLE, 1, NOW)
    assert [(part.name, part.lower, part.upper) for part in done.created] == [
        ("logs_2024_03_1", datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 1, 5, tzinfo=UTC)),
        ("logs_2024_04", datetime(2024, 4, 1, 4, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)),
    ]
    assert {note.code for note in done.notes} == {"odd_bounds"}
    for at in ("2024-03-01 00:00+00", "2024-03-31 23:59:59.999999-04", "2024-04-01 00:00-04", "2024-04-30 23:59+00"):
        execute(pg_database, f"INSERT INTO logs VALUES (1, '{at}')")
    assert made(pg_database, 1) == []


def test_holes_between_partitions_are_told(pg_database: str) -> None:
    """E71."""
    database = months(pg_database, 1)
    done = create_ahead(database, TABLE, 0, NOW)
    assert [note.message for note in done.notes] == [
        "public.logs has no partition from 2024-02-01T00:00:00+00:00 to 2024-03-01T00:00:00+00:00, between "
        "public.logs_2024_01 and public.logs_2024_03: an insert there fails."
    ]


@pytest.mark.parametrize("bounds", ["FROM (MINVALUE) TO (MAXVALUE)", "FROM ('2024-01-01+00') TO ('2030-01-01+00')"])
def test_what_is_covered_already_gets_nothing(pg_database: str, bounds: str) -> None:
    execute(pg_database, CREATE, f"CREATE TABLE wide PARTITION OF logs FOR VALUES {bounds}")
    assert made(pg_database) == []


def test_days_in_the_middle_of_a_month_are_left_and_the_rest_is_made(pg_database: str) -> None:
    execute(
        pg_database,
        CREATE,
        "CREATE TABLE d10 PARTITION OF logs FOR VALUES FROM ('2024-03-10+00') TO ('2024-03-11+00')",
        "CREATE TABLE d20 PARTITION OF logs FOR VALUES FROM ('2024-03-20+00') TO ('2024-03-21+00')",
    )
    assert len(made(pg_database, 0)) == 3
    execute(pg_database, fill(3))


def test_pg_partman_makes_its_own(pg_database: str) -> None:
    months(pg_database, 1)
    execute(
        pg_database,
        "CREATE SCHEMA partman",
        "CREATE TABLE partman.part_config (parent_table text, retention text)",
        "INSERT INTO partman.part_config VALUES ('public.logs')",
    )
    done = create_ahead(open_archive_database(pg_database), TABLE, 3, NOW)
    assert (done.created, [note.code for note in done.notes]) == ((), ["partman"])


def test_nobody_is_held_up_by_a_new_month(pg_database: str) -> None:
    """V9: readers and writers are in the middle of their work; CREATE … PARTITION OF would wait for them (measured)."""
    months(pg_database, 1)
    with session(pg_database, "SELECT count(*) FROM logs", "DELETE FROM logs WHERE id = 1") as busy:
        began = time.monotonic()
        assert len(made(pg_database, 0)) == 1
        assert time.monotonic() - began < 5
        with pytest.raises(errors.LockNotAvailable):
            execute(
                pg_database,
                "SET lock_timeout = '200ms'",
                "CREATE TABLE more PARTITION OF logs FOR VALUES FROM ('2026-01-01+00') TO ('2026-02-01+00')",
            )
        busy.connection.commit()


def test_a_new_month_is_like_its_table(pg_database: str) -> None:
    """Keys, checks, defaults, generated and identity columns, indexes, row triggers, replica identity, foreign keys."""
    execute(
        pg_database,
        "CREATE TABLE jobs (id int PRIMARY KEY)",
        "INSERT INTO jobs VALUES (1)",
        "CREATE TABLE logs (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, job int REFERENCES jobs, "
        "line text DEFAULT 'none' CHECK (line <> 'bad'), twice text GENERATED ALWAYS AS (line || line) STORED, "
        "PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE INDEX ON logs (job, at DESC) WHERE job IS NOT NULL",
        "ALTER TABLE logs REPLICA IDENTITY FULL",
        "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.line := upper(NEW.line); RETURN NEW; END'",
        "CREATE TRIGGER up BEFORE INSERT ON logs FOR EACH ROW EXECUTE FUNCTION up()",
    )
    assert len(made(pg_database, 1)) == 2
    execute(pg_database, "INSERT INTO logs (at, job) VALUES ('2024-03-05+00', 1), ('2024-04-05+00', 1)")
    assert rows(pg_database, "SELECT id, line, twice FROM logs ORDER BY 1") == [
        (1, "NONE", "NONENONE"),
        (2, "NONE", "NONENONE"),
    ]
    assert rows(pg_database, "SELECT relreplident FROM pg_class WHERE relname ~ '^logs_2024_0.$'") == [("f",), ("f",)]
    for wrong in ("(at, job) VALUES ('2024-03-05+00', 2)", "(at, line) VALUES ('2024-03-05+00', 'bad')"):
        with pytest.raises((errors.ForeignKeyViolation, errors.CheckViolation)):
            execute(pg_database, "ALTER TABLE logs DISABLE TRIGGER up", f"INSERT INTO logs {wrong}")


def test_the_owner_of_the_table_owns_its_months(pg_database: str) -> None:
    months(pg_database, 1)
    execute(pg_database, "CREATE ROLE keeper_a", "GRANT CREATE ON SCHEMA public TO keeper_a")
    try:
        execute(pg_database, "ALTER TABLE logs OWNER TO keeper_a")
        made(pg_database, 0)
        assert one(pg_database, "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'logs_2024_03'") == (
            "keeper_a"
        )
    finally:
        execute(pg_database, "REASSIGN OWNED BY keeper_a TO postgres", "DROP OWNED BY keeper_a", "DROP ROLE keeper_a")


def test_rows_that_went_to_the_default_partition_move_into_their_month(pg_database: str) -> None:
    database = months(pg_database, 1)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT", fill(3), fill(6))
    before = rows(pg_database, "SELECT * FROM logs ORDER BY at, id")
    done = create_ahead(database, TABLE, 0, NOW)
    assert (done.moved_rows, [part.name for part in done.created]) == (100, ["logs_2024_03"])
    assert one(pg_database, "SELECT count(*) FROM rest") == 100
    assert rows(pg_database, "SELECT * FROM logs ORDER BY at, id") == before


def test_while_rows_move_readers_see_each_once(pg_database: str) -> None:
    database = months(pg_database, 1)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT", fill(3, 3000))
    seen: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        connection = connect(pg_database)
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("SELECT count(*) FROM logs")
                seen.add(cursor.fetchone()[0])
        connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    create_ahead(database, TABLE, 1, NOW)
    time.sleep(0.2)
    stop.set()
    watcher.join(30)
    assert seen == {3100}


def test_a_default_partition_too_large_to_look_through_is_told_and_left(pg_database: str) -> None:
    """V9: it is locked while the server looks into it, and only for so long."""
    database = months(pg_database, 1)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT", fill(3, 60_000))
    done = create_ahead(database, TABLE, 0, NOW, hold_seconds=0.01)
    assert (done.created, done.moved_rows, [note.code for note in done.notes]) == ((), 0, ["default_large"])
    assert one(pg_database, "SELECT count(*) FROM rest") == 60_000
    assert one(pg_database, "SELECT to_regclass('public.logs_2024_03')") is None
    assert create_ahead(database, TABLE, 0, NOW, hold_seconds=60).moved_rows == 60_000


def test_rows_whose_move_would_set_something_off_stay(pg_database: str) -> None:
    """Moving is deleting: what refers to a row on delete cascade would go with it."""
    database = months(pg_database, 1)
    execute(
        pg_database,
        "CREATE TABLE rest PARTITION OF logs DEFAULT",
        fill(3),
        "CREATE TABLE notes (i bigint, a timestamptz, FOREIGN KEY (i, a) REFERENCES logs (id, at) ON DELETE CASCADE)",
        "INSERT INTO notes SELECT id, at FROM rest",
    )
    with pytest.raises(Refused, match="would set off notes_i_a_fkey"):
        create_ahead(database, TABLE, 0, NOW)
    assert one(pg_database, "SELECT count(*) FROM notes") == 100
    assert one(pg_database, "SELECT count(*) FROM rest") == 100
    assert one(pg_database, "SELECT to_regclass('public.logs_2024_03')") is None


@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_tables_of_times_without_a_zone_get_months_too(pg_database: str, kind: str) -> None:
    execute(pg_database, f"CREATE TABLE logs (id int, at {kind}) PARTITION BY RANGE (at)")
    assert len(made(pg_database, 1)) == 2
    execute(pg_database, "INSERT INTO logs VALUES (1, '2024-03-31 23:59:59'), (1, '2024-04-01 00:00:00')")
    assert read(open_archive_database(pg_database)).partitions[0].upper == datetime(2024, 4, 1, tzinfo=UTC)


def test_names_are_free_fitted_and_as_one_says(pg_database: str) -> None:
    execute(pg_database, CREATE, "CREATE TABLE logs_2024_03 (mine int)")
    assert made(pg_database, 0) == [("logs_2024_03_1", "FROM ('2024-03-01 00:00:00+00') TO ('2024-04-01 00:00:00+00')")]
    assert made(pg_database, 1, naming="_p%Y%m")[0][0] == "logs_p202404"
