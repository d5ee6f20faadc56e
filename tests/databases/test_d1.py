"""What only D1 has: pages, a moment that must be proven, an HTTP in between, a token."""

import random
import sqlite3
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases import d1_http, open_database
from maintenance_defs.databases.base import Snapshot
from maintenance_defs.databases.d1 import D1Database
from tests.support.d1 import ACCOUNT, D1, DATABASE, TOKEN, d1_server


@pytest.fixture
def d1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[D1]:
    monkeypatch.setattr(d1_http.D1Client, "pause", lambda self, seconds: None)
    with d1_server(tmp_path / "live.db") as made:
        yield made


def execute(d1: D1, *statements: str) -> None:
    connection = sqlite3.connect(d1.file, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def keys(snapshot: Snapshot, table: str = "t") -> list[Any]:
    return [row["k"] for row in snapshot.rows(f'SELECT k FROM "{table}" ORDER BY k', limit=100_000)]


def numbered(count: int, table: str = "t") -> str:
    return (
        f"WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT {count}) "
        f"INSERT INTO {table} (k) SELECT 'k' || substr('0000' || n, -5) FROM g"
    )


EXACT = (
    "SELECT rowid AS r, i, x, b, typeof(i) AS ti, typeof(x) AS tx, typeof(any) AS ta, hex(x) AS hx, hex(any) AS ha, "
    "CASE typeof(any) WHEN 'real' THEN quote(any) END AS qa"
)


def test_every_value_comes_as_it_is_stored(d1: D1) -> None:
    execute(
        d1,
        "CREATE TABLE t (i INTEGER, x TEXT, b BLOB, any, twice INTEGER AS (i * 2) VIRTUAL)",
        "INSERT INTO t (rowid, i, x, b, any) VALUES (7, 9223372036854775807, char(0) || 'é', x'00ff', 0.1 + 0.2), "
        "(9, -9223372036854775808, CAST(x'ff61' AS TEXT), NULL, 1e308), (-3, 'no', '', x'', 9e999), "
        "(10, NULL, 'plain ~', x'0a', CAST(x'fe' AS TEXT)), (11, 5, 'tab\t', 1, -0.0), (12, 5, 'line\nfeed', 1, '1'), "
        "(13, 6, CAST(x'6100ff' AS TEXT), 1, 1)",
    )
    sql = f"{EXACT} FROM t WHERE rowid NOT IN (9, 13) ORDER BY rowid"
    connection = sqlite3.connect(d1.file)
    connection.row_factory = sqlite3.Row
    expected = [dict(row) for row in connection.execute(sql)]
    connection.close()
    for page_rows in (1, 2, 20_000):
        with D1Database(d1.url, page_rows=page_rows).snapshot() as snapshot:
            assert snapshot.rows(sql) == expected
            assert snapshot.rows("SELECT hex(x) AS h, typeof(x) AS t FROM t WHERE rowid IN (9, 13)") == [
                {"h": "FF61", "t": "text"},
                {"h": "6100FF", "t": "text"},
            ]


@pytest.mark.parametrize("page_rows", [1, 2, 3, 7, 20_000])
@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE t (k TEXT)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT)",
        "CREATE TABLE t (k TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE t (k TEXT COLLATE NOCASE, PRIMARY KEY (k COLLATE BINARY)) WITHOUT ROWID",
        "CREATE TABLE t (k TEXT, a INTEGER DEFAULT 1, PRIMARY KEY (a, k DESC)) WITHOUT ROWID",
        "CREATE TABLE t (rowid TEXT, oid TEXT, k TEXT)",
    ],
)
def test_no_row_is_lost_between_pages(d1: D1, table: str, page_rows: int) -> None:
    values = ["a", "A", "b", "B", "é", "E\u0301", "日", "", " ", "a b", "a\nb", "🙂"]
    execute(d1, table, *(f"INSERT INTO t (k) VALUES ('{value}')" for value in values))
    with D1Database(d1.url, page_rows=page_rows).snapshot() as snapshot:
        assert sorted(keys(snapshot)) == sorted(values)


