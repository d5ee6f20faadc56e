"""Set aside, given back, dropped: what a detached month goes through, and who may touch it meanwhile."""

import pytest
from psycopg2 import errors

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from maintenance_defs.databases.partitions import (
    Parked,
    Partition,
    detach,
    drop_parked,
    find_late_lane,
    find_parked,
    open_late_lane,
    park,
    reattach,
)
from maintenance_defs.databases.partitions.sql import act
from tests.support.months import (
    CREATE,
    TABLE,
    Counted,
    count_of,
    counted,
    fill,
    month,
    months,
    one,
    part,
    read,
    rows,
    session,
)
from tests.support.postgres import execute

LATE = "INSERT INTO logs VALUES (1000, '2024-01-05 00:00+00', 'j', 'late')"


def away(database: ArchiveDatabase, unit_id: str = "u1", name: str = "logs_2024_01", table: str = TABLE) -> Parked:
    """The month detached, as somebody else may have done it: without a lane, and parked."""
    parent, partition = read(database, table), part(database, name, table)
    with database.transaction() as connection:
        act(connection, f"ALTER TABLE {parent.qualified} DETACH PARTITION {partition.qualified}")
    return park(database, parent, partition, unit_id)


def contents(database: ArchiveDatabase, relation: str) -> Counted:
    with database.transaction() as connection:
        return count_of(connection, relation)


def lane_of(database: ArchiveDatabase, unit_id: str = "u1") -> Partition | None:
    table = read(database)
    with database.transaction() as connection:
        return find_late_lane(connection, table, unit_id)


def opened(database: ArchiveDatabase, unit_id: str, like: Partition) -> Partition | None:
    assert like.lower is not None
    assert like.upper is not None
    return open_late_lane(database, TABLE, like.lower, like.upper, unit_id)


# Parking --------------------------------------------------------------------------------------


def test_the_old_name_is_free_and_the_month_is_found_by_its_unit(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    parked = away(database)
    assert one(pg_database, "SELECT to_regclass('public.logs_2024_01')") is None
    with database.transaction() as connection:
        assert find_parked(connection, "u1") == parked
        assert find_parked(connection, "u2") is None
    assert parked.partition.bounds == "FOR VALUES FROM ('2024-01-01 00:00:00+00') TO ('2024-02-01 00:00:00+00')"


@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO maintenance_archive.logs_2024_01 VALUES (1000, '2024-01-05 00:00+00')",
        "UPDATE maintenance_archive.logs_2024_01 SET line = 'x'",
        "DELETE FROM maintenance_archive.logs_2024_01",
        "TRUNCATE maintenance_archive.logs_2024_01",
        "COPY maintenance_archive.logs_2024_01 FROM PROGRAM 'printf \"1000\\t2024-01-05\\tj\\tl\\n\"'",
        "SET session_replication_role = replica; DELETE FROM maintenance_archive.logs_2024_01",
    ],
)
def test_nobody_writes_to_a_parked_month_not_even_its_owner(pg_database: str, write: str) -> None:
    """A6: an old code path that writes by the partition's name."""
    database = months(pg_database, 1)
    away(database)
    with pytest.raises(errors.ReadOnlySqlTransaction, match="are archived and may not change"):
        execute(pg_database, write)
    assert one(pg_database, "SELECT count(*) FROM maintenance_archive.logs_2024_01") == 100


def test_between_detach_and_parking_a_direct_write_succeeds_and_the_drop_sees_it(pg_database: str) -> None:
    """A6, measured: what slips in before the month is parked differs from the archive, so nothing is dropped."""
    database = months(pg_database, 1, 2)
    table, january = read(database), part(database)
    expected = contents(database, january.qualified)
    detach(database, TABLE, january, lane_of="u1")
    execute(pg_database, "INSERT INTO logs_2024_01 VALUES (1000, '2024-01-05 00:00+00')")
    park(database, table, january, "u1")
    with pytest.raises(Refused, match=r"holds 100 rows, maintenance_archive.logs_2024_01 101\. The table was kept"):
        drop_parked(database, "u1", expected, counted, actor="ana")


