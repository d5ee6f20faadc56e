"""A plain table becomes a partitioned one under the feet of its readers and writers, or stays as it was."""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from maintenance_defs.databases.partitions import (
    Conversion,
    convert,
    convert_plan,
    converting,
    create_ahead,
)
from tests.support.months import TABLE, fill, one, overheard, rows, session
from tests.support.postgres import connect, execute

NOW = datetime(2024, 3, 15, 12, tzinfo=UTC)
LOGS = "CREATE TABLE logs (id bigint PRIMARY KEY, at timestamptz NOT NULL, job text, line text)"
SHAPE = """
SELECT 'column', attname::text, format_type(atttypid, atttypmod) || ' ' || attnotnull::text || attidentity::text ||
       attgenerated::text
  FROM pg_attribute WHERE attrelid = 'logs'::regclass AND attnum > 0
UNION ALL SELECT 'constraint', conname::text, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE 'logs'::regclass IN (conrelid, confrelid)
UNION ALL SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
 WHERE indrelid = 'logs'::regclass
UNION ALL SELECT 'trigger', tgname::text, pg_get_triggerdef(oid) FROM pg_trigger
 WHERE tgrelid = 'logs'::regclass AND NOT tgisinternal
UNION ALL SELECT 'table', relname::text, relkind::text FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
ORDER BY 1, 2
"""


def plain(url: str, *more: str, count: int = 100) -> ArchiveDatabase:
    execute(url, LOGS, fill(1, count), fill(2, count).replace("SELECT n,", f"SELECT n + {count},"), *more)
    return open_archive_database(url)


def planned(database: ArchiveDatabase, **more: Any) -> Conversion:
    with database.transaction() as connection:
        return convert_plan(connection, TABLE, "at", now=NOW, **more)


def contents(url: str, table: str = "logs") -> list[tuple[Any, ...]]:
    return rows(url, f"SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} t")


@dataclass
class Traffic:
    """What an application saw that wrote and read all the while."""

    written: int = 0
    slowest_seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


@contextmanager
def traffic(url: str, first: int) -> Iterator[Traffic]:
    """One session that inserts, updates and reads; everything is timed, every error kept."""
    seen = Traffic()
    stop = threading.Event()

    def run() -> None:
        connection = connect(url)
        with connection.cursor() as cursor:
            while not stop.is_set():
                number = first + seen.written
                for sql in (
                    f"INSERT INTO logs (id, at, job, line) VALUES ({number}, '2024-03-15 12:00+00', 'new', 'x')",
                    f"UPDATE logs SET line = 'y' WHERE id = {number}",
                    f"SELECT count(*) FROM logs WHERE id = {number}",
                ):
                    began = time.monotonic()
                    try:
                        cursor.execute(sql)
                    except psycopg2.Error as error:
                        seen.failures.append(str(error))
                    seen.slowest_seconds = max(seen.slowest_seconds, time.monotonic() - began)
                if cursor.fetchone()[0] != 1:
                    seen.failures.append(f"row {number} is not seen once")
                seen.written += 1
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        time.sleep(0.3)
        yield seen
        time.sleep(0.3)
    finally:
        stop.set()
        thread.join(60)


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_readers_and_writers_go_on_and_no_row_is_lost(pg_database: str, count: int) -> None:
    """F83, S4-78: nobody waits for a second; what was written meanwhile is there once."""
    database = plain(pg_database, count=count)
    with traffic(pg_database, 10_000_000) as seen:
        done = convert(database, TABLE, "at", now=NOW, months_ahead=2)
    assert seen.failures == []
    assert seen.slowest_seconds < 1.0
    assert done.locked_seconds < 1.0
    assert one(pg_database, "SELECT count(*) FROM logs") == 2 * count + seen.written
    assert [part.name for part in done.table.partitions] == ["logs_legacy", "logs_2024_04", "logs_2024_05"]
    assert done.legacy.upper == datetime(2024, 4, 1, tzinfo=UTC)


