"""A month from its table to the ledger, and rows deleted one by one: what the rest is built on."""

from maintenance_defs.databases.partitions import delete_rows, detach, drop_parked, find_parked, park, was_removed
from tests.support.months import TABLE, count_of, counted, hashed, months, one, part, read


def test_a_month_is_detached_parked_and_dropped_and_the_ledger_says_so(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    table, january = read(database), part(database)
    with database.transaction() as connection:
        expected = count_of(connection, january.qualified)
    assert detach(database, TABLE, january, lane_of="u1").how == "now"
    assert one(pg_database, "SELECT count(*) FROM logs") == 100
    parked = park(database, table, january, "u1")
    assert (parked.schema, parked.name) == ("maintenance_archive", "logs_2024_01")
    assert park(database, table, january, "u1") == parked
    dropped = drop_parked(database, "u1", expected, counted, actor="ana")
    assert (dropped.again, dropped.removal.rows, dropped.removal.actor) == (False, 100, "ana")
    assert drop_parked(database, "u1", expected, counted, actor="ana").again
    assert one(pg_database, "SELECT to_regclass('maintenance_archive.logs_2024_01')") is None
    with database.transaction() as connection:
        assert was_removed(connection, "u1") == dropped.removal
        assert find_parked(connection, "u1") is None


def test_rows_are_deleted_when_they_are_still_what_was_archived(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    listed = hashed(database, "public.logs", ["id", "at"], "at < '2024-02-01'")
    where = {"time_column": "at", "lower": part(database).lower, "upper": part(database).upper, "actor": "ana"}
    done = delete_rows(database, TABLE, ["id", "at"], [listed], unit_id="u1", batch=30, **where)
    assert (done.deleted, done.kept) == (100, 0)
    assert one(pg_database, "SELECT count(*) FROM logs") == 100
    with database.transaction() as connection:
        removal = was_removed(connection, "u1")
    assert removal is not None
    assert removal.rows == 100
