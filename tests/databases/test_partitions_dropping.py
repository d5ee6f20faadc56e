"""What a detached month goes through at its end: compared under a lock, then dropped, and nothing else."""

import signal
import subprocess
import sys
import textwrap
import threading
import time

import psycopg2
import pytest
from psycopg2 import errors
from sqlalchemy import Connection

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.partitions import (
    Parked,
    drop_parked,
    was_removed,
)
from tests.databases.test_partitions_parking import away, contents
from tests.support.months import Counted, counted, months, one, session, until_it_waits
from tests.support.postgres import execute

# The drop -------------------------------------------------------------------------------------


def test_a_row_that_changed_after_the_export_keeps_the_table(pg_database: str) -> None:
    """A2, A3, V2: count, min and max are the same; the content is not."""
    database = months(pg_database, 1, 2)
    expected = contents(database, "public.logs_2024_01")
    execute(pg_database, "UPDATE logs SET line = 'changed' WHERE id = 7 AND at < '2024-02-01'")
    away(database)
    with pytest.raises(Refused, match="100 others") as refused:
        drop_parked(database, "u1", expected, counted, actor="ana")
    assert refused.value.reason == "differs"
    assert one(pg_database, "SELECT count(*) FROM maintenance_archive.logs_2024_01") == 100
    assert one(pg_database, "SELECT count(*) FROM maintenance_archive.ledger") == 0


def test_nobody_changes_the_month_between_the_comparison_and_the_drop(pg_database: str) -> None:
    """V2: a write that waits behind the comparison finds no table."""
    database = months(pg_database, 1, 2)
    expected = contents(database, "public.logs_2024_01")
    away(database)
    execute(pg_database, "ALTER TABLE maintenance_archive.logs_2024_01 DISABLE TRIGGER ALL")
    outcome: list[type[BaseException]] = []

    def write() -> None:
        try:
            execute(pg_database, "INSERT INTO maintenance_archive.logs_2024_01 VALUES (1000, '2024-01-05 00:00+00')")
        except psycopg2.Error as error:
            outcome.append(type(error))

    writer = threading.Thread(target=write)

    def slowly(connection: Connection, parked: Parked) -> Counted:
        found = counted(connection, parked)
        writer.start()
        time.sleep(0.5)
        assert not outcome
        return found

    drop_parked(database, "u1", expected, slowly, actor="ana")
    writer.join(30)
    assert outcome == [errors.UndefinedTable]


def test_a_table_recreated_under_the_name_is_not_dropped(pg_database: str) -> None:
    """D66, V10: identity is oid and comment, not the name."""
    database = months(pg_database, 1, 2)
    expected = contents(database, "public.logs_2024_01")
    away(database)
    execute(
        pg_database,
        "ALTER TABLE maintenance_archive.logs_2024_01 RENAME TO kept",
        "CREATE TABLE maintenance_archive.logs_2024_01 AS TABLE maintenance_archive.kept",
        "DROP TABLE maintenance_archive.kept",
        "COMMENT ON TABLE maintenance_archive.logs_2024_01 IS 'maintenance unit u1'",
    )
    with pytest.raises(Refused, match="dropped or restored by somebody else") as refused:
        drop_parked(database, "u1", expected, counted, actor="ana")
    assert refused.value.reason == "parked_gone"
    assert one(pg_database, "SELECT count(*) FROM maintenance_archive.logs_2024_01") == 100