def test_the_old_rows_are_neither_read_nor_moved_under_the_lock(
    pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = plain(pg_database, "ALTER TABLE logs ALTER at DROP NOT NULL", count=1000)
    before = one(pg_database, "SELECT pg_relation_filenode('logs')"), contents(pg_database)
    with overheard(pg_database, monkeypatch) as said:
        convert(database, TABLE, "at", now=NOW)
    assert any('partition constraint for table "logs_legacy" is implied by existing' in notice for notice in said)
    assert any('"logs_legacy.at" are sufficient to prove that it does not contain nulls' in notice for notice in said)
    assert not any("building index" in notice and '"logs_legacy"' in notice for notice in said)
    assert (one(pg_database, "SELECT pg_relation_filenode('logs_legacy')"), contents(pg_database)) == before


def test_converting_again_does_nothing(pg_database: str) -> None:
    database = plain(pg_database)
    first = convert(database, TABLE, "at", now=NOW)
    again = convert(database, TABLE, "at", now=NOW)
    assert (again.again, again.table, again.legacy) == (True, first.table, first.legacy)
    with pytest.raises(Refused, match="already, by at"):
        convert(database, TABLE, "id", now=NOW)
    assert create_ahead(database, TABLE, 6, NOW).created[-1].name == "logs_2024_09"


def test_everything_the_table_had_comes_along(pg_database: str) -> None:
    """Names of indexes and constraints, checks, foreign keys, triggers, grants, comments, owner, sequences."""
    execute(
        pg_database,
        "CREATE ROLE keeper_c",
        "GRANT ALL ON SCHEMA public TO keeper_c",
        "CREATE ROLE reader_c",
        "CREATE TABLE jobs (id int PRIMARY KEY)",
        "INSERT INTO jobs VALUES (1)",
        "CREATE TABLE logs (id int GENERATED BY DEFAULT AS IDENTITY (START 5 INCREMENT 5), number serial, "
        "at timestamptz DEFAULT '2024-03-05+00', job int REFERENCES jobs ON DELETE SET NULL, "
        "line text DEFAULT 'none' CONSTRAINT no_bad CHECK (line <> 'bad'), "
        "twice text GENERATED ALWAYS AS (line || line) STORED, PRIMARY KEY (id), "
        "CONSTRAINT one_line UNIQUE (at, line))",
        "CREATE INDEX by_job ON logs (job, at DESC) WHERE job IS NOT NULL",
        "CREATE INDEX by_text ON logs (lower(line))",
        "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.line := upper(NEW.line); RETURN NEW; END'",
        "CREATE TRIGGER up BEFORE INSERT ON logs FOR EACH ROW WHEN (NEW.line <> 'as is') EXECUTE FUNCTION up()",
        "COMMENT ON TABLE logs IS 'what''s done'",
        "COMMENT ON COLUMN logs.line IS 'one line'",
        "GRANT SELECT ON logs TO reader_c",
        "GRANT UPDATE (line) ON logs TO reader_c",
        "ALTER TABLE logs OWNER TO keeper_c",
        "ALTER TABLE logs REPLICA IDENTITY FULL",
        "INSERT INTO logs (job, line) VALUES (1, 'a'), (1, 'b')",
    )
    try:
        convert(open_archive_database(pg_database), TABLE, "at", now=NOW, months_ahead=2)
        execute(
            pg_database,
            "INSERT INTO logs (job, line) VALUES (1, 'c')",
            "INSERT INTO logs (job, at) VALUES (1, '2024-04-05+00')",
        )
        assert rows(pg_database, "SELECT id, number, line, twice, tableoid::regclass::text FROM logs ORDER BY id") == [
            (5, 1, "A", "AA", "logs_legacy"),
            (10, 2, "B", "BB", "logs_legacy"),
            (15, 3, "C", "CC", "logs_legacy"),
            (20, 4, "NONE", "NONENONE", "logs_2024_04"),
        ]
        shape = {(kind, name): text for kind, name, text in rows(pg_database, SHAPE)}
        assert shape["constraint", "logs_pkey"] == "PRIMARY KEY (id, at)"
        assert shape["constraint", "one_line"] == "UNIQUE (at, line)"
        assert shape["constraint", "no_bad"] == "CHECK ((line <> 'bad'::text))"
        assert shape["constraint", "logs_job_fkey"] == "FOREIGN KEY (job) REFERENCES jobs(id) ON DELETE SET NULL"
        assert {name for kind, name in shape if kind == "index"} == {"logs_pkey", "one_line", "by_job", "by_text"}
        assert "WHEN ((new.line <> 'as is'::text))" in shape["trigger", "up"]
        assert not any("maintenance" in name for _, name in shape)
        assert rows(
            pg_database,
            "SELECT relname::text, relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "AND relname ~ '^logs' AND relkind IN ('r', 'p', 'S') ORDER BY 1",
        ) == [
            (name, "keeper_c")
            for name in ("logs", "logs_2024_04", "logs_2024_05", "logs_id_seq", "logs_legacy", "logs_number_seq")
        ]
        assert one(pg_database, "SELECT obj_description('logs'::regclass, 'pg_class')") == "what's done"
        assert one(pg_database, "SELECT col_description('logs'::regclass, 5)") == "one line"
        assert one(pg_database, "SELECT has_table_privilege('reader_c', 'logs', 'SELECT')")
        assert one(pg_database, "SELECT has_column_privilege('reader_c', 'logs', 'line', 'UPDATE')")
        assert not one(pg_database, "SELECT has_column_privilege('reader_c', 'logs', 'job', 'UPDATE')")
        assert one(pg_database, "SELECT relreplident FROM pg_class WHERE relname = 'logs_2024_04'") == "f"
        execute(pg_database, "ALTER TABLE logs DETACH PARTITION logs_legacy", "DROP TABLE logs_legacy")
        execute(pg_database, "INSERT INTO logs (job, at) VALUES (1, '2024-04-06+00')")  # the serial has not gone along
        for wrong in ("(job, at) VALUES (2, '2024-04-07+00')", "(line, at) VALUES ('bad', '2024-04-07+00')"):
            with pytest.raises((errors.ForeignKeyViolation, errors.CheckViolation)):
                execute(pg_database, "ALTER TABLE logs DISABLE TRIGGER up", f"INSERT INTO logs {wrong}")
    finally:
        execute(
            pg_database,
            "DROP OWNED BY keeper_c CASCADE",
            "DROP OWNED BY reader_c CASCADE",
            "DROP ROLE keeper_c",
            "DROP ROLE reader_c",
        )


def test_what_it_costs_is_said_before_anybody_agrees(pg_database: str) -> None:
    """F83: the key, the unique keys, the foreign keys that point here, the wide partition."""
    database = plain(
        pg_database,
        "UPDATE logs SET line = 'line ' || id",
        "ALTER TABLE logs ADD UNIQUE (line)",
        "CREATE TABLE notes (log bigint CONSTRAINT notes_log REFERENCES logs)",
    )
    before = rows(pg_database, SHAPE)
    plan = planned(database)
    assert plan.obstacles == ()
    assert plan.to_agree == ("notes_log", "logs_line_key")
    said = "\n".join(plan.consequences)
    for word in (
        "(id) alone is no longer unique in public.logs: the key becomes (id, at)",
        "ON CONFLICT (id) fail",
        "logs_line_key (line) stays unique among the present rows only",
        "notes_log of public.notes is dropped",
        "one partition up to 2024-04-01",
    ):
        assert word in said
    with pytest.raises(Refused, match="ends logs_line_key") as refused:
        convert(database, TABLE, "at", now=NOW, agreed=("notes_log",))
    assert refused.value.reason == "not_agreed"
    assert rows(pg_database, SHAPE) == before
    convert(database, TABLE, "at", now=NOW, agreed=plan.to_agree)
    execute(pg_database, "INSERT INTO logs VALUES (1, '2024-04-05+00', 'j', 'again')")  # measured: accepted
    assert one(pg_database, "SELECT count(*) FROM logs WHERE id = 1") == 2
    with pytest.raises(errors.UniqueViolation):
        execute(pg_database, "INSERT INTO logs VALUES (500, '2024-02-05+00', 'j', 'line 5')")


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ("CREATE VIEW v AS SELECT * FROM logs", "depends on public.logs"),
        ("CREATE TABLE other (l logs)", "depends on public.logs"),
        ("CREATE FUNCTION f(logs) RETURNS int LANGUAGE sql AS 'SELECT 1'", "depends on public.logs"),
        ("ALTER TABLE logs ENABLE ROW LEVEL SECURITY", "row-level security"),
        ("CREATE RULE r AS ON DELETE TO logs DO ALSO NOTIFY x", "rules: r"),
        ("CREATE PUBLICATION p FOR TABLE logs", "published by p"),
        ("CREATE TABLE child () INHERITS (logs)", "inherits"),
        ("ALTER TABLE logs SET UNLOGGED", "unlogged"),
        ("ALTER TABLE logs ADD CHECK (id > 5) NOT VALID", "not validated: logs_id_check"),
        ("ALTER TABLE logs ALTER at DROP NOT NULL; INSERT INTO logs VALUES (-1, NULL)", "1 rows of .* have no at"),
        ("INSERT INTO logs VALUES (-1, 'infinity')", "1 rows of .* after the year 9000"),
        ("ALTER TABLE logs ADD CONSTRAINT x EXCLUDE USING btree (id WITH =)", "exclude"),
        ("ALTER TABLE logs REPLICA IDENTITY USING INDEX logs_pkey", "replica identity"),
    ],
)
def test_what_would_be_left_behind_stops_it(pg_database: str, odd: str, said: str) -> None:
    database = plain(pg_database, odd)
    before = rows(pg_database, SHAPE)
    with pytest.raises(Refused, match=said) as refused:
        convert(database, TABLE, "at", now=NOW)
    assert refused.value.reason == "cannot_convert"
    assert rows(pg_database, SHAPE) == before


