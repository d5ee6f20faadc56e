"""A partition leaves its table while others read and write; whoever kills or blocks it, nothing is left half done."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions import Blocker, Detached, blockers, detach, repair
from maintenance_defs.databases.partitions.detaching import BLOCKERS
from maintenance_defs.databases.partitions.sql import ask
from tests.support.months import CREATE, TABLE, fill, month, months, one, part, read, rows, session
from tests.support.postgres import connect, execute

DETACHING = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'maintenance detach %' AND state = 'active'"
LIMIT_SECONDS = 2.0  # the lock timeout
SLACK_SECONDS = 1.0  # of a loaded machine


def until(found: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What it finds, asked until it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


@contextmanager
def beside(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """The work in a thread; its result, or the error that ended it, is in the list afterwards."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  handed to the test
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield results
    finally:
        thread.join(60)
    assert not thread.is_alive()


@contextmanager
def reader(url: str, sql: str) -> Iterator[list[float]]:
    """Reads over and over, as the application does; the seconds each read took."""
    took: list[float] = []
    stop = threading.Event()

    def run() -> None:
        connection = connect(url)
        with connection.cursor() as cursor:
            while not stop.is_set():
                began = time.monotonic()
                cursor.execute(sql)
                took.append(time.monotonic() - began)
                time.sleep(0.005)
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def pending(database: ArchiveDatabase) -> bool:
    return read(database).pending is not None


def test_an_old_transaction_stops_the_detach_before_it_begins(pg_database: str) -> None:
    """D51: its pid is named, nothing is changed, and the application goes on."""
    database = months(pg_database, 1, 2)
    with session(pg_database, "SELECT count(*) FROM logs") as idle:
        idle.execute("SELECT pg_backend_pid()")
        pid = idle.fetchone()[0]
        with pytest.raises(Refused, match=f"pid {pid} \\(idle in transaction\\)") as refused:
            detach(database, TABLE, part(database), older_than=timedelta(0), wait_seconds=0.2)
        assert refused.value.reason == "blocked"
        assert not pending(database)
        execute(pg_database, "INSERT INTO logs VALUES (1000, '2024-01-05 00:00+00')")
    assert detach(database, TABLE, part(database), older_than=timedelta(0)).how == "concurrently"


def test_a_young_transaction_is_no_blocker_and_an_old_one_is_waited_for(pg_database: str) -> None:
    database = months(pg_database, 1)
    with session(pg_database, "SELECT count(*) FROM logs") as idle, database.transaction() as connection:
        table = read(database)
        assert blockers(connection, table) == []
        assert len(blockers(connection, table, timedelta(0))) == 1
        idle.connection.rollback()
        assert blockers(connection, table, timedelta(0)) == []


