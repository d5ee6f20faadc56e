"""What the catalogs say, and what stands in the way of archiving."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import make_url

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import open_archive_database
from maintenance_defs.databases.partitions import (
    PartitionedTable,
    PlainTable,
    detach,
    preflight,
    read_table,
)
from maintenance_defs.databases.partitions.preflight import pooled
from tests.support.months import CREATE, TABLE, months, part, read
from tests.support.postgres import execute

PARTMAN = """
CREATE TABLE partman.part_config (parent_table text PRIMARY KEY, control text NOT NULL,
  partition_interval text NOT NULL, premake int NOT NULL DEFAULT 4, retention text, retention_schema text,
  retention_keep_table boolean DEFAULT true)
"""


def codes(url: str, name: str = "logs_2024_01", *, role: str | None = None) -> dict[str, str]:
    """Obstacles by code; read as a role when one is given."""
    database = open_archive_database(url)
    with database.transaction() as connection:
        table = read_table(connection, TABLE)
        assert isinstance(table, PartitionedTable)
        partition = next(one for one in table.partitions if one.name == name)
        if role is not None:
            connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        return {one.code: one.message for one in preflight(connection, table, partition)}


def test_bounds_come_from_the_catalog_in_utc_never_from_the_name(pg_database: str) -> None:
    """E71: made in New York and named like March, it begins at five in the morning and ends at four."""
    execute(
        pg_database,
        CREATE,
        "SET TimeZone = 'America/New_York'",
        "CREATE TABLE logs_2024_03 PARTITION OF logs FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')",
    )
    execute(pg_database, "ALTER DATABASE " + make_url(pg_database).database + " SET TimeZone = 'America/New_York'")
    march = part(open_archive_database(pg_database), "logs_2024_03")
    assert march.lower == datetime(2024, 3, 1, 5, tzinfo=UTC)
    assert march.upper == datetime(2024, 4, 1, 4, tzinfo=UTC)
    assert march.lower.utcoffset() == march.upper.utcoffset() == datetime.now(UTC).utcoffset()


def test_a_session_in_another_time_zone_is_refused(pg_database: str) -> None:
    execute(pg_database, CREATE, f"ALTER DATABASE {make_url(pg_database).database} SET TimeZone = 'Europe/Warsaw'")
    database = open_archive_database(pg_database)
    with database.autocommit() as connection, pytest.raises(Refused, match="time zone is Europe/Warsaw"):
        read_table(connection, TABLE)


def test_open_and_odd_bounds_are_told_apart(pg_database: str) -> None:
    """E75: what is open above is never old enough."""
    execute(
        pg_database,
        CREATE,
        "CREATE TABLE legacy PARTITION OF logs FOR VALUES FROM (MINVALUE) TO ('2024-01-01 00:00:00.5+00')",
        "CREATE TABLE far PARTITION OF logs FOR VALUES FROM ('2024-02-01+00') TO ('infinity')",
        "CREATE TABLE rest PARTITION OF logs DEFAULT",
    )
    table = read(open_archive_database(pg_database))
    legacy, far, rest = table.partitions
    assert (legacy.lower, legacy.upper) == (None, datetime(2024, 1, 1, 0, 0, 0, 500000, tzinfo=UTC))
    assert (far.lower, far.upper, far.is_default) == (datetime(2024, 2, 1, tzinfo=UTC), None, False)
    assert (rest.lower, rest.upper, rest.is_default) == (None, None, True)
    assert table.default == rest
    assert "unbounded" in codes(pg_database, "far")
    assert "unbounded" in codes(pg_database, "rest")
    assert "unbounded" not in codes(pg_database, "legacy")


@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_times_without_a_zone_are_read_as_utc(pg_database: str, kind: str) -> None:
    execute(
        pg_database,
        f"CREATE TABLE logs (at {kind} NOT NULL) PARTITION BY RANGE (at)",
        "CREATE TABLE m PARTITION OF logs FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')",
    )
    found = part(open_archive_database(pg_database), "m")
    assert (found.lower, found.upper) == (datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("PARTITION BY LIST (job)", "not_range"),
        ("PARTITION BY HASH (id)", "not_range"),
        ("PARTITION BY RANGE (at, id)", "not_range"),
        ("PARTITION BY RANGE (date_trunc('day', at AT TIME ZONE 'UTC'))", "not_range"),
        ("PARTITION BY RANGE (id)", "key_type"),
    ],
)
def test_what_is_no_range_of_time_is_refused_by_name(pg_database: str, definition: str, reason: str) -> None:
    execute(pg_database, f"CREATE TABLE logs (id int, at timestamptz, job text) {definition}")
    with pytest.raises(Refused, match=r"public\.logs") as refused:
        read(open_archive_database(pg_database))
    assert refused.value.reason == reason


def test_a_plain_table_and_names_with_signs_in_them_are_read(pg_database: str) -> None:
    execute(pg_database, 'CREATE SCHEMA "a ""b"', 'CREATE TABLE "a ""b"."50% off, so:x" (id int)')
    with open_archive_database(pg_database).transaction() as connection:
        found = read_table(connection, '"a ""b"."50% off, so:x"')
    assert isinstance(found, PlainTable)
    assert not isinstance(found, PartitionedTable)
    assert found.name == "50% off, so:x"


def test_a_sound_month_has_no_obstacle(pg_database: str) -> None:
    months(pg_database, 1, 2)
    assert codes(pg_database) == {}


def test_a_default_partition_is_no_obstacle(pg_database: str) -> None:
    """D54: months leave by a plain DETACH, which it does not hinder."""
    months(pg_database, 1)
    execute(pg_database, "CREATE TABLE rest PARTITION OF logs DEFAULT")
    assert codes(pg_database) == {}


@pytest.mark.parametrize("action", ["NO ACTION", "CASCADE"])
def test_referring_rows_are_named_and_counted(pg_database: str, action: str) -> None:
    """D56: also where the rows would go along, they are no reason to let the month go; another month may."""
    database = months(pg_database, 1, 2)
    execute(
        pg_database,
        "CREATE TABLE notes (log_id bigint, log_at timestamptz, CONSTRAINT notes_log FOREIGN KEY (log_id, log_at) "
        f"REFERENCES logs (id, at) ON DELETE {action})",
        "INSERT INTO notes SELECT id, at FROM logs_2024_01 WHERE id < 3",
    )
    message = codes(pg_database)["referenced"]
    assert "3 rows refer to public.logs_2024_01 through notes_log of public.notes" in message
    assert action.lower() in message
    assert "referenced" not in codes(pg_database, "logs_2024_02")
    with pytest.raises(Refused) as refused:
        detach(database, TABLE, part(database), lane_of="u1")
    assert refused.value.reason == "referenced"
    assert read(database).pending is None
    assert len(read(database).partitions) == 2


def test_rows_hidden_by_row_security_are_an_obstacle(pg_database: str) -> None:
    """A10: the owner itself saw one row of three, and could drop all three."""
    months(pg_database, 1)
    execute(
        pg_database,
        "CREATE ROLE keeper_rls",
        "ALTER TABLE logs OWNER TO keeper_rls",
        "ALTER TABLE logs_2024_01 OWNER TO keeper_rls",
        "ALTER TABLE logs_2024_01 ENABLE ROW LEVEL SECURITY",
    )
    try:
        assert codes(pg_database, role="keeper_rls") == {}  # an owner is not subject to it …
        execute(pg_database, "ALTER TABLE logs_2024_01 FORCE ROW LEVEL SECURITY")
        assert "public.logs_2024_01, which is forced" in codes(pg_database, role="keeper_rls")["row_security"]
        assert codes(pg_database) == {}  # … nor is a superuser, forced or not
    finally:
        execute(pg_database, "REASSIGN OWNED BY keeper_rls TO postgres", "DROP ROLE keeper_rls")


def test_a_role_that_does_not_own_the_table_is_told_what_to_run(pg_database: str) -> None:
    months(pg_database, 1)
    execute(pg_database, "CREATE ROLE stranger", "GRANT SELECT ON logs, logs_2024_01 TO stranger")
    try:
        assert 'GRANT "postgres" TO "stranger";' in codes(pg_database, role="stranger")["not_owner"]
    finally:
        execute(pg_database, "DROP OWNED BY stranger", "DROP ROLE stranger")


def test_pg_partman_that_drops_by_itself_is_an_obstacle(pg_database: str) -> None:
    """D64: the configuration's shape is the one of versions 4 and 5; without a retention it drops nothing."""
    months(pg_database, 1)
    execute(
        pg_database,
        "CREATE SCHEMA partman",
        PARTMAN,
        "INSERT INTO partman.part_config VALUES ('public.logs', 'at', '1 mon')",
    )
    assert read(open_archive_database(pg_database)).partman is not None
    assert codes(pg_database) == {}
    execute(pg_database, "UPDATE partman.part_config SET retention = '3 months'")
    assert "3 months (partman.part_config)" in codes(pg_database)["partman"]


