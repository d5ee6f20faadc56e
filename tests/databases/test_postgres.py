"""What only PostgreSQL can get wrong: hidden rows, hidden sessions, search paths, odd types."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from sqlalchemy import make_url

from maintenance_defs.core.errors import RowSecurity, SourceUnavailable
from maintenance_defs.core.schemas import UTC_US
from maintenance_defs.databases import open_database
from tests.support.postgres import connect, execute


def test_row_security_is_refused_by_name_instead_of_hiding_rows(pg_database: str, reader_url: str) -> None:
    execute(
        pg_database,
        "CREATE TABLE assets (id int, owner text, k text)",
        "INSERT INTO assets VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'z')",
        "ALTER TABLE assets ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON assets USING (owner = 'a')",
    )
    with open_database(reader_url).snapshot() as snapshot:
        for read in (snapshot.read, snapshot.rows):
            with pytest.raises(RowSecurity, match="assets") as caught:
                read("SELECT k FROM public.assets")
            assert caught.value.reason == "rls_filtered"
            assert not caught.value.transient
    with open_database(pg_database).snapshot() as snapshot:
        assert snapshot.read("SELECT k FROM assets").read_all().num_rows == 3


def test_name_that_fits_two_schemas_is_refused_with_both(pg_database: str) -> None:
    execute(
        pg_database,
        "CREATE SCHEMA old",
        "CREATE TABLE public.assets (k text)",
        "CREATE TABLE old.assets (k text)",
        "CREATE TABLE old.only (k text)",
    )
    with open_database(pg_database).snapshot() as snapshot:
        with pytest.raises(SourceUnavailable, match=r"old\.assets and public\.assets"):
            snapshot.table("assets")
        assert str(snapshot.table("old.assets")) == "old.assets"
        assert str(snapshot.table("only")) == "old.only"  # also where the search path does not lead


def test_oldest_open_transaction_is_evidence(pg_database: str) -> None:
    writer = connect(pg_database)
    writer.autocommit = False
    with writer.cursor() as cursor:
        cursor.execute("CREATE TABLE t (k text)")
        cursor.execute("SELECT now()")
        began = cursor.fetchone()[0]
        with open_database(pg_database).snapshot() as snapshot:
            assert snapshot.evidence.oldest_transaction_at == began
            assert snapshot.evidence.oldest_transaction_known
            assert snapshot.evidence.taken_at > began
    writer.rollback()
    with open_database(pg_database).snapshot() as snapshot:
        assert snapshot.evidence.oldest_transaction_at is None
        assert snapshot.evidence.oldest_transaction_known
    writer.close()


def test_sessions_that_the_role_may_not_see_make_the_oldest_unknown(pg_database: str, reader_url: str) -> None:
    database = open_database(reader_url)
    with database.snapshot() as snapshot:
        assert snapshot.evidence.oldest_transaction_known  # nobody else is there
    writer = connect(pg_database)
    writer.autocommit = False
    writer.cursor().execute("CREATE TABLE t (k text)")
    with database.snapshot() as snapshot:
        assert not snapshot.evidence.oldest_transaction_known
    execute(pg_database, f"GRANT pg_read_all_stats TO {make_url(reader_url).username}")
    with database.snapshot() as snapshot:
        assert snapshot.evidence.oldest_transaction_known
        assert snapshot.evidence.oldest_transaction_at is not None
    writer.close()


def test_session_that_hides_its_activity_makes_the_oldest_unknown(pg_database: str) -> None:
    writer = connect(pg_database)
    writer.cursor().execute("SET track_activities = off")
    writer.cursor().execute("BEGIN; CREATE TABLE t (k text)")
    with open_database(pg_database).snapshot() as snapshot:
        assert not snapshot.evidence.oldest_transaction_known
    writer.close()


def test_prepared_transaction_makes_the_oldest_unknown(pg_database: str) -> None:
    name = make_url(pg_database).database
    execute(pg_database, "BEGIN; CREATE TABLE t (k text); PREPARE TRANSACTION " + f"'{name}'")
    try:
        with open_database(pg_database).snapshot() as snapshot:
            assert not snapshot.evidence.oldest_transaction_known
            assert snapshot.evidence.oldest_transaction_at is not None
    finally:
        execute(pg_database, f"ROLLBACK PREPARED '{name}'")


def test_transaction_that_commits_while_the_snapshot_begins_is_evidence(
    pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is invisible in the snapshot and gone afterwards: only a look beforehand can see it."""
    execute(pg_database, "CREATE TABLE t (k text)")
    writer = connect(pg_database)
    writer.autocommit = False
    with writer.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES ('late') RETURNING now()")
        began = cursor.fetchone()[0]
    from maintenance_defs.databases import postgres

    evidence = postgres.PostgresDatabase._evidence

    def commit_first(self: object, connection: object, seen: object) -> object:
        writer.commit()
        return evidence(self, connection, seen)  # type: ignore[arg-type]

    monkeypatch.setattr(postgres.PostgresDatabase, "_evidence", commit_first)
    with open_database(pg_database).snapshot() as snapshot:
        assert snapshot.rows("SELECT k FROM t") == []
        assert snapshot.evidence.oldest_transaction_at == began
    writer.close()