def test_a_prepared_transaction_is_named_by_its_id(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    late = "INSERT INTO logs VALUES (1000, '2024-01-05 00:00+00')"
    execute(pg_database, "BEGIN", late, "PREPARE TRANSACTION 'left behind'")
    try:
        with pytest.raises(Refused, match="prepared transaction 'left behind'"):
            detach(database, TABLE, part(database), older_than=timedelta(0), wait_seconds=0.1)
        assert not pending(database)
    finally:
        execute(pg_database, "ROLLBACK PREPARED 'left behind'")


def test_a_role_that_may_not_see_ages_waits_for_everybody(pg_database: str) -> None:
    database = months(pg_database, 1)
    execute(pg_database, "CREATE ROLE blind")
    try:
        with session(pg_database, "SELECT count(*) FROM logs"), database.transaction() as connection:
            oid = read(database).oid
            connection.exec_driver_sql("SET LOCAL ROLE blind")
            found = [Blocker(**row) for row in ask(connection, BLOCKERS, oid=oid, age=3600.0)]
        assert [(one.seconds, one.state) for one in found] == [(None, None)]
        assert "may not see" in str(found[0])
    finally:
        execute(pg_database, "DROP ROLE blind")


def test_an_insert_in_flight_is_waited_for_and_included(pg_database: str) -> None:
    """A5: it commits while the detach waits; the row is in the detached table."""
    database = months(pg_database, 1, 2)
    january = part(database)
    seen: list[list[Blocker]] = []
    with session(pg_database, "INSERT INTO logs VALUES (1000, '2024-01-05 00:00+00')") as insert:
        with beside(lambda: detach(database, TABLE, january, wait_seconds=0.3, waiting=seen.append)) as results:
            until(lambda: seen)
            assert not results
            assert [one.pid for one in seen[0]] == [insert.connection.info.backend_pid]
            insert.connection.commit()
        assert isinstance(results[0], Detached)
        assert results[0].how == "concurrently"
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 101


def test_while_it_waits_other_months_are_read_and_written(pg_database: str) -> None:
    """D58: nobody queues behind the waiting detach."""
    database = months(pg_database, 1, 2)
    january = part(database)
    with session(pg_database, "SELECT count(*) FROM logs") as idle, beside(lambda: detach(database, TABLE, january)):
        until(lambda: pending(database))
        with reader(pg_database, "SELECT count(*) FROM logs WHERE at >= '2024-02-01'") as took:
            execute(pg_database, "INSERT INTO logs VALUES (1000, '2024-02-05 00:00+00')")
            time.sleep(1.0)
        assert max(took) < 0.5
        with pytest.raises(errors.CheckViolation):  # what an alert must say while it is pending
            execute(pg_database, "INSERT INTO logs VALUES (1001, '2024-01-05 00:00+00')")
        assert one(pg_database, "SELECT count(*) FROM logs WHERE at < '2024-02-01'") == 0
        idle.connection.rollback()
    assert not pending(database)


def test_a_session_that_is_ended_in_mid_wait_leaves_a_finished_detach(pg_database: str) -> None:
    """D52: an administrator ends it while it waits; the same call finishes what it began."""
    database = months(pg_database, 1, 2)
    january = part(database)
    with (
        session(pg_database, "SELECT count(*) FROM logs") as idle,
        beside(lambda: detach(database, TABLE, january)) as results,
    ):
        until(lambda: pending(database))
        (pid,) = until(lambda: rows(pg_database, DETACHING))[0]
        assert one(pg_database, f"SELECT pg_terminate_backend({pid}, 5000)")
        time.sleep(0.5)
        assert pending(database)
        idle.connection.rollback()
    assert results[0].how == "finalized"
    assert not pending(database)
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 100


def test_what_cannot_be_finished_says_so_and_the_next_run_finishes_it(pg_database: str) -> None:
    """D52: a pending detach is never silent, and never lost."""
    database = months(pg_database, 1, 2)
    january = part(database)
    with session(pg_database, "SELECT count(*) FROM logs") as idle:
        idle.execute("SELECT pg_backend_pid()")
        holder = idle.fetchone()[0]
        with beside(lambda: detach(database, TABLE, january, wait_seconds=1.0)) as results:
            until(lambda: pending(database))
            (pid,) = until(lambda: rows(pg_database, DETACHING))[0]
            one(pg_database, f"SELECT pg_terminate_backend({pid}, 5000)")
        assert isinstance(results[0], Refused)
        assert results[0].reason == "detach_pending"
        assert f"pid {holder}" in str(results[0])
        assert "refuses inserts" in str(results[0])
        with pytest.raises(Refused, match="could not be finished"):
            repair(database, TABLE, wait_seconds=0.5)
        with pytest.raises(Refused, match="one at a time"):
            detach(database, TABLE, part(database, "logs_2024_02"))
    repaired = repair(database, TABLE)
    assert repaired is not None
    assert repaired.name == "logs_2024_01"
    assert repair(database, TABLE) is None
    assert detach(database, TABLE, january).how == "already"
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 100


def test_a_killed_process_leaves_the_detach_to_the_server(pg_database: str) -> None:
    """kill -9 in mid-wait: the server goes on by itself, and the next run finds it done."""
    database = months(pg_database, 1, 2)
    january = part(database)
    program = textwrap.dedent(
        """
        import sys
        from tests.support.months import TABLE, part
        from maintenance_defs.databases.archiving import open_archive_database
        from maintenance_defs.databases.partitions import detach
        database = open_archive_database(sys.argv[1])
        detach(database, TABLE, part(database))
        """
    )
    with session(pg_database, "SELECT count(*) FROM logs") as idle:
        process = subprocess.Popen([sys.executable, "-c", program, pg_database])
        try:
            until(lambda: pending(database))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert pending(database)
        idle.connection.rollback()
    until(lambda: not pending(database))
    assert detach(database, TABLE, january).how == "already"
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 100


def test_time_limits_of_the_role_do_not_cut_the_wait_short(pg_database: str) -> None:
    """A lock_timeout or statement_timeout of the database would leave the partition pending (measured)."""
    database = months(pg_database, 1, 2)
    january = part(database)
    name = one(pg_database, "SELECT current_database()")
    known = "SELECT name FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout', 'transaction_timeout')"
    with session(pg_database, "SELECT count(*) FROM logs") as idle:  # it began before the limits, and has none
        for (setting,) in rows(pg_database, known):
            execute(pg_database, f"ALTER DATABASE {name} SET {setting} = '300ms'")
        with beside(lambda: detach(database, TABLE, january)) as results:
            until(lambda: rows(pg_database, DETACHING))
            time.sleep(1.0)
            idle.connection.rollback()
    assert results[0].how == "concurrently"


def test_a_lock_timeout_would_leave_it_pending(pg_database: str) -> None:
    """Why none is set: measured behaviour of the server."""
    database = months(pg_database, 1, 2)
    connection = connect(pg_database)
    with session(pg_database, "SELECT count(*) FROM logs"), connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
        with pytest.raises(errors.LockNotAvailable):
            cursor.execute("ALTER TABLE logs DETACH PARTITION logs_2024_01 CONCURRENTLY")
        assert pending(database)
        with pytest.raises(errors.ObjectNotInPrerequisiteState):  # a second one
            cursor.execute("ALTER TABLE logs DETACH PARTITION logs_2024_02 CONCURRENTLY")
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN; ALTER TABLE logs DETACH PARTITION logs_2024_01 CONCURRENTLY",
        "SELECT 1; ALTER TABLE logs DETACH PARTITION logs_2024_01 CONCURRENTLY",
        "DO $$ BEGIN ALTER TABLE logs DETACH PARTITION logs_2024_01 CONCURRENTLY; END $$",
    ],
)
def test_the_server_wants_the_statement_alone(pg_database: str, statement: str) -> None:
    """D60: hence a session of its own in autocommit, one statement to a message."""
    months(pg_database, 1, 2)
    with pytest.raises(psycopg2.errors.ActiveSqlTransaction):
        execute(pg_database, statement)