def test_a_trigger_that_sees_whole_statements_stops_it(pg_database: str) -> None:
    database = plain(
        pg_database,
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER t AFTER INSERT ON logs REFERENCING NEW TABLE AS new FOR EACH ROW EXECUTE FUNCTION f()",
    )
    with pytest.raises(Refused, match="transition tables"):
        convert(database, TABLE, "at", now=NOW)


@pytest.mark.parametrize(
    ("now", "newest", "boundary"),
    [
        ("2024-03-15 12:00", "2024-02-01", "2024-04-01"),
        ("2024-03-31 12:00", "2024-02-01", "2024-05-01"),
        ("2024-02-28 23:59", "2024-02-01", "2024-03-01"),
        ("2024-02-29 00:00", "2024-02-01", "2024-04-01"),
        ("2024-12-31 12:00", "2024-02-01", "2025-02-01"),
        ("2024-03-15 12:00", "2024-07-31 23:59:59.999999", "2024-08-01"),
        ("2024-03-15 12:00", "2024-08-01", "2024-09-01"),
    ],
)
def test_the_old_rows_reach_past_what_is_there_and_what_comes_meanwhile(
    pg_database: str, now: str, newest: str, boundary: str
) -> None:
    """E72: on the last day of a month writers must not meet the bound while we prepare."""
    execute(pg_database, LOGS, f"INSERT INTO logs VALUES (1, '{newest}+00')")
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    done = convert(open_archive_database(pg_database), TABLE, "at", now=at, months_ahead=0)
    assert done.legacy.upper == datetime.fromisoformat(boundary).replace(tzinfo=UTC)
    assert done.table.partitions[1].lower == done.legacy.upper