def test_grants_are_taken_and_given_back(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    roles = ["app", '"r w"', "gone"]
    execute(
        pg_database,
        *(f"CREATE ROLE {role}" for role in roles),
        "GRANT SELECT, INSERT ON logs_2024_01 TO app WITH GRANT OPTION",
        'GRANT UPDATE (line), SELECT (id) ON logs_2024_01 TO "r w"',
        "GRANT SELECT ON logs_2024_01 TO PUBLIC, gone",
        "COMMENT ON TABLE logs_2024_01 IS 'January''s \\ 100%'",
    )
    grants = (
        "SELECT relacl::text, (SELECT array_agg(attname || attacl::text ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = c.oid AND attacl IS NOT NULL), obj_description(c.oid, 'pg_class') "
        "FROM pg_class c WHERE relname = 'logs_2024_01'"
    )
    try:
        before = rows(pg_database, grants)
        away(database)
        whole, columns, comment = rows(pg_database, grants)[0]
        assert [one.partition("=")[0] for one in whole.strip("{}").split(",")] == ["postgres"]
        assert (columns, comment) == (None, "maintenance unit u1")
        execute(pg_database, "DROP ROLE gone")
        assert reattach(database, TABLE, "u1").roles_gone == ("gone",)
        after = rows(pg_database, grants)
        assert sorted(after[0][0].strip("{}").split(",")) == sorted(
            grant for grant in before[0][0].strip("{}").split(",") if not grant.startswith("gone")
        )
        assert after[0][1:] == before[0][1:]
    finally:
        execute(pg_database, *(f"DROP OWNED BY {role}; DROP ROLE {role}" for role in roles[:2]))


def test_months_of_one_name_from_two_schemas_wait_side_by_side(pg_database: str) -> None:
    database = months(pg_database, 1)
    execute(
        pg_database,
        "CREATE SCHEMA tenant",
        CREATE.replace("public.", "tenant."),
        month(1).replace("public.", "tenant."),
        fill(1).replace("public.", "tenant."),
    )
    first = away(database, "u1")
    second = away(database, "u2", table="tenant.logs")
    assert first.name == "logs_2024_01"
    assert second.name == f"logs_2024_01_{second.oid}"
    reattach(database, TABLE, "u1")
    reattach(database, "tenant.logs", "u2")
    assert one(pg_database, "SELECT count(*) FROM tenant.logs_2024_01") == 100
    assert one(pg_database, "SELECT to_regclass('tenant.logs_2024_01_pkey')") == "tenant.logs_2024_01_pkey"


def test_a_month_that_is_itself_partitioned_goes_as_a_whole(pg_database: str) -> None:
    """A14: rows of grandchildren are in it, nobody writes to them, and all are dropped."""
    execute(
        pg_database,
        CREATE,
        month(1) + " PARTITION BY RANGE (at)",
        "CREATE TABLE early PARTITION OF logs_2024_01 FOR VALUES FROM ('2024-01-01+00') TO ('2024-01-15+00')",
        "CREATE TABLE later PARTITION OF logs_2024_01 FOR VALUES FROM ('2024-01-15+00') TO ('2024-02-01+00')",
        fill(1),
    )
    database = open_archive_database(pg_database)
    january = part(database)
    assert january.is_partitioned
    assert one(pg_database, "SELECT count(*) FROM ONLY logs_2024_01") == 0
    away(database)
    with pytest.raises(errors.ReadOnlySqlTransaction):
        execute(pg_database, "DELETE FROM maintenance_archive.early")
    reattach(database, TABLE, "u1")
    assert one(pg_database, "SELECT count(*) FROM public.early") == 52
    execute(pg_database, "DELETE FROM public.early WHERE id = 1")
    away(database)
    parked_contents = contents(database, "maintenance_archive.logs_2024_01")
    assert parked_contents.rows == 99
    drop_parked(database, "u1", parked_contents, counted, actor="ana")
    assert one(pg_database, "SELECT to_regclass('maintenance_archive.early')") is None


def test_what_is_still_a_partition_or_gone_or_renamed_is_not_parked(pg_database: str) -> None:
    database = months(pg_database, 1, 2)
    table, january = read(database), part(database)
    with pytest.raises(Refused, match="still a partition"):
        park(database, table, january, "u1")
    detach(database, TABLE, january, lane_of="u1")
    execute(pg_database, "ALTER TABLE logs_2024_01 RENAME TO january")
    with pytest.raises(Refused, match=r"now called public\.january"):
        park(database, table, january, "u1")
    execute(pg_database, "DROP TABLE january", "CREATE TABLE logs_2024_01 (LIKE logs)")
    with pytest.raises(Refused, match="not there any more"):
        park(database, table, january, "u1")
    assert one(pg_database, "SELECT to_regclass('public.logs_2024_01')") == "logs_2024_01"


def test_a_role_that_may_not_create_our_schema_is_told_what_to_run(pg_database: str) -> None:
    database = months(pg_database, 1)
    table, january = read(database), part(database)
    detach(database, TABLE, january, lane_of="u1")
    execute(pg_database, "CREATE ROLE keeper LOGIN PASSWORD 'k'", "ALTER TABLE logs_2024_01 OWNER TO keeper")
    try:
        as_keeper = open_archive_database(_as(pg_database, "keeper", "k"))
        with pytest.raises(Refused) as refused:
            park(as_keeper, table, january, "u1")
        said = 'CREATE SCHEMA maintenance_archive AUTHORIZATION "keeper";'
        assert said in str(refused.value)
        execute(pg_database, said)
        assert park(as_keeper, table, january, "u1").schema == "maintenance_archive"
    finally:
        execute(pg_database, "DROP OWNED BY keeper CASCADE; DROP ROLE keeper")


# The late lane --------------------------------------------------------------------------------


def test_a_late_row_meets_no_error_and_is_seen(pg_database: str) -> None:
    """D62: without a lane the insert fails (measured); with it the row lands there and is read through the table."""
    database = months(pg_database, 1, 2)
    january = away(database).partition
    with pytest.raises(errors.CheckViolation):
        execute(pg_database, LATE)
    lane = opened(database, "u1", january)
    assert lane is not None
    assert lane.name == "logs_2024_01_late"
    assert opened(database, "u1", january) == lane
    execute(pg_database, LATE)
    assert rows(pg_database, "SELECT tableoid::regclass::text, line FROM logs WHERE id = 1000") == [
        ("logs_2024_01_late", "late")
    ]
    with pytest.raises(errors.UniqueViolation):  # it is a partition like any other
        execute(pg_database, LATE)


def test_opening_a_lane_holds_nobody_up(pg_database: str) -> None:
    """D62: readers and writers of the table are in the middle of their work; no lock that they mind is asked for."""
    database = months(pg_database, 1, 2)
    january = away(database).partition
    busy = "INSERT INTO logs VALUES (1001, '2024-02-05 00:00+00')"
    with session(pg_database, "SELECT count(*) FROM logs", busy) as idle:
        assert opened(database, "u1", january) is not None
        idle.connection.commit()


def test_with_a_default_partition_no_lane_is_needed(pg_database: str) -> None:
    database = months(pg_database, 1)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT")
    january = away(database).partition
    assert opened(database, "u1", january) is None
    execute(pg_database, LATE)
    assert one(pg_database, "SELECT count(*) FROM rest") == 1


def test_a_lane_over_another_partition_is_refused(pg_database: str) -> None:
    database = months(pg_database, 1)
    with pytest.raises(Refused, match=r"public\.logs_2024_01"):
        opened(database, "u1", part(database))


def test_names_of_63_bytes_stay_whole_and_apart(pg_database: str) -> None:
    name = "ż" * 25 + "_fifty_five_b"  # 63 bytes
    execute(
        pg_database,
        f'CREATE TABLE "{name}" (id int, at timestamptz) PARTITION BY RANGE (at)',
        f"CREATE TABLE m PARTITION OF \"{name}\" FOR VALUES FROM ('2024-02-01+00') TO ('2024-03-01+00')",
    )
    database = open_archive_database(pg_database)
    february = part(database, "m", f'public."{name}"')
    for unit in ("u1", "u2"):
        with database.transaction() as connection:
            table = read(database, f'public."{name}"')
            assert find_late_lane(connection, table, unit) is None
    execute(pg_database, "DROP TABLE m")
    assert february.lower is not None
    assert february.upper is not None
    lane = open_late_lane(database, f'public."{name}"', february.lower, february.upper, "u1")
    assert lane is not None
    assert lane.name == "ż" * 25 + "_" + "_late" or lane.name.endswith("_late")
    assert len(lane.name.encode()) <= 63


def _as(url: str, role: str, password: str) -> str:
    start, _, rest = url.partition("://")
    return f"{start}://{role}:{password}@{rest.partition('@')[2]}"