def test_with_a_default_partition_only_a_blocking_detach_is_possible_and_must_be_allowed(pg_database: str) -> None:
    """D54."""
    database = months(pg_database, 1, 2)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT")
    with pytest.raises(Refused, match=r"public\.rest") as refused:
        detach(database, TABLE, part(database))
    assert refused.value.reason == "default_partition"
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        execute(pg_database, "ALTER TABLE logs DETACH PARTITION logs_2024_01 CONCURRENTLY")
    assert detach(database, TABLE, part(database), blocking_allowed=True).how == "blocking"
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 100
    execute(pg_database, "INSERT INTO logs VALUES (1000, '2024-01-05 00:00+00')")
    assert one(pg_database, "SELECT count(*) FROM rest") == 1


def test_a_blocking_detach_holds_readers_up_for_the_lock_timeout_at_most(pg_database: str) -> None:
    """D58, V9: somebody holds the table; readers queue behind our request only until it gives up and pauses."""
    database = months(pg_database, 1, 2)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT")
    january = part(database)
    with (
        session(pg_database, "SELECT count(*) FROM logs") as idle,
        reader(pg_database, "SELECT count(*) FROM logs WHERE at >= '2024-02-01' AND at < '2024-03-01'") as took,
        beside(lambda: detach(database, TABLE, january, blocking_allowed=True)) as results,
    ):
        until(lambda: max(took, default=0) > 1.0)  # it did queue
        time.sleep(3.0)
        idle.connection.rollback()
    assert results[0].how == "blocking"
    assert 1.0 < max(took) < LIMIT_SECONDS + SLACK_SECONDS
    assert len([seconds for seconds in took if seconds < 0.5]) > 10  # between the attempts they went on