def test_pages_are_bounded_in_bytes_and_a_larger_row_comes_alone(d1: D1) -> None:
    execute(
        d1,
        "CREATE TABLE t (k TEXT)",
        *(f"INSERT INTO t VALUES (printf('%.*c', 1500000, '{c}'))" for c in "abcdefghijklmnop"),
    )
    with open_database(d1.url).snapshot() as snapshot:
        assert snapshot.rows("SELECT count(*) AS n, sum(length(k)) AS s FROM t") == [{"n": 16, "s": 24_000_000}]
    assert sum(any("LIMIT" in one["sql"] for one in asked) for asked in d1.asked) == 2


def test_short_tables_are_one_moment_whatever_is_written_meanwhile(d1: D1) -> None:
    execute(d1, "CREATE TABLE a (k)", "CREATE TABLE b (k)", "INSERT INTO a VALUES ('moving')")
    with open_database(d1.url).snapshot() as snapshot:
        assert keys(snapshot, "b") == []
        execute(d1, "INSERT INTO b SELECT k FROM a", "DELETE FROM a")
        assert keys(snapshot, "a") == ["moving"]


def test_reference_that_moves_between_two_pages_is_not_lost(d1: D1) -> None:
    """A row that is read already takes the reference of one that is not: both pages lack it."""
    execute(d1, "CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT)", numbered(20))

    def move() -> None:
        execute(d1, "UPDATE t SET k = 'k00020' WHERE id = 1", "UPDATE t SET k = 'gone' WHERE id = 20")

    with D1Database(d1.url, page_rows=5).snapshot() as snapshot:
        d1.before = lambda: setattr(d1, "before", lambda: setattr(d1, "before", move))  # before the third request
        assert "k00020" in keys(snapshot)


def test_database_that_is_never_quiet_is_refused_and_nothing_is_handed_out(d1: D1) -> None:
    execute(d1, "CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT)", "CREATE TABLE log (n)", numbered(20))

    def write() -> None:
        execute(d1, "INSERT INTO log VALUES (1)")
        d1.before = write

    with D1Database(d1.url, page_rows=5).snapshot() as snapshot:
        d1.before = write
        with pytest.raises(SourceUnavailable, match="written to while") as caught:
            keys(snapshot)
        assert caught.value.transient
        with pytest.raises(SourceUnavailable, match="written to while"):
            snapshot.read("SELECT k FROM t").read_all()


def test_long_table_that_is_needed_later_is_of_the_first_moment_or_refused(d1: D1) -> None:
    execute(d1, "CREATE TABLE a (k)", "CREATE TABLE b (k)", numbered(20, "a"), numbered(20, "b"))
    database = D1Database(d1.url, page_rows=5)
    with database.snapshot() as snapshot:
        assert len(keys(snapshot, "a")) == 20
        assert len(keys(snapshot, "b")) == 20
    with database.snapshot() as snapshot:
        assert len(keys(snapshot, "a")) == 20
        execute(d1, "DELETE FROM b WHERE k = 'k00020'")
        with pytest.raises(SourceUnavailable, match="written to while"):
            keys(snapshot, "b")
        assert len(keys(snapshot, "a")) == 20


def test_tables_that_change_while_they_are_read_are_refused(d1: D1) -> None:
    execute(d1, "CREATE TABLE t (k)")
    with open_database(d1.url).snapshot() as snapshot:
        execute(d1, "CREATE TABLE more (k)")
        with pytest.raises(SourceUnavailable, match="while it was read"):
            keys(snapshot)


@pytest.mark.parametrize(
    "fault", ["429", "500", "html", "cut", "500 after", "cut after", "truncated", "shape", "ragged"]
)
def test_reading_goes_on_after_a_fault(d1: D1, fault: str) -> None:
    execute(d1, "CREATE TABLE t (k TEXT)", numbered(20))
    with D1Database(d1.url, page_rows=5).snapshot() as snapshot:
        d1.faults = [fault, "", fault, fault]
        assert len(keys(snapshot)) == 20
    assert d1.faults == []


@pytest.mark.parametrize("fault", ["500", "cut", "truncated", "shape", "html"])
def test_fault_that_stays_ends_the_snapshot(d1: D1, fault: str) -> None:
    execute(d1, "CREATE TABLE t (k TEXT)", numbered(20))
    d1.faults = [fault] * 50
    with pytest.raises(SourceUnavailable) as caught, open_database(d1.url).snapshot():
        pass
    assert caught.value.transient
    assert len(d1.asked) == d1_http.TRIES