def test_identity_tells_databases_apart_and_survives_a_role(pg_database: str, reader_url: str) -> None:
    with open_database(pg_database).snapshot() as ours, open_database(reader_url).snapshot() as theirs:
        assert ours.evidence.identity == theirs.evidence.identity
    postgres = make_url(pg_database).set(database="postgres").render_as_string(hide_password=False)
    with open_database(postgres).snapshot() as other:
        assert other.evidence.identity != ours.evidence.identity


def test_settings_end_with_the_transaction(pg_database: str) -> None:
    """Behind a pooler the application gets the session next."""
    with open_database(pg_database).snapshot() as snapshot:
        assert snapshot.rows("SELECT current_setting('row_security') AS v") == [{"v": "off"}]
        session = snapshot._connection.connection  # type: ignore[attr-defined]
        session.rollback()
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('row_security'), current_setting('lock_timeout'),"
                " current_setting('default_transaction_read_only')"
            )
            left = cursor.fetchone()
    assert tuple(left) == ("on", "0", "off")


def test_every_type_reads_as_exact_text(pg_database: str) -> None:
    execute(
        pg_database,
        "CREATE TYPE kind AS ENUM ('pdf', 'html')",
        "CREATE DOMAIN padded AS char(4)",
        "CREATE DOMAIN twice AS padded",
        """CREATE TABLE t (u uuid, j jsonb, js json, a text[], deep text[][], ia int[], c char(4), d padded, d2 twice,
           v varchar(9), n numeric, b bytea, e kind, i int8, o oid, ok bool)""",
        r"""INSERT INTO t VALUES ('00000000-0000-0000-0000-000000000001', '{"k": "a\"b"}', '{"k":  1}',
           ARRAY['x,y', 'q"', NULL, '{}'], ARRAY[['1','2'],['3','4']], '{1,2}', 'ab', 'cd', 'ef', 'v ', 1.50, '\x00ff',
           'pdf', 9007199254740993, 4000000000, true)""",
        "INSERT INTO t (u) VALUES (NULL)",
    )
    with open_database(pg_database).snapshot() as snapshot:
        table = snapshot.table("t")
        assert table is not None
        selected = ", ".join(f"{snapshot.as_text(name, kind)} AS {name}" for name, kind in table.columns.items())
        read = snapshot.read(f"SELECT {selected} FROM t ORDER BY u").read_all()
    assert set(read.schema.types) == {pa.string()}
    row, nulls = read.to_pylist()
    assert set(nulls.values()) == {None}
    assert json.loads(row.pop("a")) == ["x,y", 'q"', None, "{}"]
    assert json.loads(row.pop("deep")) == [["1", "2"], ["3", "4"]]
    assert json.loads(row.pop("j")) == {"k": 'a"b'}
    assert row == {
        "u": "00000000-0000-0000-0000-000000000001",
        "js": '{"k":  1}',
        "ia": "[1,2]",
        "c": "ab  ",
        "d": "cd  ",
        "d2": "ef  ",
        "v": "v ",
        "n": "1.50",
        "b": "\\x00ff",
        "e": "pdf",
        "i": "9007199254740993",
        "o": "4000000000",
        "ok": "true",
    }