def test_all_obstacles_are_named_at_once(pg_database: str) -> None:
    months(pg_database, 1)
    execute(
        pg_database,
        "CREATE TABLE open PARTITION OF logs FOR VALUES FROM ('2024-06-01') TO (MAXVALUE)",
        "INSERT INTO logs VALUES (1000, '2024-07-01')",
        "CREATE TABLE notes (i bigint, a timestamptz, FOREIGN KEY (i, a) REFERENCES logs (id, at))",
        "INSERT INTO notes SELECT id, at FROM open",
    )
    assert set(codes(pg_database, "open")) == {"unbounded", "referenced"}


def test_a_table_that_is_itself_a_partition_is_left_alone(pg_database: str) -> None:
    """D56, V10: its own table would still show the month, or not, whatever we say."""
    months(pg_database, 1)
    execute(
        pg_database,
        "CREATE TABLE everything (LIKE logs) PARTITION BY RANGE (at)",
        "ALTER TABLE everything ATTACH PARTITION logs FOR VALUES FROM ('2000-01-01') TO ('2100-01-01')",
    )
    assert set(codes(pg_database)) == {"is_partition"}


def test_rows_of_another_server_are_not_ours_to_remove(pg_database: str) -> None:
    """V10: a month that is a foreign table, or has one below it."""
    months(pg_database, 1)
    execute(
        pg_database,
        "ALTER TABLE logs DROP CONSTRAINT logs_pkey",
        "CREATE FOREIGN DATA WRAPPER nowhere",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere",
        "CREATE FOREIGN TABLE far PARTITION OF logs FOR VALUES FROM ('2024-02-01') TO ('2024-03-01') SERVER elsewhere",
        "CREATE TABLE deep PARTITION OF logs FOR VALUES FROM ('2024-03-01') TO ('2024-04-01') PARTITION BY LIST (job)",
        "CREATE FOREIGN TABLE deeper PARTITION OF deep DEFAULT SERVER elsewhere",
    )
    assert codes(pg_database) == {}
    assert set(codes(pg_database, "far")) == set(codes(pg_database, "deep")) == {"foreign_tables"}