def test_finishing_a_detach_holds_no_reader_up(pg_database: str) -> None:
    """D58: FINALIZE waits for older transactions with a limit, and asks for no lock that a reader minds."""
    database = months(pg_database, 1, 2)
    january = part(database)
    with session(pg_database, "SELECT count(*) FROM logs") as idle:
        with beside(lambda: detach(database, TABLE, january, wait_seconds=0.5)):
            until(lambda: pending(database))
            (pid,) = until(lambda: rows(pg_database, DETACHING))[0]
            one(pg_database, f"SELECT pg_terminate_backend({pid}, 5000)")
        with (
            reader(pg_database, "SELECT count(*) FROM logs WHERE at >= '2024-02-01'") as took,
            beside(lambda: repair(database, TABLE)) as results,
        ):
            time.sleep(3.0)
            idle.connection.rollback()
    assert results[0].name == "logs_2024_01"
    assert max(took) < 0.5


def test_dropping_an_attached_month_would_hold_readers_up(pg_database: str) -> None:
    """L8: why a month is detached before it is dropped. DROP of a partition queues every reader of the table."""
    months(pg_database, 1, 2)
    with (
        session(pg_database, "SELECT count(*) FROM logs") as idle,
        reader(pg_database, "SELECT count(*) FROM logs WHERE at >= '2024-02-01'") as took,
        beside(lambda: execute(pg_database, "DROP TABLE logs_2024_01")),
    ):
        time.sleep(1.5)
        idle.connection.rollback()
    assert max(took) > 1.0


def test_another_table_under_the_same_name_is_not_detached(pg_database: str) -> None:
    """D66: identity is the oid; a month that was renamed or given other bounds is planned again."""
    database = months(pg_database, 1, 2)
    january = part(database)
    execute(pg_database, "DROP TABLE logs_2024_01", month(1))
    with pytest.raises(Refused) as refused:
        detach(database, TABLE, january)
    assert refused.value.reason == "gone"
    january = part(database)
    execute(pg_database, "ALTER TABLE logs_2024_01 RENAME TO january")
    with pytest.raises(Refused) as refused:
        detach(database, TABLE, january)
    assert refused.value.reason == "changed"
    january = part(database, "january")
    execute(
        pg_database,
        "ALTER TABLE logs DETACH PARTITION january",
        "ALTER TABLE logs ATTACH PARTITION january FOR VALUES FROM ('2023-12-01+00') TO ('2024-02-01+00')",
    )
    with pytest.raises(Refused, match=r"2023-12-01") as refused:
        detach(database, TABLE, january)
    assert refused.value.reason == "changed"
    assert len(read(database).partitions) == 2


def test_a_month_of_another_table_is_not_detached(pg_database: str) -> None:
    database = months(pg_database, 1)
    execute(
        pg_database,
        CREATE.replace("public.logs", "public.audit"),
        month(1, "audit"),
        fill(1, name="audit"),
    )
    with pytest.raises(Refused, match="another table"):
        detach(database, TABLE, part(database, "audit_2024_01", "public.audit"))


def test_an_older_snapshot_sees_the_month_empty_after_the_detach(pg_database: str) -> None:
    """L22, measured: a long reader that had not touched the table yet is not waited for by anybody, and misses rows.

    Hence whoever reads a month for the archive locks the table first, or reads the partition by its own name.
    """
    database = months(pg_database, 1, 2)
    with session(pg_database, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM pg_class") as old:
        assert detach(database, TABLE, part(database)).how == "concurrently"
        old.execute("SELECT count(*) FROM logs WHERE at < '2024-02-01'")
        assert old.fetchone()[0] == 0
        old.execute("SELECT count(*) FROM logs_2024_01")
        assert old.fetchone()[0] == 100
        with suppress(psycopg2.Error):
            old.connection.rollback()