@pytest.mark.parametrize(
    "expression", ["1.5::numeric", "'{}'::jsonb", "'1.2.3.4'::inet", "ARRAY[[1,2],[3,4]]", "now()::timestamp"]
)
def test_type_that_the_driver_does_not_carry_exactly_is_refused(pg_database: str, expression: str) -> None:
    with open_database(pg_database).snapshot() as snapshot, pytest.raises(SourceUnavailable, match="'v'"):
        snapshot.read(f"SELECT {expression} AS v").read_all()


def test_instants_of_every_type_are_utc_and_impossible_ones_null(pg_database: str) -> None:
    execute(
        pg_database,
        "CREATE TABLE t (n int, tz timestamptz(3), naive timestamp(0), d date, s int8)",
        "INSERT INTO t VALUES (1, '2024-01-15 05:00:00.5+02', '2024-01-15 03:00:00', '2024-01-15', 1705287600)",
        "INSERT INTO t VALUES (2, 'infinity', '-infinity', 'infinity', 1705287600000)",
        "INSERT INTO t VALUES (3, '0044-03-15 00:00 BC', '20000-01-01', '0044-03-15 BC', NULL)",
    )
    with open_database(pg_database).snapshot() as snapshot:
        table = snapshot.table("t")
        assert table is not None
        kinds = {name: kind for name, kind in table.columns.items() if name != "n"}
        selected = ", ".join(f"{snapshot.as_instant(name, kind)} AS {name}" for name, kind in kinds.items())
        read = snapshot.read(f"SELECT {selected} FROM t ORDER BY n").read_all()
        with pytest.raises(SourceUnavailable, match="no time"):
            snapshot.as_instant("k", "text")
    assert set(read.schema.types) == {UTC_US}
    at = datetime(2024, 1, 15, 3, tzinfo=UTC)
    first, second, third = read.to_pylist()
    assert first == {"tz": at.replace(microsecond=500_000), "naive": at, "d": at.replace(hour=0), "s": at}
    assert second == {"tz": None, "naive": None, "d": None, "s": at.replace(hour=3)}
    assert third == {"tz": None, "naive": None, "d": None, "s": None}


def test_partitions_are_read_through_their_parent(pg_database: str) -> None:
    execute(
        pg_database,
        "CREATE TABLE log (at date, k text) PARTITION BY RANGE (at)",
        "CREATE TABLE log_2024 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE gone (a text, b text)",
        "ALTER TABLE gone DROP COLUMN a",
    )
    with open_database(pg_database).snapshot() as snapshot:
        listed = {str(table): list(table.columns) for table in snapshot.tables()}
    assert listed == {"public.log": ["at", "k"], "public.gone": ["b"]}


def test_only_what_the_role_may_read_is_listed_but_the_rest_is_known(pg_database: str, reader_url: str) -> None:
    execute(
        pg_database,
        "CREATE TABLE open (k text)",
        "CREATE TABLE closed (k text)",
        "CREATE TABLE half (k text, secret text)",
        "CREATE SCHEMA own",
        "CREATE TABLE own.t (k text)",
        "REVOKE ALL ON closed, half FROM PUBLIC",
        f"REVOKE ALL ON closed, half FROM {make_url(reader_url).username}",
        f"GRANT SELECT (k) ON half TO {make_url(reader_url).username}",
    )
    with open_database(reader_url).snapshot() as snapshot:
        listed = {table.name: list(table.columns) for table in snapshot.tables()}
        assert listed == {"open": ["k"], "half": ["k"]}
        assert snapshot.table("public.closed") is not None
        with pytest.raises(SourceUnavailable, match="permission denied"):
            snapshot.rows("SELECT k FROM closed")