def test_a_table_without_our_mark_is_not_dropped(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    expected = contents(database, "public.logs_2024_01")
    away(database)
    execute(pg_database, "COMMENT ON TABLE maintenance_archive.logs_2024_01 IS 'mine now'")
    with pytest.raises(Refused, match="does not carry the mark") as refused:
        drop_parked(database, "u1", expected, counted, actor="ana")
    assert refused.value.reason == "not_ours"


def test_a_month_that_somebody_attached_again_is_not_dropped(pg_database: str) -> None:
    """V10: its mark is on it still, and its rows are shown by another table."""
    database = months(pg_database, 1, 2)
    expected = contents(database, "public.logs_2024_01")
    away(database)
    execute(
        pg_database,
        "CREATE TABLE public.others (LIKE public.logs) PARTITION BY RANGE (at)",
        "ALTER TABLE public.others ATTACH PARTITION maintenance_archive.logs_2024_01 "
        "FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2024-02-01 00:00+00')",
    )
    with pytest.raises(Refused, match="belongs to a table again") as refused:
        drop_parked(database, "u1", expected, counted, actor="ana")
    assert refused.value.reason == "not_ours"
    assert one(pg_database, "SELECT count(*) FROM public.others") == 100


@pytest.mark.parametrize("mark", ["kept", "taken off"])
def test_a_month_that_is_attached_while_its_drop_waits_is_not_dropped(pg_database: str, mark: str) -> None:
    """V2, V10: what was looked at before the lock is not what is there under it, though name, oid and rows are."""
    database = months(pg_database, 1, 2)
    expected = contents(database, "public.logs_2024_01")
    away(database)
    place = "maintenance_archive.logs_2024_01"
    meanwhile = [f"COMMENT ON TABLE {place} IS 'mine now'"] if mark == "taken off" else [
        f"ALTER TABLE public.logs ATTACH PARTITION {place} FOR VALUES FROM ('2024-01-01 00:00+00') "
        f"TO ('2024-02-01 00:00+00')"
    ]  # fmt: skip
    raised: list[Refused] = []

    def drop() -> None:
        try:
            drop_parked(database, "u1", expected, counted, actor="ana")
        except Refused as refused:
            raised.append(refused)

    dropping = threading.Thread(target=drop)
    with session(pg_database, f"LOCK TABLE {place} IN SHARE UPDATE EXCLUSIVE MODE", *meanwhile) as cursor:
        until_it_waits(pg_database, dropping, "mode = 'AccessExclusiveLock'")
        cursor.connection.commit()
    dropping.join(30)
    assert [refused.reason for refused in raised] == ["not_ours"]
    assert one(pg_database, f"SELECT count(*) FROM {place}") == 100


def test_what_depends_on_the_month_is_never_dropped_with_it(pg_database: str) -> None:
    """V10: RESTRICT."""
    database = months(pg_database, 1, 2)
    expected = contents(database, "public.logs_2024_01")
    away(database)
    execute(pg_database, "CREATE VIEW january AS SELECT * FROM maintenance_archive.logs_2024_01")
    with pytest.raises(Refused) as refused:
        drop_parked(database, "u1", expected, counted, actor="ana")
    assert refused.value.reason == "depended_on"
    assert one(pg_database, "SELECT count(*) FROM january") == 100
    assert one(pg_database, "SELECT count(*) FROM maintenance_archive.ledger") == 0
    execute(pg_database, "DROP VIEW january")
    assert not drop_parked(database, "u1", expected, counted, actor="ana").again


def test_a_unit_that_was_never_parked_is_not_dropped(pg_database: str) -> None:
    database = months(pg_database, 1)
    with pytest.raises(Refused, match="no parked table"):
        drop_parked(database, "u1", Counted(100, "1"), counted, actor="ana")


def test_a_reader_of_the_parked_month_is_waited_for_with_a_limit(pg_database: str) -> None:
    """D58: and readers of the table notice nothing, since the month is no part of it any more."""
    database = months(pg_database, 1, 2)
    expected = contents(database, "public.logs_2024_01")
    away(database)
    with session(pg_database, "SELECT count(*) FROM maintenance_archive.logs_2024_01"):
        began = time.monotonic()
        with pytest.raises(Exception, match="lock timeout"):
            drop_parked(database, "u1", expected, counted, actor="ana", wait_seconds=0.1)
        assert time.monotonic() - began < 5
        assert one(pg_database, "SELECT count(*) FROM logs") == 100
    assert not drop_parked(database, "u1", expected, counted, actor="ana").again


def test_killed_between_drop_and_return_the_ledger_tells(pg_database: str) -> None:
    """D69: kill -9 right after the commit; the next run learns from the source database that it was us."""
    database = months(pg_database, 1, 2)
    expected = contents(database, "public.logs_2024_01")
    away(database)
    program = textwrap.dedent(
        """
        import os, signal, sys
        from sqlalchemy import Transaction
        from maintenance_defs.databases.archiving import open_archive_database
        from maintenance_defs.databases.partitions import drop_parked
        from tests.support.months import Counted, counted
        import sqlalchemy.engine.base as base
        commit = base.RootTransaction.commit
        def killed(self):
            if sys.argv[4] == "after":
                commit(self)
            os.kill(os.getpid(), signal.SIGKILL)
        base.RootTransaction.commit = killed
        expected = Counted(int(sys.argv[2]), sys.argv[3])
        drop_parked(open_archive_database(sys.argv[1]), "u1", expected, counted, actor="ana")
        """
    )
    for moment in ("before", "after"):
        done = subprocess.run(
            [sys.executable, "-c", program, pg_database, str(expected.rows), expected.total, moment], check=False
        )
        assert done.returncode == -signal.SIGKILL
        with database.transaction() as connection:
            removal = was_removed(connection, "u1")
        assert (removal is None) == (moment == "before")
    assert drop_parked(database, "u1", expected, counted, actor="bob").removal.actor == "ana"