def test_a_transaction_pooler_is_seen(pg_database: str) -> None:
    """D59: two clients whose server sessions change places after every transaction."""
    direct = months(pg_database, 1)
    with direct.transaction() as connection:
        assert not pooled(connection)
    with transaction_pooler(pg_database) as url:
        database = open_archive_database(url)
        with database.autocommit("one") as first, database.autocommit("two") as second:
            seen = []
            for _ in range(4):
                seen += [first.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()]
                second.exec_driver_sql("SELECT 1").scalar_one()  # twice: an even number of swaps changes nothing
                second.exec_driver_sql("SELECT 1").scalar_one()
            assert len(set(seen)) > 1, "the pooler of this test does not pool"
            assert pooled(first) or pooled(second)
            # … and stands in the way, whichever of the sessions answers the question.
            table, partition = read(direct), part(direct, "logs_2024_01")
            asked = [one.code for session in (first, second) for one in preflight(session, table, partition)]
            assert "pooler" in asked


@contextmanager
def transaction_pooler(url: str) -> Iterator[str]:
    """Hands two clients' transactions to two server sessions in turn; the URL of its door.

    Both clients sign in straight through; from then on each answer's end swaps the sessions.
    """
    server = make_url(url)
    door = socket.create_server(("127.0.0.1", 0))
    lock = threading.Lock()
    sessions: list[socket.socket] = []
    order = [0, 1]

    def ready(session: socket.socket) -> bytes:
        """Messages up to and including ReadyForQuery."""
        data = b""
        while True:
            head = _exactly(session, 5)
            body = _exactly(session, int.from_bytes(head[1:], "big") - 4)
            data += head + body
            if head[:1] == b"Z" or (head[:1] == b"R" and int.from_bytes(body[:4], "big") in (10, 11, 3, 5)):
                return data

    def serve(client: socket.socket, number: int, session: socket.socket) -> None:
        signed_in = False
        try:
            while data := client.recv(65536):
                if data[:1] == b"X" and signed_in:
                    return
                with lock:
                    chosen = sessions[order[number]] if signed_in and len(sessions) == 2 else session
                    chosen.sendall(data)
                    answer = ready(chosen)
                    if signed_in and answer[-1:] == b"I":  # between two transactions
                        order.reverse()
                    signed_in = signed_in or answer[-6:-5] == b"Z"
                client.sendall(answer)
        except OSError:
            return  # the test is over
        finally:
            client.close()

    def accept() -> None:
        for number in (0, 1):
            try:
                client, _ = door.accept()
            except OSError:
                return
            session = socket.create_connection((server.host or "", server.port or 0))
            sessions.append(session)
            threading.Thread(target=serve, args=(client, number, session), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        plain = server.update_query_dict({"sslmode": "disable", "gssencmode": "disable"})
        yield plain.set(host="127.0.0.1", port=door.getsockname()[1]).render_as_string(hide_password=False)
    finally:
        door.close()
        for session in sessions:
            session.close()


def _exactly(session: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = session.recv(count - len(data))
        if not more:
            raise OSError("the server hung up")
        data += more
    return data