def test_stream_that_breaks_half_way_raises(pg_database: str) -> None:
    with open_database(pg_database).snapshot() as snapshot:
        rows = 0
        with pytest.raises(SourceUnavailable, match="division by zero") as caught:
            for batch in snapshot.read(
                "SELECT repeat('x', 90) || 1 / (g - 400000) AS v FROM generate_series(1, 500000) g"
            ):
                rows += batch.num_rows
        assert 0 < rows < 400_000
        assert not caught.value.transient


def test_server_that_ends_the_session_is_transient(pg_database: str) -> None:
    with open_database(pg_database).snapshot() as snapshot:
        stream = snapshot.read("SELECT g::int8 AS v FROM generate_series(1, 5000000) g")
        stream.read_next_batch()
        execute(
            pg_database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'maintenance bulk read'",
        )
        with pytest.raises(SourceUnavailable) as caught:
            stream.read_all()
        assert caught.value.transient


def test_function_that_writes_is_refused_by_the_server(pg_database: str) -> None:
    execute(
        pg_database,
        "CREATE TABLE t (k text)",
        "CREATE FUNCTION put() RETURNS text LANGUAGE sql AS $$ INSERT INTO t VALUES ('x') RETURNING k $$",
    )
    with open_database(pg_database).snapshot() as snapshot:
        with pytest.raises(SourceUnavailable, match="read-only transaction"):
            snapshot.rows("SELECT put() AS v")
        with pytest.raises(SourceUnavailable, match="read-only transaction"):
            snapshot.read("SELECT put() AS v").read_all()


def test_password_with_every_sign_reaches_both_drivers(pg_database: str, reader_url: str) -> None:
    password = "p@ s/%+'\\x:?#=&é"
    execute(
        pg_database, f"ALTER ROLE {make_url(reader_url).username} PASSWORD '{password.replace(chr(39), chr(39) * 2)}'"
    )
    url = make_url(reader_url).set(password=password).update_query_dict({"options": "-c search_path=pg_catalog"})
    with open_database(url.render_as_string(hide_password=False)).snapshot() as snapshot:
        assert snapshot.rows("SELECT current_setting('search_path') AS v") == [{"v": "pg_catalog"}]
        assert snapshot.read("SELECT current_setting('search_path') AS v").read_all().to_pylist() == [
            {"v": "pg_catalog"}
        ]


def test_sessions_leave_with_the_snapshot(pg_database: str) -> None:
    with open_database(pg_database).snapshot() as snapshot:
        kept = snapshot.read("SELECT g::int8 AS v FROM generate_series(1, 5000000) g")
        kept.read_next_batch()
    connection = connect(pg_database)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'maintenance%'")
        left = cursor.fetchone()[0]
        for _ in range(100):  # a backend needs a moment to see that its client has gone
            if not left:
                break
            cursor.execute("SELECT pg_sleep(0.05)")
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'maintenance%'")
            left = cursor.fetchone()[0]
    connection.close()
    assert left == 0


def test_asking_whether_there_is_a_row_keeps_no_lock_and_survives_a_wrong_question(pg_database: str) -> None:
    execute(pg_database, "CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a%')")
    with open_database(pg_database).snapshot() as snapshot:
        assert snapshot.any("SELECT 1 FROM public.t WHERE k LIKE 'a%'")
        assert not snapshot.any("SELECT 1 FROM public.t WHERE k = 'b'")
        with pytest.raises(SourceUnavailable, match="gone"):
            snapshot.any("SELECT 1 FROM public.t, public.gone")
        execute(pg_database, "SET lock_timeout = '2s'; DROP TABLE t")  # nobody holds it
        assert snapshot.rows("SELECT 1 AS one") == [{"one": 1}]


def test_a_table_is_found_among_others_whose_names_begin_alike(pg_database: str) -> None:
    long = "t" * 63  # as long as a name can be: PostgreSQL cuts a longer one to it
    execute(pg_database, f'CREATE TABLE "{long}" (k text)', 'CREATE TABLE "a%s" (k int)', 'CREATE TABLE "A" (k bool)')
    with open_database(pg_database).snapshot() as snapshot:
        assert snapshot.table(long).columns == {"k": "text"}
        assert snapshot.table(long + "t") is None
        assert snapshot.table('public."a%s"').columns == {"k": "integer"}
        assert snapshot.table("a") is None
