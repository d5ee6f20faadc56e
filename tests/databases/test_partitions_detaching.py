"""A partition leaves its table while others read and write; whoever kills or blocks it, nothing is left half done."""

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
from maintenance_defs.databases.partitions import (
    Blocker,
    Detached,
    Partition,
    blockers,
    detach,
    detaching,
    find_late_lane,
    repair,
)
from maintenance_defs.databases.partitions.detaching import BLOCKERS
from maintenance_defs.databases.partitions.sql import ask
from tests.support.months import CREATE, TABLE, fill, month, months, one, part, read, session
from tests.support.postgres import connect, execute

CONCURRENTLY = "ALTER TABLE logs DETACH PARTITION logs_2024_01 CONCURRENTLY"
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


def leave(database: ArchiveDatabase, partition: Partition | None = None, **more: Any) -> Detached:
    return detach(database, TABLE, partition or part(database), lane_of="u1", **more)


def left_pending(url: str) -> None:
    """Somebody else began to detach January, and was timed out: the caller holds the table."""
    connection = connect(url)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
        with pytest.raises(errors.LockNotAvailable):
            cursor.execute(CONCURRENTLY)
    connection.close()


def pending(database: ArchiveDatabase) -> bool:
    return read(database).pending is not None


def test_an_old_transaction_stops_the_detach_before_it_begins(pg_database: str) -> None:
    """D51: its pid is named, nothing is changed, and the application goes on."""
    database = months(pg_database, 1, 2)
    with session(pg_database, "SELECT count(*) FROM logs") as idle:
        idle.execute("SELECT pg_backend_pid()")
        pid = idle.fetchone()[0]
        with pytest.raises(Refused, match=f"pid {pid} \\(idle in transaction\\)") as refused:
            leave(database, older_than=timedelta(0), wait_seconds=0.2)
        assert refused.value.reason == "blocked"
        execute(pg_database, "INSERT INTO logs VALUES (1000, '2024-01-05 00:00+00')")
    assert leave(database, older_than=timedelta(0)).how == "now"


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
            leave(database, older_than=timedelta(0), wait_seconds=0.1)
        assert part(database).name == "logs_2024_01"
    finally:
        execute(pg_database, "ROLLBACK PREPARED 'left behind'")


def test_a_role_that_may_not_see_ages_waits_for_everybody(pg_database: str) -> None:
    database = months(pg_database, 1)
    execute(pg_database, "CREATE ROLE blind")
    try:
        with session(pg_database, "SELECT count(*) FROM logs"), database.transaction() as connection:
            oid = read(database).oid
            connection.exec_driver_sql("SET LOCAL ROLE blind")
            found = [Blocker(**row) for row in ask(connection, BLOCKERS, oids=[oid], age=3600.0)]
        assert [(one.seconds, one.state) for one in found] == [(None, None)]
        assert "may not see" in str(found[0])
    finally:
        execute(pg_database, "DROP ROLE blind")


def test_an_insert_in_flight_is_waited_for_and_included(pg_database: str) -> None:
    """A5: it commits while the detach tries for its lock; the row is in the detached table."""
    database = months(pg_database, 1, 2)
    january = part(database)
    with session(pg_database, "INSERT INTO logs VALUES (1000, '2024-01-05 00:00+00')") as insert:
        with beside(lambda: leave(database, january)) as results:
            time.sleep(1.0)
            assert not results
            insert.connection.commit()
        assert isinstance(results[0], Detached)
        assert results[0].how == "now"
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 101


def test_late_rows_always_have_a_place(pg_database: str) -> None:
    """D62: a writer of the month that leaves, one statement after another, never meets an error or loses a row."""
    database = months(pg_database, 1, 2)
    january = part(database)
    said: list[Any] = []
    stop = threading.Event()

    def write() -> int:
        connection = connect(pg_database)
        count = 0
        with connection.cursor() as cursor:
            while not stop.is_set():
                try:
                    cursor.execute(f"INSERT INTO logs VALUES ({1000 + count}, '2024-01-05 00:00+00')")
                except psycopg2.Error as error:
                    said.append(error)
                count += 1
        connection.close()
        return count

    with beside(write) as written:
        time.sleep(0.5)
        assert leave(database, january).how == "now"
        time.sleep(0.5)
        stop.set()
    assert said == []
    late = one(pg_database, "SELECT count(*) FROM logs WHERE at < '2024-02-01'")
    assert late > 0
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") + late == 100 + written[0]
    lane = one(pg_database, "SELECT tableoid::regclass::text FROM logs WHERE at < '2024-02-01' LIMIT 1")
    with database.transaction() as connection:
        found = find_late_lane(connection, read(database), "u1")
    assert found is not None and found.name == lane