@pytest.mark.parametrize("moment", ["from the beginning", "at the change"])
def test_a_table_that_is_held_stays_as_it_was_and_the_application_waits_no_second(
    pg_database: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """S4-78: refused on timeout, nothing changed; between the attempts everybody goes on."""
    database = plain(pg_database)
    before = rows(pg_database, SHAPE)
    held = ExitStack()
    holding: list[bool] = []
    if moment == "from the beginning":
        held.enter_context(session(pg_database, "SELECT count(*) FROM logs"))
    else:
        real = converting.swap

        def swap(*arguments: Any) -> Any:
            if not holding:
                holding.append(True)
                held.enter_context(session(pg_database, "SELECT count(*) FROM logs"))
            return real(*arguments)

        monkeypatch.setattr(converting, "swap", swap)
    with (
        held,
        traffic(pg_database, 10_000_000) as seen,
        pytest.raises(Refused, match="No row was touched") as refused,
    ):
        convert(database, TABLE, "at", now=NOW, wait_seconds=2)
    assert refused.value.reason == "unfinished"  # taking back needs the table for a moment, too
    assert ("DROP CONSTRAINT maintenance_bounds" in str(refused.value)) == (moment == "at the change")
    assert seen.failures == []
    assert seen.slowest_seconds < 1.0
    assert {row for row in rows(pg_database, SHAPE) if "maintenance" not in row[1]} == set(before)
    assert contents(pg_database)[0][0] == 200 + seen.written
    assert not convert(database, TABLE, "at", now=NOW).again
    assert contents(pg_database)[0][0] == 200 + seen.written


def test_a_table_that_becomes_free_in_time_is_converted(pg_database: str) -> None:
    database = plain(pg_database)
    with session(pg_database, "SELECT count(*) FROM logs") as holder:
        timer = threading.Timer(2.0, holder.connection.rollback)
        timer.start()
        assert convert(database, TABLE, "at", now=NOW, wait_seconds=30).locked_seconds < 1.0
        timer.join()


KILLED = textwrap.dedent(
    """
    import os, re, signal, sys
    from datetime import UTC, datetime
    from sqlalchemy import Connection
    from maintenance_defs.databases.archiving import open_archive_database
    from maintenance_defs.databases.partitions import convert
    real, left = Connection.exec_driver_sql, [int(sys.argv[2])]
    def counted(self, statement, *arguments, **named):
        done = real(self, statement, *arguments, **named)
        if re.match(r"\\s*(CREATE|ALTER|DROP|LOCK)", statement):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return done
    Connection.exec_driver_sql = counted
    convert(open_archive_database(sys.argv[1]), "public.logs", "at", now=datetime(2024, 3, 15, 12, tzinfo=UTC))
    """
)


@pytest.mark.parametrize(
    "statements", [1, 3, 4, 5, 6, 12, *(pytest.param(n, marks=pytest.mark.long) for n in range(7, 40) if n != 12)]
)
def test_killed_after_any_statement_the_table_works_and_the_next_run_ends_it(pg_database: str, statements: int) -> None:
    """kill -9: nothing is lost, rows are written and read, and what the killed run left is cleaned up."""
    database = plain(pg_database)
    before = contents(pg_database)
    done = subprocess.run([sys.executable, "-c", KILLED, pg_database, str(statements)], check=False)
    assert done.returncode in (-signal.SIGKILL, 0)
    assert contents(pg_database) == before
    execute(pg_database, "INSERT INTO logs VALUES (9999, '2024-03-16+00')", "DELETE FROM logs WHERE id = 9999")
    converted = convert(database, TABLE, "at", now=NOW)
    assert contents(pg_database) == before
    assert [part.name for part in converted.table.partitions][:2] == ["logs_legacy", "logs_2024_04"]
    assert one(pg_database, "SELECT count(*) FROM pg_constraint WHERE conname = 'maintenance_bounds'") == 0
    assert one(pg_database, "SELECT count(*) FROM pg_class WHERE relname ~ '^maintenance_key'") == 0


def test_an_index_that_was_killed_half_way_is_built_again(pg_database: str) -> None:
    """A rerun cleans a failed attempt: the invalid index of CREATE INDEX CONCURRENTLY."""
    database = plain(pg_database)
    oid = one(pg_database, "SELECT 'logs'::regclass::oid")
    connection = connect(pg_database)
    with session(pg_database, "UPDATE logs SET line = 'x' WHERE id = 1"), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '500ms'")
        with pytest.raises(errors.QueryCanceled):
            cursor.execute(f"CREATE UNIQUE INDEX CONCURRENTLY maintenance_key_{oid} ON logs (id, at)")
    connection.close()
    assert not one(pg_database, f"SELECT indisvalid FROM pg_index WHERE indexrelid = 'maintenance_key_{oid}'::regclass")
    assert not convert(database, TABLE, "at", now=NOW).again
