"""What every source database promises, on PostgreSQL and SQLite, their own readers and the generic one, and on D1."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.core.schemas import UTC_US
from maintenance_defs.databases import open_database
from maintenance_defs.databases.base import Snapshot, SourceDatabase
from maintenance_defs.databases.generic import GenericDatabase
from tests.support.d1 import d1_server
from tests.support.postgres import connect


@dataclass
class Backend:
    kind: str  # "postgres" or "sqlite"
    generic: bool
    database: SourceDatabase
    session: Callable[[], Any]  # a connection of the application, which commits each statement by itself

    def execute(self, *statements: str) -> None:
        connection = self.session()
        try:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
        finally:
            connection.close()


@pytest.fixture(params=["postgres", "sqlite", "generic-postgres", "generic-sqlite", "d1"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    generic = request.param.startswith("generic-")
    if request.param.endswith("postgres"):
        url = request.getfixturevalue("pg_database")
        database = GenericDatabase(url) if generic else open_database(url)
        yield Backend("postgres", generic, database, lambda: connect(url))
        return
    path = tmp_path / "application.db"
    if request.param == "d1":
        with d1_server(path) as d1:
            yield Backend("sqlite", False, open_database(d1.url), lambda: sqlite3.connect(path, isolation_level=None))
        return
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")  # a writer can commit while the snapshot is held
    connection.close()
    url = f"sqlite:///{path}"
    database = GenericDatabase(url) if generic else open_database(url)
    yield Backend("sqlite", generic, database, lambda: sqlite3.connect(path, isolation_level=None))


def texts(snapshot: Snapshot, table: str, column: str, order: bool = False) -> list[str | None]:
    found = snapshot.table(table)
    assert found is not None
    quoted = snapshot.quote(column)
    value = snapshot.as_text(quoted, found.columns[column])
    where = ".".join(snapshot.quote(part) for part in (found.schema, found.name) if part)
    ordered = f" ORDER BY {snapshot.by_key_bytes(value)}" if order else ""
    batches = snapshot.read(f"SELECT {value} AS v FROM {where}{ordered}").read_all()
    assert batches.schema.field("v").type == pa.string()
    return list(batches["v"].to_pylist())


def test_row_that_moves_between_tables_while_both_are_read_is_seen(backend: Backend) -> None:
    backend.execute("CREATE TABLE a (k text)", "CREATE TABLE b (k text)", "INSERT INTO a VALUES ('moving')")
    with backend.database.snapshot() as snapshot:
        assert texts(snapshot, "b", "k") == []
        backend.execute("INSERT INTO b SELECT k FROM a", "DELETE FROM a")
        assert texts(snapshot, "a", "k") == ["moving"]
        assert [row["n"] for row in snapshot.rows("SELECT count(*) AS n FROM b")] == [0]
    with backend.database.snapshot() as snapshot:
        assert texts(snapshot, "b", "k") == ["moving"]


def test_moment_is_fixed_before_the_first_read(backend: Backend) -> None:
    backend.execute("CREATE TABLE a (k text)")
    with backend.database.snapshot() as snapshot:
        if backend.generic or backend.database.display_url.startswith("d1:"):
            snapshot.rows("SELECT k FROM a")  # there the moment is that of the first statement
        backend.execute("INSERT INTO a VALUES ('late')")
        assert texts(snapshot, "a", "k") == []


def test_values_arrive_as_they_are_stored(backend: Backend) -> None:
    backend.execute("CREATE TABLE t (k text)")
    values = [
        "",
        " a ",
        "a\n",
        "Zoë/日本/🙂.pdf",
        "e\u0301",
        "%41 100%",
        "a'b\"c\\d",
        '{"k": "v\\/w"}',
        "null",
        "\ufeffx",
    ]
    connection = backend.session()
    mark = "?" if backend.kind == "sqlite" else "%s"
    connection.cursor().executemany(f"INSERT INTO t VALUES ({mark})", [(v,) for v in [*values, None]])
    connection.close()
    with backend.database.snapshot() as snapshot:
        assert texts(snapshot, "t", "k") == [*values, None]


def test_keys_can_be_read_in_byte_order(backend: Backend) -> None:
    keys = ["b", "B", "a", "é", "z", "_", "日", "🙂", "a/b", "a b", "Z"]
    backend.execute("CREATE TABLE t (k text)", *(f"INSERT INTO t VALUES ('{key}')" for key in keys))
    with backend.database.snapshot() as snapshot:
        assert texts(snapshot, "t", "k", order=True) == sorted(keys, key=str.encode)


def test_odd_identifiers_are_found_and_quoted(backend: Backend) -> None:
    backend.execute(
        'CREATE TABLE "My ""odd"" Table" ("Key Of" text)', """INSERT INTO "My ""odd"" Table" VALUES ('x')"""
    )
    with backend.database.snapshot() as snapshot:
        assert texts(snapshot, '"My ""odd"" Table"', "Key Of") == ["x"]
        assert snapshot.table("my") is None


def test_instants_are_utc_and_bad_ones_are_null(backend: Backend) -> None:
    kind = "timestamp" if backend.kind == "postgres" else "DATETIME"
    backend.execute(
        f"CREATE TABLE t (n integer, at {kind})",
        "INSERT INTO t VALUES (1, '2024-01-15 03:04:05'), (2, '2024-01-15 03:04:05.125'), (3, NULL)",
    )
    with backend.database.snapshot() as snapshot:
        table = snapshot.table("t")
        assert table is not None
        at = snapshot.as_instant(snapshot.quote("at"), table.columns["at"])
        read = snapshot.read(f"SELECT n, {at} AS at FROM t ORDER BY n").read_all()
        assert read.schema.types == [pa.int64(), UTC_US]
        second = datetime(2024, 1, 15, 3, 4, 5, tzinfo=UTC)
        assert read["at"].to_pylist() == [second, second.replace(microsecond=125_000), None]
        empty = snapshot.read(f"SELECT {at} AS at FROM t WHERE n > 2").read_all()
        assert empty.schema.types == [UTC_US]
        later = datetime(2024, 1, 15, 3, 4, 5, 60_000, tzinfo=UTC)
        if not (backend.generic and backend.kind == "sqlite"):  # its driver's own text form of times
            assert snapshot.rows(f"SELECT n FROM t WHERE {at} > :later", {"later": later}) == [{"n": 2}]


def test_large_table_streams_in_bounded_batches(backend: Backend) -> None:
    series = {
        "postgres": "SELECT 'reports/' || g FROM generate_series(1, 300000) g",
        "sqlite": "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 300000)"
        " SELECT 'reports/' || n FROM g",
    }[backend.kind]
    backend.execute("CREATE TABLE t (k text)", f"INSERT INTO t {series}")
    with backend.database.snapshot() as snapshot:
        before = pa.total_allocated_bytes()
        rows, peak = 0, 0
        for batch in snapshot.read("SELECT k FROM t"):
            rows += batch.num_rows
            peak = max(peak, pa.total_allocated_bytes() - before)
        assert rows == 300_000
        assert peak < 64 * 2**20


def test_streams_may_overlap_with_small_reads(backend: Backend) -> None:
    backend.execute("CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a'), ('b')")
    with backend.database.snapshot() as snapshot:
        first = snapshot.read("SELECT k FROM t ORDER BY k")
        assert snapshot.rows("SELECT count(*) AS n FROM t") == [{"n": 2}]
        second = snapshot.read("SELECT k FROM t ORDER BY k DESC")
        assert second.read_all()["k"].to_pylist() == ["b", "a"]
        assert first.read_all()["k"].to_pylist() == ["a", "b"]


def test_abandoned_stream_does_not_keep_the_snapshot_open(backend: Backend) -> None:
    backend.execute("CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a'), ('b')")
    with backend.database.snapshot() as snapshot:
        snapshot.read("SELECT k FROM t")
    backend.execute("DROP TABLE t")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES ('x')",
        "DELETE FROM t",
        "SELECT 1; DELETE FROM t",
        "/* SELECT */ DELETE FROM t",
        "COMMIT",
        "DROP TABLE t",
        "WITH gone AS (DELETE FROM t RETURNING k) SELECT * FROM gone",
        "WITH x AS (SELECT 1) DELETE FROM t",
    ],
)
def test_no_statement_writes_through_a_snapshot(backend: Backend, statement: str) -> None:
    backend.execute("CREATE TABLE t (k text)", "INSERT INTO t VALUES ('kept')")
    with backend.database.snapshot() as snapshot:
        with pytest.raises(SourceUnavailable):
            snapshot.rows(statement)
        with pytest.raises(SourceUnavailable):
            snapshot.read(statement).read_all()
        if not (backend.generic and backend.kind == "postgres"):  # there the failed stream ends the transaction
            assert snapshot.rows("SELECT k FROM t") == [{"k": "kept"}]
    with backend.database.snapshot() as snapshot:
        assert snapshot.rows("SELECT k FROM t") == [{"k": "kept"}]


def test_missing_table_or_column_is_unavailable_and_the_snapshot_goes_on(backend: Backend) -> None:
    backend.execute("CREATE TABLE t (k text)")
    with backend.database.snapshot() as snapshot:
        assert snapshot.table("nope") is None
        assert snapshot.table("nope.t") is None
        for sql in ("SELECT k FROM nope", "SELECT gone FROM t"):
            with pytest.raises(SourceUnavailable, match=r"nope|gone") as caught:
                snapshot.rows(sql)
            assert not caught.value.transient
            if not (backend.generic and backend.kind == "postgres"):
                with pytest.raises(SourceUnavailable, match=r"nope|gone"):
                    snapshot.read(sql).read_all()
        assert snapshot.rows("SELECT count(*) AS n FROM t") == [{"n": 0}]


def test_tables_are_listed_with_columns_and_views_are_sources_too(backend: Backend) -> None:
    backend.execute("CREATE TABLE t (id integer, k text)", "CREATE VIEW v AS SELECT k FROM t")
    with backend.database.snapshot() as snapshot:
        assert [(table.name, list(table.columns)) for table in snapshot.tables()] == [("t", ["id", "k"])]
        view = snapshot.table("v")
        assert view is not None
        assert list(view.columns) == ["k"]


def test_parameters_are_bound_and_markers_in_literals_stay(backend: Backend) -> None:
    backend.execute("CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a?b:c%d'), ('x'' OR 1=1 --')")
    evil = "x' OR 1=1 --"
    with backend.database.snapshot() as snapshot:
        assert snapshot.rows("SELECT k FROM t WHERE k = :k -- :not ? %s", {"k": evil}) == [{"k": evil}]
        assert snapshot.rows("SELECT k FROM t WHERE k LIKE '%c%d'", {"as_of": evil}) == [{"k": "a?b:c%d"}]
        literal = "SELECT k AS \"a?:b%\" FROM t WHERE k = 'a?b:c%d' AND k <> {}"
        assert snapshot.rows(literal.format(":k"), {"k": evil}) == [{"a?:b%": "a?b:c%d"}]
        assert snapshot.read(literal.format("?"), [evil]).read_all().to_pylist() == [{"a?:b%": "a?b:c%d"}]
        assert snapshot.rows("SELECT k FROM t WHERE k LIKE '%d'") == [{"k": "a?b:c%d"}]
        with pytest.raises(SourceUnavailable, match="marker"):
            snapshot.rows("SELECT k FROM t WHERE k = :k AND k = :other", {"k": "x"})
        with pytest.raises(SourceUnavailable, match="parameters"):
            snapshot.read("SELECT k FROM t WHERE k = ?", ["x", "y"])


def test_small_result_is_limited(backend: Backend) -> None:
    backend.execute("CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a'), ('b'), ('c')")
    with backend.database.snapshot() as snapshot:
        assert len(snapshot.rows("SELECT k FROM t", limit=2)) == 2


def test_evidence_names_the_database_and_its_moment(backend: Backend) -> None:
    before = datetime.now(UTC)
    with backend.database.snapshot() as snapshot:
        evidence = snapshot.evidence
    assert before <= evidence.taken_at <= datetime.now(UTC)
    assert evidence.identity
    assert evidence.version
    with backend.database.snapshot() as again:
        assert again.evidence.identity == evidence.identity


def test_reader_may_be_consumed_by_another_thread(backend: Backend) -> None:
    backend.execute("CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a')")
    seen: list[Any] = []
    with backend.database.snapshot() as snapshot:
        stream = snapshot.read("SELECT k FROM t")
        thread = threading.Thread(target=lambda: seen.extend(stream.read_all()["k"].to_pylist()))
        thread.start()
        thread.join()
    assert seen == ["a"]


@pytest.mark.parametrize("make", [open_database, GenericDatabase], ids=["own", "generic"])
def test_unreachable_server_is_unavailable_transient_and_keeps_the_password(make: Any) -> None:
    url = "postgresql+psycopg2://someone:very%40secret@127.0.0.1:1/db?application_name=x"
    database = make(url)
    with pytest.raises(SourceUnavailable) as caught, database.snapshot():
        pass
    assert caught.value.transient
    said = "".join([str(caught.value), repr(caught.value), repr(database), database.display_url])
    assert "secret" not in said
    assert "someone" not in said


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql://u:p@ss/w@h:x/y", "sqlite://", "nosuch://u:pw@h/d"])
def test_url_that_cannot_be_meant_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SourceUnavailable) as caught, open_database(url).snapshot():
        pass
    assert "p@ss" not in str(caught.value)
    assert "pw" not in str(caught.value)
    assert "ss/w" not in str(caught.value)


def test_missing_sqlite_file_is_unavailable_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "gone.db"
    with pytest.raises(SourceUnavailable, match="does not exist"), open_database(f"sqlite:///{path}").snapshot():
        pass
    assert not path.exists()


def test_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("no database " * 1000)
    with pytest.raises(SourceUnavailable), open_database(f"sqlite:///{path}").snapshot():
        pass


def test_bare_postgresql_scheme_uses_the_one_driver_we_ship(pg_database: str) -> None:
    with open_database(pg_database.replace("+psycopg2", "")).snapshot() as snapshot:
        assert snapshot.rows("SELECT 1 AS one") == [{"one": 1}]