def test_a_detach_that_fails_leaves_the_table_as_it_was(pg_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """I118: out and in are one transaction."""
    database = months(pg_database, 1, 2)

    def dead(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(detaching, "attach", dead)
        with pytest.raises(KeyboardInterrupt):
            leave(database)
    assert [one.name for one in read(database).partitions] == ["logs_2024_01", "logs_2024_02"]
    assert one(pg_database, "SELECT count(*) FROM logs") == 200
    assert one(pg_database, "SELECT to_regclass('logs_2024_01_late')") is None


def test_who_never_lets_go_is_named_and_nothing_is_changed(pg_database: str) -> None:
    """D51: younger than what is looked for beforehand, and then it stayed."""
    database = months(pg_database, 1, 2)
    with session(pg_database, "SELECT count(*) FROM logs_2024_01") as idle:  # the month itself, by its name
        idle.execute("SELECT pg_backend_pid()")
        pid = idle.fetchone()[0]
        with pytest.raises(Refused, match=f"pid {pid} ") as refused:
            leave(database, wait_seconds=1.0)
    assert refused.value.reason == "blocked"
    assert leave(database).how == "now"


def test_a_long_look_at_what_refers_to_the_table_is_given_up(pg_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """V9: the server looks for references to the month while everybody waits for us."""
    database = months(pg_database, 1, 2, rows=20_000)
    refers = "CREATE TABLE notes (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES logs (id, at))"
    execute(pg_database, refers, "INSERT INTO notes SELECT id, at FROM logs WHERE at >= '2024-02-01'")
    monkeypatch.setattr(detaching, "LOCK_TIMEOUT", "1ms")  # at the lock itself it comes after those of GENTLE_MS
    with pytest.raises(Refused, match="statement timeout") as refused:
        leave(database, wait_seconds=0.5)
    assert refused.value.reason == "blocked"
    assert part(database).name == "logs_2024_01"
    monkeypatch.undo()
    assert leave(database).how == "now"


def test_a_detach_that_somebody_else_left_pending_is_finished(pg_database: str) -> None:
    """D52."""
    database = months(pg_database, 1, 2)
    january = part(database)
    with session(pg_database, "SELECT count(*) FROM logs"):
        left_pending(pg_database)
        assert pending(database)
    assert leave(database, january).how == "finalized"
    assert not pending(database)
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 100


def test_what_cannot_be_finished_says_so_and_the_next_run_finishes_it(pg_database: str) -> None:
    """D52: a pending detach is never silent, and never lost."""
    database = months(pg_database, 1, 2)
    january = part(database)
    with session(pg_database, "SELECT count(*) FROM logs") as idle:
        idle.execute("SELECT pg_backend_pid()")
        holder = idle.fetchone()[0]
        left_pending(pg_database)
        with pytest.raises(errors.CheckViolation):  # what an alert must say while it is pending
            execute(pg_database, "INSERT INTO logs VALUES (1001, '2024-01-05 00:00+00')")
        with pytest.raises(Refused, match=f"pid {holder} ") as refused:
            leave(database, january, wait_seconds=0.5)
        assert refused.value.reason == "detach_pending"
        assert "refuses inserts" in str(refused.value)
        with pytest.raises(Refused, match="could not be finished"):
            repair(database, TABLE, wait_seconds=0.5)
        with pytest.raises(Refused, match="is being detached"):
            leave(database, part(database, "logs_2024_02"))
    repaired = repair(database, TABLE)
    assert repaired is not None
    assert repaired.name == "logs_2024_01"
    assert repair(database, TABLE) is None
    assert leave(database, january).how == "already"
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 100


def test_a_concurrent_detach_that_is_cut_off_stays_pending(pg_database: str) -> None:
    """Why we never begin one: measured behaviour of the server."""
    database = months(pg_database, 1, 2)
    with session(pg_database, "SELECT count(*) FROM logs"):
        left_pending(pg_database)
        assert pending(database)
        with pytest.raises(errors.ObjectNotInPrerequisiteState):  # a second one
            execute(pg_database, CONCURRENTLY.replace("_01", "_02"))


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN; ALTER TABLE logs DETACH PARTITION logs_2024_01 CONCURRENTLY",
        "SELECT 1; ALTER TABLE logs DETACH PARTITION logs_2024_01 CONCURRENTLY",
        "DO $$ BEGIN ALTER TABLE logs DETACH PARTITION logs_2024_01 CONCURRENTLY; END $$",
    ],
)
def test_the_server_wants_the_statement_alone(pg_database: str, statement: str) -> None:
    """D60: another reason why we detach in a transaction, without it."""
    months(pg_database, 1, 2)
    with pytest.raises(psycopg2.errors.ActiveSqlTransaction):
        execute(pg_database, statement)


def test_a_default_partition_takes_the_late_rows(pg_database: str) -> None:
    """D54: beside one the server refuses CONCURRENTLY; ours needs no lane there."""
    database = months(pg_database, 1, 2)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        execute(pg_database, CONCURRENTLY)
    assert leave(database).how == "now"
    assert one(pg_database, "SELECT count(*) FROM logs_2024_01") == 100
    execute(pg_database, "INSERT INTO logs VALUES (1000, '2024-01-05 00:00+00')")
    assert one(pg_database, "SELECT count(*) FROM rest") == 1


@pytest.mark.parametrize("default", [False, True])
def test_a_detach_holds_readers_up_for_the_lock_timeout_at_most(pg_database: str, default: bool) -> None:
    """D58, V9: somebody holds the table; readers queue behind our request only until it gives up and pauses."""
    database = months(pg_database, 1, 2)
    if default:
        execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT")
    january = part(database)
    with (
        session(pg_database, "SELECT count(*) FROM logs") as idle,
        reader(pg_database, "SELECT count(*) FROM logs WHERE at >= '2024-02-01' AND at < '2024-03-01'") as took,
        beside(lambda: leave(database, january)) as results,
    ):
        until(lambda: len([seconds for seconds in took if seconds > 0.08]) >= 2)  # it did queue, and gently at first
        assert max(took) < 1.0
        until(lambda: max(took) > 1.5)
        time.sleep(2.0)
        idle.connection.rollback()
    assert results[0].how == "now"
    assert 1.0 < max(took) < LIMIT_SECONDS + SLACK_SECONDS
    assert len([seconds for seconds in took if seconds < 0.5]) > 10  # between the attempts they went on


def test_finishing_a_detach_holds_no_reader_up(pg_database: str) -> None:
    """D58: FINALIZE waits for older transactions with a limit, and asks for no lock that a reader minds."""
    database = months(pg_database, 1, 2)
    with session(pg_database, "SELECT count(*) FROM logs") as idle:
        left_pending(pg_database)
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
        leave(database, january)
    assert refused.value.reason == "gone"
    january = part(database)
    execute(pg_database, "ALTER TABLE logs_2024_01 RENAME TO january")
    with pytest.raises(Refused) as refused:
        leave(database, january)
    assert refused.value.reason == "changed"
    january = part(database, "january")
    execute(
        pg_database,
        "ALTER TABLE logs DETACH PARTITION january",
        "ALTER TABLE logs ATTACH PARTITION january FOR VALUES FROM ('2023-12-01+00') TO ('2024-02-01+00')",
    )
    with pytest.raises(Refused, match=r"2023-12-01") as refused:
        leave(database, january)
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
        leave(database, part(database, "audit_2024_01", "public.audit"))


def test_an_older_snapshot_sees_the_month_empty_after_the_detach(pg_database: str) -> None:
    """L22, measured: a long reader that had not touched the table yet is not waited for by anybody, and misses rows.

    Hence whoever reads a month for the archive locks the table first, or reads the partition by its own name.
    """
    database = months(pg_database, 1, 2)
    with session(pg_database, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM pg_class") as old:
        assert leave(database).how == "now"
        old.execute("SELECT count(*) FROM logs WHERE at < '2024-02-01'")
        assert old.fetchone()[0] == 0
        old.execute("SELECT count(*) FROM logs_2024_01")
        assert old.fetchone()[0] == 100
        with suppress(psycopg2.Error):
            old.connection.rollback()