def test_answer_of_a_replica_is_no_answer(d1: D1) -> None:
    execute(d1, "CREATE TABLE t (k TEXT)")
    d1.faults = ["replica"]
    with pytest.raises(SourceUnavailable, match="read replica"), open_database(d1.url).snapshot():
        pass


def test_answers_that_lost_rows_are_noticed(d1: D1) -> None:
    execute(d1, "CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT)", numbered(20))
    d1.only = lambda statements: len(statements) == 1 and "LIMIT" in statements[0]["sql"]
    d1.faults = ["fewer"] * 3
    with D1Database(d1.url, page_rows=5).snapshot() as snapshot:
        assert len(keys(snapshot)) == 20  # the rows that are left say how many there were
    d1.faults = ["none"]
    with (
        D1Database(d1.url, page_rows=5).snapshot() as snapshot,
        pytest.raises(SourceUnavailable, match="holds 20 rows, and 5 were read"),
    ):
        keys(snapshot)


@pytest.mark.parametrize("place", ["display", "error", "repr"])
def test_token_is_never_said(d1: D1, place: str) -> None:
    execute(d1, "CREATE TABLE t (k TEXT)")
    database = open_database(d1.url)
    d1.tokens = {}
    with pytest.raises(SourceUnavailable) as caught, database.snapshot():
        pass
    said = {"display": database.display_url, "error": repr(caught.value) + str(caught.value), "repr": repr(database)}
    assert TOKEN not in said[place] and "secret" not in said[place]
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        f"d1://{ACCOUNT}/{DATABASE}",
        f"d1://:s3cret@{ACCOUNT}/not-a-uuid",
        f"d1://:s3cret@account/{DATABASE}",
        f"d1://:s3cret@{ACCOUNT}/{DATABASE}?endpoint_url=http://api.example.com/client/v4",
    ],
)
def test_url_that_cannot_be_meant_is_refused_without_its_token(url: str) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        open_database(url)
    assert "s3cret" not in str(caught.value)


def test_statement_beyond_the_limits_is_not_sent(d1: D1) -> None:
    client = d1_http.D1Client(make_url(d1.url))
    with pytest.raises(d1_http.D1Refused, match="more than D1 takes"):
        client.read([d1_http.Statement("SELECT 1 -- " + "x" * 100_000)])
    with pytest.raises(d1_http.D1Refused, match="more than D1 takes"):
        client.read([d1_http.Statement("SELECT ?", ["a"] * 101)])
    assert d1.asked == []


def test_table_of_a_hundred_columns_keeps_to_the_limits(d1: D1) -> None:
    names = [f"column_with_a_rather_long_name_{n}" for n in range(100)]
    execute(d1, f"CREATE TABLE t ({', '.join(names)})", f"INSERT INTO t ({names[99]}) VALUES ('last')")
    with open_database(d1.url).snapshot() as snapshot:
        assert snapshot.rows(f"SELECT {names[99]} AS k FROM t") == [{"k": "last"}]


def test_any_rows_in_pages_of_any_size_are_the_tables_rows(d1: D1) -> None:
    chance = random.Random(46)
    execute(d1, "CREATE TABLE t (a, k, PRIMARY KEY (a, k)) WITHOUT ROWID")
    made = set()
    for _ in range(300):
        value = chance.choice(
            [
                chance.randint(-5, 5),
                chance.random(),
                "".join(chance.choices(string.printable + "éß日", k=2)),
                b"\x00\xff",
            ]
        )
        made.add((chance.randint(1, 4), value))
    connection = sqlite3.connect(d1.file)
    connection.executemany("INSERT OR IGNORE INTO t VALUES (?, ?)", sorted(made, key=repr))
    connection.commit()
    expected = connection.execute("SELECT a, typeof(k), quote(k) FROM t ORDER BY a, k").fetchall()
    connection.close()
    for page_rows in (1, 7, 299, 300):
        with D1Database(d1.url, page_rows=page_rows).snapshot() as snapshot:
            got = snapshot.rows("SELECT a, typeof(k) AS t, quote(k) AS q FROM t ORDER BY a, k")
            assert [tuple(row.values()) for row in got] == expected
